"""The session's record: what every executed cell bound, statement by statement."""

from __future__ import annotations

import ast
import functools
import sys
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NewType

from pulpo.carry.loaded import Loaded
from pulpo.carry.names import Names, names_of, root_name
from pulpo.carry.process import Started
from pulpo.carry.text import split

__all__ = ["Bound", "Recorder", "Statement", "made_by"]

# Calls on a function, class or module that change it for everybody who uses it later.
REGISTRARS = frozenset(
    [
        "register",
        "model_rebuild",
        "update_forward_refs",
        "rebuild_dataclass",
        "set_option",
        "basicConfig",
        "filterwarnings",
        "simplefilter",
        "setlocale",
        "set_theme",
        "use",
        "seed",
    ]
)
_MISSING = object()
#: The statements that made the classes of cells, which say what no attribute of a class does.
made_by: weakref.WeakKeyDictionary[type, ast.stmt] = weakref.WeakKeyDictionary()


class Bound:
    """Remembers which object a name was bound to, without keeping data alive."""

    __slots__ = ("_id", "_keep", "_ref", "_type")

    def __init__(self, value: object) -> None:
        self._id = id(value)
        self._type = type(value)
        self._keep: object = _MISSING
        self._ref: weakref.ref[Any] | None = None
        # An id can be taken again once its object is gone, so small things are kept.
        if _is_small(value):
            self._keep = value
            return
        try:
            self._ref = weakref.ref(value)
        except TypeError:  # lists and dicts cannot be referred to weakly
            return

    def holds(self, value: object) -> bool:
        """Tell whether ``value`` is the very object."""
        if self._keep is not _MISSING:
            return self._keep is value
        if self._ref is not None:
            return self._ref() is value
        return id(value) == self._id and type(value) is self._type

    def kept(self) -> object | None:
        """Return the object, None if it is not kept and gone."""
        if self._keep is not _MISSING:
            return self._keep
        return self._ref() if self._ref is not None else None


def _is_small(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float | complex | ModuleType):
        return True
    if isinstance(value, str | bytes):
        return len(value) < 1000
    if type(value) is object:  # a mark, MISSING = object(), which nothing can refer to weakly
        return True
    # A callable instance may be a model of gigabytes; functions are what operations are.
    return isinstance(
        value, type | FunctionType | BuiltinFunctionType | MethodType | functools.partial | NewType
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statement:
    """One executed top-level statement.

    ``index`` counts executions over the session and ``place`` is the index at which its name first
    appeared, so a cell that runs again keeps its position. ``bound`` has no entry for a name that
    a later statement of the same cell bound again, or that was not there after the cell. ``run`` is
    the frontend's own id of the cell, ``""`` without one, with how often that has run.
    """

    index: int
    place: int
    cell: int | str
    line: int
    text: str
    node: ast.stmt
    binds: tuple[str, ...]
    bound: dict[str, Bound]
    future: bool
    run: tuple[str, int] = ("", 0)


class Recorder:
    """The session's record: every executed cell as top-level statements with what they bound.

    Parameters
    ----------
    namespace
        The live namespace that the cells run in: IPython's ``user_ns``, or a module's globals.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.loaded = Loaded()
        self.started = Started()
        self.forget()

    def forget(self) -> None:
        """Forget every cell."""
        self.statements: list[Statement] = []
        self.by_name: dict[str, list[Statement]] = {}
        self.by_object: dict[int, Statement] = {}
        self.touching: dict[str, list[Statement]] = {}
        self.decorated_by: dict[str, list[Statement]] = {}
        self.derived_from: dict[str, list[Statement]] = {}
        self.calling: dict[str, list[Statement]] = {}
        self.deleted: dict[str, int | str] = {}
        self._names: dict[int, Names] = {}
        self._places: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        self._run = ("", 0)
        self._future = False

    def record(
        self, source: str, *, cell: int | str, failed_line: int | None = None, identity: str = ""
    ) -> None:
        """Remember a cell that ran; never raises.

        Parameters
        ----------
        source
            The cell as Python: what IPython's input transformers made of it. What a cell magic
            compiles, as ``%%time`` does, is recorded as a source of its own.
        cell
            Its number, or another word for it that a message may name.
        failed_line
            The line that raised; the statements above it are kept. The statement that raised and
            what follows it are not.
        identity
            The frontend's own id of the cell, which running and editing it again keep.
        """
        self.loaded.look()
        if identity:
            self._runs[identity] = self._runs.get(identity, 0) + 1
        self._run = (identity, self._runs.get(identity, 0))
        try:
            self._record(source, cell, failed_line)
        except Exception:
            # No Python, or an object of the user's that fails when it is looked at. What was not
            # recorded is refused when an operation needs it; a lost cell would be worse.
            return

    def save(self) -> dict[str, Any]:
        """Return the record as it is now, for `restore`."""
        return {
            name: {key: [*one] if isinstance(one, list) else one for key, one in value.items()}
            if isinstance(value, dict)
            else [*value]
            if isinstance(value, list)
            else value
            for name, value in vars(self).items()
            if name not in ("namespace", "loaded", "started")
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Make the record what it was."""
        vars(self).update(saved)

    def names(self, statement: Statement) -> Names:
        """Return the global names of a statement."""
        found = self._names.get(statement.index)
        if found is None:
            found = names_of(statement.node, lazy_annotations=statement.future)
            self._names[statement.index] = found
        return found

    def is_replaced(self, statement: Statement) -> bool:
        """Tell whether the cell of a statement has run again, as it is now."""
        identity, run = statement.run
        return run < self._runs.get(identity, 0)

    def read_before(self, statement: Statement, name: str) -> Statement | None:
        """Return the assignment that gave an assignment a name which its own cell bound again.

        As ``path = "a"`` does in ``path = "a"; train = path + "/train"; path = "b"``: no name
        holds that any more, and running the cell again does the same again.
        """
        history = self.by_name.get(name, [])
        before = [one for one in history if one.index < statement.index]
        if not before or history[-1].index <= statement.index:
            return None
        lines = (before[-1], statement, history[-1])
        plain = all(isinstance(one.node, ast.Assign | ast.AnnAssign) for one in lines)
        return before[-1] if plain and len({one.cell for one in lines}) == 1 else None

    def _record(self, source: str, cell: int | str, failed_line: int | None) -> None:
        parts = [
            (node, text)
            for node, text in split(source)
            if failed_line is None or (node.end_lineno or node.lineno) < failed_line
        ]
        self._future = self._future or any(_is_future(node) for node, _ in parts)
        kept = [
            (
                node,
                text,
                None if _is_definition(node) else names_of(node, lazy_annotations=self._future),
            )
            for node, text in parts
            if not (_is_ours(node) or _is_future(node))
        ]
        bindings = [_bindings(node, names, self.namespace) for node, _, names in kept]
        last = {name: place for place, bound in enumerate(bindings) for name in bound}
        for place, (node, text, names) in enumerate(kept):
            newest = [name for name in bindings[place] if last[name] == place]
            statement = self._statement(node, text, cell, bindings[place], newest)
            if names is not None:
                self._names[statement.index] = names
            self.statements.append(statement)
            self._index(statement)

    def _statement(
        self, node: ast.stmt, text: str, cell: int | str, binds: tuple[str, ...], newest: list[str]
    ) -> Statement:
        index = len(self.statements)
        bound = {n: Bound(self.namespace[n]) for n in newest if n in self.namespace}
        return Statement(
            index=index,
            place=min((self._places.setdefault(name, index) for name in binds), default=index),
            cell=cell,
            line=node.lineno,
            text=text,
            node=node,
            binds=binds,
            bound=bound,
            future=self._future,
            run=self._run,
        )

    def _index(self, statement: Statement) -> None:
        for name in statement.binds:
            self.by_name.setdefault(name, []).append(statement)
            self.deleted.pop(name, None)
        for bound in statement.bound.values():
            value = bound.kept()
            # What makes a new object each time it runs is its maker; the rest are aliases.
            if callable(value) and _makes(statement.node):
                self.by_object[id(value)] = statement
            elif callable(value):
                self.by_object.setdefault(id(value), statement)
            if isinstance(value, type) and value.__module__ == self.namespace.get("__name__"):
                with suppress(TypeError):  # its metaclass compares without a hash
                    made_by.setdefault(value, statement.node)
        node = statement.node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            for name in _roots([node.value]):
                self.calling.setdefault(name, []).append(statement)
        if isinstance(node, ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.deleted[target.id] = statement.cell
        for name in _touched(node, self._names.get(statement.index)):
            self.touching.setdefault(name, []).append(statement)
        for name in _roots(getattr(node, "decorator_list", ())):
            self.decorated_by.setdefault(name, []).append(statement)
        for name in _roots(getattr(node, "bases", ())):
            self.derived_from.setdefault(name, []).append(statement)


def _is_ours(node: ast.stmt) -> bool:
    """Tell whether a statement is a call that a magic's line was replaced with."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Await):
        call = call.value
    function = call.func if isinstance(call, ast.Call) else None
    return isinstance(function, ast.Name) and function.id.startswith("__pulpo_")


def _is_future(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
    )


def _makes(node: ast.stmt) -> bool:
    return _is_definition(node) or (
        isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
    )


def _is_definition(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _bindings(node: ast.stmt, names: Names | None, namespace: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        return _star(node, namespace)
    return names.binds if names is not None else ()


def _star(node: ast.ImportFrom, namespace: dict[str, Any]) -> tuple[str, ...]:
    module = sys.modules.get(node.module or "")
    if module is None:
        return ()
    public = getattr(module, "__all__", None)
    names = [name for name in vars(module) if name[0] != "_"] if public is None else list(public)
    return tuple(
        sorted(n for n in names if n in namespace and namespace[n] is getattr(module, n, _MISSING))
    )


def _touched(node: ast.stmt, names: Names | None) -> tuple[str, ...]:
    """Return the names that a statement changes in place when it runs."""
    if names is None:
        return ()
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        name = root_name(call.func)
        if name is not None and call.func.attr in REGISTRARS and name not in names.touches:
            return (*names.touches, name)
    return names.touches


def _roots(nodes: Iterable[ast.expr]) -> tuple[str, ...]:
    found = []
    for node in nodes:
        while isinstance(node, ast.Call):
            node = node.func
        name = root_name(node)
        if name is not None:
            found.append(name)
    return tuple(found)
