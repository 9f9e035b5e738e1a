"""Which operations were defined against a model whose fields are others now, and what to re-run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NewType, get_args, get_origin

from ..carry import Recorder
from ..errors import Problem
from ..models import ModelRef, model_ref
from ..operations import Operation
from .reach import Part, Parts, and_list, cell_of, field_types, known_model, version

__all__ = ["stale"]

Schema = tuple[Any, ...]
_WORD = re.compile(r"\w+")


def stale(operations: Iterable[Operation], recorder: Recorder) -> tuple[Problem, ...]:
    """Return a problem for each operation that has to be defined again.

    Two sorts of use go stale. What a function or class *holds* (annotations, defaults, bases,
    fields) stays the old class object until its cell runs again. What a body *reads* by name is the
    new class at the next call, which the body was not written for.

    Parameters
    ----------
    operations
        The operations of the session.
    recorder
        Its namespace and the cells that ran in it.
    """
    operations = tuple(operations)
    parts = Parts((), recorder)
    if not _Schemas(parts).any_changed(operations):
        return ()
    parts = Parts(operations, recorder)
    return _Judge(parts, operations).problems()


class _Change(NamedTuple):
    """A model that a part knows as it was."""

    name: str
    old: Any
    new: Any
    held: bool


class _Schemas:
    """The fields of models, with those of the models in them, then and now."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._known: dict[int, tuple[Any, Schema]] = {}

    def any_changed(self, operations: tuple[Operation, ...]) -> bool:
        """Return quickly whether there is anything to look for; most often there is not."""
        refs = dict.fromkeys(_refs(operations))
        changed = self._ran_again()
        if changed & {ref.name for ref in refs if not ref.key} or _any_behind(self, changed):
            return True
        by_name, own = self.parts.recorder.by_name, self.parts.namespace.get("__name__")
        return any(
            self.outdated(ref)
            for ref in refs
            # What a cell made once is as it was; what no cell made may have been loaded again.
            if ref.key.rpartition(".")[0] != own or len(by_name.get(ref.name, ())) != 1
        )

    def _ran_again(self) -> set[str]:
        """Return the names of the models that had other fields before."""
        recorder, found = self.parts.recorder, set()
        for name, statements in list(recorder.by_name.items()):
            now = recorder.namespace.get(name) if len(statements) > 1 else None
            if any(self.differ(_bound(one, name), now) for one in statements):
                found.add(name)
        return found

    def differ(self, old: Any, new: Any) -> bool:
        """Return whether both are models, with different fields at any depth."""
        if old is new or old is None or new is None or not (known_model(old) and known_model(new)):
            return False
        return self.of(old) != self.of(new)

    def outdated(self, ref: ModelRef) -> Any:
        """Return the model that a declaration meant, if it has other fields now; else None."""
        module, _, name = ref.key.rpartition(".")
        stand_in = type(name, (), {"__module__": module, "__qualname__": name})
        now = self.parts.current(stand_in) if ref.key and ref.fields else None
        if now is None or not known_model(now):
            return None
        return now if model_ref(now).fields != ref.fields else None

    def of(self, type_: Any, inside: tuple[int, ...] = ()) -> Schema:
        """Return the fields of a model, those of the models in them included."""
        known = self._known.get(id(type_))
        if known is not None:
            return known[1]
        try:
            fields = model_ref(type_).fields
        except Exception:  # a class that does not let itself be looked at
            return ()
        within = (*inside, id(type_))
        nested = [each for each in models_in(field_types(type_)) if id(each) not in within]
        schema = (fields, tuple((each.__name__, self.of(each, within)) for each in nested))
        if not inside:  # deeper down, a model that holds itself is cut short
            self._known[id(type_)] = (type_, schema)
        return schema


def models_in(types_: Iterable[Any]) -> Iterator[Any]:
    """Yield the models that types mention, at any depth."""
    for type_ in types_:
        if isinstance(type_, NewType) or (get_origin(type_) is None and known_model(type_)):
            yield type_
        else:
            yield from models_in([get_origin(type_), *get_args(type_)] if get_args(type_) else ())


def _refs(operations: Iterable[Operation]) -> Iterator[ModelRef]:
    for operation in operations:
        yield from (port.model for port in operation.ports if port.model is not None)
        yield from (output.model for output in operation.outputs)
        yield from operation.orders


def _any_behind(schemas: _Schemas, changed: set[str]) -> bool:
    """Return whether anything that is still there was made when a model had other fields.

    Going by the words of each statement, in their order, which is quick and finds too much rather
    than too little: ``Ad``, a helper that names it, what the helper is the default of.
    """
    recorder = schemas.parts.recorder
    now = recorder.namespace
    if not changed:
        return False
    # A name that is read before anything bound it means what is bound to it first.
    old = {n for n in changed if schemas.differ(_bound(recorder.by_name[n][0], n), now[n])}
    for statement in recorder.statements:
        names = set(statement.binds)
        behind = not (old - names).isdisjoint(_WORD.findall(statement.text))
        if behind and any(recorder.by_name[name][-1] is statement for name in names):
            return True
        differ = {n for n in changed & names if schemas.differ(_bound(statement, n), now[n])}
        old = old - names | (names if behind else differ)
    return False


def _bound(statement: Any, name: str) -> Any:
    bound = statement.bound.get(name)
    return bound.kept() if bound is not None else None


# --- Judging --------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Verdict:
    """Why a part has to be defined again: what it knows as it was, and what is made anew."""

    part: Part
    changes: list[_Change]
    remade: list[Part]


class _Judge:
    """Judges every part that the operations reach."""

    def __init__(self, parts: Parts, operations: tuple[Operation, ...]) -> None:
        self.parts = parts
        self.schemas = _Schemas(parts)
        self.operations = operations
        self.recorder = parts.recorder
        self.verdicts: dict[int, _Verdict] = {}
        self._judge_all()

    def problems(self) -> tuple[Problem, ...]:
        found = []
        for operation in self.operations:
            start = self.parts.of_operations.get(operation.name)
            if start is None:
                continue
            reached = [self.verdicts.get(id(part)) for part in self.parts.reached(start)]
            verdicts = [verdict for verdict in reached if verdict is not None]
            if verdicts:
                found.append(self._problem(operation, start, _as_one(verdicts, start)))
        return tuple(found)

    def _judge_all(self) -> None:
        everything = [part for part, _ in self.parts.users().values()]
        refs = {operation.name: list(_refs([operation])) for operation in self.operations}
        for part in everything:
            changes = self._changes(part, refs.get(part.operation, []))
            if changes:
                self.verdicts[id(part)] = _Verdict(part, changes, [])
        while True:  # what is made anew makes others stale in turn
            more = [
                _Verdict(part, [], remade)
                for part in everything
                if id(part) not in self.verdicts and (remade := self._remade(part))
            ]
            if not more:
                return
            self.verdicts.update((id(verdict.part), verdict) for verdict in more)

    def _changes(self, part: Part, refs: list[ModelRef]) -> list[_Change]:
        found: dict[str, _Change] = {}
        for type_ in models_in(part.holds):
            now = self.parts.current(type_)
            if now is not None and self.schemas.differ(type_, now):
                found.setdefault(type_.__name__, _Change(type_.__name__, type_, now, True))
        for ref in refs:
            now = self.schemas.outdated(ref)
            if now is not None:
                found.setdefault(ref.name, _Change(ref.name, ref, now, True))
        own = [ref.name for ref in refs if self._is(part.globals.get(ref.name), ref)]
        for name in dict.fromkeys([*part.reads, *own]):
            now = part.globals.get(name)
            then = self._then(name, part) if known_model(now) else None
            if self.schemas.differ(then, now):
                found.setdefault(name, _Change(name, then, now, False))
        return list(found.values())

    @staticmethod
    def _is(value: Any, ref: ModelRef) -> bool:
        return known_model(value) and ref.key in ("", model_ref(value).key)

    def _then(self, name: str, part: Part) -> Any:
        """Return the model that a name meant when a part was defined."""
        statement = version(self.recorder, name, part)
        if statement is None and part.statement is not None:
            # Used before it existed: then the first that was made is the one that it was made for.
            statement = next(iter(self.recorder.by_name.get(name, ())), None)
        return _bound(statement, name) if statement is not None else None

    def _remade(self, part: Part) -> list[Part]:
        """Return the stale parts that this one will not see anew unless it is defined again."""
        read, held = self.parts.after(part)
        return [
            *(each for each in held if id(each) in self.verdicts),
            *(each for each in read if self._is_remade_model(each) and each not in held),
        ]

    def _is_remade_model(self, part: Part) -> bool:
        verdict = self.verdicts.get(id(part))
        if verdict is None or not known_model(part.value):
            return False
        held = self.parts.after(part)[1]
        return any(each.held for each in verdict.changes) or any(p in held for p in verdict.remade)

    # - words -

    def _problem(self, operation: Operation, start: Part, verdicts: list[_Verdict]) -> Problem:
        changes = {each.name: each for verdict in verdicts for each in verdict.changes}
        deep = {name: leaf for each in changes.values() for name, leaf in self._leaves(each)}
        changed = and_list(self._changed(name, old, new) for name, (old, new) in deep.items())
        places = self._order(verdicts)
        last = {part: number for number, part in enumerate(places)}
        verdicts.sort(key=lambda v: (v.part is start, last.get(v.part.place, -1)))
        me = "it" if len(verdicts) == 1 else "the operation"
        return Problem(
            code="stale",
            severity="warning",
            message=f"operation {operation.name!r} is stale: {changed}; "
            f"{and_list(_reason(verdict, start, me) for verdict in verdicts)}.",
            fix=_fix(places),
            operation=operation.name,
            cell=operation.cell,
            candidates=tuple(deep),
        )

    def _leaves(self, change: _Change) -> Iterator[tuple[str, tuple[Any, Any]]]:
        """Yield the models whose own fields changed: this one, or those in its fields."""
        name, old, new, _ = change
        if not isinstance(old, ModelRef) and _fields(old) == _fields(new):
            fresh = {each.__name__: each for each in models_in(field_types(new))}
            pairs = [(each, fresh.get(each.__name__)) for each in models_in(field_types(old))]
            inner = [(then, now) for then, now in pairs if self.schemas.differ(then, now)]
            for then, now in inner:
                yield from self._leaves(_Change(then.__name__, then, now, True))
            if inner:
                return
        yield name, (_fields(old), new)

    def _changed(self, name: str, old: tuple[tuple[str, str], ...], new: Any) -> str:
        by_name = self.recorder.by_name.get(name, ())
        newest = next((one for one in reversed(by_name) if _bound(one, name) is new), None)
        cell = cell_of(newest) if newest is not None else ""
        what = _difference(dict(old), dict(_fields(new)))
        return f"{cell} changed {name} ({what})" if cell else f"{name} has changed ({what})"

    def _order(self, verdicts: list[_Verdict]) -> list[str]:
        """Return the places to run again, each after those that it takes something from."""
        places: dict[str, list[Part]] = {}
        for part in sorted((verdict.part for verdict in verdicts), key=_when):
            if part.place or part.statement is None:  # else it has been run again already
                place = part.place or f"the definition of {part.name!r}"
                places.setdefault(place, []).append(part)
        home = {id(part): place for place, several in places.items() for part in several}
        ordered: dict[str, None] = {}

        def visit(place: str, above: frozenset[str]) -> None:
            needed = (n for part in places[place] for side in self.parts.after(part) for n in side)
            for there in dict.fromkeys(home[id(n)] for n in needed if id(n) in home):
                if there not in above and there not in ordered:
                    visit(there, above | {there})
            ordered[place] = None

        for place in places:
            if place not in ordered:
                visit(place, frozenset([place]))
        return list(ordered)


def _when(part: Part) -> int:
    return part.statement.index if part.statement is not None else -1


def _fields(model: Any) -> tuple[tuple[str, str], ...]:
    fields = model.fields if isinstance(model, ModelRef) else model_ref(model).fields
    return tuple((name, type_.replace("__main__.", "")) for name, type_ in fields)


def _difference(old: dict[str, str], new: dict[str, str]) -> str:
    """Say what became of the fields: ``"'pay' is gone, 'salary: float' is new"``."""
    if list(old) == list(new) == [""]:
        return f"it was {old['']}, it is {new['']}"
    gone = [name for name in old if name not in new]
    words = [f"{and_list(map(repr, gone))} {_be(gone)} gone"] if gone else []
    fresh = [f"'{name}: {type_}'" for name, type_ in new.items() if name not in old]
    words += [f"{and_list(fresh)} {_be(fresh)} new"] if fresh else []
    other = [n for n, type_ in new.items() if n in old and old[n] != type_]
    words += [f"{name!r} was {old[name]}, it is {new[name]}" for name in other]
    return ", ".join(words) or "its fields have another order"


def _be(several: list[str]) -> str:
    return "is" if len(several) == 1 else "are"


def _as_one(verdicts: list[_Verdict], start: Part) -> list[_Verdict]:
    """Return the verdicts with one for the operation and what a decorator hides behind it."""

    def is_own(part: Part) -> bool:
        hidden = part.name == start.name and part.statement is start.statement
        return part is start or (hidden and part.statement is not None)

    own = [verdict for verdict in verdicts if is_own(verdict.part)]
    if len(own) < 2:
        return verdicts
    changes = {change.name: change for verdict in own for change in verdict.changes}
    remade = [part for verdict in own for part in verdict.remade if not is_own(part)]
    others = [verdict for verdict in verdicts if not is_own(verdict.part)]
    return [*others, _Verdict(start, list(changes.values()), remade)]


def _reason(verdict: _Verdict, start: Part, me: str) -> str:
    part = verdict.part
    where = f" ({part.place})" if part.place else ""
    held = [change.name for change in verdict.changes if change.held]
    read = [change.name for change in verdict.changes if not change.held]
    remade = dict.fromkeys(each.name for each in verdict.remade)
    words = [f"still holds the old {and_list(held)}"] if held else []
    words += [f"was written for the old {and_list(read)}"] if read else []
    words += [f"needs the new {and_list(remade)}"] if remade else []
    return f"{me if part is start else part.name + where} {and_list(words)}"


def _fix(places: list[str]) -> str:
    order = " again, in this order." if len(places) > 1 else " again."
    return f"Run {and_list(places)}{order}"
