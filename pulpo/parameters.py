"""The parameters of a flow: what a person gives, converted and checked, and the form for it."""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NewType, get_args, get_origin

from .errors import (
    MissingInputError,
    ModelError,
    RunError,
    UnknownNameError,
    UsageError,
    did_you_mean,
)
from .models import misfit, unaliased
from .plan import FlowDefinition, FromList, FromParameter, Orchestration, Parameter, Text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "UNSET",
    "Field",
    "LiveNames",
    "all_values",
    "check_names",
    "check_values",
    "convert",
    "form",
    "without_usual_none",
]

Kind = Literal[
    "text", "integer", "number", "switch", "choice", "date", "datetime", "time", "json", "object"
]


class _Unset(enum.Enum):
    UNSET = enum.auto()

    def __repr__(self) -> str:
        return "UNSET"


#: Stands for no value: a run does as if the parameter were not given.
UNSET: Final = _Unset.UNSET


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


def without_usual_none(definition: FlowDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out each None that is a default, as in ``pages: int = None``; Prefect refuses those."""
    usual = {each.name for each in definition.parameters if _is_none(each.default)}
    return {name: value for name, value in given.items() if value is not None or name not in usual}


def check_values(
    definition: FlowDefinition,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    given: Mapping[str, Any],
) -> None:
    """Refuse values that the flow would refuse, before anything is started.

    Raises
    ------
    UsageError
        When a value is not of its parameter's type.
    RunError
        When an annotation has no meaning any more.
    """
    names = LiveNames("operations", functions, namespace)
    given = without_usual_none(definition, given)
    types = {
        each.name: _evaluated(definition, each.annotation, names)
        for each in definition.parameters
        if each.name in given
    }
    convert(definition, types, given, lambda value: value)


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
            if _is_none(default) and values[name] is None:
                types[name] = Any  # it is one of its values, whatever the annotation says
    return convert(definition, types, values, lambda value: value)


def _is_none(default: Text | None) -> bool:
    return default is not None and default.text == "None"


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
        return _validated(adapter, value)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
    place = "".join(f"[{part!r}]" for part in detail["loc"])
    kind = parameter.annotation.text if parameter.annotation else "its type"
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:59] + "…"
    live = f" Give a live object as {parameter.name}=@variable." * parameter.by_reference
    raise UsageError(
        f"{flow} needs {parameter.name!r} as {kind}, not {shown}: "
        f"{place}{': ' * bool(place)}{detail['msg']}.{live}"
    )


def _validated(adapter: TypeAdapter[Any], value: Any, *, json_first: bool = False) -> Any:
    """Return a value as a type, text also as JSON.

    Raises
    ------
    pydantic.ValidationError
        That of the way which the text looks like.
    """
    from pydantic import ValidationError

    ways: list[Callable[[Any], Any]] = [adapter.validate_python]
    if isinstance(value, str):
        ways.insert(0 if json_first else 1, adapter.validate_json)
    problems = []
    for way in ways:
        try:
            return way(value)
        except ValidationError as error:
            problems.append((way == adapter.validate_json, error))
    # What looks like JSON was meant as JSON.
    as_json = isinstance(value, str) and value.lstrip()[:1] in ("[", "{")
    raise next(error for was_json, error in problems if was_json == as_json)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError

    if annotation is Any or annotation is inspect.Parameter.empty:
        return None
    try:
        try:
            return TypeAdapter(annotation)
        except PydanticSchemaGenerationError:  # a class that pydantic does not know: DataFrame
            return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, NameError):
        # typing's TypedDict, before Python 3.12; or a dataclass that holds a DataFrame
        is_dict = isinstance(annotation, type) and issubclass(annotation, dict)
        return TypeAdapter(dict[str, Any]) if is_dict else None


# --- A form ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of the form that a flow's parameters make.

    Parameters
    ----------
    name
        The flow parameter.
    kind
        What a person gives it with. ``"object"`` takes nothing but ``@variable``, which all take.
    annotation
        The type as the user wrote it; ``""`` without one.
    model
        The short name of the data model, for data; ``""`` for others.
    source
        The operation whose result it stands for, where a selection cut that off; else ``""``.
    required
        True when a person has to give it: it has no default, and no earlier run has its value.
    optional
        True when None is one of its values.
    text
        What a form shows at first: the default, as text or JSON; ``""`` without one, or when it
        has no text.
    default
        The default itself, or `UNSET`.
    choices
        The label and the value of each choice.
    hint
        What it is, or what to type, in a short sentence.
    """

    name: str
    kind: Kind = "text"
    annotation: str = ""
    model: str = ""
    source: str = ""
    required: bool = False
    optional: bool = False
    text: str = ""
    default: Any = UNSET
    choices: tuple[tuple[str, Any], ...] = ()
    hint: str = ""
    _type: Any = field(default=Any, repr=False, compare=False)
    _is_data: bool = field(default=False, repr=False, compare=False)
    _look_up: Callable[[str], Any] | None = field(default=None, repr=False, compare=False)

    def parse(self, given: Any) -> Any:
        """Return what a form has, its raw value, as a run takes it in ``parameters``.

        ``@variable`` is the live object of the notebook, ``@@home`` the text ``"@home"``. What was
        left as it was first shown is the very default; what was left empty is None, where that is a
        value, or `UNSET` where a run finds a value by itself.

        Raises
        ------
        UsageError
            With why, in a few words that can stand at the field.
        """
        for _, value in self.choices:
            if given is value or (type(given) is type(value) and given == value):
                return value
        if not isinstance(given, str):
            return self._taken(given)
        if self.default is not UNSET and given == self.text:
            return self.default
        typed = given if self.kind == "text" else given.strip()
        if typed.strip().startswith("@@"):  # a text that begins with @
            return self._checked(typed.replace("@@", "@", 1))
        if typed.strip().startswith("@"):
            return self._live(typed.strip()[1:])
        for label, value in self.choices:
            if typed == label:
                return value
        if not typed:
            return self._empty()
        if self.optional and self.kind != "text" and typed in ("None", "null"):
            return None
        if self.kind == "object":
            raise UsageError(f"takes an object of the notebook: @variable, not {_brief(typed)}")
        return self._checked(typed)

    def _taken(self, given: Any) -> Any:
        if given is UNSET:
            return self.default if self.default is not UNSET else self._empty()
        if given is None:
            return None if self.optional else self._empty()
        # Data is passed on as the very object.
        return given if self._is_data else self._checked(given)

    def _live(self, name: str) -> Any:
        if self._look_up is None:
            raise UsageError(f"there is no notebook to take {name!r} from")
        try:
            value = self._look_up(name)
        except UnknownNameError as error:
            escape = "; @@ begins a text that begins with @" * (self.kind == "text")
            raise UsageError(f"{str(error).rstrip('.')}{escape}") from None
        if self._is_data and (told := misfit(self._type, value)):
            raise UsageError(f"@{name} is {told}")
        return self._taken(value)

    def _empty(self) -> Any:
        if self.default is UNSET and not self.required:
            return UNSET
        if self.optional and (self.default is UNSET or self.default is None):
            return None
        if self.kind == "text" and not self.required:
            return self._checked("")
        raise UsageError("needs a value" + ", or None" * self.optional)

    def _checked(self, given: Any) -> Any:
        from pydantic import ValidationError

        adapter = _adapter(self._type)
        if adapter is None:
            as_it_is = not isinstance(given, str) or isinstance(self.default, str)
            return given if as_it_is else _from_json(given, strict=self.kind == "json")
        try:
            return _validated(adapter, given, json_first=self.kind == "json")
        except ValidationError as error:
            detail = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, detail["loc"]))
            raise UsageError(f"{place}{': ' * bool(place)}{detail['msg']}") from None
        except Exception as error:  # a validator of the user's may raise anything
            raise UsageError(f"{type(error).__name__}: {error}") from error


def form(
    orchestration: Orchestration,
    flow: FlowDefinition,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    *,
    look_up: Callable[[str], Any],
    earlier: Mapping[str, str],
) -> tuple[Field, ...]:
    """Return a field for each parameter of a flow, in their order.

    What cannot be evaluated any more makes a field of text, whose hint says so.

    Parameters
    ----------
    functions, namespace
        Where names in annotations and defaults are looked up.
    look_up
        Returns the live object of that name; raises `UnknownNameError`.
    earlier
        For each parameter that a run takes from an earlier one: a sentence that says so.
    """
    names = LiveNames("operations", functions, namespace)
    given = dict.fromkeys(o.model for node in orchestration.operations for o in node.outputs)
    fields = []
    for parameter in flow.parameters:
        says = [earlier[parameter.name]] if parameter.name in earlier else []
        if parameter.value and not says:
            says = [f"the result of {parameter.value.operation}, which has to run before"]
        elif parameter.model and not parameter.value:
            says = [f"no operation gives {parameter.model}.{did_you_mean(parameter.model, given)}"]
        fields.append(_field(flow, parameter, names, look_up, says, parameter.name in earlier))
    return tuple(fields)


def _field(
    flow: FlowDefinition,
    parameter: Parameter,
    names: LiveNames,
    look_up: Callable[[str], Any],
    says: list[str],
    is_there: bool,
) -> Field:
    type_, default = Any, UNSET
    try:
        type_ = _evaluated(flow, parameter.annotation, names)
        if parameter.default is not None:
            default = _evaluated(flow, parameter.default, names)
        bare, optional, description = _bare(type_)
        kind, more = _kind(type_, bare, optional, parameter.by_reference)
    except (RunError, ModelError) as error:  # its cell is gone, or names what is
        type_, optional, kind, description, more, bare = Any, False, "text", "", "", Any
        says = [str(error)]
    choices = _choices(bare, optional) if kind == "choice" else ()
    return Field(
        name=parameter.name,
        kind=kind,
        annotation=parameter.annotation.text if parameter.annotation else "",
        model=parameter.model,
        source=parameter.value.operation if parameter.value else "",
        required=parameter.default is None and not is_there,
        optional=optional or default is None,
        text=_shown(type_, kind, default, choices),
        default=default,
        choices=choices,
        hint=_sentences([*says, description, more]),
        _type=type_,
        _is_data=parameter.by_reference,
        _look_up=look_up,
    )


def _bare(type_: Any) -> tuple[Any, bool, str]:
    """Return a type without None and what is only said of it, whether it had None, and what."""
    optional, description = False, ""
    while True:
        type_ = unaliased(type_)
        if get_origin(type_) is Annotated:
            said = [getattr(each, "description", None) for each in type_.__metadata__]
            description = description or next(filter(None, map(_text, said)), "")
            type_ = get_args(type_)[0]
        elif isinstance(type_, NewType):
            type_ = type_.__supertype__
        elif get_origin(type_) in (typing.Union, types.UnionType):
            members = [each for each in get_args(type_) if each is not type(None)]
            optional = optional or len(members) < len(get_args(type_))
            if len(members) > 1:
                return type_, optional, description
            type_ = members[0]
        else:
            in_literal = get_origin(type_) is Literal and None in get_args(type_)
            return type_, optional or in_literal, description


def _sentences(parts: Iterable[str]) -> str:
    said = [each if each.endswith(("?", "!")) else each.rstrip(".") + "." for each in parts if each]
    return " ".join(said).rstrip(".")


def _text(said: Any) -> str:
    return said if isinstance(said, str) else ""


_OBJECT = "@variable takes an object of the notebook"
_PLAIN: Mapping[Any, Kind] = {"integer": "integer", "number": "number", "boolean": "switch"}
_TIMES: Mapping[Any, Kind] = {"date": "date", "date-time": "datetime", "time": "time"}


def _kind(type_: Any, bare: Any, optional: bool, is_data: bool) -> tuple[Kind, str]:
    """Return what a value of a type is given with, and what to type."""
    if get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, enum.Enum)):
        return "choice", ""
    if bare is bool and optional:  # a switch has no third way
        return "choice", ""
    if bare is Any:
        return ("json", "JSON, or @variable") if is_data else ("text", "")
    schema = _schema(type_)
    if schema is None:
        return "object", _OBJECT
    if get_origin(bare) in (typing.Union, types.UnionType):
        return "json", "JSON, or @variable"
    what = schema.get("type")
    if what in _PLAIN:
        return _PLAIN[what], ""
    several = [each.get("type") for each in schema.get("anyOf", ())]
    if what == "string" or "string" in several:  # a Decimal is read from numbers too
        return _TIMES.get(schema.get("format"), "text"), ""
    if what in ("object", "array") or several or "oneOf" in schema:
        keys = ", ".join(f'"{key}"' for key in list(schema.get("properties", ()))[:6])
        return "json", f"JSON{' with ' * bool(keys)}{keys}, or @variable"
    return "text", ""


def _schema(type_: Any) -> dict[str, Any] | None:
    """Return the JSON schema of a type without None; None when JSON can tell nothing of it."""
    from pydantic import PydanticUserError
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        def emit_warning(self, kind: Any, detail: str) -> None:
            pass

    adapter = _adapter(type_)
    if adapter is None:
        return None
    try:
        schema = whole = adapter.json_schema(schema_generator=Quiet)
    except (PydanticUserError, NameError):
        return None
    while True:
        ways = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if len(ways) == 1:
            schema = ways[0]
        elif "$ref" in schema:
            schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
        else:
            return None if schema.get("type") == "null" else schema


def _choices(bare: Any, optional: bool) -> tuple[tuple[str, Any], ...]:
    if bare is bool:
        values: list[Any] = [True, False]
    else:
        values = list(get_args(bare) if get_origin(bare) is Literal else bare)
    labels = [_label(value) for value in values]
    if len({*labels}) < len(labels):  # 1 and "1"
        labels = [repr(value) for value in values]
    none = (("None", None),) if optional and None not in values else ()
    return (*zip(labels, values, strict=True), *none)


def _label(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, str) else value.name
    return value if isinstance(value, str) else repr(value)


def _shown(type_: Any, kind: Kind, default: Any, choices: Iterable[tuple[str, Any]]) -> str:
    """Return a default as text, ``""`` when it has none."""
    if default is UNSET or default is None or kind in ("switch", "object"):
        return ""
    if kind == "choice":
        same = [label for label, each in choices if type(each) is type(default) and each == default]
        return same[0] if same else ""
    if type_ is Any and isinstance(default, str):
        return default
    from pydantic import TypeAdapter

    adapter = _adapter(type_) or TypeAdapter(Any)
    try:
        text = adapter.dump_json(default, warnings=False).decode()
        plain = json.loads(text)
    except Exception:  # a serializer of the user's may raise anything
        return ""
    return plain if isinstance(plain, str) and kind != "json" else text


def _from_json(text: str, *, strict: bool) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if strict:
            raise UsageError(f"Invalid JSON: {error}") from None
        return text


def _brief(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:29] + "…")


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
