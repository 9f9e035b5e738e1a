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
        self.problems: list[Problem] = list(graph.problems)
        self.bindings: dict[int, list[Binding]] = {}
        for binding in graph.bindings:
            self.bindings.setdefault(binding.operation, []).append(binding)
        self.in_loop = {place for loop in _loops(graph) for place in loop}
        self.consumed = {link.source for link in graph.links if link.kind != "order"}
        self.consumers: dict[int, list[int]] = {}
        for link in graph.links:
            if link.kind != "order":
                self.consumers.setdefault(link.source, []).append(link.target)
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

    def _parameters(self) -> dict[tuple[int, str], Parameter]:
        """Return the flow parameter behind each port that a person feeds."""
        uses: dict[str, dict[Any, list[tuple[int, Port]]]] = {}
        keys = self._model_keys()
        for place, operation in enumerate(self.operations):
            missing = {b.port.name for b in self.bindings.get(place, ()) if b.how == "missing"}
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
        found: dict[tuple[int, str], Parameter] = {}
        for name, kinds in uses.items():
            for users in kinds.values():
                annotation = next((port.annotation for _, port in users if port.annotation), None)
                for place, port in users:
                    own = name
                    if name not in shared:
                        own = _full_name(self.operations[place].name, name, taken)
                        taken.add(own)
                    found[place, port.name] = _parameter(own, port, annotation)
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
            (link.source, link.target)
            for link in self.graph.links
            if not (link.source in self.in_loop and link.target in self.in_loop)
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
        below: dict[str, int] = {}
        prefixes = []
        for operation in self.operations:
            parts = operation.name.split(".")[:-1]
            chain = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
            prefixes.append(chain)
            for prefix in chain:
                below[prefix] = below.get(prefix, 0) + 1
        taken = {MAIN, STANDALONES, *(o.name.lower() for o in self.operations if "." not in o.name)}
        for prefix in below:
            if "." not in prefix or below[prefix] > 1:
                name = _free(f"{prefix.replace('.', '_')}_flow", taken)
                taken.add(name.lower())  # files that differ in case only collide on some systems
                self.flow_names[prefix] = name
        return [
            tuple(prefix for prefix in chain if prefix in self.flow_names) for chain in prefixes
        ]

    def _split(
        self, group: _Group, paths: Sequence[tuple[str, ...]], links: list[tuple[int, int]]
    ) -> list[_Split]:
        """Find a flow's children and their stages; return the subflows to split next."""
        while True:
            owner = {p: _owner(paths[p], group.path, group.dissolved) for p in group.places}
            children: dict[str | int, _Child] = {}
            numbers: dict[str | int, int] = {}
            for place in group.places:
                key = owner[place] or place
                if key not in children:
                    numbers[key] = len(children)
                    children[key] = _Child(place)
                path = owner[place]
                if path:
                    child = children[key]
                    child.flow = child.flow or _Group(path, self.flow_names[path], [])
                    child.flow.places.append(place)
            rep = {place: numbers[owner[place] or place] for place in group.places}
            lifted = list(dict.fromkeys((rep[s], rep[t]) for s, t in links if rep[s] != rep[t]))
            needs: list[list[int]] = [[] for _ in children]
            feeds: list[list[int]] = [[] for _ in children]
            for source, target in lifted:
                needs[target].append(source)
                feeds[source].append(target)
            stages, stuck = topological_stages(needs, feeds)
            group.children, group.rep = list(children.values()), rep
            group.stages, group.needs = stages, needs
            if not stuck or not self._dissolve(group, stuck, lifted):
                break
        inner: dict[int, list[tuple[int, int]]] = {}
        for source, target in links:
            if rep[source] == rep[target]:
                inner.setdefault(rep[source], []).append((source, target))
        return [
            (child.flow, paths, inner.get(number, []))
            for number, child in enumerate(group.children)
            if child.flow is not None
        ]

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
        covered = set(group.places)
        uses = self._uses(group, covered)
        names = self._value_names(uses)
        ordered = [number for stage in group.stages for number in stage]
        covers = tuple(self.operations[p].name for p in group.places)
        blocked = self._blocking(covers)
        steps = (
            ()
            if blocked
            else tuple(
                self._step(group, number, stage, covered, names)
                for stage, numbers in enumerate(group.stages)
                for number in numbers
            )
        )
        return FlowDefinition(
            name=group.name,
            hierarchy_path=group.path,
            operations=tuple(
                self.operations[c.place].name
                for n in ordered
                if (c := group.children[n]).flow is None
            ),
            subflows=tuple(
                c.flow.name for n in ordered if (c := group.children[n]).flow is not None
            ),
            parallel_groups=tuple(
                tuple(self._child_name(group.children[n]) for n in stage) for stage in group.stages
            ),
            parameters=self._flow_parameters(uses, names),
            steps=steps,
            waits=_waits(group),
            returns=tuple(self.operations[p].name for p in self._returns(group, covered)),
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
            or (problem.code == "cycle" and not inside.isdisjoint(problem.candidates))
        )

    def _doc(self, group: _Group) -> str:
        if group.path:
            return f"Run group ``{group.path}``."
        return "Run everything." if group.name == MAIN else "Run the operations without a group."

    def _child_name(self, child: _Child) -> str:
        return child.flow.name if child.flow else self.operations[child.place].name

    def _uses(self, group: _Group, covered: set[int]) -> _Uses:
        uses = _Uses()
        for place in group.places:
            for port in self.operations[place].ports:
                parameter = self.parameters.get((place, port.name))
                if parameter is not None:
                    uses.parameters.setdefault(parameter.name, parameter)
            for binding in self.bindings.get(place, ()):
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

    def _flow_parameters(
        self, uses: _Uses, names: dict[tuple[int, int | None], str]
    ) -> tuple[Parameter, ...]:
        carried = [
            Parameter(
                name=names[value],
                annotation=output.annotation or _same_shape(output, port),
                by_reference=True,
                value=Value(operation=self.operations[value[0]].name, index=value[1]),
                model=output.model.name,
            )
            for value, (output, port) in uses.values.items()
        ]
        given = list(uses.parameters.values())
        required = [p for p in given if p.default is None]
        return (*carried, *required, *(p for p in given if p.default is not None))

    def _returns(self, group: _Group, covered: set[int]) -> list[int]:
        returned = []
        for place in group.places:
            if not self.operations[place].gives_value:
                continue
            takers = self.consumers.get(place)
            if not takers or any(taker not in covered for taker in takers):
                returned.append(place)
        return returned

    def _step(
        self,
        group: _Group,
        number: int,
        stage: int,
        covered: set[int],
        names: dict[tuple[int, int | None], str],
    ) -> Step:
        child = group.children[number]
        arguments = (
            self._subflow_arguments(group, child.flow, covered, names)
            if child.flow is not None
            else self._task_arguments(group, child.place, covered, names)
        )
        fed = {item.step for argument in arguments for item in _results(argument.source)}
        needed = [self._child_name(group.children[n]) for n in sorted(group.needs[number])]
        operation = self.operations[child.place].name
        loose = self.flat or any(operation.startswith(f"{path}.") for path in group.dissolved)
        return Step(
            kind="task" if child.flow is None else "flow",
            target=self._child_name(child),
            arguments=tuple(arguments),
            after=tuple(name for name in needed if name not in fed),
            stage=stage,
            group=operation.rpartition(".")[0] if loose and child.flow is None else "",
        )

    def _task_arguments(
        self,
        group: _Group,
        place: int,
        covered: set[int],
        names: dict[tuple[int, int | None], str],
    ) -> list[Argument]:
        bindings = {binding.port.name: binding for binding in self.bindings.get(place, ())}
        arguments = []
        for port in self.operations[place].ports:
            parameter = self.parameters.get((place, port.name))
            source: Source
            if parameter is not None:
                source = FromParameter(parameter.name, parameter.by_reference)
            else:
                source = self._bound(group, bindings[port.name], covered, names)
            arguments.append(Argument(name=port.name, source=source))
        return arguments

    def _bound(
        self,
        group: _Group,
        binding: Binding,
        covered: set[int],
        names: dict[tuple[int, int | None], str],
    ) -> Source:
        if not binding.heads:
            return Nothing()
        items = [self._source(group, place, out, covered, names) for place, out in binding.heads]
        outputs = [output for _, output in binding.heads]
        if binding.how == "one" or (
            len(items) == 1 and outputs[0].many and not outputs[0].optional
        ):
            return items[0]  # many into a list passes whole
        return FromList(
            tuple(items),
            tuple(output.many for output in outputs),
            tuple(output.optional for output in outputs),
        )

    def _source(
        self,
        group: _Group,
        place: int,
        output: Output,
        covered: set[int],
        names: dict[tuple[int, int | None], str],
    ) -> FromParameter | FromResult:
        if place not in covered:
            return FromParameter(names[place, output.index], True)
        step = self._child_name(group.children[group.rep[place]])
        return FromResult(step, Value(operation=self.operations[place].name, index=output.index))

    def _subflow_arguments(
        self,
        group: _Group,
        child: _Group,
        covered: set[int],
        names: dict[tuple[int, int | None], str],
    ) -> list[Argument]:
        inside = set(child.places)
        uses = self._uses(child, inside)
        own = self._value_names(uses)
        arguments = [
            Argument(name=own[value], source=self._source(group, value[0], output, covered, names))
            for value, (output, _) in uses.values.items()
        ]
        arguments += [
            Argument(name=name, source=FromParameter(name, parameter.by_reference))
            for name, parameter in uses.parameters.items()
        ]
        return arguments

    # - nodes and edges, for pictures and messages -

    def _node(self, place: int) -> Node:
        operation = self.operations[place]
        missing = {b.port.name for b in self.bindings.get(place, ()) if b.how == "missing"}
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
        def edge(link: Link) -> Edge:
            return Edge(
                source=self.operations[link.source].name,
                target=self.operations[link.target].name,
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

    knots = networkx.DiGraph((s, t) for t in graph.stuck for s in graph.needs[t])
    return [
        list(knot)
        for knot in networkx.strongly_connected_components(knots)
        if len(knot) > 1 or any(knots.has_edge(n, n) for n in knot)
    ]


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
        if any(not whole <= set(group.needs[number]) for number in stage):
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
