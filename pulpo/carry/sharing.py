"""Which names lead to one and the same object: a change of it is seen through all of them.

A cell such as ``items = []`` that runs again makes another list; what took in the old one keeps
that. In an export both are one, though every value is what it is here.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pulpo.carry.names import MUTATORS
from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.record import Recorder
from pulpo.carry.state import KEPT, newest

__all__ = ["SHARED", "Shared", "shared_by"]

#: Defines ``shared``, here and in a fresh process; `KEPT` has what it uses.
SHARED = """
CHANGE = {list, dict, set, bytearray, *LISTS[4:], *DICTS}

def is_array(one):
    return hasattr(one, "dtype") and type(one).__module__.partition(".")[0] == "numpy"

def shared(values, home):
    \"\"\"Return the paths that lead to each thing that may change, where there are several.\"\"\"
    seen = {}
    todo = collections.deque((value, name) for name, value in sorted(values.items()))
    while todo and len(seen) < MUCH:
        one, path = todo.popleft()
        kind = type(one)
        if kind in PLAIN or isinstance(one, types.ModuleType):
            continue
        while is_array(one) and is_array(one.base):  # a view
            one = one.base
        own = kind.__module__ == home and not isinstance(one, type)
        changes = own or kind in CHANGE or is_array(one) or hasattr(one, "iloc")
        if id(one) in seen:
            seen[id(one)][2].append(path)
            continue
        seen[id(one)] = one, changes, [path]  # which keeps it, and so its id
        inside = {}
        if isinstance(one, (list, tuple, collections.deque)) and len(one) <= MUCH:
            inside.update((f"[{place}]", part) for place, part in enumerate(list(one)))
        if isinstance(one, dict) and len(one) <= MUCH:
            pairs = enumerate(list(dict.items(one)))
            inside.update(
                (f"[{key!r}]" if type(key) in PLAIN else f"[{place}]", part)
                for place, (key, part) in pairs
            )
        if isinstance(one, types.FunctionType):
            if one.__globals__.get("__name__") == home:
                found = {**defaults_of(one), **closure_of(one), **vars(one)}
                inside.update((f".{name}", part) for name, part in found.items())
        elif kind is functools.partial:
            found = {"func": one.func, "args": one.args, "keywords": one.keywords}
            inside.update((f".{name}", part) for name, part in found.items())
        elif isinstance(one, types.MethodType):
            inside[".__self__"] = one.__self__
        elif isinstance(one, type):
            if one.__module__ == home:
                parts = [(name, unwrapped(part)) for name, part in list(vars(one).items())]
                inside.update((f".{n}", part) for n, part in parts if n[:2] != "__")
        elif own:
            inside.update((f".{name}", part) for name, part in attributes(one).items())
        todo.extend((part, path + step) for step, part in inside.items())
    return sorted(paths for _, changes, paths in seen.values() if changes and len(paths) > 1)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What leads to one and the same object, here and now.

    Parameters
    ----------
    cells
        The cell of each name that is looked at.
    groups
        Paths, ``bag.xs``, that lead to one object.
    """

    cells: Mapping[str, int | str]
    groups: tuple[tuple[str, ...], ...]

    def warnings(self, there: Iterable[Iterable[str]]) -> Iterator[str]:
        """Say which are one in only one of both places, each name once."""
        here, other = _together(self.groups), _together(there)
        told: set[str] = set()
        for groups, elsewhere, is_here in ((other, here, False), (here, other, True)):
            for paths in dict.fromkeys(groups.values()):
                first = paths[0]
                apart = [path for path in paths if path not in elsewhere.get(first, (first,))]
                names = {_root(first), *map(_root, apart)}
                if not apart or names <= told:
                    continue
                told |= names
                yield self._told(first, apart[0], is_here)

    def _told(self, one: str, other: str, is_here: bool) -> str:
        older = min((one, other), key=lambda path: str(self.cells[_root(path)]).zfill(9))
        again = f"run cell {self.cells[_root(older)]} again"
        if is_here:
            return (
                f"{one!r} and {other!r} are one object, and two in the export, where a change of "
                f"one is not seen in the other: {again}, or copy one of them"
            )
        return (
            f"{one!r} and {other!r} are two objects, and one in the export, where a change of one "
            f"is seen in the other: {again}"
        )


def shared_by(
    recorder: Recorder, pieces: Iterable[Piece], apart: Iterable[str] = ()
) -> Shared | None:
    """Return what names of carried text share, None where functions in it change nothing.

    Parameters
    ----------
    apart
        Names of which something else is said already.
    """
    pieces = list(pieces)
    if not any(map(_changes_something, pieces)):
        return None
    left_out = set(apart)
    namespace = recorder.namespace
    cells = {
        name: piece.statement.cell
        for piece, names in newest(pieces)
        for name in names
        if piece.kind is not Kind.IMPORT and name in namespace and name not in left_out
    }
    try:
        values = {name: namespace[name] for name in cells}
        groups = _scope()["shared"](values, namespace.get("__name__", "__main__"))
    except Exception:  # a user's object may fail when it is looked at
        return None
    return Shared(cells=cells, groups=tuple(map(tuple, groups)))


def _together(groups: Iterable[Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {path: tuple(group) for group in map(tuple, groups) for path in group}


def _root(path: str) -> str:
    return re.split(r"[.\[]", path)[0]


@functools.cache
def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(KEPT + SHARED, scope)
    return scope


_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


# Most texts need not be looked into.
_MAY_CHANGE = re.compile(
    rf"\bis\b|\bdel\b|setattr|delattr|inplace|[-+*/%@&|^]=|[\])]\s*=[^=]|\.\w+\s*=[^=]"
    rf"|\.(?:{'|'.join(sorted(MUTATORS))})\b"
)


def _changes_something(piece: Piece) -> bool:
    """Tell whether a function changes what it did not make, or asks which object one is."""
    if not _MAY_CHANGE.search(piece.text):
        return False
    todo: list[tuple[ast.AST, frozenset[str] | None]] = [(piece.node, None)]
    while todo:
        node, made = todo.pop()
        if isinstance(node, _Function):
            made = (made or frozenset()) | _made_by(node)
            if piece.kind is Kind.OPERATION and node is piece.node:  # its data comes from the flow
                made |= {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        elif made is not None and _is_changed(node, made):
            return True
        todo += [(part, made) for part in ast.iter_child_nodes(node)]
    return False


def _made_by(function: _Function) -> frozenset[str]:
    """Return the names that a function gives to what it makes: ``rows = []``, ``df = read()``."""
    found = {"self"} if getattr(function, "name", "") in ("__init__", "__post_init__") else set()
    for node in ast.walk(function):
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) else None
        if value is None or isinstance(value, ast.Name | ast.Attribute | ast.Subscript):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[attr-defined]
        found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return frozenset(found)


def _is_changed(node: ast.AST, made: frozenset[str]) -> bool:
    """Tell whether something is changed, or asked whether it is the very object."""
    if isinstance(node, ast.Compare):
        identity = any(isinstance(one, ast.Is | ast.IsNot) for one in node.ops)
        return identity and not any(isinstance(one, ast.Constant) for one in node.comparators)
    changed: ast.AST | None = None
    if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        changed = node.value
    elif isinstance(node, ast.AugAssign):
        changed = node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        in_place = any(one.arg == "inplace" for one in node.keywords)
        changed = node.func.value if in_place or node.func.attr in MUTATORS else None
    elif isinstance(node, ast.Call):
        called = getattr(node.func, "id", "")
        changed = node.args[0] if called in ("setattr", "delattr") and node.args else None
    while isinstance(changed, ast.Attribute | ast.Subscript):
        changed = changed.value
    return isinstance(changed, ast.Name) and changed.id not in made
