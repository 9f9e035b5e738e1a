"""The dependency graph becomes a plan: groups, nesting, stages, flow parameters, returns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .dataflow import Binding, DataFlowGraph, Link, build_graph, topological_stages
from .errors import Problem, did_you_mean
from .names import snake_case
from .operations import NO_DEFAULT, Operation, Output, Port
from .plan import (
    Argument,
    Edge,
    FlowDefinition,
    FromList,
    FromParameter,
    FromResult,
    Node,
    Nothing,
    Orchestration,
    OutputPlan,
    Parameter,
    PortPlan,
    Source,
    Step,
    Text,
    Value,
)

__all__ = ["MAIN", "STANDALONES", "OrchestrationCompiler", "compile_plan"]

MAIN = "main_flow"
STANDALONES = "standalones_flow"
#: What a flow's parameter cannot be called: names that Prefect's ``flow.__call__`` takes, and
#: names that the pydantic model, which Prefect makes of a flow's parameters, refuses.
_REFUSED = frozenset({"return_state", "wait_for", "self", "model_config"})
_REFUSED_STARTS = ("_", "v__", "model_dump", "model_validate")


class OrchestrationCompiler:
    """Compiles operations to an `Orchestration`; holds no state."""

    def compile(self, operations: Iterable[Any], *, flat: bool = False) -> Orchestration:
        """Return the plan; see `compile_plan`.

        Raises
        ------
        CycleError
            When operations need each other in a loop. (Other errors stand in ``.problems``.)
        """
        graph = build_graph(operations)
        if graph.has_cycle():
            raise graph.cycle_error()
        return compile_graph(graph, flat=flat)


def compile_plan(operations: Iterable[Any], *, flat: bool = False) -> Orchestration:
    """Return the plan of ``operations``, whatever is wrong with them.

    Parameters
    ----------
    operations
        Operations, or objects with ``name``, ``models_in``, ``models_out`` and ``function``.
    flat
        One flow without nesting, where nothing waits for a group.

    Returns
    -------
    Orchestration
        With every problem in ``problems``; those that are errors block the flows that contain
        their operation.

    Raises
    ------
    DeclarationError, InvalidNameError
        When an object is no operation, or two have one name.
    """
    return compile_graph(build_graph(operations), flat=flat)


def compile_graph(graph: DataFlowGraph, *, flat: bool = False) -> Orchestration:
    """Return the plan of a dependency graph; see `compile_plan`."""
    return _Compiler(graph, flat=flat).plan()


@dataclass(slots=True)
class _Group:
    """A flow in the making: its path, and the operations that run when it runs."""

    path: str
    name: str
    places: list[int]
    children: list[_Child] = field(default_factory=list)
    stages: list[list[int]] = field(default_factory=list)
    needs: list[list[int]] = field(default_factory=list)
    rep: dict[int, int] = field(default_factory=dict)
    dissolved: set[str] = field(default_factory=set)
    covered: set[int] = field(default_factory=set)
    #: What the children are called, and what the flow needs from outside, and by which names.
    names: list[str] = field(default_factory=list)
    uses: _Uses = field(default_factory=lambda: _Uses())
    value_names: dict[tuple[int, int | None], str] = field(default_factory=dict)


@dataclass(slots=True)
class _Child:
    """A child of a flow: one operation, or a subflow."""

    place: int
    flow: _Group | None = None


#: A flow that is still to be split: with the way down to each operation, and the edges inside.
_Split = tuple[_Group, Sequence[tuple[str, ...]], list[tuple[int, int]]]


@dataclass(slots=True)
class _Uses:
    """What a flow needs from outside, in order of first use."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    values: dict[tuple[int, int | None], tuple[Output, Port]] = field(default_factory=dict)


class _Compiler:
    def __init__(self, graph: DataFlowGraph, *, flat: bool) -> None:
        self.graph = graph
        self.operations = graph.operations
        self.flat = flat
        self.names = graph.names
        self.problems: list[Problem] = list(graph.problems)
        self.bindings: list[list[Binding]] = [[] for _ in self.operations]
        self.missing: dict[int, set[str]] = {}
        for binding in graph.bindings:
            self.bindings[binding.operation].append(binding)
            if binding.how == "missing":
                self.missing.setdefault(binding.operation, set()).add(binding.port.name)
        self.knots = _loops(graph)
        self.in_loop = {place for knot in self.knots for place in knot}
        self.consumers: list[list[int]] = [[] for _ in self.operations]
        for link in graph.links:
            if link.kind != "order":
                self.consumers[link.source].append(link.target)
        self.values: dict[tuple[int, int | None], Value] = {}
        self.parameters = self._parameters()
        self.flow_names: dict[str, str] = {}

    def plan(self) -> Orchestration:
        groups = self._groups()
        flows = [self._flow(group) for group in groups]
        order = {"error": 0, "warning": 1, "note": 2}
        return Orchestration(
            operations=tuple(self._node(place) for place in range(len(self.operations))),
            edges=self._edges(),
            flows=tuple(flows),
            problems=tuple(sorted(self.problems, key=lambda problem: order[problem.severity])),
        )

    # - flow parameters: one name for each thing that a person gives, decided once -

    def _parameters(self) -> dict[int, dict[str, Parameter]]:
        """Return the flow parameter behind each port that a person feeds, by operation and port."""
        uses: dict[str, dict[Any, list[tuple[int, Port]]]] = {}
        keys = self._model_keys() if self.missing else {}
        for place, operation in enumerate(self.operations):
            missing = self.missing.get(place, ())
            for port in operation.ports:
                if port.model is not None and port.name not in missing:
                    continue
                name = port.name
                if port.model is not None:
                    self._note_missing(operation, port)
                    name = snake_case(port.model.name)
                kinds = uses.setdefault(name, {})
                kinds.setdefault(_identity(port, keys), []).append((place, port))
        shared = {name for name, kinds in uses.items() if len(kinds) == 1 and not _refused(name)}
        taken = set(shared)
        found: dict[int, dict[str, Parameter]] = {}
        for name, kinds in uses.items():
            for users in kinds.values():
                annotation = next((port.annotation for _, port in users if port.annotation), None)
                for place, port in users:
                    own = name
                    if name not in shared:
                        own = _full_name(self.operations[place].name, name, taken)
                        taken.add(own)
                    found.setdefault(place, {})[port.name] = _parameter(own, port, annotation)
        return found

    def _model_keys(self) -> dict[str, str]:
        """Map each model's short name to its key, for models that are given as text."""
        refs = [p.model for o in self.operations for p in o.ports if p.model is not None]
        return {ref.name: ref.key for ref in refs if ref.key}

    def _note_missing(self, operation: Operation, port: Port) -> None:
        model = port.model.name if port.model else ""
        known = dict.fromkeys(o.model.name for each in self.operations for o in each.outputs)
        known.pop(model, None)
        name = snake_case(model)
        self.problems.append(
            Problem(
                code="missing-model",
                severity="note",
                message=f"operation {operation.name!r}: no operation gives {model}, which the "
                f"port {port.name!r} takes; it becomes the flow parameter {name!r}."
                + did_you_mean(model, known),
                fix=f"Give it with --param {name}=@variable, or declare an operation that "
                f"returns {model}.",
                operation=operation.name,
                port=port.name,
                cell=operation.cell,
            )
        )

    # - groups and nesting -

    def _groups(self) -> list[_Group]:
        """Return the flows, children before parents, main and standalones last."""
        if not self.operations:
            return []
        everything = list(range(len(self.operations)))
        main = _Group("", MAIN, everything)
        found: list[_Group] = []
        paths: Sequence[tuple[str, ...]] = self._paths()
        if self.flat:
            paths = [()] * len(paths)
        links = [
            (source, target)
            for target, sources in enumerate(self.graph.follows)
            for source in sources
            if not (source in self.in_loop and target in self.in_loop)
        ]
        todo: list[_Split] = [(main, paths, links)]
        while todo:
            group, depth_paths, inner = todo.pop()
            found.append(group)
            todo.extend(self._split(group, depth_paths, inner))
        found.reverse()
        standalones = [p for p in everything if "." not in self.operations[p].name]
        if standalones and not self.flat:
            alone = _Group("", STANDALONES, standalones)
            inside = set(standalones)
            self._split(alone, paths, [(s, t) for s, t in links if s in inside and t in inside])
            found.append(alone)
        return found

    def _paths(self) -> list[tuple[str, ...]]:
        """Return, for each operation, the groups with a flow on its way down from the main flow."""
        parents = [name.rpartition(".")[0] for name in self.names]
        chains = {parent: _prefixes(parent) for parent in dict.fromkeys(parents)}
        below: Counter[str] = Counter()
        for parent, count in Counter(parents).items():
            for prefix in chains[parent]:
                below[prefix] += count
        taken = {MAIN, STANDALONES, *(o.name.lower() for o in self.operations if "." not in o.name)}
        for prefix in below:
            if "." not in prefix or below[prefix] > 1:
                name = _free(f"{prefix.replace('.', '_')}_flow", taken)
                taken.add(name.lower())  # files that differ in case only collide on some systems
                self.flow_names[prefix] = name
        ways = {
            parent: tuple(prefix for prefix in chain if prefix in self.flow_names)
            for parent, chain in chains.items()
        }
        return [ways[parent] for parent in parents]

    def _split(
        self, group: _Group, paths: Sequence[tuple[str, ...]], links: list[tuple[int, int]]
    ) -> list[_Split]:
        """Find a flow's children and their stages; return the subflows to split next."""
        while True:
            self._gather(group, paths)
            rep, count = group.rep, len(group.children)
            lifted = list(dict.fromkeys((rep[s], rep[t]) for s, t in links if rep[s] != rep[t]))
            needs: list[list[int]] = [[] for _ in range(count)]
            feeds: list[list[int]] = [[] for _ in range(count)]
            for source, target in lifted:
                needs[target].append(source)
                feeds[source].append(target)
            group.needs = needs
            group.stages, stuck = topological_stages(needs, feeds)
            if not stuck or not self._dissolve(group, stuck, lifted):
                break
        group.names = [self._child_name(child) for child in group.children]
        inner: dict[int, list[tuple[int, int]]] = {}
        for source, target in links:
            if rep[source] == rep[target]:
                inner.setdefault(rep[source], []).append((source, target))
        return [
            (child.flow, paths, inner.get(number, []))
            for number, child in enumerate(group.children)
            if child.flow is not None
        ]

    def _gather(self, group: _Group, paths: Sequence[tuple[str, ...]]) -> None:
        """Find a flow's children: its own operations, and the subflows that hold the others."""
        ways = dict.fromkeys(paths[place] for place in group.places)
        owners = {path: _owner(path, group.path, group.dissolved) for path in ways}
        numbers: dict[str | int, int] = {}
        group.children, group.rep = [], {}
        for place in group.places:
            path = owners[paths[place]]
            number = numbers.setdefault(path or place, len(numbers))
            if number == len(group.children):
                flow = _Group(path, self.flow_names[path], []) if path else None
                group.children.append(_Child(place, flow))
            group.rep[place] = number
            inside = group.children[number].flow
            if inside is not None:
                inside.places.append(place)

    def _dissolve(self, group: _Group, stuck: list[int], lifted: list[tuple[int, int]]) -> bool:
        """Run the groups of a loop inside the flow; return whether there were any."""
        import networkx

        inside = set(stuck)
        knots = networkx.DiGraph((s, t) for s, t in lifted if s in inside and t in inside)
        changed = False
        for knot in networkx.strongly_connected_components(knots):
            subflows = [group.children[n].flow for n in sorted(knot)]
            loose = [flow.path for flow in subflows if flow is not None]
            if len(knot) > 1 and loose:
                group.dissolved.update(loose)
                changed = True
                self._warn_dissolved(group, loose, knot)
        return changed

    def _warn_dissolved(self, group: _Group, loose: list[str], knot: set[int]) -> None:
        members = [
            c.flow.path if c.flow else self.operations[c.place].name
            for n, c in enumerate(group.children)
            if n in knot
        ]
        self.problems.append(
            Problem(
                code="groups-in-a-loop",
                severity="warning",
                message=f"{' and '.join(repr(m) for m in members)} need each other both ways, so "
                f"they cannot be nested flows: the operations of {', '.join(loose)} run inside "
                f"{group.name}, tagged with their group.",
                fix="To nest them, move the operation in between into one of the groups.",
                candidates=tuple(members),
            )
        )

    # - one flow -

    def _flow(self, group: _Group) -> FlowDefinition:
        group.covered = set(group.places)
        group.uses = self._uses(group)
        group.value_names = self._value_names(group.uses)
        ordered = [number for stage in group.stages for number in stage]
        covers = tuple(self.names[place] for place in group.places)
        blocked = self._blocking(covers)
        steps = (
            ()
            if blocked
            else tuple(
                self._step(group, number, stage)
                for stage, numbers in enumerate(group.stages)
                for number in numbers
            )
        )
        return FlowDefinition(
            name=group.name,
            hierarchy_path=group.path,
            operations=tuple(group.names[n] for n in ordered if group.children[n].flow is None),
            subflows=tuple(group.names[n] for n in ordered if group.children[n].flow is not None),
            parallel_groups=tuple(tuple(group.names[n] for n in stage) for stage in group.stages),
            parameters=self._flow_parameters(group),
            steps=steps,
            waits=_waits(group),
            returns=tuple(self.names[place] for place in self._returns(group)),
            covers=covers,
            blocked=blocked,
            doc=self._doc(group),
        )

    def _blocking(self, covers: Sequence[str]) -> tuple[Problem, ...]:
        errors = [problem for problem in self.problems if problem.severity == "error"]
        inside = set(covers) if errors else set()
        return tuple(
            problem
            for problem in errors
            if problem.operation in inside
            or (problem.code == "cycle" and not inside.isdisjoint(self._knot(problem)))
        )

    def _knot(self, problem: Problem) -> list[str]:
        """Return all operations that need each other, of which a message tells one round."""
        knots = ([self.operations[place].name for place in knot] for knot in self.knots)
        return next(knot for knot in knots if problem.operation in knot)

    def _doc(self, group: _Group) -> str:
        if group.path:
            return f"Run group ``{group.path}``."
        return "Run everything." if group.name == MAIN else "Run the operations without a group."

    def _child_name(self, child: _Child) -> str:
        return child.flow.name if child.flow else self.names[child.place]

    def _uses(self, group: _Group) -> _Uses:
        uses = _Uses()
        covered = group.covered
        whole = len(covered) == len(self.operations)
        for place in group.places:
            given = self.parameters.get(place)
            if given:
                for port in self.operations[place].ports:
                    if port.name in given:
                        parameter = given[port.name]
                        uses.parameters.setdefault(parameter.name, parameter)
            for binding in () if whole else self.bindings[place]:
                for source, output in binding.heads:
                    if source not in covered:
                        uses.values.setdefault((source, output.index), (output, binding.port))
        return uses

    def _value_names(self, uses: _Uses) -> dict[tuple[int, int | None], str]:
        """Name the parameters for others' results: by model if that is one, else by operation."""
        wanted: dict[tuple[int, int | None], str] = {}
        for value, (output, _) in uses.values.items():
            wanted[value] = snake_case(output.model.name)
        names: dict[tuple[int, int | None], str] = {}
        taken = set(uses.parameters)
        shared = Counter(wanted.values())
        for value, name in wanted.items():
            place, index = value
            if shared[name] > 1 or name in taken or _refused(name):
                item = "" if index is None else name
                name = _full_name(self.operations[place].name, item, taken)
            taken.add(name)
            names[value] = name
        return names

    def _flow_parameters(self, group: _Group) -> tuple[Parameter, ...]:
        uses = group.uses
        carried = [
            Parameter(
                name=group.value_names[value],
                annotation=output.annotation or _same_shape(output, port),
                by_reference=True,
                value=self._value(*value),
                model=output.model.name,
            )
            for value, (output, port) in uses.values.items()
        ]
        given = list(uses.parameters.values())
        required = [p for p in given if p.default is None]
        return (*carried, *required, *(p for p in given if p.default is not None))

    def _returns(self, group: _Group) -> list[int]:
        returned = []
        for place in group.places:
            takers = self.consumers[place]
            if self.operations[place].gives_value and not (
                takers and group.covered.issuperset(takers)
            ):
                returned.append(place)
        return returned

    def _step(self, group: _Group, number: int, stage: int) -> Step:
        child = group.children[number]
        if child.flow is not None:
            arguments = self._subflow_arguments(group, child.flow)
        else:
            arguments = self._task_arguments(group, child.place)
        return Step(
            kind="task" if child.flow is None else "flow",
            target=group.names[number],
            arguments=tuple(arguments),
            after=self._after(group, number, arguments),
            stage=stage,
            group=self._tag(group, child),
        )

    def _after(self, group: _Group, number: int, arguments: list[Argument]) -> tuple[str, ...]:
        """Return the steps that this one waits for without taking their results."""
        needs = group.needs[number]
        if not needs:
            return ()
        fed = {item.step for argument in arguments for item in _results(argument.source)}
        names = [group.names[need] for need in sorted(needs)]
        return tuple(name for name in names if name not in fed)

    def _tag(self, group: _Group, child: _Child) -> str:
        """Return the group of an operation that runs outside of its group's flow."""
        if child.flow is not None or not (self.flat or group.dissolved):
            return ""
        parent = self.names[child.place].rpartition(".")[0]
        loose = self.flat or not group.dissolved.isdisjoint(_prefixes(parent))
        return parent if loose else ""

    def _task_arguments(self, group: _Group, place: int) -> list[Argument]:
        given = self.parameters.get(place, {})
        bindings = iter(self.bindings[place])  # one for each data port, in their order
        arguments = []
        for port in self.operations[place].ports:
            binding = next(bindings) if port.model is not None else None
            source: Source
            if port.name in given:
                parameter = given[port.name]
                source = FromParameter(parameter.name, parameter.by_reference)
            else:
                source = self._bound(group, binding) if binding else Nothing()
            arguments.append(Argument(port.name, source))
        return arguments

    def _bound(self, group: _Group, binding: Binding) -> Source:
        if not binding.heads:
            return Nothing()
        if binding.how == "one":
            return self._source(group, *binding.heads[0])
        items = [self._source(group, place, output) for place, output in binding.heads]
        outputs = [output for _, output in binding.heads]
        if len(items) == 1 and outputs[0].many and not outputs[0].optional:
            return items[0]  # many into a list passes whole
        return FromList(
            tuple(items),
            tuple(output.many for output in outputs),
            tuple(output.optional for output in outputs),
        )

    def _source(self, group: _Group, place: int, output: Output) -> FromParameter | FromResult:
        if place not in group.covered:
            return FromParameter(group.value_names[place, output.index], True)
        return FromResult(group.names[group.rep[place]], self._value(place, output.index))

    def _value(self, place: int, index: int | None) -> Value:
        """Return the one `Value` for a result, however many flows it goes through."""
        value = self.values.get((place, index))
        if value is None:
            value = Value(operation=self.names[place], index=index)
            self.values[place, index] = value
        return value

    def _subflow_arguments(self, group: _Group, child: _Group) -> list[Argument]:
        arguments = [
            Argument(child.value_names[value], self._source(group, value[0], output))
            for value, (output, _) in child.uses.values.items()
        ]
        arguments += [
            Argument(name, FromParameter(name, parameter.by_reference))
            for name, parameter in child.uses.parameters.items()
        ]
        return arguments

    # - nodes and edges, for pictures and messages -

    def _node(self, place: int) -> Node:
        operation = self.operations[place]
        missing = self.missing.get(place, ())
        return Node(
            name=operation.name,
            function=operation.function_name,
            ports=tuple(
                PortPlan(
                    name=port.name,
                    kind="data" if port.model is not None else "parameter",
                    model=port.model.name if port.model is not None else "",
                    shape=port.shape,
                    optional=port.optional,
                    passing=port.passing,
                    annotation=port.annotation,
                    default=port.default_text,
                    missing=port.name in missing,
                    hint=port.hint,
                )
                for port in operation.ports
            ),
            outputs=tuple(
                OutputPlan(
                    model=output.model.name,
                    many=output.many,
                    optional=output.optional,
                    index=output.index,
                    annotation=output.annotation,
                )
                for output in operation.outputs
            ),
            returns=operation.returns,
            gives_value=operation.gives_value,
            is_async=operation.is_async,
            doc=operation.doc,
            options=operation.options,
            cell=operation.cell,
        )

    def _edges(self) -> tuple[Edge, ...]:
        names = self.names

        def edge(link: Link) -> Edge:
            return Edge(
                source=names[link.source],
                target=names[link.target],
                port=link.port,
                model=link.model,
                kind=link.kind,  # type: ignore[arg-type]
                index=link.output.index if link.output else None,
                many=bool(link.output and link.output.many),
            )

        return tuple(edge(link) for link in self.graph.links)


def _loops(graph: DataFlowGraph) -> list[list[int]]:
    """Return the operations of each knot that is a loop, all of them and not one round only."""
    if not graph.stuck:
        return []
    import networkx

    knots = networkx.DiGraph((s, t) for t in graph.stuck for s in graph.follows[t])
    return [
        list(knot)
        for knot in networkx.strongly_connected_components(knots)
        if len(knot) > 1 or any(knots.has_edge(n, n) for n in knot)
    ]


def _prefixes(group: str) -> list[str]:
    """Return the groups on the way down to ``group``, itself last."""
    parts = group.split(".") if group else []
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]


def _owner(path: tuple[str, ...], group: str, dissolved: set[str]) -> str:
    """Return the subflow of ``group`` that holds an operation with this path, or ``""``."""
    for prefix in path:
        if (not group or prefix.startswith(f"{group}.")) and prefix not in dissolved:
            return prefix
    return ""


def _waits(group: _Group) -> bool:
    """Return whether every child needs all of the stage before its own."""
    for before, stage in zip(group.stages, group.stages[1:], strict=False):
        whole = set(before)
        needs = [group.needs[number] for number in stage]
        if any(len(each) < len(whole) or not whole <= set(each) for each in needs):
            return False
    return True


def _refused(name: str) -> bool:
    return name in _REFUSED or name.startswith(_REFUSED_STARTS)


def _full_name(operation: str, name: str, taken: set[str]) -> str:
    """Return the full dotted name, underscored, as a name that a flow's parameter may have."""
    full = f"{operation}.{name}".strip("._").replace(".", "_") or "value"
    return _free(f"value_{full}" if _refused(full) else full, taken)


def _identity(port: Port, keys: dict[str, str]) -> Any:
    """What makes two parameters of one name the same: the type and the default."""
    default = port.default_text.text if port.default_text else ""
    default += _plain_repr(port.default)
    if port.model is not None:
        name = port.model.name
        return port.model.key or keys.get(name, name), port.shape == "all", default
    # The text alone would take two classes of one name, from two modules, for the same.
    text = port.annotation.text if port.annotation else ""
    return text, _plain_repr(port.type), default


def _plain_repr(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _parameter(name: str, port: Port, annotation: Text | None) -> Parameter:
    default = port.default_text
    if default is None and port.default is not NO_DEFAULT:
        default = Text("None") if port.default is None else None
    return Parameter(
        name=name,
        annotation=annotation,
        default=default,
        by_reference=port.model is not None,
        model=port.model.name if port.model is not None else "",
    )


def _same_shape(output: Output, port: Port) -> Text | None:
    """The port's own annotation, where the value reaches it as it is."""
    return port.annotation if not output.many and port.shape == "one" else None


def _results(source: Source) -> list[FromResult]:
    items = source.items if isinstance(source, FromList) else (source,)
    return [item for item in items if isinstance(item, FromResult)]


def _free(name: str, taken: set[str]) -> str:
    """Return ``name``, or the first of ``name_2``, ``name_3`` … that is not taken."""
    free, number = name, 1
    while free.lower() in taken or free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
