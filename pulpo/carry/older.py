"""What holds a class, or a mark such as ``MISSING = object()``, of before its cell ran again.

A cell that runs again makes its classes anew. What took in the old ones, as a base, in a dict or in
a closure, keeps them, and in an export there is one of each: ``isinstance``, ``except`` and ``is``
may give something else there.
"""

from __future__ import annotations

import ast
import contextvars
import dataclasses
import gc
import inspect
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.record import Recorder
from pulpo.carry.state import is_told_as_older, newest
from pulpo.carry.values import attribute, same, same_code

__all__ = ["Older", "old_imports", "older"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """A name whose value holds what other names stood for before, and what to say of it."""

    holder: str
    warning: str


def older(recorder: Recorder, pieces: Iterable[Piece], told: Iterable[str]) -> Iterator[Older]:
    """Yield what holds old classes and marks that are others by now, or with new ones used too.

    Where only the old ones are used, and the new ones are the same, nothing differs; annotations
    are no use: that a model's cell runs again breaks nothing by itself.

    Parameters
    ----------
    told
        Warnings that there are already: what was made with an older base is not told twice.
    """
    pieces = sorted(pieces, key=lambda piece: piece.statement.index)
    yield from _old_subclasses(recorder, pieces)
    names = _replaced(recorder, pieces)
    if not names:
        return
    namespace = recorder.namespace
    wanted = {key: name for name, olds in names.items() for key in map(id, olds)}
    edited: set[int] = set()
    for name, olds in names.items():
        with suppress(Exception):  # a user's object may fail when it is compared
            edited.update(id(old) for old in olds if not same(old, namespace[name]))
    now = {id(namespace[name]): name for name in names}
    roots = [
        (name, piece)
        for piece, bound in newest(_near(pieces, names))
        if piece.kind is not Kind.IMPORT
        for name in bound
        if name in namespace
    ]
    ends = {id(namespace[name]) for name, _ in roots}
    holders: dict[str, tuple[Piece, list[int]]] = {}
    users: dict[str, str] = {}
    for piece in pieces:
        for name in names.keys() & set(piece.names.later):
            if name not in users and _uses_itself(piece.node, name, namespace[name]):
                users[name] = piece.label
    called = {name for piece in pieces for name in piece.names.later}
    for name, piece in roots:
        value = namespace[name]
        if is_told_as_older(value, recorder) or (_is_hint(value) and name not in called):
            continue
        reached: list[int] = []
        with suppress(Exception):  # a user's object may fail when it is looked at
            reached = _reached(value, {**wanted, **now}, ends - {id(value)}, namespace)
        for key in reached:
            if key in now and now[key] != name:
                users.setdefault(now[key], name)
        if held := [key for key in reached if key in wanted]:
            holders[name] = (piece, held)
    known = "\n".join(one for one in told if " was made with an older " in one)
    for holder, (piece, held) in holders.items():
        who = f"{holder!r} (cell {piece.statement.cell})"
        untold = [
            key for key in held if f"{who} was made with an older {wanted[key]!r}" not in known
        ]
        other = list(dict.fromkeys(wanted[key] for key in untold if key in edited))
        both = list(dict.fromkeys(wanted[key] for key in untold if wanted[key] in users))
        if not (found := other or both):
            continue
        now_of = f"that of cell {recorder.by_name[found[0]][-1].cell}"
        why = f"the export has {now_of}, which is another"
        if not other:
            by = "its own text" if users[found[0]] == holder else repr(users[found[0]])
            why = f"{by} uses {now_of}; in the export they are one"
        names_of = " and ".join(map(repr, found[:3]))
        warning = f"{who} holds an older {names_of}, and {why}: run {_cells(piece)} again"
        yield Older(holder=holder, warning=warning)


def old_imports(
    recorder: Recorder, pieces: Iterable[Piece], modules: Iterable[str]
) -> Iterator[Older]:
    """Yield what holds a function or class of a module as it was before it was loaded again.

    ``from helpers import scale`` keeps the old function when ``helpers`` is edited and reloaded, as
    a class does that derives from an old one.

    Parameters
    ----------
    modules
        Modules beside the export that it imports.
    """
    stale: dict[int, Any] = {}
    for name in recorder.loaded.renewed & {*modules}:
        with suppress(Exception):  # its file may be gone, or be no Python any more
            stale.update((id(one), one) for one in _stale(name))
    if not stale:
        return
    for piece, bound in newest(pieces):
        for name in bound:
            reached: list[int] = []
            with suppress(Exception):  # a user's object may fail when it is looked at
                value = recorder.namespace[name]
                reached = _reached(value, dict.fromkeys(stale, ""), set(), recorder.namespace)
            if reached:
                who = f"{name!r} (cell {piece.statement.cell})"
                one = min((stale[key] for key in reached), key=lambda one: "<" in one.__qualname__)
                warning = f"{who} {_of_before(one)}: run {_cells(piece)} again"
                yield Older(holder=name, warning=warning)
    for name in modules:  # not all have been imported here
        parts = vars(sys.modules.get(name, types)).values()
        held = [one for one in parts if id(one) in stale]
        if held:
            fix = f"load it again too (importlib.reload({name})), and run what imports from it"
            yield Older(holder=name, warning=f"{name!r} {_of_before(held[0])}: {fix}")


def _of_before(one: Any) -> str:
    module, name = _home(one), one.__qualname__.partition(".<locals>")[0]
    what = f"'{module}.{name}'" if "<" not in name else f"what {module!r} made,"
    return (
        f"holds {what} as it was before {module!r} was loaded again, and "
        "the export imports it as it is now"
    )


def _home(one: Any) -> str:
    """Return the module whose text made a function or class, whatever a wrapper calls itself."""
    home: str = one.__globals__["__name__"] if hasattr(one, "__globals__") else one.__module__
    return home


def _stale(name: str) -> Iterator[Any]:
    """Yield the functions and classes of a module that its text of now did not make."""
    module: Any = sys.modules[name]
    text = Path(module.__file__).read_bytes()
    codes = list(_codes(compile(text, module.__file__, "exec", dont_inherit=True)))
    for one in gc.get_objects():
        if type(one) is types.FunctionType:
            # Not what libraries make of a class's fields.
            own = one.__code__.co_filename == module.__file__
            if not own or one.__globals__.get("__name__") != name:
                continue
            again = one.__globals__ is vars(module)
            if not again or not any(same_code(code, one.__code__) for code in codes):
                yield one
        elif issubclass(type(one), type) and vars(one).get("__module__") == name:
            now: Any = module
            for part in one.__qualname__.split("."):
                now = attribute(now, part)
            if now is not one and isinstance(now, type) and not same(now, one):
                yield one


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield part
            yield from _codes(part)


def _old_subclasses(recorder: Recorder, pieces: Iterable[Piece]) -> Iterator[Older]:
    """Yield the classes whose ``__subclasses__()`` has one of before, where texts ask for them."""
    pieces = list(pieces)
    if not any("__subclasses__" in piece.text for piece in pieces):
        return
    namespace = recorder.namespace
    for piece in pieces:
        for name in piece.statement.binds if piece.kind is Kind.MODEL else ():
            kind: Any = namespace.get(name)
            own: list[type] = type.__subclasses__(kind) if isinstance(kind, type) else []
            for one in own:
                now = namespace.get(one.__name__)
                if isinstance(now, type) and now is not one and one.__module__ == now.__module__:
                    yield Older(
                        holder=name,
                        warning=f"{name}.__subclasses__() has an older {one.__name__!r} too, which "
                        "the export does not: restart, and run the cells from the top",
                    )


def _cells(piece: Piece) -> str:
    """Return the cells to run so that a name is made anew, and what was done to it done again."""
    cells = list(dict.fromkeys(one.statement.cell for one in (piece, *piece.attached)))
    return f"cell {cells[0]}" if len(cells) == 1 else f"cells {' and '.join(map(str, cells))}"


#: What a class has that is the same in every one of its text: ``Base.go(self)``, ``Base.limit``.
_SAME_IN_EACH = (types.FunctionType, bool, int, float, str, bytes)


def _uses_itself(node: ast.AST, name: str, value: object) -> bool:
    """Tell whether functions use a class for more than what they read of it."""
    parts = [part for one in _bodies(node) for part in ast.walk(one)]
    read = {
        id(part.value)
        for part in parts
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Load)
        and isinstance(value, type)
        and type(inspect.getattr_static(value, part.attr, None)) in _SAME_IN_EACH
    }
    named = (part for part in parts if isinstance(part, ast.Name) and part.id == name)
    return any(id(part) not in read for part in named)


def _bodies(node: ast.AST) -> Iterator[ast.AST]:
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from part.body
        elif isinstance(part, ast.Lambda):
            yield part.body


def _replaced(recorder: Recorder, pieces: Iterable[Piece]) -> dict[str, list[object]]:
    """Return what carried names stood for before, where that is told apart by what it is."""
    found: dict[str, list[object]] = {}
    carried = {piece.statement.index for piece in pieces}
    for piece in pieces:
        for name in piece.statement.binds:
            history = recorder.by_name.get(name, [])
            if len(history) < 2 or history[-1] is not piece.statement:
                continue
            value = recorder.namespace.get(name)
            for statement in history[:-1]:
                bound = statement.bound.get(name)
                old = bound.kept() if bound is not None else None
                both = old is not None and old is not value and statement.index not in carried
                if both and _is_its_own(old, recorder) and _is_its_own(value, recorder):
                    found.setdefault(name, []).append(old)
    return found


def _is_its_own(value: object, recorder: Recorder) -> bool:
    """Tell whether a value is a class, or nothing but itself, as ``object()`` is."""
    kind = type(value)
    if issubclass(kind, type) or kind in (object, contextvars.ContextVar):
        return True
    if kind.__module__ != recorder.namespace.get("__name__"):
        return False
    return kind.__eq__ is object.__eq__ and not getattr(value, "__dict__", None)


def _near(pieces: Iterable[Piece], names: Iterable[str]) -> list[Piece]:
    """Return the pieces that lead to what binds some names."""
    pieces = list(pieces)
    users: dict[Piece, list[Piece]] = {}
    for piece in pieces:
        for need in (*piece.now, *piece.later, *piece.hints, *piece.attached):
            users.setdefault(need, []).append(piece)
    wanted = set(names)
    todo = [piece for piece in pieces if wanted.intersection(piece.statement.binds)]
    found = dict.fromkeys(todo)
    for piece in todo:
        fresh = [user for user in users.get(piece, ()) if user not in found]
        found.update(dict.fromkeys(fresh))
        todo += fresh
    return list(found)


def _is_hint(value: object) -> bool:
    """Tell whether a value is ``Cat | Dog`` or ``list[Cat]``, which annotations use."""
    return type(value).__module__ in ("typing", "typing_extensions") or isinstance(
        value, types.GenericAlias | types.UnionType
    )


_MUCH = 10_000
#: How far into what a library made.
_DEEP = 4
_PLAIN = (bool, int, float, complex, str, bytes, type(None), types.ModuleType, types.CodeType)
# What reaches the whole session, and nothing of a definition.
_ELSEWHERE = frozenset(
    [
        "IPython",
        "_thread",
        "_weakref",
        "asyncio",
        "ipykernel",
        "logging",
        "pulpo",
        "threading",
        "traitlets",
        "weakref",
    ]
)
# What annotations are is looked at only where a library checks values with them: fields of models.
_NO_PARTS = frozenset(
    [
        "__annotations__",
        "__dict__",
        "__doc__",
        "__pydantic_parent_namespace__",
        "__weakref__",
        "_abc_impl",
    ]
)


def _reached(
    value: object, wanted: Mapping[int, str], ends: set[int], namespace: dict[str, Any]
) -> list[int]:
    """Return which of the wanted objects a value leads to, by their ids, in the order met.

    Parameters
    ----------
    ends
        What is looked at by itself.
    """
    home = namespace.get("__name__")
    found: dict[int, None] = {}
    seen = {id(namespace)}
    todo: deque[tuple[object, int]] = deque([(value, 0)])
    while todo and len(seen) < 2 * _MUCH:
        one, depth = todo.popleft()
        key = id(one)
        if isinstance(one, _PLAIN) or key in seen:
            continue
        seen.add(key)
        if key in wanted:
            found[key] = None
        if key in ends or (isinstance(one, list | dict | set | tuple) and len(one) > _MUCH):
            continue
        if isinstance(one, type):
            parts = _parts_of_class(one) if one.__module__ == home else []
        elif isinstance(one, types.FunctionType):
            parts = [one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__]
        elif isinstance(one, dataclasses.Field):
            parts = [one.default, one.default_factory]
        else:
            kind = type(one)
            if kind.__module__.partition(".")[0] in _ELSEWHERE:
                continue
            depth = 0 if kind.__module__ in (home, "builtins") else depth + 1
            parts = gc.get_referents(one) if depth <= _DEEP else []
        todo += [(part, depth) for part in parts]
    return list(found)


def _parts_of_class(kind: type) -> list[object]:
    return [*kind.__bases__, *(part for n, part in vars(kind).items() if n not in _NO_PARTS)]
