"""Caches of functions that calls in cells have filled, and that an export starts without."""

from __future__ import annotations

import ast
import dataclasses
import dis
import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pulpo.carry.names import MUTATORS
from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.purity import call_text
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.values import attribute, in_memory

__all__ = ["stale_caches"]


def stale_caches(
    recorder: Recorder, pieces: Iterable[Piece], modules: Iterable[str] = ()
) -> Iterator[str]:
    """Yield a warning for each filled cache whose results may not be what calls give anew.

    That is where something that the function needs was changed since, or where a result itself may
    have been: ``stopwords().append("of")``. What is kept and only read is not told.

    Parameters
    ----------
    modules
        Modules beside the export that it imports.
    """
    pieces = list(pieces)
    for name, function, piece in _filled(recorder, pieces, modules):
        clear = _how_to_clear(name, function, piece)
        newer, index = _newer(piece, recorder) if piece is not None else _changed(name, recorder)
        if any(clear in one.text and one.index >= index for one in recorder.statements[index:]):
            newer = ""  # what it keeps came after that
        asks = [one.label for one in pieces if _asks_for_it(one, name)]
        results = list(filter(_may_change, _results(function)))
        uses = _Uses(recorder, {type(one) for one in results})
        if newer:
            yield (
                f"{name!r} may remember results from before {newer}, which the export "
                f"does not: {clear} shows the same here"
            )
        elif results and (where := uses.change(name)):
            yield (
                f"{name!r} keeps what it gave, which {where} may have changed, and the export "
                f"starts with nothing kept: {clear} shows the same here"
            )
        elif asks:
            yield (
                f"{asks[0]!r} asks {name!r} what it keeps, which calls in cells have filled, and "
                f"the export starts with nothing kept: {clear} shows the same here"
            )


def _filled(
    recorder: Recorder, pieces: Iterable[Piece], modules: Iterable[str]
) -> Iterator[tuple[str, Any, Piece | None]]:
    """Yield the functions, methods too, that keep results, with what cells call them."""
    for piece in pieces:
        if piece.kind is Kind.IMPORT or piece.renamed:
            continue
        for name in piece.statement.binds:
            for inner, one in _cached(name, recorder.namespace.get(name)):
                yield inner, one, piece
    for module in modules:
        for name, value in list(vars(sys.modules.get(module, types)).items()):
            if attribute(value, "__module__") == module:
                for inner, one in _cached(f"{module}.{name}", value):
                    yield inner, one, None


def _cached(name: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, type):
        for inner, part in list(vars(value).items()):
            part = part.__func__ if isinstance(part, staticmethod | classmethod) else part
            if _is_filled(part):
                yield f"{name}.{inner}", part
    elif type(value) in (list, tuple, dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
        for key, part in list(parts)[:1000]:
            if _is_filled(part):
                yield f"{name}[{key!r}]", part
    elif _is_filled(value):
        yield name, value


def _is_filled(value: Any) -> bool:
    if isinstance(value, type) or not callable(value):
        return False
    if type(value) is types.FunctionType and not value.__dict__ and not value.__closure__:
        return False
    if callable(attribute(value, "cache_info")):
        with suppress(Exception):  # another thing of that name
            return bool(attribute(value.cache_info(), "currsize", 0))
    return bool(_mapping(value))


def _mapping(function: object) -> Mapping[Any, Any]:
    """Return the cache of what cachetools or toolz made; the session's own are compared."""
    if not isinstance(function, types.FunctionType) or not hasattr(function, "__wrapped__"):
        return {}
    kept = vars(function).get("cache")
    for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is not filled yet
            kept = cell.cell_contents if free == "cache" and kept is None else kept
    own = function.__globals__.get("__name__") == "__main__"
    return kept if isinstance(kept, Mapping) and not own else {}


def _how_to_clear(name: str, function: Any, piece: Piece | None) -> str:
    if hasattr(function, "cache_clear"):
        return f"{name}.cache_clear()"
    if "cache" in vars(function) or piece is None:
        return f"{name}.cache.clear()"
    return f"running cell {piece.statement.cell} again"  # of toolz.memoize


def _results(function: Any) -> list[object]:
    """Return what a cache holds, without asking it; nothing where Python does not tell."""
    if kept := _mapping(function):
        return list(kept.values())
    if not isinstance(function, functools._lru_cache_wrapper) or not hasattr(gc, "get_referents"):
        return []
    parts = [one for one in gc.get_referents(function) if one is not vars(function)]
    tables = [one for one in parts if type(one) is dict]
    if function.cache_parameters()["maxsize"] is None:
        return [value for one in tables[:1] for value in one.values()]
    # The links of a cache that has an end tell nothing, but the function tells for them.
    links = [one for one in tables if _is_of_links(one)]
    keys = {id(key) for one in links for key in one}
    return [one for one in parts if id(one) not in keys and not any(one is each for each in links)]


def _is_of_links(table: dict[Any, Any]) -> bool:
    kinds = {type(value).__name__ for value in table.values()}
    return kinds == {"_lru_list_elem"}


def _may_change(value: object) -> bool:
    """Tell whether a value is data that can be changed in place."""
    if isinstance(value, list | dict | set | bytearray | deque) or in_memory(value):
        return True
    if isinstance(value, tuple | frozenset):
        return any(map(_may_change, value))
    kind: Any = type(value)
    if isinstance(value, type | types.FunctionType | types.ModuleType):
        return False
    if dataclasses.is_dataclass(value):
        return not kind.__dataclass_params__.frozen
    fields = attribute(kind, "model_fields")
    if isinstance(fields, dict):  # of pydantic
        return not attribute(kind, "model_config", {}).get("frozen")
    return kind.__module__ == "__main__" and bool(attribute(value, "__dict__"))


def _asks_for_it(piece: Piece, name: str) -> bool:
    return "cache_info" in piece.text and any(
        isinstance(part, ast.Attribute)
        and part.attr == "cache_info"
        and ast.unparse(part.value) == name
        for part in ast.walk(piece.node)
    )


def _changed(name: str, recorder: Recorder) -> tuple[str, int]:
    """Say where a cell changed something of the module of ``module.function``, and its index."""
    for own, statements in recorder.touching.items():
        value = recorder.namespace.get(own)
        if isinstance(value, types.ModuleType) and name.startswith(f"{value.__name__}."):
            return f"cell {statements[-1].cell} changed {own!r}", statements[-1].index
    return "", 0


# --- What a function needs was changed ------------------------------------------------------------


def _newer(piece: Piece, recorder: Recorder) -> tuple[str, int]:
    """Say what a piece needs, directly or not, that is not what calls of it may have seen.

    With it comes the index of the statement that changed it last.
    """
    found: dict[int, str] = {}
    waiting, seen = [piece], {piece}
    for one in waiting:
        statement = one.statement
        for name in statement.binds:
            history = recorder.by_name.get(name, [])
            before = [each for each in history if each.index < piece.statement.index][-1:]
            # What calls may have seen: the last of before, and all that came since.
            seen_by_calls = [each for each in history if each.index > piece.statement.index]
            texts = {each.text for each in (*before, *seen_by_calls)}
            if statement.index > piece.statement.index and len(texts) > 1:
                what = f"{statement.binds[0]!r} was defined again (cell {statement.cell})"
                found.setdefault(statement.index, what)
            for each in recorder.touching.get(name, ()):
                if each.index > piece.statement.index:
                    found.setdefault(each.index, f"cell {each.cell} changed {name!r}")
        more = [each for each in (*one.later, *one.now) if each not in seen]
        seen.update(more)
        waiting += more
    last = max(found, default=0)
    return found.get(last, ""), last


# --- A result was changed -------------------------------------------------------------------------

_GIVES_A_PART = frozenset(["get", "items", "values"])
_CHANGES_WHAT_IT_IS_GIVEN = frozenset(
    ["setattr", "delattr", "shuffle", "heapify", "heappush", "heappop", "insort"]
)


class _Uses:
    """Follows what calls give through the texts of a session.

    ``kinds`` are the classes of what they give, whose methods may change it.
    """

    def __init__(self, recorder: Recorder, kinds: Iterable[type]) -> None:
        self._recorder = recorder
        self._statements = list({one.text: one for one in recorder.statements}.values())
        self._parents: dict[int, dict[int, ast.AST]] = {}
        self._followed: set[tuple[str, int | None]] = set()
        self._changing = {
            name
            for kind in kinds
            if kind.__module__ == "__main__"
            for name, part in list(vars(kind).items())
            if isinstance(part, types.FunctionType) and _stores(part.__code__)
        }

    def change(self, name: str) -> str:
        """Return where what a function gave may have been changed, ``""`` if it was only read."""
        last = name.rpartition(".")[2]
        if (last, -1) in self._followed:
            return ""
        self._followed.add((last, -1))
        for statement in self._statements:
            for node in ast.walk(statement.node) if last in statement.text else ():
                named = isinstance(node, ast.Name) and node.id == last
                if not named and not (isinstance(node, ast.Attribute) and node.attr == last):
                    continue
                parent = self._parent(statement, node)
                if isinstance(parent, ast.Call) and parent.func is node:
                    changed = self._is_changed(statement, parent)
                else:  # whoever has the function may call it
                    changed = named and isinstance(parent, ast.Call | ast.keyword)
                if changed:
                    return f"cell {statement.cell}"
        return ""

    def _parent(self, statement: Statement, node: ast.AST) -> ast.AST | None:
        found = self._parents.get(statement.index)
        if found is None:
            found = self._parents[statement.index] = {
                id(part): one
                for one in ast.walk(statement.node)
                for part in ast.iter_child_nodes(one)
            }
        return found.get(id(node))

    def _is_changed(self, statement: Statement, node: ast.AST) -> bool:
        """Tell whether the value of an expression may be changed by the text around it."""
        while True:
            parent = self._parent(statement, node)
            match parent:
                case ast.Attribute(value=value) | ast.Subscript(value=value) if value is node:
                    if not isinstance(parent.ctx, ast.Load):
                        return True
                    call = self._parent(statement, parent)
                    if isinstance(call, ast.Call) and call.func is parent:
                        if self._changes_its_own(parent, call):
                            return True
                        if getattr(parent, "attr", "") not in _GIVES_A_PART:
                            return False
                        parent = call
                case ast.Call():
                    return self._changes_given(parent, node)
                case ast.keyword():
                    call = self._parent(statement, parent)
                    return isinstance(call, ast.Call) and self._changes_given(call, node)
                case ast.Assign(targets=targets):
                    return any(self._target_is_changed(statement, one) for one in targets)
                case ast.AnnAssign(target=target) | ast.NamedExpr(target=target):
                    return self._target_is_changed(statement, target)
                case (
                    ast.For(target=target, iter=value)
                    | ast.comprehension(target=target, iter=value)
                ) if value is node:
                    return self._target_is_changed(statement, target)
                case ast.Return():
                    return self._function_gives_it_on(statement, parent)
                case ast.Await() | ast.BoolOp() | ast.IfExp():
                    pass
                case _:
                    return False
            node = parent

    def _changes_its_own(self, method: ast.AST, call: ast.Call) -> bool:
        name = getattr(method, "attr", "")
        in_place = any(one.arg == "inplace" for one in call.keywords)
        return in_place or name in MUTATORS or name in self._changing

    def _changes_given(self, call: ast.Call, node: ast.AST) -> bool:
        """Tell whether a call may change an argument: the session's functions are looked into."""
        name = call_text(call.func).rpartition(".")[2]
        if name in _CHANGES_WHAT_IT_IS_GIVEN:
            return True
        made = self._recorder.by_name.get(name, [])[-1:] if isinstance(call.func, ast.Name) else []
        for statement in made:
            if not isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            args = statement.node.args
            names = [one.arg for one in (*args.posonlyargs, *args.args)]
            own = [one.arg for one in call.keywords if one.value is node and one.arg]
            own += [name for name, one in zip(names, call.args, strict=False) if one is node]
            return not own or self._name_is_changed(own[0], statement)
        return False  # libraries read

    def _target_is_changed(self, statement: Statement, target: ast.expr) -> bool:
        if not isinstance(target, ast.Name | ast.Tuple | ast.List):
            return True  # it is put into something else
        inside = isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        names = [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
        return any(self._name_is_changed(name, statement if inside else None) for name in names)

    def _name_is_changed(self, name: str, inside: Statement | None = None) -> bool:
        """Tell whether what a name stands for is changed, in a definition or by all cells."""
        key = (name, None if inside is None else inside.index)
        if key in self._followed:
            return False
        self._followed.add(key)
        where = [inside] if inside is not None else filter(self._uses(name), self._statements)
        return any(
            self._is_changed(statement, node)
            for statement in where
            for node in ast.walk(statement.node)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        )

    def _uses(self, name: str) -> Callable[[Statement], bool]:
        def uses(statement: Statement) -> bool:
            names = self._recorder.names(statement) if name in statement.text else None
            return names is not None and name in (*names.now, *names.later, *names.binds)

        return uses

    def _function_gives_it_on(self, statement: Statement, node: ast.AST) -> bool:
        within: ast.AST | None = node
        while within is not None:
            if isinstance(within, ast.FunctionDef | ast.AsyncFunctionDef):
                return bool(self.change(within.name))
            within = self._parent(statement, within)
        return False


def _stores(code: types.CodeType) -> bool:
    """Tell whether a method changes something in place."""
    steps = {one.opname for one in dis.get_instructions(code)}
    changes = {"STORE_ATTR", "STORE_SUBSCR", "DELETE_ATTR", "DELETE_SUBSCR"}
    return bool(changes & steps or MUTATORS.intersection(code.co_names))
