"""What a session means: the rules of binding and running once more, short, without the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pulpo.operations import NO_DEFAULT, Operation, Output, Port

#: A result: an operation's, or one item of the tuple that it gives.
Head = tuple[str, int | None]
#: What a port takes: one head, a list of them, nothing, what a person gives; or nobody can say.
How = Literal["one", "list", "nothing", "person", "unsettled"]


class Taken(NamedTuple):
    how: How
    heads: tuple[Head, ...] = ()


class Meaning:
    """Who takes what from whom.

    Attributes
    ----------
    takes
        What each data port gets, by operation and port.
    edges
        Each edge as (source, target, port, kind), kinds as a plan calls them.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = {operation.name: operation for operation in operations}
        self.place = {name: place for place, name in enumerate(self.operations)}
        self.outputs = {(o.name, out.index): out for o in operations for out in o.outputs}
        self.takes: dict[tuple[str, str], Taken] = {}
        self.waits: dict[tuple[str, str], list[Head]] = {}
        self.givers: dict[str, list[Operation]] = {}
        self.takers: dict[str, set[str]] = {}
        for operation in self.operations.values():
            for model in operation.models_out:
                self.givers.setdefault(model, []).append(operation)
            for model in operation.models_in:
                self.takers.setdefault(model, set()).add(operation.name)
        models = dict.fromkeys([*self.givers, *self.takers])
        self.heads = {model: self._final_heads(model) for model in models}
        for operation in self.operations.values():
            for port in data_ports(operation):
                if (operation.name, port.name) not in self.takes:
                    self._take(operation, port, self.heads[port.model.name])
            for ref in operation.orders:
                self.waits.setdefault((operation.name, ref.name), self.heads[ref.name])
        self.edges = set(self._edges())

    # --- Heads: first the producers, then what each transform in turn replaces ---

    def _final_heads(self, model: str) -> list[Head]:
        takers = self.takers.get(model, ())
        givers = self.givers.get(model, ())
        heads = [h for o in givers if o.name not in takers for h in self.gives(o.name, model)]
        for operation in (o for o in givers if o.name in takers):
            ports = [port for port in data_ports(operation) if port.model.name == model]
            took = [h for port in ports for h in self._take(operation, port, heads).heads]
            if model in [ref.name for ref in operation.orders]:
                took = self.waits[operation.name, model] = heads
            kept = [head for head in heads if head not in took]
            heads = sorted(
                kept + self.gives(operation.name, model), key=lambda head: self.place[head[0]]
            )
        return heads

    def gives(self, name: str, model: str) -> list[Head]:
        outputs = self.operations[name].outputs if name in self.operations else ()
        return [(name, output.index) for output in outputs if output.model.name == model]

    # --- Binding: the seven rules, in their order ---

    def _take(self, operation: Operation, port: Port, heads: list[Head]) -> Taken:
        own = [head for head in heads if head[0] != operation.name]
        taken = self._bound(operation, port, own)
        self.takes[operation.name, port.name] = taken
        return taken

    def _bound(self, operation: Operation, port: Port, heads: list[Head]) -> Taken:
        wanted = [source for name, source in operation.options.bind if name == port.name]
        if wanted:
            given = [self.gives(source, port.model.name) for source in wanted]
            if not all(given) or operation.name in wanted:
                return Taken("unsettled")
            heads = [head for each in given for head in each]
        if not heads:
            can_do_without = port.optional and port.default in (NO_DEFAULT, None)
            return Taken("nothing" if can_do_without else "person")
        if port.shape == "all":
            return Taken("list", tuple(heads))
        if len(heads) == 1:
            return Taken("one", tuple(heads))
        called = [head for head in heads if not wanted and self._is_called(head, port.name)]
        if len(called) == 1:
            return Taken("one", tuple(called))
        shared = [0 if wanted else groups_shared(operation.name, name) for name, _ in heads]
        if max(shared) and shared.count(max(shared)) == 1:
            return Taken("one", (heads[shared.index(max(shared))],))
        return Taken("list" if port.shape == "any" else "unsettled", tuple(heads))

    def _is_called(self, head: Head, name: str) -> bool:
        return name in (self.operations[head[0]].function_name, *head[0].split("."))

    # --- Order ---

    def _edges(self) -> Iterator[tuple[str, str, str, str]]:
        for (target, port), taken in self.takes.items():
            kind = "candidate" if taken.how == "unsettled" else "data"
            yield from ((source, target, port, kind) for source, _ in taken.heads)
        for (target, _), heads in self.waits.items():
            yield from ((source, target, "", "order") for source, _ in heads if source != target)
        for target, operation in self.operations.items():
            for source in operation.options.after:
                if source in self.operations and source != target:
                    yield source, target, "", "order"

    def in_order(self) -> list[Operation]:
        """Return the operations, each after all that it needs, without those behind a loop."""
        needs: dict[str, set[str]] = {name: set() for name in self.operations}
        for source, target, _, kind in self.edges:
            if kind != "candidate":
                needs[target].add(source)
        found: dict[str, Operation] = {}
        while ready := [n for n in needs if n not in found and needs[n] <= found.keys()]:
            found |= {name: self.operations[name] for name in ready}
        return list(found.values())

    def unsettled(self) -> list[tuple[str, str]]:
        """Return the ports of which nobody can say what they take."""
        return [at for at, taken in self.takes.items() if taken.how == "unsettled"]


def data_ports(operation: Operation) -> list[Any]:
    return [port for port in operation.ports if port.model is not None]


def groups_shared(one: str, other: str) -> int:
    pairs = list(zip(one.split(".")[:-1], other.split(".")[:-1], strict=False))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))


# --- Running --------------------------------------------------------------------------------------


class Result(NamedTuple):
    """A result; of many, those of one ``origin`` go in step."""

    value: Any
    origin: object = None


#: Calls an operation, by its name, with the arguments by theirs.
Call = Callable[[str, dict[str, Any]], Any]


class OutOfStepError(Exception):
    """An operation would run once per element of results that do not belong together."""


class Interpreter:
    """Runs a session, one operation after the other; what cannot run is left out.

    Parameters
    ----------
    meaning
        What takes what.
    person
        What a person gives, by operation and port.
    call
        Does what an operation does.
    mapped
        To be filled with the operations that ran once per element.

    Attributes
    ----------
    results
        Every result; an operation's own is under None, also where that is a tuple of models.
    out_of_step
        Those that cannot, since their elements do not belong together, and the ports of these.
    """

    def __init__(
        self,
        meaning: Meaning,
        person: Mapping[tuple[str, str], Any],
        call: Call,
        mapped: set[str],
    ) -> None:
        self.results: dict[Head, Result] = {}
        self.mapped = mapped
        self.out_of_step: dict[str, list[str]] = {}
        self.call = call
        for operation in meaning.in_order():
            try:
                self._run(operation, meaning, person)
            except OutOfStepError as error:
                self.out_of_step[operation.name] = error.args[0]
            except KeyError:
                pass  # what it needs has not run, or is not settled

    def _run(self, operation: Operation, meaning: Meaning, person: Mapping[Any, Any]) -> None:
        same, each = {}, {}
        for port in operation.ports:
            at = operation.name, port.name
            how, heads = meaning.takes.get(at, Taken("person"))
            taken = [self.results[head] for head in heads]
            if how == "one" and port.shape == "one" and taken[0].origin is not None:
                each[port.name] = taken[0]
            elif how in ("one", "list"):
                same[port.name] = joined(taken, heads, meaning) if how == "list" else taken[0].value
            else:
                same[port.name] = person[at] if how == "person" else {"nothing": None}[how]
        rows = [dict(zip(each, row, strict=True)) for row in rows_of(each)] if each else [{}]
        answers = list(self._answers(operation, [{**same, **row} for row in rows], bool(each)))
        self._keep(operation, answers, next(iter(each.values())).origin if each else None)

    def _answers(self, operation: Operation, rows: list[Any], maps: bool) -> Iterator[Any]:
        if maps:
            self.mapped.add(operation.name)
        for row in rows:
            try:
                yield self.call(operation.name, row)
            except ValueError:
                assert maps
                assert operation.options.on_element_error == "skip"

    def _keep(self, operation: Operation, answers: list[Any], origin: object) -> None:
        """Keep what the calls gave, of all elements together where there are several."""
        maps = operation.name in self.mapped
        if maps and operation.options.on_element_error == "skip":
            origin = object()  # what is left is in step with nothing else
        self.results[operation.name, None] = Result(answers if maps else answers[0], origin)
        width = max((o.index + 1 for o in operation.outputs if o.index is not None), default=0)
        columns = [[answer[n] for answer in answers] for n in range(width)]
        for output in operation.outputs:
            column = answers if output.index is None else columns[output.index]
            if maps and output.many:
                column[:] = [one for inner in column for one in inner or ()]
            own = object() if output.many else origin
            self.results[operation.name, output.index] = Result(column if maps else column[0], own)
        if maps and width:
            self.results[operation.name, None] = Result(tuple(columns))


def rows_of(each: dict[str, Result]) -> Iterator[tuple[Any, ...]]:
    if len({result.origin for result in each.values()}) > 1:
        raise OutOfStepError(list(each))
    return zip(*(result.value or () for result in each.values()), strict=True)


def joined(taken: list[Result], heads: tuple[Head, ...], meaning: Meaning) -> list[Any]:
    """Return several results as one list: many flattened, absent ones left out."""
    found: list[Any] = []
    for result, head in zip(taken, heads, strict=True):
        output: Output = meaning.outputs[head]
        values = [result.value] if result.origin is None else result.value or ()
        found += [value for value in values if value is not None or not output.optional]
    return found
