"""What changed between two plans and the files made from them, as rows that a person can read."""

from __future__ import annotations

import ast
import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .backends.document import (
    Argument,
    Binding,
    Edge,
    Expression,
    Flow,
    FromList,
    FromParameter,
    FromResult,
    Operation,
    Output,
    PlanDocument,
    Problem,
    Step,
    Value,
)
from .carry.secrets import find_secrets
from .reports import Change, FileChange, Kind

__all__ = [
    "compare_edges",
    "compare_files",
    "compare_flows",
    "compare_operations",
    "functions_of",
]

#: What no export depends on, or what another line says already.
_STATE = frozenset({"cell", "stale", "hint"})
_SAID = {
    "operation": _STATE | {"name", "ports", "options"},
    "port": _STATE | {"name", "producers"},
    "parameter": frozenset({"name"}),
    "step": frozenset({"target", "stage", "arguments"}),
    "flow": frozenset({"name", "covers", "parameters", "steps"})
    | {"operations", "subflows", "parallel_groups", "returns", "blocked"},
}
_LABELS = {
    "is_async": "async",
    "outputs": "gives",
    "gives_value": "gives a value",
    "hierarchy_path": "group",
    "waits": "awaits stage after stage",
}


# --- Plans ----------------------------------------------------------------------------------------


def compare_operations(
    old: PlanDocument, new: PlanDocument, sources: tuple[Mapping[str, str], Mapping[str, str]]
) -> tuple[Change, ...]:
    """Return what changed of the operations.

    Parameters
    ----------
    sources
        The functions' source in the old and in the new ``operations.py``, by operation; see
        `functions_of`. An operation that is not in both has no code to compare.
    """
    before, after = sources

    def details(one: Operation, other: Operation) -> Iterator[str]:
        name = one.name
        if name in before and name in after and before[name] != after[name]:
            yield "code"
        yield from _operation_details(one, other)

    return _changes(old.operations, new.operations, _signature, details)


def compare_edges(old: PlanDocument, new: PlanDocument) -> tuple[Change, ...]:
    """Return the edges that came and went."""
    before, after = set(old.edges), set(new.edges)
    gone = [edge for edge in old.edges if edge not in after]
    come = [edge for edge in new.edges if edge not in before]
    rows: list[tuple[Kind, Edge]] = [("removed", edge) for edge in gone]
    rows += [("added", edge) for edge in come]
    return tuple(Change(kind=kind, name=_edge(edge)) for kind, edge in rows)


def compare_flows(old: PlanDocument, new: PlanDocument) -> tuple[Change, ...]:
    """Return what changed of the flows."""
    return _changes(old.flows, new.flows, lambda flow: "", _flow_details)


def _changes(
    old: Sequence[Any],
    new: Sequence[Any],
    describe: Callable[[Any], str],
    details: Callable[[Any, Any], Iterable[str]],
) -> tuple[Change, ...]:
    """Return what went, in its old order, then what changed or came, in the new order."""
    before, after = _by_name(old), _by_name(new)
    rows = [_row("removed", each, describe) for name, each in before.items() if name not in after]
    for name, each in after.items():
        if name not in before:
            rows.append(_row("added", each, describe))
        elif found := tuple(details(before[name], each)):
            rows.append(Change(kind="changed", name=name, details=found))
    return tuple(rows)


def _row(kind: Kind, each: Any, describe: Callable[[Any], str]) -> Change:
    text = describe(each)
    return Change(kind=kind, name=each.name, details=(text,) if text else ())


def _by_name(parts: Iterable[Any]) -> dict[str, Any]:
    return {part.name: part for part in parts}


def _operation_details(old: Operation, new: Operation) -> Iterator[str]:
    yield from _parameters(old.ports, new.ports, "port")
    said = _SAID["operation"] | ({"outputs"} if old.returns != new.returns else frozenset())
    yield from _differences(old, new, said)
    yield from _differences(old.options, new.options, frozenset())


def _parameters(old: Sequence[Any], new: Sequence[Any], what: str) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    yield from (f"takes no longer {_port(before[name])}" for name in before if name not in after)
    for name, each in after.items():
        if name not in before:
            yield f"takes also {_port(each)}"
            continue
        for line in _differences(before[name], each, _SAID[what]):
            yield f"parameter {name}: {line}"
    yield from _order("parameters", tuple(before), tuple(after))


def _flow_details(old: Flow, new: Flow) -> Iterator[str]:
    yield from _parameters(old.parameters, new.parameters, "parameter")
    called = [(*flow.operations, *flow.subflows) for flow in (old, new)]
    yield from _members("runs", *called)
    if set(called[0]) == set(called[1]) and old.parallel_groups != new.parallel_groups:
        stages = [" | ".join(stage) for stage in new.parallel_groups]
        yield f"runs in other stages: {' → '.join(stages)}"
    yield from _calls(old.steps, new.steps)
    yield from _members("returns", old.returns, new.returns)
    yield from _order("results", old.returns, new.returns)
    yield from _blocks(old.blocked, new.blocked)
    yield from _differences(old, new, _SAID["flow"])


def _blocks(old: Sequence[Problem], new: Sequence[Problem]) -> Iterator[str]:
    yield from (f"is blocked no longer: {problem.message}" for problem in old if problem not in new)
    yield from (f"is blocked: {problem.message}" for problem in new if problem not in old)


def _members(verb: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    infinitive = verb.removesuffix("s")
    before, after = set(old), set(new)
    gone = [name for name in old if name not in after]
    come = [name for name in new if name not in before]
    if gone:
        yield f"does not {infinitive} {', '.join(gone)} any more"
    if come:
        yield f"{verb} {', '.join(come)} too" if old else f"{verb} {', '.join(come)}"


def _order(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    if old != new and set(old) == set(new):
        yield f"order of {what}: {', '.join(new)}"


def _calls(old: Sequence[Step], new: Sequence[Step]) -> Iterator[str]:
    """Tell what a step that stays is called with; which come and go, `_members` tells."""
    before = {step.target: step for step in old}
    for step in new:
        if step.target not in before:
            continue
        one = before[step.target]
        yield from _arguments(step.target, one.arguments, step.arguments)
        for line in _differences(one, step, _SAID["step"]):
            yield f"{step.target}: {line}"
    stay = [tuple(s.target for s in steps if s.target in before) for steps in (old, new)]
    yield from _order("calls", *stay)


def _arguments(step: str, old: Sequence[Argument], new: Sequence[Argument]) -> Iterator[str]:
    before, after = ({a.name: a.source for a in arguments} for arguments in (old, new))
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) == after.get(name):
            continue
        was, now = (_words(sources.get(name)) for sources in (before, after))
        if name not in after:
            yield f"{step}({name}): gets {was} no longer"
        elif name not in before:
            yield f"{step}({name}): gets {now}"
        else:
            how = "in another way" if was == now else f"instead of {was}"
            yield f"{step}({name}): gets {now} {how}"


def _differences(old: Any, new: Any, without: frozenset[str]) -> Iterator[str]:
    """Yield a line for every field that differs, whatever fields there are."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in without or before == after:
            continue
        label = _LABELS.get(name, name.replace("_", " "))
        was, now = _words(before), _words(after)
        if name == "doc":
            yield "docstring"
        elif was == now:
            yield f"{label} {now}, which is something else of that name"
        else:
            yield f"{label} {was} → {now}"


# --- Words ----------------------------------------------------------------------------------------


def _words(value: object) -> str:
    match value:
        case None | "" | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(_words, value))
        case Expression():
            return value.text
        case Binding():
            return f"{value.port}={value.operation}"
        case Output():
            model = f"list[{value.model}]" if value.many else value.model
            return f"{model} | None" if value.optional else model
        case Value():
            return value.operation + ("" if value.index is None else f"[{value.index}]")
        case FromParameter():
            return f"parameter {value.name}"
        case FromResult():
            return _words(value.value)
        case FromList():
            return f"[{', '.join(map(_words, value.items))}]"
        case str():
            return value if value.isprintable() else repr(value)
    return getattr(value, "kind", None) or str(value)


def _signature(operation: Operation) -> str:
    ports = ", ".join(map(_port, operation.ports))
    gives = operation.returns.text if operation.returns else _words(operation.outputs)
    arrow = f" -> {gives}" if gives != "none" else ""
    return f"{'async ' * operation.is_async}{operation.function}({ports}){arrow}"


def _port(port: Any) -> str:
    text = f"{port.name}: {port.annotation.text}" if port.annotation else str(port.name)
    if port.default is None:
        return text
    return f"{text} = {port.default.text}" if port.annotation else f"{text}={port.default.text}"


def _edge(edge: Edge) -> str:
    what = f"list[{edge.model}]" if edge.many else edge.model or "result"
    what += "" if edge.index is None else f", item {edge.index}"
    what = {"order": "after", "candidate": f"{what} ?"}.get(edge.kind, what)
    return f"{edge.source} -[{what}]-> {edge.target}" + (f"({edge.port})" if edge.port else "")


# --- Files ----------------------------------------------------------------------------------------


def compare_files(
    folder: str, old: Mapping[str, str], new: Mapping[str, str]
) -> tuple[FileChange, ...]:
    """Return the files whose text differs, in the order of their paths, each as a unified diff.

    Parameters
    ----------
    folder
        What stands before each path in the diff.
    """
    return tuple(
        FileChange(
            kind="removed" if path not in new else "changed" if path in old else "added",
            name=path,
            lines=_unified(f"{folder}/{path}", old.get(path), new.get(path)),
        )
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    )


def _unified(path: str, old: str | None, new: str | None) -> tuple[str, ...]:
    there, here = ("/dev/null" if text is None else path for text in (old, new))
    before, after = _shown_lines(old or ""), _shown_lines(new or "")
    return tuple(difflib.unified_diff(before, after, there, here, lineterm=""))


def _shown_lines(text: str) -> list[str]:
    """Return the lines of a file, without those that look like credentials."""
    lines = text.removesuffix("\n").split("\n") if text else []
    hidden = set(_lines_with_credentials(text))
    return [
        f"{line[: len(line) - len(line.lstrip())]}# (looks like a credential: not shown)"
        if number in hidden
        else line
        for number, line in enumerate(lines, start=1)
    ]


def _lines_with_credentials(text: str) -> Iterator[int]:
    try:
        found = {finding.line for finding in find_secrets(text)}
        tree = ast.parse(text) if found else None
    except (SyntaxError, ValueError):  # edited by hand, half-way
        yield from _suspect_lines(text)
        return
    yield from found
    for node in ast.walk(tree) if tree else ():
        # A key in triple quotes goes on below the line by which it was found.
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if not found.isdisjoint(rows):
                yield from rows


def _suspect_lines(text: str) -> Iterator[int]:
    """Look at each line alone: as a statement if it is one, and as a text."""
    for number, line in enumerate(text.split("\n"), start=1):
        for code in (line.strip(), repr(line)):
            with contextlib.suppress(SyntaxError, ValueError):
                if any(find_secrets(code)):
                    yield number
                    break


def functions_of(text: str) -> dict[str, str]:
    """Return the source of each operation's function in the text of an ``operations.py``.

    Those that it imports have none there, and a text that is no Python any more has none at all.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    lines = text.split("\n")
    functions = {
        node.name: "\n".join(lines[_first_line(node) - 1 : node.end_lineno])
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {operation: functions[name] for operation, name in _table(body) if name in functions}


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _table(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id="OPERATIONS")], value=ast.Dict() as table):
                for key, value in zip(table.keys, table.values, strict=True):
                    match key, value:
                        case ast.Constant(value=str() as name), ast.Name(id=function):
                            yield name, function
