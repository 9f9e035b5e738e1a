"""Who needs whose result: heads, transforms, the binding of ports, and loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .errors import CycleError, DeclarationError, Problem, UnknownNameError, did_you_mean
from .models import ModelRef
from .names import common_groups
from .operations import NO_DEFAULT, Operation, Output, Port, as_operation

__all__ = [
    "Binding",
    "DataFlowAnalyzer",
    "DataFlowGraph",
    "Link",
    "build_graph",
    "topological_stages",
]


#: A result by the place of its operation and, in a returned tuple, its index.
Result = tuple[int, int | None]


class Link(NamedTuple):
    """One edge, by place in the list of operations."""

    source: int
    target: int
    port: str
    model: str
    kind: str  # "data", "order" or "candidate"


class Binding(NamedTuple):
    """What one data port gets: the heads it is bound to, as (operation, output) pairs.

    ``how`` is ``"one"``, ``"list"``, ``"none"`` (optional and not produced), ``"missing"``
    (nobody produces the model) or ``"ambiguous"``.
    """

    port: Port
    how: str
    heads: tuple[tuple[int, Output], ...]

    @property
    def kind(self) -> str:
        """What edges it makes: ``"data"``, or ``"candidate"`` while it is not settled."""
        return "candidate" if self.how == "ambiguous" else "data"


class DataFlowGraph:
    """The dependency graph over operations.

    It never raises on an ambiguous port: such a port has an edge from every candidate, marked.

    Attributes
    ----------
    operations
        The operations, in registration order.
    bound
        What each data port gets, of each operation that is not plain. A plain one, as most are,
        takes but results that are all that an operation gives, one at each port, none twice: they
        are what it ``needs``, in the order of its ports.
    orders
        What an operation only comes after: the places of others, each with the model by which.
    needs, feeds
        Where the edges of each operation come from, and where they go, each neighbour once.
    missing
        The ports of each operation whose model nobody produces.
    problems
        What could not be settled, or deserves a word.
    maps
        The ports of each operation that take one of many: it runs once per element.
    spread
        The results that are many, each with its origin: the result whose elements they come from,
        one by one. Results of one origin can be taken in step.
    """

    def __init__(self, binder: _Binder) -> None:
        self.operations = binder.operations
        self.bound = binder.bound
        self.orders = binder.orders
        self.needs, self.feeds = binder.needs, binder.feeds
        self.missing = binder.missing
        self.problems = binder.problems
        self._places = binder.place
        #: What each operation comes after, which is what it needs ...
        self.follows = self.needs
        self.stages, self.stuck = topological_stages(self.needs, self.feeds)
        if self.stuck and any(link.kind == "candidate" for link in self.links):
            # ... unless only an unsettled choice closes a loop, which is no loop yet.
            self.follows, feeds = _both_ways(self._firm_links(), len(self.operations))
            self.stages, self.stuck = topological_stages(self.follows, feeds)
        self.maps: dict[int, tuple[str, ...]] = {}
        self.spread: dict[Result, Result] = {}
        #: Whether any result is many, as such or since its operation runs once per element.
        self.many = binder.many
        if self.many:
            self._map()

    @property
    def bindings(self) -> list[Sequence[Binding]]:
        """What each data port of each operation gets."""
        return [self.bindings_of(place) for place in range(len(self.operations))]

    def bindings_of(self, place: int) -> Sequence[Binding]:
        """Return what each data port of an operation gets, in the order of its ports."""
        if place in self.bound:
            return self.bound[place]
        operations = self.operations
        return [
            Binding(port, "one", ((source, operations[source].outputs[0]),))
            for port, source in zip(operations[place].takes, self.needs[place], strict=True)
        ]

    @property
    def links(self) -> list[Link]:
        """The edges, in the order of the operations that need them."""
        links = []
        for place, bindings in enumerate(self.bindings):
            for each in bindings:
                name, model, kind = each.port.name, each.port.takes, each.kind
                links += [Link(source, place, name, model, kind) for source, _ in each.heads]
            for source, model in self.orders.get(place, ()):
                links.append(Link(source, place, "", model, "order"))
        return links

    def _firm_links(self) -> list[Link]:
        return [link for link in self.links if link.kind != "candidate"]

    def _map(self) -> None:
        """Find out which operations run once per element, and what is many because of that."""
        for place in [place for stage in self.stages for place in stage]:
            operation = self.operations[place]
            origins: dict[str, Result] = {}
            for port, how, heads in self.bindings_of(place):
                if how == "one" and port.shape == "one":
                    source, output = heads[0]
                    if (source, output.index) in self.spread:
                        origins[port.name] = self.spread[source, output.index]
            if origins:
                self.maps[place] = tuple(origins)
                self._must_be_in_step(operation, origins)
            origin = next(iter(origins.values()), None)
            if origins and operation.options.on_element_error == "skip":
                origin = (place, -1)  # what is left is in step with itself alone
            for output in operation.outputs:
                own = (place, output.index)
                if output.many:
                    self.spread[own] = own
                elif origin is not None:
                    self.spread[own] = origin

    def _must_be_in_step(self, operation: Operation, origins: dict[str, Result]) -> None:
        """Refuse to map over results that have nothing to do with each other."""
        if len(set(origins.values())) == 1:
            return
        told = [
            f"{port!r} over those of {self.operations[place].name!r}"
            for port, (place, _) in origins.items()
        ]
        first = next(iter(origins))
        other = next(port for port in origins if origins[port] != origins[first])
        models = {port.name: port.takes for port in operation.takes}
        skips = [self.operations[place].name for place, index in origins.values() if index == -1]
        left_out = f" ({skips[0]!r} leaves out elements that fail.)" if skips else ""
        self.problems.append(
            Problem(
                code="maps-out-of-step",
                severity="error",
                message=f"operation {operation.name!r} would run once per element of results that "
                f"do not belong together: {' and '.join(told)}.{left_out}",
                fix=f"Take one of them whole, '{other}: list[{models[other]}]', or pair them in an "
                "operation before.",
                operation=operation.name,
                port=other,
                cell=operation.cell,
                candidates=tuple(
                    dict.fromkeys(self.operations[p].name for p, _ in origins.values())
                ),
            )
        )

    @property
    def names(self) -> list[str]:
        """The names of the operations, in registration order."""
        return list(self._places)

    @property
    def places(self) -> list[int]:
        """The places of the operations, as the very numbers that stand in ``needs``."""
        return list(self._places.values())

    def get_dependencies(self, name: str) -> list[str]:
        """Return the operations whose result ``name`` needs, or that it comes after."""
        return [self.operations[place].name for place in sorted(self.needs[self.place_of(name)])]

    def get_dependents(self, name: str) -> list[str]:
        """Return the operations that need ``name``."""
        return [self.operations[place].name for place in sorted(self.feeds[self.place_of(name)])]

    def has_cycle(self) -> bool:
        """Return whether operations need each other in a loop."""
        return bool(self.stuck)

    def topological_sort(self) -> list[str]:
        """Return the names, each after all that it needs.

        Raises
        ------
        CycleError
            When operations need each other in a loop.
        """
        return [name for stage in self.find_parallel_groups() for name in stage]

    def find_parallel_groups(self) -> list[list[str]]:
        """Return the names by stage; the operations of a stage need nothing of each other.

        Raises
        ------
        CycleError
            When operations need each other in a loop.
        """
        if self.stuck:
            raise self.cycle_error()
        return [[self.operations[place].name for place in stage] for stage in self.stages]

    def cycles(self) -> list[list[int]]:
        """Return one loop for each knot of operations that need each other, as places in order."""
        if not self.stuck:
            return []
        import networkx

        graph = networkx.DiGraph()
        stuck = set(self.stuck)
        for target in self.stuck:
            graph.add_edges_from(
                (source, target) for source in self.follows[target] if source in stuck
            )
        knots = (knot for knot in networkx.strongly_connected_components(graph))
        loops = []
        for knot in sorted(
            (k for k in knots if len(k) > 1 or graph.has_edge(*(list(k) * 2))), key=min
        ):
            edges = networkx.find_cycle(graph.subgraph(sorted(knot)), source=min(knot))
            loops.append([source for source, _ in edges])
        return loops

    def cycle_error(self) -> CycleError:
        """Return the error that prints the first loop whole."""
        problems = tuple(self.cycle_problems())
        loop = self.cycles()[0]
        return CycleError(
            f"{problems[0].message} {problems[0].fix}",
            cycle=tuple(self.operations[place].name for place in loop),
            problems=problems,
        )

    def cycle_problems(self) -> list[Problem]:
        """Return one problem for each loop: ``a -[Jobs]-> b -[Scores]-> a``, with each cell."""
        if not self.stuck:
            return []
        found = []
        links = [*self._firm_links(), *self.links]
        carried = {(link.source, link.target): link for link in reversed(links)}
        for loop in self.cycles():
            text = self.operations[loop[0]].name
            for here, there in zip(loop, [*loop[1:], loop[0]], strict=True):
                link = carried[here, there]
                label = (
                    link.model
                    if link.kind != "order"
                    else f"after{link.model and ' ' + link.model}"
                )
                text += f" -[{label}]-> {self.operations[there].name}"
            cells = ", ".join(
                f"{self.operations[place].name} in {self.operations[place].cell}"
                for place in loop
                if self.operations[place].cell
            )
            found.append(
                Problem(
                    code="cycle",
                    severity="error",
                    message=f"operations need each other in a loop: {text}"
                    + (f" ({cells})." if cells else "."),
                    fix="Break it: give one of these results a model of its own, or use --bind "
                    "PORT=OPERATION to take an earlier one.",
                    operation=self.operations[loop[0]].name,
                    cell=self.operations[loop[0]].cell,
                    candidates=tuple(self.operations[place].name for place in loop),
                )
            )
        return found

    def place_of(self, name: str) -> int:
        """Return the place of an operation in registration order.

        Raises
        ------
        UnknownNameError
            When there is none of that name.
        """
        if name not in self._places:
            raise UnknownNameError(
                f"there is no operation {name!r}.{did_you_mean(name, self._places)}",
                candidates=tuple(self._places),
            )
        return self._places[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self.operations)


def _both_ways(links: Iterable[Link], count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return for each node where its edges come from, and where they go, each neighbour once."""
    needs: list[list[int]] = [[] for _ in range(count)]
    feeds: list[list[int]] = [[] for _ in range(count)]
    for source, target in dict.fromkeys((link.source, link.target) for link in links):
        needs[target].append(source)
        feeds[source].append(target)
    return needs, feeds


def topological_stages(
    needs: Sequence[Sequence[int]], feeds: Sequence[Sequence[int]]
) -> tuple[list[list[int]], list[int]]:
    """Return the stages of a graph, and the nodes that are in, or behind, a loop."""
    missing = [len(sources) for sources in needs]
    stage = [place for place, count in enumerate(missing) if not count]
    stages = []
    while stage:
        stages.append(stage)
        following = []
        for place in stage:
            for target in feeds[place]:
                missing[target] -= 1
                if not missing[target]:
                    following.append(target)
        following.sort()
        stage = following
    return stages, [place for place, count in enumerate(missing) if count > 0]


class DataFlowAnalyzer:
    """Infers dependencies from models; holds no state, every method may be called on the class."""

    @staticmethod
    def build_dependency_graph(operations: Iterable[Any]) -> DataFlowGraph:
        """Return the graph of ``operations``; see `build_graph`."""
        return build_graph(operations)

    @staticmethod
    def topological_sort(graph: DataFlowGraph | Iterable[Any]) -> list[str]:
        """Return the names in an order that respects every edge."""
        return _as_graph(graph).topological_sort()

    @staticmethod
    def find_parallel_groups(graph: DataFlowGraph | Iterable[Any]) -> list[list[str]]:
        """Return the names by stage."""
        return _as_graph(graph).find_parallel_groups()


def _as_graph(graph: DataFlowGraph | Iterable[Any]) -> DataFlowGraph:
    return graph if isinstance(graph, DataFlowGraph) else build_graph(graph)


def build_graph(operations: Iterable[Any]) -> DataFlowGraph:
    """Bind every port and return the graph.

    Parameters
    ----------
    operations
        Operations, or any objects with ``name``, ``models_in``, ``models_out`` and ``function``.

    Raises
    ------
    DeclarationError
        When an object is no operation, or a name is used twice.
    """
    known = [given if type(given) is Operation else as_operation(given) for given in operations]
    places = {operation.name: place for place, operation in enumerate(known)}
    if len(places) < len(known):
        seen: set[str] = set()
        twice = next(o.name for o in known if o.name in seen or seen.add(o.name))  # type: ignore[func-returns-value]
        raise DeclarationError(f"two operations are called {twice!r}; names are unique.")
    return _Binder(known, places).graph()


# --- Binding --------------------------------------------------------------------------------------

Head = tuple[int, Output]


def _models_of(operation: Operation) -> list[ModelRef]:
    gives = [output.model for output in operation.outputs]
    takes = [port.model for port in operation.takes if port.model is not None]
    return [*gives, *takes, *operation.orders]


class _Binder:
    """Binds the ports of all operations, model by model."""

    def __init__(self, operations: list[Operation], places: dict[str, int]) -> None:
        self.operations = operations
        #: The place of each name. The numbers in it are those in all that is made here: one number
        #: is found by another in sets and dicts in half the time when both are one object.
        self.place = places
        self.problems: list[Problem] = []
        self.bound: dict[int, Sequence[Binding]] = {}
        self.orders: dict[int, list[tuple[int, str]]] = {}
        self.needs: list[list[int]] = []
        self.feeds: list[list[int]] = [[] for _ in operations]
        self.missing: dict[int, set[str]] = {}
        #: Whether an operation gives many of a model.
        self.many = False
        self.keys: dict[str, str] = {}
        #: The heads of each model. Where there is nothing to choose it is the only result of an
        #: operation, never None, and its place is enough.
        self.single: dict[str, int] = {}
        self.other: dict[str, list[Head]] = {}
        self.transforms: dict[str, list[int]] = {}
        self.ordered: dict[tuple[int, str], list[Head]] = {}
        self._collect()

    def graph(self) -> DataFlowGraph:
        by_target: dict[tuple[int, str], Binding] = {}
        for model in self.transforms:
            self._run_transforms(model, by_target)
        feeds, single = self.feeds, self.single
        for place, operation in zip(self.place.values(), self.operations, strict=True):
            try:
                needs = [single[key] for _, key, _ in operation.wants] if operation.simple else None
            except KeyError:
                needs = None
            if needs is None:
                self.bound[place] = bindings = self._bind_operation(place, operation, by_target)
                every = [source for each in bindings for source, _ in each.heads]
                every += [source for source, _ in self.orders.get(place, ())]
                needs = list(dict.fromkeys(every))
            self.needs.append(needs)
            for source in needs:
                feeds[source].append(place)
        graph = DataFlowGraph(self)
        self.problems.extend(graph.cycle_problems())
        return graph

    # - models -

    def _short_names(self, others: list[Operation]) -> dict[str, str]:
        """Map the short names that text may use to keys; two keys for one are an error if used."""
        texts: dict[str, list[Operation]] = {}
        for operation in others:
            for ref in _models_of(operation):
                if not ref.key:
                    texts.setdefault(ref.name, []).append(operation)
        if not texts:
            return {}  # the usual case: every model is a class
        keys: dict[str, str] = {}
        clashes: dict[str, list[str]] = {}
        for ref in [ref for operation in self.operations for ref in _models_of(operation)]:
            if ref.key and keys.setdefault(ref.name, ref.key) != ref.key:
                known = clashes.setdefault(ref.name, [keys[ref.name]])
                if ref.key not in known:
                    known.append(ref.key)
        for name, found in clashes.items():
            for operation in dict.fromkeys(texts.get(name, ())):
                self._problem(
                    "two-models",
                    "error",
                    f"operation {operation.name!r} means the model {name!r} by its short name, "
                    f"but there are two: {' and '.join(found)}.",
                    "Give the class instead of the text, or rename one of the models.",
                    operation,
                    candidates=tuple(found),
                )
        return keys

    def _key(self, ref: ModelRef) -> str:
        return ref.key or self.keys.get(ref.name, ref.name)

    def _collect(self) -> None:
        single, others = self.single, [each for each in self.operations if not each.simple]
        self.keys = self._short_names(others) if others else {}
        for place, operation in zip(self.place.values(), self.operations, strict=True):
            key = operation.key
            if key and key not in single and key not in self.other:
                single[key] = place
            else:
                self._collect_outputs(place, operation)

    def _collect_outputs(self, place: int, operation: Operation) -> None:
        outputs, single, other = operation.outputs, self.single, self.other
        takes = () if operation.simple or not outputs else self._taken(operation)
        for output in outputs:
            if output.many:
                self.many = True
            key = output.model.key or self._key(output.model)
            if key in takes:  # a transform, even if it takes the model without a parameter
                places = self.transforms.setdefault(key, [])
                if not places or places[-1] != place:
                    places.append(place)
            elif key in other:
                other[key].append((place, output))
            elif key in single or output.optional or output.index is not None:
                other[key] = [*self._heads(key), (place, output)]
                single.pop(key, None)
            else:
                single[key] = place

    def _taken(self, operation: Operation) -> set[str]:
        takes = [port.model for port in operation.takes if port.model is not None]
        return {self._key(ref) for ref in (*takes, *operation.orders)}

    def _output(self, place: int, key: str) -> list[Head]:
        outputs = self.operations[place].outputs
        return [(place, output) for output in outputs if self._key(output.model) == key]

    # - heads -

    def _heads(self, key: str) -> Sequence[Head]:
        place = self.single.get(key)
        if place is None:
            return self.other.get(key, ())
        return ((place, self.operations[place].outputs[0]),)

    def _run_transforms(self, key: str, bound: dict[tuple[int, str], Binding]) -> None:
        """Let the transforms of one model bind among its heads, replacing what they took."""
        heads = list(self._heads(key))
        for place in self.transforms[key]:
            operation = self.operations[place]
            took: list[Head] = []
            for port in operation.ports:
                if port.model is None or self._key(port.model) != key:
                    continue
                binding = self._bind(place, operation, port, key, heads)
                bound[place, port.name] = binding
                took.extend(binding.heads)
            if any(self._key(ref) == key for ref in operation.orders):
                self.ordered[place, key] = took = list(heads)
            heads = [head for head in heads if head not in took]
            heads.extend(self._output(place, key))
            heads.sort(key=lambda head: head[0])
        self.single.pop(key, None)
        self.other[key] = heads

    # - one operation -

    def _bind_operation(
        self, place: int, operation: Operation, bound: dict[tuple[int, str], Binding]
    ) -> list[Binding]:
        bindings = []
        used: dict[tuple[int, int | None], str] = {}
        for port in operation.takes:
            model = port.model
            assert model is not None
            key = model.key or self._key(model)
            binding = bound.get((place, port.name)) if bound else None
            if binding is None:
                binding = self._bind(place, operation, port, key, self._heads(key))
            bindings.append(binding)
            if binding.how == "missing":
                self.missing.setdefault(place, set()).add(port.name)
            if binding.how == "one":
                head = binding.heads[0]
                first = used.setdefault((head[0], head[1].index), port.name)
                if first != port.name:
                    self._warn_twice(operation, port, head, first)
        if operation.options.bind:
            self._check_binds(operation)
        for ref in operation.orders:
            key = self._key(ref)
            heads = self.ordered.get((place, key))
            for source, _ in self._heads(key) if heads is None else heads:
                if source != place:
                    self._order(source, place, ref.name)
        for after in operation.options.after:
            self._link_after(place, operation, after)
        return bindings

    def _order(self, source: int, place: int, model: str) -> None:
        self.orders.setdefault(place, []).append((source, model))

    def _warn_twice(self, operation: Operation, port: Port, head: Head, other: str) -> None:
        source = self.operations[head[0]].name
        self._problem(
            "same-value-twice",
            "warning",
            f"operation {operation.name!r}: the ports {other!r} and {port.name!r} both get the "
            f"result of {source!r}, the only one that gives {head[1].model.name}.",
            f"If that is not meant, declare the other producer, or --bind {port.name}=OPERATION.",
            operation,
            port.name,
        )

    def _link_after(self, place: int, operation: Operation, after: str) -> None:
        source = self.place.get(after)
        if source is None:
            self._problem(
                "unknown-after",
                "error",
                f"operation {operation.name!r} comes --after {after!r}, which does not exist.",
                (did_you_mean(after, self.place) or " Declare it, or take the flag away.").strip(),
                operation,
            )
        elif source == place:
            self._problem(
                "after-itself",
                "error",
                f"operation {operation.name!r} comes --after itself.",
                "Take the flag away, or name another operation.",
                operation,
            )
        else:
            self._order(source, place, "")

    def _check_binds(self, operation: Operation) -> None:
        ports = {port.name: port for port in operation.ports}
        for port_name, _ in operation.options.bind:
            port = ports.get(port_name)
            if port is None or port.model is None:
                takers = [name for name, each in ports.items() if each.model is not None]
                what = "has no parameter of that name" if port is None else "is no data port"
                self._problem(
                    "unknown-port",
                    "error",
                    f"operation {operation.name!r}: --bind {port_name}=…: "
                    + (f"it {what}." if port is None else f"{port_name!r} {what}."),
                    f"Its data ports are: {', '.join(takers) or 'none'}.",
                    operation,
                    port_name,
                )

    # - one port: the rules of binding, in their order -

    def _bind(
        self, place: int, operation: Operation, port: Port, key: str, heads: Sequence[Head]
    ) -> Binding:
        if operation.options.bind:
            wanted = [source for target, source in operation.options.bind if target == port.name]
            if wanted:
                return self._bind_by_flag(place, operation, port, key, wanted)
        if key in self.transforms:  # only a transform can be among the heads of what it takes
            heads = [head for head in heads if head[0] != place]
        if not heads:
            absent = port.optional and (port.default is NO_DEFAULT or port.default is None)
            how = "none" if absent else "missing"
            return Binding(port, how, ())
        if port.shape == "all":
            return Binding(port, "list", tuple(heads))
        if len(heads) > 1:
            return self._choose(place, operation, port, heads)
        return self._single(place, operation, port, heads[0])

    def _single(self, place: int, operation: Operation, port: Port, head: Head) -> Binding:
        name = port.takes
        if head[1].optional and not port.optional and port.shape == "one" and not head[1].many:
            self._problem(
                "may-be-absent",
                "warning",
                f"operation {operation.name!r}: the {name} of {self.operations[head[0]].name!r} "
                f"may be None, but the port {port.name!r} takes no None.",
                f"Allow for it: '{port.name}: {name} | None'.",
                operation,
                port.name,
            )
        return Binding(port, "one", (head,))

    def _bind_by_flag(
        self, place: int, operation: Operation, port: Port, key: str, wanted: list[str]
    ) -> Binding:
        name = port.takes
        chosen: list[Head] = []
        for source in wanted:
            giver = self.place.get(source, place)
            given = self._output(giver, key) if giver != place else []
            if not given:
                givers = self._givers(key)
                why = f"which gives no {name}" if source in self.place else "which does not exist"
                self._problem(
                    "unknown-bind",
                    "error",
                    f"operation {operation.name!r}: --bind {port.name}={source}, {why}.",
                    (did_you_mean(source, givers) + f" {name} comes from: "
                     f"{', '.join(givers) or 'nobody'}.").strip(),
                    operation,
                    port.name,
                    tuple(givers),
                )  # fmt: skip
                return Binding(port, "ambiguous", ())
            chosen.extend(given)
        if port.shape == "all" or (port.shape == "any" and len(chosen) > 1):
            return Binding(port, "list", tuple(chosen))
        if len(chosen) > 1:
            self._problem(
                "bind-too-many",
                "error",
                f"operation {operation.name!r}: --bind gives the port {port.name!r} "
                f"{len(chosen)} values, but it takes one.",
                f"Give one --bind, or take a list: '{port.name}: list[{name}]'.",
                operation,
                port.name,
            )
            return Binding(port, "ambiguous", tuple(chosen))
        return self._single(place, operation, port, chosen[0])

    def _givers(self, key: str) -> list[str]:
        places = range(len(self.operations))
        return [self.operations[place].name for place in places if self._output(place, key)]

    def _choose(
        self, place: int, operation: Operation, port: Port, heads: Sequence[Head]
    ) -> Binding:
        name = port.takes
        named = [head for head in heads if self._is_called(head, port.name)]
        if len(named) == 1:
            return self._single(place, operation, port, named[0])
        near = self._nearest(operation, heads)
        if near is not None:
            source = self.operations[near[0]].name
            self._problem(
                "nearest-group",
                "note",
                f"operation {operation.name!r}: the port {port.name!r} takes {name} from "
                f"{source!r}, the only one in its own group.",
                "",
                operation,
                port.name,
            )
            return self._single(place, operation, port, near)
        if port.shape == "any":
            return Binding(port, "list", tuple(heads))
        candidates = tuple(dict.fromkeys(self.operations[head[0]].name for head in heads))
        givers = f"{len(candidates)} operations give one: {', '.join(candidates)}."
        fix = f"Say which: --bind {port.name}={candidates[0]}; or take all of them: "
        if len(candidates) == 1:
            givers, fix = f"{candidates[0]!r} gives {len(heads)} of them.", "Take all of them: "
        self._problem(
            "ambiguous-port",
            "error",
            f"operation {operation.name!r}: the port {port.name!r} takes one {name}, but {givers}",
            f"{fix}'{port.name}: list[{name}]'.",
            operation,
            port.name,
            candidates,
        )
        return Binding(port, "ambiguous", tuple(heads))

    def _is_called(self, head: Head, name: str) -> bool:
        operation = self.operations[head[0]]
        return name == operation.function_name or name in operation.name.split(".")

    def _nearest(self, operation: Operation, heads: Sequence[Head]) -> Head | None:
        shared = [common_groups(operation.name, self.operations[head[0]].name) for head in heads]
        most = max(shared)
        if not most or shared.count(most) > 1:
            return None
        return heads[shared.index(most)]

    def _problem(
        self,
        code: str,
        severity: Any,
        message: str,
        fix: str,
        operation: Operation,
        port: str = "",
        candidates: tuple[str, ...] = (),
    ) -> None:
        self.problems.append(
            Problem(
                code=code,
                severity=severity,
                message=message,
                fix=fix,
                operation=operation.name,
                port=port,
                cell=operation.cell,
                candidates=candidates,
            )
        )
