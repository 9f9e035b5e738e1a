"""What a function or class took in when its cell ran: defaults, closures, class attributes."""

from __future__ import annotations

import ast
import enum
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pulpo.carry.constants import Constants, captured, definitions_in
from pulpo.carry.purity import Purity, call_text, reads_the_clock
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.values import attribute, in_memory, live_kind, same

__all__ = ["Definitions", "unwrapped"]

_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A value that was evaluated when the definition ran, with the text that gave it."""

    name: str
    text: ast.expr | None
    value: object
    how: str  # "a default of"
    title: str  # "the default of 'x' in 'f'"


class Definitions:
    """Judges what functions and classes hold, which their text does not show."""

    def __init__(self, recorder: Recorder, purity: Purity, constants: Constants) -> None:
        self._recorder = recorder
        self._namespace = recorder.namespace
        self._purity = purity
        self._constants = constants

    def live(self, statement: Statement) -> Iterator[tuple[str, str]]:
        """Yield the names under which a definition holds live objects, each with the reason."""
        for taken in self._taken(statement):
            if isinstance(taken.text, ast.Name):  # which is judged by itself
                continue
            kind = live_kind(taken.value) or in_memory(taken.value)
            if kind:
                made = f" made by {call_text(taken.text)}" if taken.text is not None else ""
                where = f"in cell {statement.cell}"
                yield taken.name, f"it is {kind}{made} {where}, {taken.how} {statement.binds[0]!r}"

    def warnings(self, statement: Statement) -> Iterator[str]:
        """Yield what a definition has taken in that the export will take in differently."""
        for taken in self._taken(statement):
            if taken.text is None or isinstance(taken.text, ast.Constant | ast.Lambda):
                if not isinstance(taken.text, ast.Constant):
                    continue
                if same(taken.text.value, taken.value):
                    continue
            verdict = self._purity.judge(taken.text)
            if verdict.impure is not None:
                yield (
                    f"{taken.title} was computed by {call_text(verdict.impure)} when its cell "
                    "ran; the export computes it anew"
                )
            elif not verdict.depends and not self._is_as_written(taken):
                yield (
                    f"{taken.title} is not what its text gives now: it was changed, or what it "
                    f"was made from. The export starts with what the text gives; run cell "
                    f"{statement.cell} again to see that here"
                )

    def computed(self, statement: Statement) -> Iterator[str]:
        """Yield what stands in a class body, or after a decorator's name, and is of its moment."""
        node = statement.node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            return
        of = f" in {node.name!r}"
        parts: list[tuple[str, ast.expr]] = [(f"a decorator{of}", d) for d in node.decorator_list]
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.AnnAssign) and part.value is not None:
                parts.append((f"the default of {ast.unparse(part.target)!r}{of}", part.value))
            elif isinstance(part, ast.Assign):
                parts.append((f"{node.name}.{ast.unparse(part.targets[0])}", part.value))
        for what, text in parts:
            for call in ast.walk(text):
                if isinstance(call, ast.Call) and self._reads_the_moment(call):
                    yield (
                        f"{what} was computed by {call_text(call)} when its cell "
                        "ran; the export computes it anew"
                    )

    def _reads_the_moment(self, call: ast.Call) -> bool:
        function = self._purity.value_of(call.func)
        return _is_of_now(function) or reads_the_clock(function, call)

    def _is_as_written(self, taken: _Taken) -> bool:
        assert taken.text is not None
        return same(self._constants.evaluate(taken.text), taken.value)

    def _taken(self, statement: Statement) -> Iterator[_Taken]:
        node = statement.node
        bound = statement.bound.get(statement.binds[0]) if statement.binds else None
        value: Any = bound.kept() if bound is not None else None
        if isinstance(node, ast.ClassDef) and isinstance(value, type):
            yield from self._attributes(statement, node, value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for name, held in captured(value):
                yield _Taken(name=name, text=None, value=held, how="in the closure of", title="")
            replaced = not {"__defaults__", "__kwdefaults__"}.isdisjoint(
                self._changed_by_lines(statement)
            )
            for taken in _defaults(node, unwrapped(value)):  # the lines go with the function
                yield replace(taken, text=None) if replaced else taken

    def _attributes(self, statement: Statement, node: ast.ClassDef, kind: type) -> Iterator[_Taken]:
        attributes = dict(vars(kind))
        own = [part for part in node.body if isinstance(part, ast.Assign)]
        names = {one.id for part in own for one in part.targets if isinstance(one, ast.Name)}
        carried_on = self._changed_by_lines(statement)
        for part in own:
            target = part.targets[0]
            if not isinstance(target, ast.Name) or target.id not in attributes:
                continue
            value = attributes[target.id]
            # Libraries make fields and members of some; text that uses others is not evaluated.
            used = {one.id for one in ast.walk(part.value) if isinstance(one, ast.Name)}
            plain = isinstance(value, _PLAIN) and not isinstance(value, enum.Enum)
            plain = plain and not used & names
            if "__init_subclass__" in statement.text and definitions_in(value, 3):
                plain = False  # a registry: the subclasses are carried with it
            yield _Taken(
                name=target.id,
                text=part.value if plain and target.id not in carried_on else None,
                value=value,
                how="an attribute of",
                title=f"{node.name}.{target.id}",
            )

    def _changed_by_lines(self, statement: Statement) -> set[str]:
        """Return the attributes that lines of cells set: those lines go with the class."""
        found = set()
        for one in self._recorder.touching.get(statement.binds[0], []):
            targets = list(getattr(one.node, "targets", ()))
            targets += [one.node.target] if isinstance(one.node, ast.AugAssign) else []
            for target in targets if one.index > statement.index else ():
                part: ast.AST = target  # h.__kwdefaults__["x"] = 1
                while isinstance(part, ast.Attribute | ast.Subscript):
                    if isinstance(part, ast.Attribute):
                        found.add(part.attr)
                    part = part.value
        return found


_OF_NOW = {
    "time": (),
    "random": (),
    "uuid": (),
    "secrets": (),
    "getpass": (),
    "platform": (),
    "socket": (),
    "datetime": ("now", "utcnow", "today"),
    "pandas": ("now", "utcnow", "today"),
    "posix": ("getpid", "getcwd", "getlogin", "urandom", "cpu_count"),
    "nt": ("getpid", "getcwd", "getlogin", "urandom", "cpu_count"),
}


def _is_of_now(function: Any) -> bool:
    """Tell whether a function gives something else each time, or on each machine."""
    if isinstance(function, type) or not callable(function):
        return False
    owner = attribute(function, "__self__")
    owner = owner if isinstance(owner, type) else type(owner)
    module = attribute(function, "__module__") or owner.__module__
    names = _OF_NOW.get("pandas" if str(module).startswith("pandas.") else str(module))
    return names is not None and (not names or attribute(function, "__name__", "") in names)


def unwrapped(function: Any) -> Any:
    """Return what decorators that keep to ``functools.wraps`` were put around."""
    for _ in range(20):
        inner = attribute(function, "__wrapped__")
        if inner is None:
            break
        function = inner
    return function


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, function: object) -> Iterable[_Taken]:
    """Yield the parameters that have a default."""
    if not isinstance(function, types.FunctionType) or function.__code__.co_name != node.name:
        return
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    values = function.__defaults__ or ()
    pairs: list[tuple[ast.arg, ast.expr, object]] = []
    if len(values) == len(args.defaults):
        named = positional[len(positional) - len(values) :]
        pairs += zip(named, args.defaults, values, strict=True)
    keywords = function.__kwdefaults__ or {}
    for argument, text in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if text is not None and argument.arg in keywords:
            pairs.append((argument, text, keywords[argument.arg]))
    for argument, text, value in pairs:
        title = f"the default of {argument.arg!r} in {node.name!r}"
        how = "a default of"
        yield _Taken(name=argument.arg, text=text, value=value, how=how, title=title)
