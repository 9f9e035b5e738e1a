"""Operations from one line of text each, for tables of cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NewType

from pydantic import BaseModel

from pulpo.operations import Operation, make_operation, options_from_flags


class Raw(BaseModel):
    n: int = 0


class Clean(BaseModel):
    n: int = 0


class Skills(BaseModel):
    n: int = 0


@dataclass
class Report:
    n: int = 0


Table = NewType("Table", list)

MODELS: dict[str, Any] = {model.__name__: model for model in (Raw, Clean, Skills, Report, Table)}

_LINE = re.compile(
    r"(?P<name>[\w.]+)(?:=(?P<function>\w+))?\((?P<ports>[^#]*?)\)"
    r"(?:\s*->\s*(?P<returns>[^#]+?))?\s*(?P<flags>(?:--.*)?)"
)


def declare(
    line: str,
    namespace: Mapping[str, Any] | None = None,
    *,
    call: Callable[[str, dict[str, Any]], Any] = max,
    **given: Any,
) -> Operation:
    """Return the operation that a line such as ``"a.load=fetch(x: int) -> Raw --after b"`` tells.

    Flags are ``--after``, ``--bind``, ``--in``, ``--out`` (models, separated by commas),
    ``--async``, ``--max`` (elements at a time) and ``--skip`` (elements that fail); `given` goes to
    `make_operation`. The function returns what `call` makes of the operation's name and the
    arguments.
    """
    match = _LINE.fullmatch(line)
    assert match, line
    flags = [flag.split() for flag in match["flags"].split("--") if flag.strip()]
    models = {**MODELS, **(namespace or {})}
    options: dict[str, Any] = {}
    for name, *values in flags:
        value = " ".join(values).strip()
        if name in ("in", "out"):
            given[f"{name}puts"] = [eval(one, models) for one in value.split(",") if one]
        elif name == "bind":
            port, _, operation = value.partition("=")
            options.setdefault("bind", []).append((port, operation))
        elif name == "after":
            options.setdefault("after", []).append(value)
        elif name == "max":
            options["max_concurrency"] = int(value)
        elif name == "skip":
            options["on_element_error"] = "skip"
    name, returns = match["name"], match["returns"]
    function = match["function"] or name.rpartition(".")[2]
    prefix = "async " if ["async"] in flags else ""
    arrow = f" -> {returns.strip()}" if returns else ""
    scope: dict[str, Any] = {**models, "_call": call, "__name__": "__main__"}
    run(
        f"{prefix}def {function}({match['ports']}){arrow}: return _call({name!r}, {{**locals()}})",
        scope,
    )
    return make_operation(scope[function], name=name, options=options_from_flags(options), **given)


def run(source: str, scope: dict[str, Any]) -> dict[str, Any]:
    """Run source as a cell is run: without the ``__future__`` imports of this file."""
    exec(compile(source, "<cell>", "exec", dont_inherit=True), scope)
    return scope


def declared(*lines: str, namespace: Mapping[str, Any] | None = None) -> list[Operation]:
    return [declare(line, namespace) for line in lines]


@dataclass
class Duck:
    """Anything with these four is an operation."""

    name: str
    models_in: Any
    models_out: Any
    function: Callable[..., Any] | None = None
