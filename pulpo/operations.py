"""A function and its annotations become a frozen `Operation` with ports and outputs."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import math
import re
import sys
import textwrap
import types
import typing
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ForwardRef, Literal, Protocol, get_args, get_origin, runtime_checkable

from .errors import DeclarationError, ModelError, did_you_mean
from .models import Model, ModelRef, Shape, is_model, model_ref, shape_of, unaliased
from .names import normal, parse_name, snake_case
from .plan import (
    FromParameter,
    Node,
    OutputPlan,
    Parameter,
    PortPlan,
    TaskOptions,
    Text,
    Value,
)

__all__ = [
    "Operation",
    "OperationLike",
    "Output",
    "Port",
    "SyncAsyncDetector",
    "as_operation",
    "make_operation",
    "options_from_flags",
    "refuse_no_function",
    "returns_a_value",
]

Passing = Literal["positional", "either", "keyword", "variadic"]
NO_DEFAULT: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One parameter: a data port when ``model`` is set, otherwise a flow parameter.

    ``shape`` is ``"one"`` for ``M``, ``"all"`` for ``list[M]`` and ``*args: M``, ``"any"`` when
    only ``inputs=`` says that the parameter takes the model. ``takes`` is the model's short name.
    """

    name: str
    model: ModelRef | None = None
    shape: Literal["one", "all", "any"] = "one"
    optional: bool = False
    passing: Passing = "either"
    type: Any = NO_DEFAULT
    default: Any = NO_DEFAULT
    annotation: Text | None = None
    default_text: Text | None = None
    hint: str = ""
    takes: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes", self.model.name if self.model is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One model that the operation gives; ``index`` is its place in a returned tuple.

    ``sequence`` is true when many may come as a tuple, say, though ports of ``list[M]`` want a
    list. ``parameter`` is what carries it into a flow, unless that name is taken.
    """

    model: ModelRef
    many: bool = False
    sequence: bool = False
    optional: bool = False
    index: int | None = None
    annotation: Text | None = None
    parameter: FromParameter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parameter = FromParameter(snake_case(self.model.name), by_reference=True)
        object.__setattr__(self, "parameter", parameter)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """A named, typed function.

    Parameters
    ----------
    name
        Its dotted name.
    function
        The plain function, as the user wrote it.
    ports, outputs
        What it takes and gives.
    orders
        Models that were declared but that no parameter takes: their producers run first.
    cell
        Where it was declared, for messages: ``"cell 4"`` or ``"jobs.py:12"``.
    declared
        The models that ``inputs=`` and ``outputs=`` name, as text: ``("inputs", ("RawJobs",))``.
    group
        Its name without the last part, ``""`` when there is but one.
    takes, asks
        The ports that take a model, and those whose value a person gives.
    wants
        Each of ``takes`` as its name and the key and the short name of its model.
    simple
        True when nothing but its models says what it needs, each of them a class that it takes once
        and does not give itself: most operations are, and bind in a fraction of the time.
    key
        The key of the model that a simple operation gives, when it always gives one, as it is;
        else ``""``.
    gives
        Each of ``outputs`` as the parameter of a flow that takes it from outside.
    node
        How it stands in a plan where nobody is missing and nothing is mapped.
    """

    name: str
    function: Callable[..., Any] | None
    ports: tuple[Port, ...] = ()
    outputs: tuple[Output, ...] = ()
    orders: tuple[ModelRef, ...] = ()
    options: TaskOptions = field(default_factory=TaskOptions)
    returns: Text | None = None
    gives_value: bool = True
    is_async: bool = False
    doc: str = ""
    cell: str = ""
    declared: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # Told here once, since a session is compiled again with every operation that it gets.
    group: str = field(init=False, repr=False)
    takes: tuple[Port, ...] = field(init=False, repr=False)
    wants: tuple[tuple[str, str, str], ...] = field(init=False, repr=False)
    asks: tuple[Port, ...] = field(init=False, repr=False)
    simple: bool = field(init=False, repr=False)
    key: str = field(init=False, repr=False)
    gives: tuple[Parameter, ...] = field(init=False, repr=False)
    node: Node = field(init=False, repr=False)

    def __post_init__(self) -> None:
        takes = tuple(port for port in self.ports if port.model is not None)
        simple = _is_simple(self, takes)
        told = {
            "group": sys.intern(self.name.rpartition(".")[0]),
            "takes": takes,
            "wants": tuple((p.name, p.model.key, p.takes) for p in takes if p.model is not None),
            "asks": tuple(port for port in self.ports if port.model is None),
            "simple": simple,
            "key": _only_key(self.outputs) if simple else "",
            "gives": tuple([_carried(self.name, output) for output in self.outputs]),
            "node": _node(self),
        }
        for name, value in told.items():
            object.__setattr__(self, name, value)

    @property
    def models_in(self) -> list[str]:
        """The short names of the models it takes, each once."""
        names = [port.takes for port in self.takes]
        return list(dict.fromkeys([*names, *(ref.name for ref in self.orders)]))

    @property
    def models_out(self) -> list[str]:
        """The short names of the models it gives."""
        return list(dict.fromkeys(output.model.name for output in self.outputs))

    @property
    def function_name(self) -> str:
        """The name of the function, or the last part of the operation's name."""
        own = getattr(self.function, "__name__", "")
        return normal(own) if own.isidentifier() else self.name.rsplit(".", 1)[-1]

    def carried(self, output: Output) -> Parameter:
        """Return the parameter of a flow that takes this output from outside."""
        if output.index is None:
            return self.gives[0]
        return self.gives[self.outputs.index(output)]

    def signature(self) -> str:
        """Return the function's signature as one line, such as ``merge(a: RawJobs) -> RawJobs``."""
        ports = ", ".join(map(_as_written, self.ports))
        gives = self.returns.text if self.returns else " + ".join(self.models_out)
        prefix = "async " if self.is_async else ""
        return f"{prefix}{self.function_name}({ports})" + (f" -> {gives}" if gives else "")


def _is_simple(operation: Operation, takes: tuple[Port, ...]) -> bool:
    options = operation.options
    keys = [port.model.key for port in takes if port.model is not None]
    taken = {*keys, ""}
    return (
        not (operation.orders or options.after or options.bind)
        and len(taken) > len(keys)
        and taken.isdisjoint([output.model.key for output in operation.outputs])
        and all(port.shape == "one" for port in takes)
    )


def _only_key(outputs: tuple[Output, ...]) -> str:
    if len(outputs) != 1:
        return ""
    (only,) = outputs
    return "" if only.optional or only.many or only.index is not None else only.model.key


def _carried(name: str, output: Output) -> Parameter:
    return Parameter(
        name=output.parameter.name,
        annotation=output.annotation,
        by_reference=True,
        value=Value(name, output.index),
        model=output.model.name,
    )


def _node(operation: Operation) -> Node:
    return Node(
        name=operation.name,
        function=operation.function_name,
        ports=tuple([_port_plan(port) for port in operation.ports]),
        outputs=tuple([_output_plan(output) for output in operation.outputs]),
        returns=operation.returns,
        gives_value=operation.gives_value,
        is_async=operation.is_async,
        doc=operation.doc,
        options=operation.options,
        cell=operation.cell,
        declared=operation.declared,
    )


def _port_plan(port: Port) -> PortPlan:
    return PortPlan(
        name=port.name,
        kind="data" if port.model is not None else "parameter",
        model=port.takes,
        shape=port.shape,
        optional=port.optional,
        passing=port.passing,
        annotation=port.annotation,
        default=port.default_text,
        hint=port.hint,
    )


def _output_plan(output: Output) -> OutputPlan:
    return OutputPlan(
        model=output.model.name,
        many=output.many,
        optional=output.optional,
        index=output.index,
        annotation=output.annotation,
    )


def _as_written(port: Port) -> str:
    if port.passing == "variadic":
        inner = port.annotation.text.removeprefix("list[")[:-1] if port.annotation else ""
        return f"*{port.name}: {inner}" if inner else f"*{port.name}"
    return port.name + (f": {port.annotation.text}" if port.annotation else "") + _default(port)


def _default(port: Port) -> str:
    if port.default is NO_DEFAULT:
        return ""
    text = port.default_text.text if port.default_text else "…"
    return f" = {text}" if port.annotation else f"={text}"


@runtime_checkable
class OperationLike(Protocol):
    """What analysis, compilation and generation accept as an operation."""

    name: str
    models_in: Any
    models_out: Any
    function: Any


def make_operation(
    function: Callable[..., Any],
    *,
    name: str,
    inputs: Any = None,
    outputs: Any = None,
    options: TaskOptions | None = None,
    cell: str = "",
    lenient: bool = False,
) -> Operation:
    """Read a function's annotations.

    What may be written for a model stands at `shape_of`. ``*args: M`` takes every value, as
    ``list[M]`` does. A generator function is refused: its values would be used up by the first
    operation that takes them, and be made outside of the operation's own run.

    Parameters
    ----------
    function
        The user's function, sync or async; or a bound method, a `functools.partial`, an instance
        with ``__call__``. A model that a partial already gives is no port.
    name
        The operation's dotted name.
    inputs, outputs
        Models (a class, a name, either as ``list[…]``, or a list of them); inferred from
        annotations when left out. ``inputs`` claims unannotated parameters: one model claims them
        all, several pair by position. A model that no parameter takes orders the operation without
        passing data.
    lenient
        Pair what can be paired instead of refusing a mismatch; for foreign operation objects.

    Raises
    ------
    InvalidNameError, DeclarationError, ModelError
        When the name, the signature or a type makes no operation.
    """
    parse_name(name)
    if not lenient:
        refuse_no_function(function, name)
    reader = _Reader(function, name, lenient=lenient)
    parameters = reader.parameters()
    claimed, orders = _claim(parameters, _as_list(inputs), reader, lenient=lenient)
    ports = _passable(
        name, [reader.port(parameter, claimed.get(parameter.name)) for parameter in parameters]
    )
    returned, gives_value = reader.returned()
    return Operation(
        name=name,
        function=function,
        ports=ports,
        outputs=_outputs(
            returned, _as_list(outputs), reader, declared=outputs is not None, lenient=lenient
        ),
        orders=orders,
        options=options or TaskOptions(),
        returns=reader.text("return"),
        gives_value=gives_value or bool(outputs),
        is_async=SyncAsyncDetector.is_async(function),
        doc=inspect.getdoc(function) or "" if not isinstance(function, functools.partial) else "",
        cell=cell,
        declared=_declared(inputs=inputs, outputs=outputs),
    )


def refuse_no_function(given: Any, name: str) -> None:
    """Raise the error for what is no function, or is one that cannot be an operation.

    Raises
    ------
    DeclarationError
        For a class, a method that is bound to nothing, a generator function, and the like.
    """
    why = _why_no_function(given, f"pulpo.operation(name={name!r})")
    if why:
        called = getattr(given, "__qualname__", None) or repr(given)
        raise DeclarationError(f"operation {name!r}: {called} {why}")


def _why_no_function(given: Any, declare: str) -> str:
    if isinstance(given, type):
        own = given.__name__
        return (
            f"is a class. Declare a function that makes one, 'def make(…) -> {own}'; or, where "
            f"its objects can be called, one of them: it = {own}(); {declare}(it)."
        )
    if isinstance(given, classmethod):
        return _bound_below(given.__qualname__, declare, "is not bound to its class yet")
    if not callable(given):
        return f"is no function. Put @{declare} above a def."
    call = getattr(type(given), "__call__", None)  # noqa: B004 - the method, not whether
    if any(map(inspect.isgeneratorfunction, (given, call))) or any(
        map(inspect.isasyncgenfunction, (given, call))
    ):
        return "yields its values. Collect them, and return a list: '-> list[Model]'."
    if isinstance(given, functools._lru_cache_wrapper) and SyncAsyncDetector.is_async(
        given.__wrapped__
    ):
        return (
            "is async, and a coroutine that lru_cache keeps can be awaited only once. Let Prefect "
            "keep the results: cache='inputs' (--cache inputs)."
        )
    return _why_no_bound_method(given, declare)


def _why_no_bound_method(given: Any, declare: str) -> str:
    owner, _, method = getattr(given, "__qualname__", "").rpartition(".")
    if not isinstance(given, types.FunctionType) or not owner or owner.endswith("<locals>"):
        return ""
    first = next(iter(inspect.signature(given).parameters), "")
    if first not in ("self", "cls"):
        return ""
    made = f"{owner}()" if first == "self" else owner
    why = f"is a method, and nobody gives its {first!r}"
    return _bound_below(f"{made}.{method}", declare, why)


def _bound_below(method: str, declare: str, why: str) -> str:
    name = method.rpartition(".")[2]  # a name of its own is what an export finds it by
    return f"{why}. Bind it below the class: {name} = {method}; {declare}({name})."


def _wrapped(function: Any) -> Any:
    try:
        return getattr(function, "__wrapped__", None)
    except Exception:  # a user's __getattr__ may raise anything
        return None


def _plain_function(function: Any) -> Any:
    """Return the function behind partials, wrappers, bound methods and objects that are called."""
    for _ in range(50):  # wrappers of wrappers; some object may wrap itself
        if isinstance(function, functools.partial):
            function = function.func
        elif (inner := _wrapped(function)) is not None:
            function = inner
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif inspect.isroutine(function) or isinstance(function, type):
            break
        else:
            function = type(function).__call__
    return function


def as_operation(given: Any) -> Operation:
    """Return ``given`` as an `Operation`.

    Anything with ``name``, ``models_in``, ``models_out`` and ``function`` is one; its models may
    be text.

    Raises
    ------
    DeclarationError
        When one of the four is missing.
    """
    if isinstance(given, Operation):
        return given
    missing = [a for a in ("name", "models_in", "models_out", "function") if not hasattr(given, a)]
    if missing:
        raise DeclarationError(
            f"{given!r} is no operation: it has no {', '.join(missing)}. An operation has a name, "
            "models_in, models_out and a function."
        )
    function = given.function
    options = getattr(given, "options", None)
    options = options if isinstance(options, TaskOptions) else TaskOptions()
    if not callable(function) or not _has_signature(function):
        parse_name(given.name)
        return Operation(
            name=given.name,
            function=function if callable(function) else None,
            orders=tuple(_plain_ref(model) for model in _as_list(given.models_in)),
            outputs=_declared_outputs(_as_list(given.models_out)),
            gives_value=bool(given.models_out),
            is_async=SyncAsyncDetector.is_async(function),
            options=options,
        )
    return make_operation(
        function,
        name=given.name,
        inputs=given.models_in,
        outputs=given.models_out,
        options=options,
        lenient=True,
    )


def options_from_flags(flags: Mapping[str, Any]) -> TaskOptions:
    """Check the task flags of a magic or decorator and return them as `TaskOptions`.

    Raises
    ------
    DeclarationError
        For an unknown flag, or a value that the flag cannot have.
    """
    known = TaskOptions.__dataclass_fields__
    for flag in flags:
        if flag not in known:
            hint = did_you_mean(flag, known)
            raise DeclarationError(
                f"{flag!r} is no option of an operation.{hint} The options are: {', '.join(known)}."
            )
    given = {flag: value for flag, value in flags.items() if value is not None}
    for flag in ("tags", "after"):
        if flag in given:
            given[flag] = _texts(flag, given[flag])
    if not isinstance(given.get("description", ""), str):
        raise DeclarationError(f"description is text, not {given['description']!r}.")
    _check_cache(given.get("cache"))
    if "bind" in given:
        given["bind"] = _pairs(given["bind"])
    for flag in ("retries", "retry_delay", "timeout", "max_concurrency"):
        given.update(_number(flag, given))
    on_error = given.get("on_element_error", "fail")
    if on_error not in ("fail", "skip"):
        raise DeclarationError(f"on_element_error is 'fail' or 'skip', not {on_error!r}.")
    strategy = given.get("strategy")
    if strategy not in (None, "thread", "process"):
        raise DeclarationError(f"strategy is 'thread' or 'process', not {strategy!r}.")
    for name in (*given.get("after", ()), *(operation for _, operation in given.get("bind", ()))):
        parse_name(name)
    return TaskOptions(**given)


def _number(flag: str, given: Mapping[str, Any]) -> dict[str, Any]:
    value = given.get(flag)
    if value is None:
        return {}
    whole = flag in ("retries", "max_concurrency")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = "a whole number" if whole else "a number of seconds"
        raise DeclarationError(f"{flag} is {kind}, not {value!r}.")
    positive = flag in ("timeout", "max_concurrency")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise DeclarationError(f"{flag} cannot be {value!r}; give a positive number.")
    return {flag: value if whole else float(value)}


def _texts(flag: str, value: Any) -> tuple[str, ...]:
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, (list, tuple)) or not all(isinstance(one, str) for one in several):
        raise DeclarationError(f"{flag} is a text or a list of texts, not {value!r}.")
    return tuple(several)


def _check_cache(cache: Any) -> None:
    if cache is None or cache == "inputs":
        return
    number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)[smhd]", cache) if isinstance(cache, str) else None
    if number is None or not float(number[1]):
        raise DeclarationError(
            f"cache cannot be {cache!r}. Give 'inputs' to keep results for good, or how long to "
            "keep them, such as '90s', '30m', '12h' or '7d'."
        )


def _pairs(bind: Any) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    items = bind.items() if isinstance(bind, Mapping) else bind
    if not isinstance(bind, (Mapping, list, tuple)) or not all(len(item) == 2 for item in items):
        raise DeclarationError(
            f"bind says which operation feeds which port, such as {{'jobs': 'scraping.merge'}}; "
            f"{bind!r} does not."
        )
    for port, operations in items:
        name = normal(port) if isinstance(port, str) else port
        pairs.extend((name, operation) for operation in _texts("bind", operations))
    return tuple(pairs)


def _passable(name: str, ports: Sequence[Port]) -> tuple[Port, ...]:
    """Leave out the parameters whose default cannot be written down: the function keeps it."""
    kept: list[Port] = []
    left_out = ""
    for port in ports:
        unwritten = port.default is not NO_DEFAULT and port.default_text is None
        if (unwritten and port.model is None) or (left_out and port.passing == "positional"):
            left_out = port.name
            continue
        if left_out and port.passing == "variadic":
            raise DeclarationError(
                f"operation {name!r}: the default of {left_out!r} cannot be written down, and "
                f"*{port.name} comes after it. Put {left_out!r} behind *{port.name}."
            )
        kept.append(replace(port, passing="keyword") if left_out else port)
    return tuple(kept)


# --- Reading one function -------------------------------------------------------------------------


def _has_signature(function: Any) -> bool:
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return True


class _LaterNames(dict[str, Any]):
    """Stands in for names that do not exist yet, such as a model of a later cell."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__()
        self.known = known
        self.asked: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if name in self.known or hasattr(builtins, name):
            raise KeyError(name)
        self.asked.add(name)
        return ForwardRef(name)


class _Reader:
    """Reads the signature of one function: resolved types, and the text they were written as."""

    def __init__(self, function: Callable[..., Any], name: str, *, lenient: bool = False) -> None:
        self.function = function
        self.name = name
        self.lenient = lenient
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise DeclarationError(
                f"operation {name!r}: {function!r} has no signature to read. "
                "Wrap it in a function with typed parameters."
            ) from error
        self.plain = _plain_function(function)
        self.globals: dict[str, Any] = getattr(self.plain, "__globals__", {})
        self.module = self.globals.get("__name__", "")
        self.later: set[str] = set()

    @functools.cached_property
    def source(self) -> dict[str, ast.expr]:
        """The annotations (and, as ``"=name"``, defaults) as written; empty without source."""
        parts = ("__annotations__", "__defaults__", "__kwdefaults__")
        if not any(getattr(self.plain, part, None) for part in parts):
            return {}  # nothing to read, and reading takes a while
        return _signature_source(self.plain)

    def parameters(self) -> list[inspect.Parameter]:
        """Return the parameters that an operation can be given."""
        fixed = getattr(self.function, "keywords", {})  # what a partial gives
        kept = []
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                shape = self._shape_of_rest(parameter)
            else:
                shape = self.shape(parameter)
                if not (shape and parameter.name in fixed):
                    kept.append(parameter)
                continue
            if shape is not None:
                kept.append(parameter)
        return kept

    def _shape_of_rest(self, parameter: inspect.Parameter) -> Shape | None:
        """Return the shape of ``*args``, which takes every value; refuse models in ``**kwargs``."""
        name, positional = parameter.name, parameter.kind is parameter.VAR_POSITIONAL
        where = f"operation {self.name!r}: the parameter {'*' if positional else '**'}{name}"
        kind = get_origin(self.type_of(parameter.annotation))
        if getattr(kind, "__name__", "") == "Unpack" and not self.lenient:
            raise DeclarationError(f"{where} is unpacked. Write its parameters one by one.")
        shape = self.shape(parameter)
        if shape is None or (positional and not shape.many):
            return shape
        if self.lenient:
            return None
        raise DeclarationError(
            f"{where} takes {'lists of models' if positional else 'models by name'}. Take one list "
            f"instead: {name}: list[{shape.model.name}]."
        )

    def type_of(self, annotation: Any) -> Any:
        """Evaluate an annotation that is, or holds, text; unknown names stay a `ForwardRef`."""
        if not isinstance(annotation, str) and not get_args(annotation):
            return annotation
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        names = _LaterNames(self.globals)
        try:
            found = typing.get_type_hints(holder, self.globals, names, include_extras=True)
        except Exception:
            return annotation
        self.later |= names.asked
        return found["it"]

    def shape(self, parameter: inspect.Parameter) -> Shape | None:
        return self.shape_of(self.type_of(parameter.annotation), parameter.name)

    def shape_of(self, type_: Any, where: str, *, gives: bool = False) -> Shape | None:
        if type_ is inspect.Parameter.empty:
            return None
        try:
            return shape_of(type_, gives=gives)
        except ModelError as error:
            if self.lenient:
                return None
            raise ModelError(f"operation {self.name!r}, {where}: {error}") from None

    def port(self, parameter: inspect.Parameter, claimed: ModelRef | Shape | None) -> Port:
        kinds: dict[Any, Passing] = {
            parameter.POSITIONAL_ONLY: "positional",
            parameter.KEYWORD_ONLY: "keyword",
            parameter.VAR_POSITIONAL: "variadic",
        }
        shape = self.shape(parameter)
        model = shape.model if shape else None
        rest = parameter.kind is parameter.VAR_POSITIONAL
        how: Literal["one", "all", "any"] = "all" if shape and (shape.many or rest) else "one"
        optional = bool(shape and shape.optional and not rest)  # *args leaves absent ones out
        if isinstance(claimed, Shape):
            model, how, optional = claimed.model, "all" if claimed.many else "one", claimed.optional
        elif claimed is not None:
            model, how = claimed, "any"
        type_ = self.type_of(parameter.annotation)
        annotation = self.text(parameter.name, type_)
        if rest and annotation is not None:
            annotation = Text(f"list[{annotation.text}]", annotation.names)
        return Port(
            name=parameter.name,
            model=model,
            shape=how,
            optional=optional,
            passing=kinds.get(parameter.kind, "either"),
            type=type_,
            default=parameter.default,
            annotation=annotation,
            default_text=self.default_text(parameter),
            hint="" if model else _newtype_hint(parameter.name, type_),
        )

    def text(self, name: str, type_: Any = None) -> Text | None:
        node = self.source.get(name)
        if node is not None:
            return self._text_of(_unquoted(node, self.globals))
        annotation = self.signature.return_annotation if name == "return" else type_
        if isinstance(annotation, str):
            return self._text_of_code(annotation)
        return self._text_of_type(annotation)

    def text_of_item(self, place: int, type_: Any) -> Text | None:
        """Return how one member of a returned tuple is written."""
        whole = self.text("return")
        node = ast.parse(whole.text, mode="eval").body if whole else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            written = ast.unparse(node.value).rpartition(".")[2] in ("tuple", "Tuple")
            return self._text_of(node.slice.elts[place]) if written else self._text_of_type(type_)
        return self._text_of_type(type_)

    def _text_of_code(self, code: str) -> Text | None:
        try:
            return self._text_of(_unquoted(ast.parse(code, mode="eval").body, self.globals))
        except SyntaxError:
            return None

    def _text_of_type(self, type_: Any) -> Text | None:
        code = "" if type_ is inspect.Parameter.empty else self._code_of_type(type_)
        return self._text_of_code(code) if code else None

    def _code_of_type(self, type_: Any) -> str:
        """Write a type as this module would, for a function without source; "" if it cannot."""
        origin, members = get_origin(type_), get_args(type_)
        if type_ is None or type_ is type(None):
            return "None"
        if origin is None:
            name = getattr(type_, "__name__", "")
            known = self.globals.get(name, getattr(builtins, name, None)) if name else None
            return name if known is type_ else ""
        written = [self._code_of_type(member) for member in members]
        if not all(written):
            return ""
        if origin in (list, tuple):
            return f"{origin.__name__}[{', '.join(written)}]"
        return " | ".join(written) if origin in (typing.Union, types.UnionType) else ""

    def _text_of(self, node: ast.expr) -> Text | None:
        names = []
        for name in _global_names(node):
            # A function called list is no type; its own signature means Python's.
            own = self.globals.get(name, self.plain) is self.plain
            if not (own and hasattr(builtins, name)):
                if name not in self.globals and name not in self.later:
                    return None  # what an enclosing function defines cannot be imported
                names.append((name, "" if self.module in ("__main__", "") else self.module))
        return Text(ast.unparse(node), tuple(names))

    def default_text(self, parameter: inspect.Parameter) -> Text | None:
        if parameter.default is NO_DEFAULT:
            return None
        # A partial has defaults of its own, which its function's source does not know.
        partial = isinstance(self.function, functools.partial)
        node = None if partial else self.source.get(f"={parameter.name}")
        if node is not None and (text := self._text_of(node)) is not None:
            return text
        return _literal_text(parameter.default)

    def returned(self) -> tuple[Any, bool]:
        type_ = self.type_of(self.signature.return_annotation)
        nothing = type_ is inspect.Parameter.empty or type_ is None or type_ is type(None)
        return type_, not nothing


def _literal_text(value: Any) -> Text | None:
    """Return a value as a literal that gives it again; None for what has none."""
    text = repr(value)
    try:
        same = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return Text(text) if type(same) is type(value) and same == value else None


def _newtype_hint(name: str, type_: Any) -> str:
    """Name a bare type that holds data, such as a DataFrame, which makes no edge."""
    label = getattr(type_, "__name__", "")
    return label if label in ("DataFrame", "Series", "ndarray", "Table", "LazyFrame") else ""


#: What was read, by the code object's id: functions that one factory made share their code, and
#: code objects of two versions of a module may be equal though their annotations differ.
_read: dict[int, tuple[weakref.ref[types.CodeType], dict[str, ast.expr]]] = {}


def _signature_source(function: Any) -> dict[str, ast.expr]:
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return _parse_signature(function)
    known = _read.get(id(code))
    if known is None or known[0]() is not code:
        key = id(code)
        known = weakref.ref(code, lambda _: _read.pop(key, None)), _parse_signature(function)
        _read[key] = known
    return known[1]


def _parse_signature(function: Any) -> dict[str, ast.expr]:
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError, IndentationError):
        return {}
    node = tree.body[0] if tree.body else None
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return {}
    found: dict[str, ast.expr] = {}
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    rest = [arguments.vararg] if arguments.vararg is not None else []
    for argument in [*plain, *rest, *arguments.kwonlyargs]:
        if argument.annotation is not None:
            found[argument.arg] = argument.annotation
    if node.returns is not None:
        found["return"] = node.returns
    defaults = arguments.defaults
    for argument, default in zip(plain[len(plain) - len(defaults) :], defaults, strict=True):
        found[f"={argument.arg}"] = default
    for argument, keyword_default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if keyword_default is not None:
            found[f"={argument.arg}"] = keyword_default
    return found


def returns_a_value(function: Any) -> bool:
    """Return whether a ``return`` of the function gives something; False without its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    todo = list(ast.iter_child_nodes(tree.body[0])) if tree.body else []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and not _is_none(node.value):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))
    return False


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _unquoted(node: ast.expr, namespace: Mapping[str, Any]) -> ast.expr:
    """Return an annotation without the quotes of forward references and without `Model` marks."""

    class Unquote(ast.NodeTransformer):
        def visit_Constant(self, constant: ast.Constant) -> ast.expr:
            if not isinstance(constant.value, str):
                return constant
            try:
                inner = ast.parse(constant.value.strip(), mode="eval").body
            except SyntaxError:
                return constant
            return typing.cast(ast.expr, self.visit(inner))

        def visit_Subscript(self, subscript: ast.Subscript) -> ast.expr:
            kind = ast.unparse(subscript.value).rsplit(".", 1)[-1]
            if kind == "Literal":
                return subscript
            if kind == "Annotated" and isinstance(subscript.slice, ast.Tuple):
                first, *extras = subscript.slice.elts
                kept = [extra for extra in extras if not _is_mark(extra, namespace)]
                first = typing.cast(ast.expr, self.visit(first))
                if not kept:
                    return first
                subscript.slice.elts = [first, *kept]
                return subscript
            return typing.cast(ast.expr, self.generic_visit(subscript))

    return typing.cast(ast.expr, Unquote().visit(ast.parse(ast.unparse(node), mode="eval").body))


def _is_mark(node: ast.expr, namespace: Mapping[str, Any]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    found: Any = None
    if isinstance(node.func, ast.Name):
        found = namespace.get(node.func.id)
    elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        found = getattr(namespace.get(node.func.value.id), node.func.attr, None)
    return found is Model


def _global_names(node: ast.expr) -> list[str]:
    bound = {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    }
    bound |= {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
    loads = (n.id for n in ast.walk(node) if isinstance(n, ast.Name))
    return [name for name in dict.fromkeys(loads) if name not in bound]


# --- inputs= and outputs= -------------------------------------------------------------------------


def _as_list(models: Any) -> list[Any]:
    if models is None:
        return []
    if isinstance(models, (set, frozenset)):  # whose own order differs from run to run
        return sorted(models, key=lambda model: (_plain_ref(model).name, _plain_ref(model).key))
    if isinstance(models, (list, tuple)):
        return list(models)
    return [models]


def _declared(**flags: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (flag, tuple(map(_as_text, _as_list(models))))
        for flag, models in flags.items()
        if models is not None
    )


def _as_text(model: Any) -> str:
    if isinstance(model, str):
        return model
    shape = None if isinstance(model, ModelRef) else shape_of(model)
    name = _plain_ref(model).name
    return f"list[{name}]" if shape is not None and shape.many else name


def _plain_ref(model: Any) -> ModelRef:
    shape = None if isinstance(model, (str, ModelRef)) else shape_of(model)
    return shape.model if shape else model_ref(model)


def _claim(
    parameters: Sequence[inspect.Parameter],
    inputs: list[Any],
    reader: _Reader,
    *,
    lenient: bool,
) -> tuple[dict[str, ModelRef | Shape], tuple[ModelRef, ...]]:
    """Pair declared models with unannotated parameters; return what is left as order-only."""
    if not inputs:
        return {}, ()
    claims = [_claim_of(model, reader) for model in inputs]
    free = [p for p in parameters if p.annotation is inspect.Parameter.empty]
    needed = [p for p in free if p.default is NO_DEFAULT] or free
    taken = {shape.model for p in parameters if (shape := reader.shape(p)) is not None}
    loose = [claim for claim in claims if not _among(_ref(claim), taken)]
    if not free:
        return {}, tuple(_ref(claim) for claim in loose)
    if len(claims) == 1:
        return {parameter.name: claims[0] for parameter in needed}, ()
    for several, names in ((claims, needed), (claims, free), (loose, needed), (loose, free)):
        if len(several) == len(names):
            return {p.name: claim for p, claim in zip(names, several, strict=True)}, ()
    if not lenient:
        unannotated = ", ".join(p.name for p in needed)
        raise DeclarationError(
            f"operation {reader.name!r}: inputs= names {len(claims)} models, but "
            f"{len(needed)} parameters have no annotation ({unannotated}). Give one model for "
            "each of them, in order, or annotate the parameters."
        )
    paired = {p.name: claim for p, claim in zip(needed, claims, strict=False)}
    return paired, tuple(_ref(claim) for claim in claims[len(needed) :])


def _claim_of(model: Any, reader: _Reader) -> ModelRef | Shape:
    shape = _given_shape(model, reader)
    if shape is None:
        return model_ref(model)
    return shape if shape.many or shape.optional else shape.model


def _given_shape(model: Any, reader: _Reader | None, *, gives: bool = False) -> Shape | None:
    """Return what one of ``inputs=`` or ``outputs=`` says, ``"list[Raw]"`` being what it means."""
    where = "outputs=" if gives else "inputs="
    if isinstance(model, str):
        if reader is None or model.strip().isidentifier():
            return None  # a name means the model of that name, wherever it is defined
        model = reader.type_of(model)
    if isinstance(model, (str, ModelRef)):
        return None
    return reader.shape_of(model, where, gives=gives) if reader else shape_of(model, gives=gives)


def _ref(claim: ModelRef | Shape) -> ModelRef:
    return claim.model if isinstance(claim, Shape) else claim


def _among(model: ModelRef, taken: Iterable[ModelRef]) -> bool:
    return any(
        model.key == other.key if model.key and other.key else model.name == other.name
        for other in taken
    )


def _outputs(
    returned: Any, declared_models: list[Any], reader: _Reader, *, declared: bool, lenient: bool
) -> tuple[Output, ...]:
    inferred = _outputs_of(returned, reader)
    if not declared:
        return inferred
    given = _declared_outputs(declared_models, reader)
    agree = all(_among(o.model, [i.model for i in inferred]) for o in given)
    if inferred and not agree and not lenient:
        says = ", ".join(output.model.name for output in inferred)
        raise DeclarationError(
            f"operation {reader.name!r}: outputs= names "
            f"{', '.join(output.model.name for output in given)}, but the function is annotated to "
            f"return {says}. Make them agree, or leave outputs= out."
        )
    if not inferred or not agree:
        return given
    # The annotation knows more: many or one, and the place in a tuple.
    return tuple(o for o in inferred if _among(o.model, [g.model for g in given]))


def _declared_outputs(models: list[Any], reader: _Reader | None = None) -> tuple[Output, ...]:
    outputs = []
    for place, model in enumerate(models):
        shape = _given_shape(model, reader, gives=True)
        outputs.append(
            Output(
                model=shape.model if shape else model_ref(model),
                many=bool(shape and shape.many),
                sequence=bool(shape and shape.sequence),
                optional=bool(shape and shape.optional),
                index=place if len(models) > 1 else None,
            )
        )
    return tuple(outputs)


def _outputs_of(returned: Any, reader: _Reader) -> tuple[Output, ...]:
    try:
        items = _items(returned)
    except ModelError as error:
        raise ModelError(f"operation {reader.name!r}, return: {error}") from None
    if items is None:
        shape = reader.shape_of(returned, "return", gives=True)
        return (_output(shape, None, reader.text("return")),) if shape is not None else ()
    outputs = []
    for place, member in enumerate(items):
        shape = reader.shape_of(member, "return", gives=True)
        if shape is not None:
            outputs.append(_output(shape, place, reader.text_of_item(place, member)))
    return tuple(outputs)


def _items(returned: Any) -> tuple[Any, ...] | None:
    """Return the members of a returned tuple, each of which may be a model by itself."""
    returned = unaliased(returned)
    if get_origin(returned) is typing.Annotated and not is_model(returned):
        return _items(get_args(returned)[0])
    members = get_args(returned) if get_origin(returned) is tuple else ()
    return None if not members or Ellipsis in members else members


def _output(shape: Shape, index: int | None, text: Text | None) -> Output:
    return Output(
        model=shape.model,
        many=shape.many,
        sequence=shape.sequence,
        optional=shape.optional,
        index=index,
        annotation=text,
    )


# --- Sync and async -------------------------------------------------------------------------------


class SyncAsyncDetector:
    """Tells sync from async functions, and makes either awaitable."""

    @staticmethod
    def is_async(function: Any) -> bool:
        """Return whether calling ``function`` gives a coroutine."""
        while isinstance(function, functools.partial):
            function = function.func
        if inspect.iscoroutinefunction(function):
            return True
        return not inspect.isroutine(function) and inspect.iscoroutinefunction(
            getattr(type(function), "__call__", None)  # noqa: B004 - the method, not whether
        )

    @staticmethod
    def detect_and_wrap(
        function: Callable[..., Any],
    ) -> tuple[Callable[..., Awaitable[Any]], bool]:
        """Return ``(awaitable function, was sync)``; a sync one runs in a thread, context kept."""
        if SyncAsyncDetector.is_async(function):
            return function, False

        @functools.wraps(function)
        async def in_thread(*args: Any, **kwargs: Any) -> Any:
            import asyncio  # a sixth of what loading pulpo takes, where no kernel runs

            given = await asyncio.to_thread(function, *args, **kwargs)
            # A plain wrapper around an async function gives a coroutine.
            return await given if inspect.iscoroutine(given) else given

        return in_thread, True

    @staticmethod
    def get_execution_strategy(function: Any) -> Literal["thread", "process"]:
        """Return where a sync operation runs: what ``--strategy`` says, else ``"thread"``."""
        options = getattr(function, "options", None)
        return getattr(options, "strategy", None) or "thread"
