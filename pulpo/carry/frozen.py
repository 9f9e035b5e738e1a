"""A way out: values that are written as they are now."""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import fractions
import itertools
import pathlib
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from pulpo.carry.record import Bound, Recorder, Statement
from pulpo.carry.secrets import is_secret_name
from pulpo.carry.values import literal, same, type_name

__all__ = ["Frozen", "shared_with"]

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
        if _unlike(value) or shared_with(name, self._recorder.by_name, self._recorder.namespace):
            return None
        return literal(value, limit=_LONGEST) or _expression(value)

    def broken(self, piece_names: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
        """Yield the frozen names that share an object with another carried one, and with which.

        Parameters
        ----------
        piece_names
            The names that are carried, each with those that its text reads as it runs.
        """
        for name in self._made:
            apart = [one for one, reads in piece_names.items() if name not in reads]
            if other := shared_with(name, apart, self._recorder.namespace):
                yield name, other

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
        value = self._recorder.namespace[name]
        if self._is_private(name):
            return "it was typed in, or its name says that it is a credential"
        if unlike := _unlike(value):
            return unlike
        text = literal(value, limit=_LONGEST) or _expression(value)
        if text is None:
            path, part = _in_the_way(value, "")
            what = repr(part) if type(part) is float else f"a {type_name(part)}"
            return (
                f"{name + path if path else 'it'} is {what}, and only text, numbers, dates, paths "
                f"and containers of them, of at most {_LONGEST:,} characters, are written as "
                "literals"
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


def shared_with(name: str, names: Iterable[str], namespace: Mapping[str, Any]) -> str:
    """Return another name that holds a container of what ``name`` holds; a literal makes two.

    It is the name itself when its value has one container in two places.
    """
    own = [id(one) for one in _containers(namespace[name])]
    if len(own) != len(set(own)):
        return name
    for other in names if own else ():
        held = namespace.get(other)
        if other != name and any(id(one) in own for one in _containers(held)):
            return other
    return ""


def _parts(value: object) -> Iterator[object]:
    """Yield a value and what is in it; of much data only the first."""
    todo, left = [value], 10_000
    while todo and left:
        one = todo.pop()
        left -= 1
        yield one
        if type(one) in (list, tuple, set, collections.deque):
            todo += itertools.islice(one, left)  # type: ignore[call-overload]
        elif type(one) is dict:
            todo += itertools.islice(one.values(), left)


def _containers(value: object) -> Iterator[object]:
    kinds = (list, dict, set, bytearray, collections.deque)
    return (one for one in _parts(value) if type(one) in kinds)


def _unlike(value: object) -> str:
    """Say why the literal of a value would be something else there, ``""`` if it would not."""
    places = [id(one) for one in _containers(value)]
    if len(places) != len(set(places)):
        return "an object is in it more than once, and of a literal it would be several"
    if any(type(one) is bytes and b"__main__" in one for one in _parts(value)):
        return "it holds a pickle of what the notebook defines, which is in another module there"
    return ""


def _in_the_way(value: Any, path: str) -> tuple[str, object]:
    """Return the part of a value that cannot be written, and where it is: ``"[3]['a']"``."""
    parts: Iterable[tuple[object, object]] = ()
    if type(value) in (list, tuple):
        parts = enumerate(value)
    elif type(value) is dict:
        parts = value.items()
    for key, part in parts if len(path) < 200 else ():
        if part is not value and _written(part, 20) is None:
            return _in_the_way(part, f"{path}[{key!r}]")
    return path, value


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
