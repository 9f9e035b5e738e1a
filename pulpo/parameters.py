"""The parameters of a flow: what a person gives, converted and checked."""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from .errors import MissingInputError, RunError, UsageError, did_you_mean
from .plan import FlowDefinition, FromList, FromParameter, Orchestration, Parameter, Text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["LiveNames", "all_values", "check_names", "convert"]


def check_names(
    orchestration: Orchestration, flow: FlowDefinition, given: Mapping[str, Any]
) -> None:
    """Refuse names that the flow does not take, and that what it needs is not there.

    Raises
    ------
    UsageError, MissingInputError
        With what was meant, and how to give it.
    """
    names = [parameter.name for parameter in flow.parameters]
    for name in given:
        if name not in names:
            takes = f"It takes: {', '.join(names)}." if names else "It takes no parameters."
            takes = _port_text(orchestration, flow, name) or takes
            raise UsageError(
                f"{flow.name} has no parameter {name!r}.{did_you_mean(name, names)} {takes}"
            )
    missing = [p for p in flow.parameters if p.default is None and p.name not in given]
    if missing:
        texts = "; ".join(_missing_text(orchestration, flow, parameter) for parameter in missing)
        raise MissingInputError(
            f"{flow.name} needs {texts}.", missing=tuple(parameter.name for parameter in missing)
        )


def _port_text(orchestration: Orchestration, flow: FlowDefinition, name: str) -> str:
    """Say which flow parameter feeds the port that somebody means, or ``""``."""
    known = {parameter.name for parameter in flow.parameters}
    steps = [step for each in orchestration.flows for step in each.steps if step.kind == "task"]
    for step in steps:
        if step.target not in flow.covers:
            continue
        for argument in step.arguments:
            source = argument.source
            if argument.name != name or not isinstance(source, FromParameter):
                continue
            if source.name in known:
                return f"{name!r} of {step.target} gets the flow's {source.name!r}: give that."
    return ""


def _missing_text(orchestration: Orchestration, flow: FlowDefinition, parameter: Parameter) -> str:
    kind = f" ({parameter.annotation.text})" if parameter.annotation else ""
    takers = dict.fromkeys(_takers(orchestration, flow, parameter.name))
    takes = f", which {_list(list(takers))} {'take' if len(takers) > 1 else 'takes'}" * bool(takers)
    value = "@variable" if parameter.by_reference else "…"
    return f"{parameter.name!r}{kind}{takes}: add --param {parameter.name}={value}"


def _takers(orchestration: Orchestration, flow: FlowDefinition, name: str) -> Iterator[str]:
    """Name the operations that get the flow's parameter, its subflows' too."""
    for step in flow.steps:
        for argument in step.arguments:
            source = argument.source
            items = source.items if isinstance(source, FromList) else (source,)
            if not any(isinstance(item, FromParameter) and item.name == name for item in items):
                continue
            if step.kind == "task":
                yield step.target
            elif inner := orchestration.get_flow(step.target):
                yield from _takers(orchestration, inner, argument.name)


def _list(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:2])} and others"


def convert(
    definition: FlowDefinition,
    annotations: Mapping[str, Any],
    given: Mapping[str, Any],
    by_reference: Callable[[Any], Any],
) -> dict[str, Any]:
    """Return the values as the flow takes them, so that Prefect finds nothing to complain about.

    Parameters
    ----------
    annotations
        The type of each parameter, by its name.
    by_reference
        What data is passed on in.

    Raises
    ------
    UsageError
        When a value is not of its parameter's type, and text cannot be made one of it.
    """
    values: dict[str, Any] = {}
    for parameter in definition.parameters:
        if parameter.name not in given:
            continue
        value = given[parameter.name]
        annotation = annotations.get(parameter.name, Any)
        if not parameter.by_reference:
            values[parameter.name] = _as_type(definition.name, parameter, annotation, value)
            continue
        if isinstance(value, str):
            inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
            value = _as_type(definition.name, parameter, inner, value)
        values[parameter.name] = by_reference(value)
    return values


def all_values(
    definition: FlowDefinition,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the value of every parameter, defaults too, as Prefect passes them on.

    Raises
    ------
    UsageError
        When a value is not of its parameter's type.
    RunError
        When an annotation, or a default, has no meaning any more.
    """
    names = LiveNames("operations", functions, namespace)
    values = dict(given)
    types: dict[str, Any] = {}
    for parameter in definition.parameters:
        name, default = parameter.name, parameter.default
        types[name] = _evaluated(definition, parameter.annotation, names)
        if default is not None:
            values.setdefault(name, _evaluated(definition, default, names))
            if default.text == "None" and values[name] is None:
                types[name] = Any  # it is one of its values, whatever the annotation says
    return convert(definition, types, values, lambda value: value)


def _evaluated(definition: FlowDefinition, text: Text | None, operations: LiveNames) -> Any:
    """Return what the user's own expression means; without one it is any type."""
    if text is None:
        return Any
    try:
        scope = {
            name: getattr(importlib.import_module(module) if module else operations, name)
            for name, module in text.names
        }
        return eval(text.text, scope)
    except Exception as error:
        raise RunError(
            f"{text.text!r}, of a parameter of {definition.name}, has no meaning any more: "
            f"{error}. Run the cell that defines it again."
        ) from error


def _as_type(flow: str, parameter: Parameter, annotation: Any, value: Any) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error
    if isinstance(value, str):
        try:
            return adapter.validate_json(value)
        except ValidationError as error:
            # What looks like JSON was meant as JSON.
            problem = error if value.lstrip()[:1] in ("[", "{") else problem
    detail = problem.errors(include_url=False, include_context=False)[0]
    place = "".join(f"[{part!r}]" for part in detail["loc"])
    kind = parameter.annotation.text if parameter.annotation else "its type"
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:59] + "…"
    live = f" Give a live object as {parameter.name}=@variable." * parameter.by_reference
    raise UsageError(
        f"{flow} needs {parameter.name!r} as {kind}, not {shown}: "
        f"{place}{': ' * bool(place)}{detail['msg']}.{live}"
    ) from None


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError

    if annotation is Any or annotation is inspect.Parameter.empty:
        return None
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:  # a class that pydantic does not know, such as DataFrame
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, NameError):
        # typing's TypedDict, before Python 3.12
        is_dict = isinstance(annotation, type) and issubclass(annotation, dict)
        return TypeAdapter(dict[str, Any]) if is_dict else None


# --- Live objects ---------------------------------------------------------------------------------


class LiveNames(types.ModuleType):
    """Stands for ``operations.py``: the live functions, and names from the notebook."""

    def __init__(
        self,
        name: str,
        functions: Mapping[str, Callable[..., Any]],
        namespace: Mapping[str, Any],
    ) -> None:
        super().__init__(name)
        self.OPERATIONS = functions
        self._namespaces = namespace

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._namespaces:
            return self._namespaces[name]
        for function in self.OPERATIONS.values():
            found = getattr(inspect.unwrap(function), "__globals__", {})
            if name in found:
                return found[name]
        raise AttributeError(f"{name!r} is not defined any more")
