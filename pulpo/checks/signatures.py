"""What signatures lose: results without an annotation, and data that makes no edge."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from typing import Any, ForwardRef, NewType, Union, get_args, get_origin

from ..carry import Recorder
from ..errors import ModelError, Problem
from ..models import model_ref, shape_of
from ..operations import Operation, Port, returns_a_value
from ..plan import Orchestration
from .reach import Subject, and_list, cell_of, known_model

__all__ = ["bare_types", "late_models", "lost_results", "twin_models", "untold_data"]

_CONTAINERS = (list, tuple, set, frozenset, dict)


def lost_results(subject: Subject) -> list[Problem]:
    """Find operations that return something, which nobody gets for want of an annotation."""
    return [
        Problem(
            code="no-return-annotation",
            severity="warning",
            message=f"operation {operation.name!r} returns something, but its function "
            f"{'says None' if operation.returns else 'has no return annotation'}, so nobody "
            "gets it.",
            fix=f"Say what it gives: def {operation.function_name}(…) -> Model.",
            operation=operation.name,
            cell=operation.cell,
        )
        for operation in subject.operations
        if not operation.gives_value and returns_a_value(operation.function)
    ]


def bare_types(subject: Subject) -> list[Problem]:
    """Find parameters of a type that holds data but says nothing of it, such as a DataFrame."""
    return [
        Problem(
            code="bare-type",
            severity="note",
            message=f"operation {node.name!r}: the parameter {port.name!r} is a bare {port.hint}, "
            "which makes no edge.",
            fix=f"Name the data: RawJobs = NewType('RawJobs', {port.hint}), and use RawJobs in the "
            "signatures.",
            operation=node.name,
            port=port.name,
            cell=node.cell,
        )
        for node in subject.plan.operations
        for port in node.ports
        if port.hint
    ]


def late_models(subject: Subject) -> list[Problem]:
    """Find annotations that are refused by now: their model did not exist when they were read."""
    found = []
    for operation in subject.operations:
        loose = {port.name for port in operation.ports if port.model is None}
        for name, type_ in _types_now(operation).items():
            gives = name == "return"
            if name not in loose and not (gives and not operation.outputs):
                continue
            try:
                shape_of(type_, gives=gives)
            except ModelError as error:
                found.append(
                    Problem(
                        code="no-edge",
                        severity="warning",
                        message=f"operation {operation.name!r}, {name}: {error}",
                        fix=f"Then run {operation.cell or 'it'} again.",
                        operation=operation.name,
                        port="" if gives else name,
                        cell=operation.cell,
                    )
                )
    return found


def _types_now(operation: Operation) -> dict[str, Any]:
    """Return the annotations that are, or hold, text, as they read now."""
    function = inspect.unwrap(operation.function) if operation.function is not None else None
    written = getattr(function, "__annotations__", None)
    if not isinstance(written, dict):
        return {}
    return {
        name: type_
        for name, annotation in written.items()
        if (isinstance(annotation, str) or get_args(annotation))
        and (type_ := _evaluated(annotation, getattr(function, "__globals__", {}))) is not None
    }


def _evaluated(annotation: Any, globals_: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globals_, include_extras=True)["it"]
    except Exception:  # a name that does not exist yet
        return None


_ALIAS = type(typing.Annotated[int, ""])


def twin_models(subject: Subject) -> list[Problem]:
    """Find two types of the notebook that are one model to pulpo, as a copied line leaves them."""
    used = {output.model.key for o in subject.operations for output in o.outputs}
    used |= {port.model.key for o in subject.operations for port in o.ports if port.model}
    twins: dict[str, dict[str, Any]] = {}
    for variable, value in list(subject.recorder.namespace.items()):
        # Not isinstance, which asks the user's objects for their class.
        kind = type(value)
        named = kind is NewType or (kind is _ALIAS and get_origin(value) is typing.Annotated)
        if named and known_model(value) and not variable.startswith("_"):
            twins.setdefault(model_ref(value).key, {})[variable] = value
    found = []
    for key, variables in twins.items():
        name = key.rpartition(".")[2].rpartition(":")[2]
        first = name if name in variables else next(iter(variables))
        others = [
            variable
            for variable, value in variables.items()
            if value != variables[first] and _is_made(subject.recorder, variable)
        ]
        if key in used and others:
            found.append(_twins(subject, name, first, others))
    return found


def _twins(subject: Subject, name: str, first: str, others: list[str]) -> Problem:
    several = f"{and_list([first, *others])} {'both' if len(others) == 1 else 'all'}"
    statements = subject.recorder.by_name.get(others[0], ())
    return Problem(
        code="twin-models",
        severity="warning",
        message=f"{several} go by the name {name!r}, so they are one model: who takes one of them "
        "gets the other too.",
        fix=f"Give each its own: {others[0]} = NewType({others[0]!r}, …), and run the cells that "
        "use it again.",
        cell=cell_of(statements[-1]) if statements else "",
        candidates=(first, *others),
    )


def _is_made(recorder: Recorder, variable: str) -> bool:
    """Return whether a variable was given a type of its own, and is not another name for one."""
    statements = recorder.by_name.get(variable, ())
    value = getattr(statements[-1].node, "value", None) if statements else None
    return not isinstance(value, ast.Name | ast.Attribute)


def untold_data(subject: Subject) -> list[Problem]:
    """Find a ``list`` or ``dict`` that one operation gives, another takes, and nobody passes on.

    A container without a default that names no model is a flow parameter, and mostly meant as
    one. It is told only where another operation, that does not come after, gives the same and
    nobody takes that.
    """
    takers = [
        (operation, port, bare)
        for operation in subject.operations
        for port in operation.ports
        if port.model is None
        and port.default is inspect.Parameter.empty
        and (bare := _container(port.type)) is not None
    ]
    if not takers:
        return []
    taken = {edge.source for edge in subject.plan.edges}
    givers = [
        (operation, type_)
        for operation in subject.operations
        if operation.name not in taken
        and not operation.outputs
        and (type_ := _container(_returned(operation))) is not None
    ]
    found = []
    for operation, port, bare in takers:
        behind = _behind(subject.plan, operation.name)
        fits = [o for o, type_ in givers if o.name not in behind and _fit(type_, bare)]
        if fits:
            found.append(_untold(operation, port, fits))
    return found


def _untold(operation: Operation, port: Port, givers: list[Operation]) -> Problem:
    text = port.annotation.text if port.annotation else _words(port.type)
    bare = _words(_container(port.type))
    label = "".join(part.title() for part in port.name.split("_")) or "Data"
    names = and_list(repr(giver.name) for giver in givers)
    return Problem(
        code="no-edge",
        severity="note",
        message=f"operation {operation.name!r}: the parameter {port.name!r} is '{text}', which "
        f"makes no edge; {names} {'gives' if len(givers) == 1 else 'give'} one that nobody takes.",
        fix=f"If that is the data, name it: {label} = NewType('{label}', {bare}), and use {label} "
        "in both signatures.",
        operation=operation.name,
        port=port.name,
        cell=operation.cell,
        candidates=tuple(giver.name for giver in givers),
    )


def _container(type_: Any) -> Any:
    """Return a container, without the ``None`` beside it; None for all else."""
    if get_origin(type_) in (Union, types.UnionType):
        members = [member for member in get_args(type_) if member is not type(None)]
        type_ = members[0] if len(members) == 1 else None
    if any(isinstance(member, ForwardRef) for member in get_args(type_)):
        return None  # of what does not exist yet nobody knows whether it is a model
    return type_ if (get_origin(type_) or type_) in _CONTAINERS else None


def _returned(operation: Operation) -> Any:
    function = inspect.unwrap(operation.function) if operation.function is not None else None
    annotations = getattr(function, "__annotations__", None)
    type_ = annotations.get("return") if isinstance(annotations, dict) else None
    if isinstance(type_, str):
        return _evaluated(type_, getattr(function, "__globals__", {}))
    return type_


def _fit(given: Any, wanted: Any) -> bool:
    same_kind = (get_origin(given) or given) is (get_origin(wanted) or wanted)
    return same_kind and (given == wanted or not (get_args(given) and get_args(wanted)))


def _behind(plan: Orchestration, name: str) -> set[str]:
    """Return an operation and all that come after it."""
    feeds: dict[str, list[str]] = {}
    for edge in plan.edges:
        feeds.setdefault(edge.source, []).append(edge.target)
    found, todo = {name}, [name]
    while todo:
        fresh = [target for target in feeds.get(todo.pop(), ()) if target not in found]
        found.update(fresh)
        todo += fresh
    return found


def _words(type_: Any) -> str:
    """Return a type as a person would write it: ``list[dict]``, not ``typing.List[dict]``."""
    plain = isinstance(type_, type) and get_origin(type_) is None
    name = getattr(type_, "__name__", None) if plain or not get_args(type_) else None
    return name or str(type_).replace("typing.", "").replace("__main__.", "")
