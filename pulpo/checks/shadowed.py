"""Names that mean something else than when the code that reads them was written."""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import Problem
from .reach import Part, Parts, Subject, cell_of, known_model, numbered, version

__all__ = ["shadowed"]


class _Hidden(NamedTuple):
    """What a name meant, what it means now, and how to get the first back."""

    was: str
    now: str
    back: str
    cell: str


def shadowed(subject: Subject, parts: Parts) -> list[Problem]:
    """Find names that operations, or what they call, read and that have been bound anew since.

    Only what is hardly meant: a builtin, an import, or a function that became a variable or another
    operation's function. Running the cell of the reader again says that it is meant. Variables that
    take new values, helpers that are edited, and models (see `stale`) are none of these.
    """
    found = []
    for part, users in parts.users().values():
        if part.statement is None or not isinstance(part.value, types.FunctionType | type):
            continue
        for name in dict.fromkeys(part.reads):
            hidden = _hidden(part, name, subject, parts)
            if hidden is not None:
                found.append(_problem(part, name, hidden, users))
    return found


def _problem(part: Part, name: str, hidden: _Hidden, users: list[str]) -> Problem:
    who = numbered(users[:1])
    through = "" if part.operation in users else f", in {part.name!r} ({part.place}),"
    again = f"; if it is meant, run {part.place} again" if part.place else ""
    return Problem(
        code="shadowed-name",
        severity="warning",
        message=f"{who}{through} reads {name!r}, which was {hidden.was}; it is {hidden.now} since "
        f"{hidden.cell}.",
        fix=f"{hidden.back}{again}.",
        operation=users[0],
        cell=part.place,
        candidates=tuple(users),
    )


def _hidden(part: Part, name: str, subject: Subject, parts: Parts) -> _Hidden | None:
    bindings = parts.recorder.by_name.get(name, ())
    if not bindings or name not in part.globals:
        return None
    newest, value = bindings[-1], part.globals[name]
    then = version(parts.recorder, name, part)
    if then is newest:
        return _called_in_vain(part, name, value, then)
    cell = cell_of(newest)
    now = _words(value, subject)
    away = f"Rename it in {cell}"
    if then is None:
        if not hasattr(builtins, name) or value is getattr(builtins, name):
            return None
        return _Hidden("the builtin", now, f"{away} and run 'del {name}'", cell)
    bound = then.bound.get(name)
    old = bound.kept() if bound is not None else None
    if old is None or old is value or known_model(value):
        return None
    back = f"{away} and run {cell_of(then)} again"
    if isinstance(then.node, ast.Import | ast.ImportFrom):
        if isinstance(value, types.ModuleType):
            return None  # another library in its place, as somebody wrote
        imported = isinstance(newest.node, ast.Import | ast.ImportFrom)
        if imported and not isinstance(old, types.ModuleType):
            return None
        return _Hidden(f"imported in {cell_of(then)}", now, back, cell)
    if not isinstance(old, types.FunctionType | type):
        return None
    was = f"{_words(old, subject)} of {cell_of(then)}"
    if not callable(value):
        return _Hidden(was, now, back, cell)
    return _Hidden(was, now, back, cell) if _other_operation(old, value, subject) else None


def _called_in_vain(part: Part, name: str, value: Any, then: Any) -> _Hidden | None:
    """Return a builtin that was hidden before, by something that cannot be called as it is here."""
    if not hasattr(builtins, name) or callable(value) or not _calls(part, name):
        return None
    cell = cell_of(then)
    now = _words(value, None)
    return _Hidden("meant to be called", now, f"Rename it in {cell} and run 'del {name}'", cell)


def _calls(part: Part, name: str) -> bool:
    nodes: Iterator[ast.AST] = ast.walk(part.statement.node)
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in nodes
    )


def _other_operation(old: Any, new: Any, subject: Subject) -> bool:
    """Return whether a function gave way to that of another operation, or an operation's to it."""
    if not (isinstance(old, types.FunctionType) and isinstance(new, types.FunctionType)):
        return False
    before, after = subject.operation_of(old), subject.operation_of(new)
    declared = {operation.name for operation in subject.operations}
    if before == after or (before and before not in declared):
        return False
    # The same function may have become an operation, or be none any more.
    return bool(before and after) or _takes(old) != _takes(new)


def _takes(function: types.FunctionType) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _words(value: Any, subject: Subject | None) -> str:
    if isinstance(value, types.FunctionType):
        operation = subject.operation_of(value) if subject is not None else ""
        return f"the function of operation {operation!r}" if operation else "a function"
    if isinstance(value, type):
        return "a class"
    if isinstance(value, types.ModuleType):
        return "a module"
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
