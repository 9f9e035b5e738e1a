"""A way out: values that are written as they are now."""

from __future__ import annotations

import ast
import datetime
import decimal
import fractions
import itertools
import pathlib
import re
import uuid
from collections.abc import Callable, Collection
from typing import Any

from pulpo.carry.record import Bound, Recorder, Statement
from pulpo.carry.secrets import is_secret_name
from pulpo.carry.values import literal, same, type_name

__all__ = ["Frozen"]

_TYPED_IN = re.compile(r"\b(?:getpass|environ|getenv|input|keyring)\b")
_LONGEST = 10_000  # characters
#: Statements are told apart by their index, and those of a record count from 0.
_NUMBERS = itertools.count(1)


class Frozen:
    """Statements for the names whose values are wanted as they are now.

    Parameters
    ----------
    names
        What to freeze.
    """

    def __init__(self, recorder: Recorder, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._recorder = recorder
        self._made: dict[str, Statement] = {}

    @property
    def used(self) -> tuple[str, ...]:
        """The names that something asked for, sorted."""
        return tuple(sorted(self._made))

    def text(self, name: str) -> str | None:
        """Return an expression that gives a name's value of now; None when there is none."""
        if name not in self._recorder.namespace or self._is_private(name):
            return None
        value = self._recorder.namespace[name]
        return literal(value, limit=_LONGEST) or _expression(value)

    def _is_private(self, name: str) -> bool:
        history = self._recorder.by_name.get(name, [])
        typed = any(_TYPED_IN.search(one.text) for one in history[-1:])
        return typed or is_secret_name(name)

    def statement(self, name: str) -> Statement | str:
        """Return ``NAME = …`` with its value of now, or why there is none."""
        if name in self._made:
            return self._made[name]
        if name not in self._recorder.namespace:
            return "it is not defined"
        value, text = self._recorder.namespace[name], self.text(name)
        if self._is_private(name):
            return "it was typed in, or its name says that it is a credential"
        if text is None:
            return (
                f"it is a {type_name(value)}, and only text, numbers, dates, paths and containers "
                f"of them, of at most {_LONGEST:,} characters, are written as literals"
            )
        history = self._recorder.by_name.get(name, [])
        node = ast.parse(f"{name} = {text}").body[0]
        made = Statement(
            index=-next(_NUMBERS),
            place=history[-1].place if history else len(self._recorder.statements),
            cell=history[-1].cell if history else "--freeze",
            line=1,
            text=f"{name} = {text}",
            node=node,
            binds=(name,),
            bound={name: Bound(value)},
            future=False,
        )
        self._made[name] = made
        return made


def _expression(value: object) -> str | None:
    """Return an expression that needs no import, since any name may mean something else there."""
    text = _written(value, 20)
    if text is None or len(text) > _LONGEST:
        return None
    try:
        return text if same(eval(text, {}), value) else None
    except Exception:  # the repr of a type derived from these may be anything
        return None


def _written(value: object, depth: int) -> str | None:
    plain = literal(value)
    if plain is not None:
        return plain
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    if type(value) in (list, tuple, set) and depth:
        parts = [_written(one, depth - 1) for one in value]  # type: ignore[attr-defined]
        if any(part is None for part in parts):
            return None
        inner = ", ".join(map(str, parts))
        if type(value) is tuple:
            return f"({inner},)"
        return f"[{inner}]" if type(value) is list else f"{{{inner}}}"
    if type(value) is dict and depth:
        pairs = [(_written(k, depth - 1), _written(v, depth - 1)) for k, v in value.items()]
        if any(None in pair for pair in pairs):
            return None
        return "{" + ", ".join(f"{key}: {one}" for key, one in pairs) + "}"
    return None


def _from(module: str) -> Callable[[Any], str]:
    return lambda value: f'__import__("{module}").{value!r}'


def _time(value: object) -> str:
    return re.sub(r"\b(datetime|zoneinfo)\.(?=\w+\()", r'__import__("\1").', repr(value)).replace(
        "datetime.timezone.utc", '__import__("datetime").timezone.utc'
    )


_WRITERS: list[tuple[Any, Callable[[Any], str]]] = [
    (
        (datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        _time,
    ),
    (decimal.Decimal, _from("decimal")),
    (fractions.Fraction, _from("fractions")),
    (uuid.UUID, _from("uuid")),
    (
        pathlib.PurePath,
        lambda value: f'__import__("pathlib").{type(value).__name__}({str(value)!r})',
    ),
]
