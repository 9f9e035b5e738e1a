"""The dependency graph becomes a plan: groups, nesting, stages, flow parameters, returns."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from .dataflow import Binding, DataFlowGraph, Head, build_graph, topological_stages
from .errors import Problem, UnknownNameError, UsageError, did_you_mean
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
    Parameter,
    Runner,
    Source,
    Step,
    Text,
    Value,
)

__all__ = ["MAIN", "STANDALONES", "OrchestrationCompiler", "Selection", "compile_plan"]

MAIN = "main_flow"
STANDALONES = "standalones_flow"
#: What a flow's parameter cannot be called: names that Prefect's ``flow.__call__`` takes, and
#: names that the pydantic model, which Prefect makes of a flow's parameters, refuses.
_REFUSED = frozenset({"return_state", "wait_for", "self", "model_config"})
_REFUSED_STARTS = ("_", "v__", "model_dump", "model_validate")
#: How many pairs of names are compared at most to find what was meant: they take about 0.1 s.
_COMPARED = 20_000


class OrchestrationCompiler:
    """Compiles operations to an `Orchestration`; holds no state."""

    def compile(
        self, operations: Iterable[Any], *, flat: bool = False, runner: Runner = "async"
    ) -> Orchestration:
        """Return the plan; see `compile_plan`.

        Raises
        ------
        CycleError
            When operations need each other in a loop. (Other errors stand in ``.problems``.)
        """
        graph = build_graph(operations)
        if graph.has_cycle():
            raise graph.cycle_error()
        return compile_graph(graph, flat=flat, runner=runner)


def compile_plan(
    operations: Iterable[Any],
    *,
    flat: bool = False,
    runner: Runner = "async",
    selection: Selection | None = None,
) -> Orchestration:
    """Return the plan of ``operations``, whatever is wrong with them.

    Parameters
    ----------
    operations
        Operations, or objects with ``name``, ``models_in``, ``models_out`` and ``function``.
    flat
        One flow without nesting, where nothing waits for a group.
    runner
        Where the operations run. With a task runner each flow calls all of its operations itself,
        since a nested flow would start workers of its own: see docs/decisions/0004.
    selection
        The part of the operations that is wanted; what they take from the others becomes a flow
        parameter.

    Returns
    -------
    Orchestration
        With every problem in ``problems``; those that are errors block the flows that contain
        their operation.

    Raises
    ------
    DeclarationError, InvalidNameError
        When an object is no operation, or two have one name.
    UnknownNameError, UsageError
        When the selection names what does not exist, or leaves nothing.
    """
    return compile_graph(build_graph(operations), flat=flat, runner=runner, selection=selection)


def compile_graph(
    graph: DataFlowGraph,
    *,
    flat: bool = False,
    runner: Runner = "async",
    selection: Selection | None = None,
) -> Orchestration:
    """Return the plan of a dependency graph; see `compile_plan`."""
    chosen = selection.places(graph) if selection else graph.places
    return _Compiler(graph, chosen, flat=flat, runner=runner).plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The part of a session that is wanted, by the names of operations.

    Parameters
    ----------
    upto
        These operations, and all that they need.
    start
        These operations, and all that need them (``--from``).
    only
        These operations alone. With ``upto`` or ``start``: in addition to what both of them say.
    """

    upto: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.upto or self.start or self.only)

    def places(self, graph: DataFlowGraph) -> list[int]:
        """Return the places of the wanted operations, in registration order.

        Raises
        ------
        UnknownNameError
            When a name is no operation's.
        UsageError
            When no operation is wanted.
        """
        upto, start, only = (
            [_place(graph, name) for name in names] for names in (self.upto, self.start, self.only)
        )
        chosen = set(only)
        if self.upto or self.start:
            behind = _reachable(upto, graph.needs)
            ahead = _reachable(start, graph.feeds)
            both = behind & ahead if self.upto and self.start else behind | ahead
            if not both:
                raise UsageError(
                    f"no operation lies between {', '.join(self.start)} and "
                    f"{', '.join(self.upto)}: the latter does not depend on the former."
                )
            chosen |= both
        return sorted(chosen)


def _place(graph: DataFlowGraph, name: str) -> int:
    inside = [each for each in graph.names if each.startswith(f"{name}.")]
    if name not in graph and inside:
        raise UnknownNameError(
            f"{name!r} is a group, and a selection names operations: {', '.join(inside[:6])}"
            f"{', …' if len(inside) > 6 else ''}. Give the group as FLOW.",
            candidates=tuple(inside),
        )
    return graph.place_of(name)


def _reachable(places: Iterable[int], ways: Sequence[Sequence[int]]) -> set[int]:
    todo = list(places)
    found = set(todo)
    while todo:
        new = [other for other in ways[todo.pop()] if other not in found]
        found.update(new)
        todo.extend(new)
    return found


@dataclass(slots=True)
class _Group:
    """A flow in the making: its path, and the operations that run when it runs."""

    path: str
    name: str
    places: list[int]
    #: Operations by their place, and subflows.
    children: list[int | _Group] = field(default_factory=list)
    stages: list[list[int]] = field(default_factory=list)
    needs: list[list[int]] = field(default_factory=list)
    rep: dict[int, int] = field(default_factory=dict)
    dissolved: set[str] = field(default_factory=set)
    covered: set[int] = field(default_factory=set)
    #: What the children are called, and what the flow needs from outside, and by which names.
    names: list[str] = field(default_factory=list)
    uses: _Uses = field(default_factory=lambda: _Uses())
    #: The flow parameter that carries each result from outside.
    carried: dict[_Result, FromParameter] = field(default_factory=dict)
    #: Where its steps have each result from, once that was asked for.
    sources: dict[_Result, FromParameter | FromResult] = field(default_factory=dict)


#: Makes a named tuple of a tuple in half the time of calling its class.
_tuple = tuple.__new__
#: The place of an operation stands for its result; in a returned tuple, with the item's index.
_Result = int | tuple[int, int]
#: Which way goes down to each operation, by its number; the first way is no way at all.
_Ways = Sequence[int]
#: What each operation comes after, by place.
_Follows = Sequence[Sequence[int]]


@dataclass(slots=True)
class _Uses:
    """What a flow needs from outside, in order of first use."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    values: dict[_Result, Output] = field(default_factory=dict)
    #: The first port that takes a value whose own type is not written down.
    ports: dict[_Result, Port] = field(default_factory=dict)


class _Compiler:
    def __init__(
        self, graph: DataFlowGraph, chosen: Sequence[int], *, flat: bool, runner: Runner
    ) -> None:
        self.graph = graph
        self.operations = graph.operations
        self.chosen = chosen
        self.runner = runner
        self.flat = flat
        self.names = graph.names
        self.parents = [operation.group for operation in self.operations]
        self.problems: list[Problem] = list(graph.problems)
        self.errors: list[Problem] = []
        self.bound, self.needs = graph.bound, graph.needs
        self.missing = graph.missing
        self.knots = _loops(graph)
        self.in_loop = {place for knot in self.knots for place in knot}
        self.whole = len(chosen) == len(self.operations)
        self.consumers = self._consumers()
        self.parameters = self._parameters()
        #: The flow of what has no group, when that is everything: only its name is another.
        self.twin: _Group | None = None
        self.flow_names: dict[str, str] = {}
        #: The groups with a flow on each way down from the main flow.
        self.ways: list[tuple[str, ...]] = [()]
        #: How many operations are in each group, wanted or not.
        self.sizes: Counter[str] = Counter()

    def plan(self) -> Orchestration:
        groups = self._groups()
        self.errors = [problem for problem in self._problems() if problem.severity == "error"]
        flows = [self._flow(group) for group in groups]
        if self.twin:
            flows.append(replace(flows[-1], name=STANDALONES, doc=self._doc(self.twin)))
        order = {"error": 0, "warning": 1, "note": 2}
        return Orchestration(
            operations=self._nodes(),
            edges=self._edges(),
            flows=tuple(flows),
            problems=tuple(sorted(self._problems(), key=lambda problem: order[problem.severity])),
            runner=self.runner,
        )

    def _consumers(self) -> Sequence[Sequence[int]]:
        """Return for each operation the wanted ones that take its results."""
        if self.whole and not self.graph.orders:
            return self.graph.feeds
        consumers: list[list[int]] = [[] for _ in self.operations]
        for place in self.chosen:
            for binding in self.graph.bindings_of(place):
                for source, _ in binding.heads:
                    consumers[source].append(place)
        return consumers

    def _problems(self) -> list[Problem]:
        """Return the problems of the operations, and of the groups, that are wanted."""
        if self.whole:
            return self.problems
        names = {self.names[place] for place in self.chosen}
        return [
            problem
            for problem in self.problems
            if problem.operation in names
            or not problem.operation
            or (problem.code == "cycle" and not names.isdisjoint(self._knot(problem)))
        ]

    # - flow parameters: one name for each thing that a person gives, decided once -

    def _parameters(self) -> dict[int, dict[str, Parameter]]:
        """Return the flow parameter behind each port that a person feeds, by operation and port."""
        uses: dict[str, dict[Any, list[tuple[int, Port]]]] = {}
        keys = self._model_keys() if self.missing else {}
        nearest = self._nearest_models()
        for place, operation in enumerate(self.operations):
            missing = self.missing.get(place, ())
            for port in operation.ports if missing else operation.asks:
                if port.model is not None and port.name not in missing:
                    continue
                name = port.name
                if port.model is not None:
                    self._note_missing(operation, port, nearest.get(port.takes, ""))
                    name = snake_case(port.takes)
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

    def _nearest_models(self) -> dict[str, str]:
        """Return the question whether another model is meant, for each that nobody gives."""
        if not self.missing:
            return {}
        known = dict.fromkeys(o.model.name for each in self.operations for o in each.outputs)
        absent = dict.fromkeys(
            port.takes
            for place, names in self.missing.items()
            for port in self.operations[place].takes
            if port.name in names
        )
        if len(absent) * len(known) > _COMPARED:  # they are not all misspelt
            return {}
        return {
            model: did_you_mean(model, [other for other in known if other != model])
            for model in absent
        }

    def _note_missing(self, operation: Operation, port: Port, nearest: str) -> None:
        model = port.takes
        name = snake_case(model)
        self.problems.append(
            Problem(
                code="missing-model",
                severity="note",
                message=f"operation {operation.name!r}: no operation gives {model}, which the "
                f"port {port.name!r} takes; it becomes the flow parameter {name!r}." + nearest,
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
        everything = list(self.chosen)
        if not everything:
            return []
        main = _Group("", MAIN, everything)
        found: list[_Group] = []
        ways: _Ways = self._find_ways()
        follows = self._follows()
        if self.runner != "async" and not self.flat:
            return self._side_by_side(main, ways, follows)
        if self.flat:
            ways = [0] * len(ways)
        todo = [main]
        while todo:
            group = todo.pop()
            found.append(group)
            todo.extend(self._split(group, ways, follows))
        found.reverse()
        if not self.flat:
            found += self._alone(main, ways, follows)
        return found

    def _loose(self) -> list[int]:
        """Return the operations without a group, wanted or not."""
        return [place for place, parent in enumerate(self.parents) if not parent]

    def _follows(self) -> _Follows:
        """Return who follows whom, without what is in a loop, and what is not wanted."""
        follows, loop = self.graph.follows, self.in_loop
        if self.whole and not loop:
            return follows
        wanted = set(self.chosen)
        return [
            [s for s in sources if s in wanted and not (s in loop and target in loop)]
            for target, sources in enumerate(follows)
        ]

    def _alone(self, main: _Group, ways: _Ways, follows: _Follows) -> list[_Group]:
        standalones = [place for place in self.chosen if not self.parents[place]]
        if not standalones:
            return []
        if len(standalones) == len(main.places):
            self.twin = replace(main, name=STANDALONES)
            return []
        alone = _Group("", STANDALONES, standalones)
        self._split(alone, ways, follows)
        return [alone]

    def _side_by_side(self, main: _Group, ways: _Ways, follows: _Follows) -> list[_Group]:
        """Return the flows when each calls all of its operations itself."""
        members: dict[str, list[int]] = {}
        for place in self.chosen:
            for path in self.ways[ways[place]]:
                members.setdefault(path, []).append(place)
        groups = [_Group(path, self.flow_names[path], places) for path, places in members.items()]
        groups = [*reversed(groups), main]
        nowhere = [0] * len(self.operations)
        for group in groups:
            self._split(group, nowhere, follows)
        return [*groups, *self._alone(main, nowhere, follows)]

    def _find_ways(self) -> list[int]:
        """Return, for each operation, the number of its way down from the main flow.

        A flow is called, and exists, for all operations alike: a selection changes neither.
        """
        parents = self.parents
        sizes = Counter(parents)
        chains = {parent: _prefixes(parent) for parent in sizes}
        below = self.sizes
        for parent, count in sizes.items():
            for prefix in chains[parent]:
                below[prefix] += count
        taken = {MAIN, STANDALONES, *(self.names[place].lower() for place in self._loose())}
        for prefix in below:
            if "." not in prefix or below[prefix] > 1:
                name = _free(f"{prefix.replace('.', '_')}_flow", taken)
                taken.add(name.lower())  # files that differ in case only collide on some systems
                self.flow_names[prefix] = name
        numbers = {"": 0}
        for parent, chain in chains.items():
            if parent:
                numbers[parent] = len(self.ways)
                self.ways.append(tuple(prefix for prefix in chain if prefix in self.flow_names))
        return [numbers[parent] for parent in parents]

    def _split(self, group: _Group, ways: _Ways, follows: _Follows) -> list[_Group]:
        """Find a flow's children and their stages; return the subflows to split next."""
        while True:
            self._gather(group, ways)
            feeds = _lift(group, follows)
            group.stages, stuck = topological_stages(group.needs, feeds)
            if not stuck or not self._dissolve(group, stuck):
                break
        names = self.names
        group.names = [names[c] if isinstance(c, int) else c.name for c in group.children]
        return [child for child in group.children if isinstance(child, _Group)]

    def _gather(self, group: _Group, ways: _Ways) -> None:
        """Find a flow's children: its own operations, and the subflows that hold the others."""
        owners = {
            way: _owner(self.ways[way], group.path, group.dissolved)
            for way in dict.fromkeys([ways[place] for place in group.places])
        }
        if not any(owners.values()):
            group.children = list(group.places)
            group.rep = {place: number for number, place in enumerate(group.places)}
            return
        flows: dict[str, tuple[int, _Group]] = {}
        children: list[int | _Group] = []
        rep: dict[int, int] = {}
        homes: dict[int, tuple[int, list[int]]] = {}
        for place in group.places:
            way = ways[place]
            if way in homes:
                number, places = homes[way]
                rep[place] = number
                places.append(place)
                continue
            path = owners[way]
            if not path:
                rep[place] = len(children)
                children.append(place)
                continue
            if path not in flows:
                flows[path] = len(children), _Group(path, self.flow_names[path], [])
                children.append(flows[path][1])
            number, flow = flows[path]
            homes[way] = number, flow.places
            rep[place] = number
            flow.places.append(place)
        group.children, group.rep = children, rep

    def _dissolve(self, group: _Group, stuck: list[int]) -> bool:
        """Run the groups of a loop inside the flow; return whether there were any."""
        import networkx

        inside = set(stuck)
        knots = networkx.DiGraph((s, t) for t in stuck for s in group.needs[t] if s in inside)
        changed = False
        for knot in networkx.strongly_connected_components(knots):
            inside_knot = [group.children[number] for number in sorted(knot)]
            loose = [child.path for child in inside_knot if isinstance(child, _Group)]
            if len(knot) > 1 and loose:
                group.dissolved.update(loose)
                changed = True
                self._warn_dissolved(group, loose, knot)
        return changed

    def _warn_dissolved(self, group: _Group, loose: list[str], knot: set[int]) -> None:
        members = [
            self.names[child] if isinstance(child, int) else child.path
            for number, child in enumerate(group.children)
            if number in knot
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
        group.carried = self._carry(group.uses)
        group.sources = {**group.carried}
        names, children = group.names, group.children
        ordered = [number for stage in group.stages for number in stage]
        flows = {n for n, child in enumerate(children) if not isinstance(child, int)}
        covers = tuple([self.names[place] for place in group.places])
        blocked = self._blocking(covers)
        return FlowDefinition(
            name=group.name,
            hierarchy_path=group.path,
            operations=tuple([names[n] for n in ordered if n not in flows]),
            subflows=tuple([names[n] for n in ordered if n in flows]),
            parallel_groups=tuple([tuple([names[n] for n in stage]) for stage in group.stages]),
            parameters=self._flow_parameters(group),
            steps=() if blocked else self._steps(group),
            waits=_waits(group),
            returns=tuple([self.names[place] for place in self._returns(group)]),
            covers=covers,
            blocked=blocked,
            doc=self._doc(group),
        )

    def _blocking(self, covers: Sequence[str]) -> tuple[Problem, ...]:
        if not self.errors:
            return ()
        inside = set(covers)
        return tuple(
            problem
            for problem in self.errors
            if problem.operation in inside
            or (problem.code == "cycle" and not inside.isdisjoint(self._knot(problem)))
        )

    def _knot(self, problem: Problem) -> list[str]:
        """Return all operations that need each other, of which a message tells one round."""
        knots = ([self.operations[place].name for place in knot] for knot in self.knots)
        return next(knot for knot in knots if problem.operation in knot)

    def _doc(self, group: _Group) -> str:
        whole = self.sizes[group.path]
        what = f"group ``{group.path}``"
        if group.name == MAIN and not group.path:
            what, whole = "everything", len(self.names)
        elif not group.path:
            what, whole = "the operations without a group", len(self._loose())
        if len(group.places) == whole:
            return f"Run {what}."
        names = [self.names[place] for place in group.places]
        more = f" and {len(names) - 6} more" * (len(names) > 6)
        return f"Run a part of {what}: {', '.join(names[:6])}{more}."

    def _uses(self, group: _Group) -> _Uses:
        uses = _Uses()
        parameters = uses.parameters
        if self.parameters:
            for place in group.places:
                given = self.parameters.get(place)
                if given:
                    for port in self.operations[place].ports:
                        if port.name in given:
                            parameter = given[port.name]
                            parameters.setdefault(parameter.name, parameter)
        if len(group.covered) < len(self.operations):
            self._use_results(group, uses)
        return uses

    def _use_results(self, group: _Group, uses: _Uses) -> None:
        covered, values, ports = group.covered, uses.values, uses.ports
        operations, needs, bound = self.operations, self.needs, self.bound
        for place in group.places:
            if place in bound:
                for port, _, heads in bound[place]:
                    for head in heads:
                        value, output = _result(head), head[1]
                        if head[0] not in covered and value not in values:
                            values[value] = output
                            if output.annotation is None:
                                ports[value] = port
                continue
            for source in needs[place]:
                if source not in covered and source not in values:
                    values[source] = output = operations[source].outputs[0]
                    if output.annotation is None:
                        ports[source] = operations[place].takes[needs[place].index(source)]

    def _carry(self, uses: _Uses) -> dict[_Result, FromParameter]:
        """Name the parameters for others' results: by model if that is one, else by operation."""
        wanted = {value: output.parameter for value, output in uses.values.items()}
        taken = set(uses.parameters)
        alone = {parameter.name for parameter in wanted.values()}
        if len(alone) == len(wanted) and alone.isdisjoint(taken) and not any(map(_refused, alone)):
            return wanted
        shared = Counter([parameter.name for parameter in wanted.values()])
        for value, output in uses.values.items():
            name = output.parameter.name
            if shared[name] > 1 or name in taken or _refused(name):
                item = "" if output.index is None else name
                name = _full_name(self.operations[_place_of(value)].name, item, taken)
                wanted[value] = FromParameter(name, True)
            taken.add(name)
        return wanted

    def _flow_parameters(self, group: _Group) -> tuple[Parameter, ...]:
        uses, maps, operations = group.uses, self.graph.maps, self.operations
        carried = []
        for value, output in uses.values.items():
            own, place = group.carried[value], value if isinstance(value, int) else value[0]
            gives = operations[place]
            parameter = gives.gives[0] if output.index is None else gives.carried(output)
            if parameter.annotation is None or maps:
                head = place, output
                text = self._type_of(head) or self._same_shape(head, uses.ports.get(value))
                parameter = parameter._replace(annotation=text)
            if own is not output.parameter:
                parameter = parameter._replace(name=own.name)
            carried.append(parameter)
        given = list(uses.parameters.values())
        required = [p for p in given if p.default is None]
        return (*carried, *required, *(p for p in given if p.default is not None))

    def _returns(self, group: _Group) -> list[int]:
        operations, consumers, inside = self.operations, self.consumers, group.covered.issuperset
        if len(group.covered) == len(operations):  # all that take anything are inside
            return [p for p in group.places if not consumers[p] and operations[p].gives_value]
        return [
            place
            for place in group.places
            if not ((takers := consumers[place]) and inside(takers))
            and operations[place].gives_value
        ]

    def _steps(self, group: _Group) -> tuple[Step, ...]:
        steps: list[Step] = []
        tagged = self.flat or self.runner != "async" or bool(group.dissolved)
        names, children, known, new = group.names, group.children, group.sources, _tuple
        operations, needs, bound = self.operations, self.needs, self.bound
        tags: dict[str, str] = {}
        for stage, numbers in enumerate(group.stages):
            for number in numbers:
                child = children[number]
                kind, tag = "task", ""
                after: tuple[str, ...] = ()
                arguments: list[Argument] = []
                if not isinstance(child, int):
                    kind, arguments = "flow", self._subflow_arguments(group, child)
                    after = self._after(group, number, arguments)
                elif child in bound or operations[child].asks:
                    arguments = self._task_arguments(group, child)
                    if not operations[child].simple:  # else it needs what it takes
                        after = self._after(group, number, arguments)
                else:  # nearly all are like that
                    wants = operations[child].wants
                    for port, result in enumerate(needs[child]):
                        source = known.get(result) or self._source(group, result)
                        arguments.append(new(Argument, (wants[port][0], source)))
                if tagged and isinstance(child, int):
                    tag = self._tag(group, child, tags)
                steps.append(new(Step, (kind, names[number], tuple(arguments), after, stage, tag)))
        return tuple(steps)

    # - many -

    def _is_many(self, head: Head) -> bool:
        """Return whether a result is many, as such or since its operation runs per element."""
        return head[1].many or head[0] in self.graph.maps

    def _type_of(self, head: Head) -> Text | None:
        """Return the annotation of a result, of which there are many when it is mapped."""
        place, output = head
        text = output.annotation
        if text is None or output.many or place not in self.graph.maps:
            return text
        return Text(f"list[{text.text}]", text.names)

    def _same_shape(self, head: Head, port: Port | None) -> Text | None:
        """The port's own annotation, where the value reaches it as it is."""
        if port is None or port.shape != "one" or self._is_many(head):
            return None
        return port.annotation

    def _after(self, group: _Group, number: int, arguments: list[Argument]) -> tuple[str, ...]:
        """Return the steps that this one waits for without taking their results."""
        needs = group.needs[number]
        if not needs:
            return ()
        fed = set()
        for _, source in arguments:
            if isinstance(source, FromResult):
                fed.add(source.step)
            elif isinstance(source, FromList):
                fed.update([item.step for item in source.items if isinstance(item, FromResult)])
        if len(fed) == len(needs):
            return ()
        names = [group.names[need] for need in sorted(needs)]
        return tuple(name for name in names if name not in fed)

    def _tag(self, group: _Group, place: int, known: dict[str, str]) -> str:
        """Return the group of an operation that runs outside of its group's flow."""
        parent = self.parents[place]
        if parent not in known:
            side_by_side = self.flat or self.runner != "async"
            loose = side_by_side or not group.dissolved.isdisjoint(_prefixes(parent))
            known[parent] = parent if loose else ""
        return known[parent]

    def _task_arguments(self, group: _Group, place: int) -> list[Argument]:
        given = self.parameters.get(place, {})
        arguments = []
        bindings = iter(self.graph.bindings_of(place))  # one for each data port, in their order
        for port in self.operations[place].ports:
            bound = next(bindings) if port.model is not None else None
            source: Source
            if port.name in given:
                parameter = given[port.name]
                source = FromParameter(parameter.name, parameter.by_reference)
            else:
                source = self._bound(group, bound) if bound else Nothing()
            arguments.append(Argument(port.name, source))
        return arguments

    def _bound(self, group: _Group, binding: Binding) -> Source:
        if not binding.heads:
            return Nothing()
        results = [_result(head) for head in binding.heads]
        if binding.how == "one":
            return self._source(group, results[0])
        items = [self._source(group, result) for result in results]
        many = [self._is_many(head) for head in binding.heads]
        optional = [output.optional for _, output in binding.heads]
        a_list = many[0] and not optional[0] and not binding.heads[0][1].sequence
        if len(items) == 1 and a_list:
            return items[0]  # many into a list passes whole
        return FromList(tuple(items), tuple(many), tuple(optional))

    def _source(self, group: _Group, result: _Result) -> FromParameter | FromResult:
        """Return what a step takes a result from; what comes from outside is known already."""
        source = group.sources.get(result)
        if source is None:
            place = _place_of(result)
            made = group.names[group.rep[place]], self._value(result)
            source = group.sources[result] = _tuple(FromResult, made)
        return source

    def _value(self, result: _Result) -> Value | None:
        """Return the one `Value` of a result, however many flows it goes through."""
        gives = self.operations[_place_of(result)].gives
        if isinstance(result, int):
            return gives[0].value
        return next(each.value for each in gives if each.value and each.value.index == result[1])

    def _subflow_arguments(self, group: _Group, child: _Group) -> list[Argument]:
        known, rep, names, operations = group.sources, group.rep, group.names, self.operations
        arguments, new = [], _tuple
        for result, parameter in child.carried.items():
            source = known.get(result)
            if source is None:
                if isinstance(result, int):  # as `_source` does, which is called too often here
                    made = names[rep[result]], operations[result].gives[0].value
                    source = known[result] = new(FromResult, made)
                else:
                    source = self._source(group, result)
            arguments.append(new(Argument, (parameter.name, source)))
        arguments += [
            Argument(name, FromParameter(name, given.by_reference))
            for name, given in child.uses.parameters.items()
        ]
        return arguments

    # - nodes and edges, for pictures and messages -

    def _nodes(self) -> tuple[Node, ...]:
        if not self.missing and not self.graph.maps:
            return tuple([self.operations[place].node for place in self.chosen])
        return tuple([self._node(place) for place in self.chosen])

    def _node(self, place: int) -> Node:
        node = self.operations[place].node
        missing = self.missing.get(place, ())
        maps = self.graph.maps.get(place, ())
        if not missing and not maps:
            return node
        ports = [
            port._replace(missing=port.name in missing, mapped=port.name in maps)
            for port in node.ports
        ]
        outputs = [
            output._replace(many=output.many or bool(maps), flat=output.many and bool(maps))
            for output in node.outputs
        ]
        return node._replace(ports=tuple(ports), outputs=tuple(outputs))

    def _edges(self) -> tuple[Edge, ...]:
        names, operations, needs, bound = self.names, self.operations, self.needs, self.bound
        maps, manies, whole, new = self.graph.maps, self.graph.many, self.whole, _tuple
        wanted = set() if whole else set(self.chosen)
        edges: list[Edge] = []
        for place in self.chosen:
            if place in bound:
                edges += self._bound_edges(place, wanted)
                continue
            target, wants = names[place], operations[place].wants
            for number, source in enumerate(needs[place]):
                if whole or source in wanted:
                    port, _, model = wants[number]
                    many = manies and (source in maps or operations[source].outputs[0].many)
                    made = names[source], target, port, model, "data", None, many
                    edges.append(new(Edge, made))
        return tuple(edges)

    def _bound_edges(self, place: int, wanted: set[int]) -> Iterator[Edge]:
        """Yield the edges to an operation that is not plain."""
        names, maps = self.names, self.graph.maps
        target = names[place]
        for port, how, heads in self.bound[place]:
            kind: Any = "candidate" if how == "ambiguous" else "data"
            for source, output in heads:
                if self.whole or source in wanted:
                    many = output.many or source in maps
                    name, index = names[source], output.index
                    yield Edge(name, target, port.name, port.takes, kind, index, many)
        for source, model in self.graph.orders.get(place, ()):
            if self.whole or source in wanted:
                yield Edge(names[source], target, "", model, "order")


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


def _result(head: Head) -> _Result:
    place, output = head
    return place if output.index is None else (place, output.index)


def _place_of(result: _Result) -> int:
    return result if isinstance(result, int) else result[0]


def _lift(group: _Group, follows: _Follows) -> list[list[int]]:
    """Find what each child needs of the others; return what each feeds."""
    rep, count = group.rep, len(group.children)
    needs: list[list[int]] = [[] for _ in range(count)]
    feeds: list[list[int]] = [[] for _ in range(count)]
    group.needs = needs
    if count == len(rep):  # one operation in each: no two edges become one
        for place, target in rep.items():
            for other in follows[place]:
                if other in rep:
                    source = rep[other]
                    needs[target].append(source)
                    feeds[source].append(target)
        return feeds
    known: set[int] = set()
    for place, target in rep.items():
        for other in follows[place]:
            source = rep.get(other, target)  # what is not in the flow is no edge in it
            if source != target and (pair := source * count + target) not in known:
                known.add(pair)
                needs[target].append(source)
                feeds[source].append(target)
    return feeds


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


@cache  # it is asked for each value that goes into a flow, again and again
def _refused(name: str) -> bool:
    return name in _REFUSED or name.startswith(_REFUSED_STARTS)


def _full_name(operation: str, name: str, taken: set[str]) -> str:
    """Return the full dotted name, underscored, as a name that a flow's parameter may have."""
    full = f"{operation}.{name}".strip("._").replace(".", "_") or "value"
    named = full.isidentifier() and not keyword.iskeyword(full) and not _refused(full)
    return _free(full if named else f"value_{full}", taken)


def _identity(port: Port, keys: dict[str, str]) -> Any:
    """What makes two parameters of one name the same: the type and the default."""
    default = port.default_text.text if port.default_text else ""
    default += _plain_repr(port.default)
    if port.model is not None:
        return port.model.key or keys.get(port.takes, port.takes), port.shape == "all", default
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
        model=port.takes,
    )


def _free(name: str, taken: set[str]) -> str:
    """Return ``name``, or the first of ``name_2``, ``name_3`` … that is not taken."""
    free, number = name, 1
    while free.lower() in taken or free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
