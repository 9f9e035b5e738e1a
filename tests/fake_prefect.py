"""A stand-in for Prefect, to run generated code by the thousand: what it needs, and no more."""

from __future__ import annotations

import contextvars
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Annotated, Any, get_args, get_origin


class FlowRunContext:
    running: contextvars.ContextVar[FlowRunContext | None] = contextvars.ContextVar(
        "running", default=None
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    @classmethod
    def get(cls) -> FlowRunContext | None:
        return cls.running.get()


class Flow:
    def __class_getitem__(cls, _: Any) -> type[Flow]:
        return cls

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.fn = function
        self.name = name

    async def __call__(self, *args: Any, wait_for: Any = None, **given: Any) -> Any:
        assert not args
        inspect.signature(self.fn).bind(**given)
        token = FlowRunContext.running.set(FlowRunContext(self))
        try:
            return await self.fn(**{name: self.taken(name, given[name]) for name in given})
        finally:
            FlowRunContext.running.reset(token)

    def taken(self, name: str, value: Any) -> Any:
        hint = inspect.signature(self.fn, eval_str=True).parameters[name].annotation
        if get_origin(hint) is Annotated:
            (mark,) = get_args(hint)[1:]
            return mark.func(value, lambda given: given)
        assert type(value).__name__ != "Ref", f"{name} is no parameter by reference"
        return value


class Task:
    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        assert "wait_for" not in inspect.signature(function).parameters
        self.fn = function
        self.options = options

    async def __call__(self, *args: Any, wait_for: Any = None, **given: Any) -> Any:
        assert not args
        inspect.signature(self.fn).bind(**given)
        return await self.fn(
            **{name: v.unwrap() if isinstance(v, opaque) else v for name, v in given.items()}
        )


class opaque(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __new__(cls, value: Any) -> opaque:
        return super().__new__(cls, (value,))

    def unwrap(self) -> Any:
        return self[0]


class Policy:
    def __add__(self, other: Any) -> Policy:
        return self

    @classmethod
    def from_cache_key_fn(cls, function: Any) -> Policy:
        return cls()


def _module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


_SETTINGS = (
    "PREFECT_API_URL",
    "PREFECT_SERVER_ANALYTICS_ENABLED",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
    "temporary_settings",
)
MODULES = {
    module.__name__: module
    for module in (
        _module(
            "prefect",
            flow=lambda *, name: lambda function: Flow(function, name),
            task=lambda **options: lambda function: Task(function, options),
        ),
        _module("prefect.context", FlowRunContext=FlowRunContext),
        _module("prefect.flows", Flow=Flow),
        _module("prefect.cache_policies", NO_CACHE=Policy(), INPUTS=Policy(), CachePolicy=Policy),
        _module("prefect.settings", **dict.fromkeys(_SETTINGS)),
        _module("prefect.utilities"),
        _module("prefect.utilities.annotations", opaque=opaque),
        _module("prefect.utilities.callables", cloudpickle_wrapped_call=None),
    )
}


@contextmanager
def standing_in(**others: types.ModuleType) -> Iterator[None]:
    """Put the stand-in, and nothing else of Prefect or of an export, where imports look."""
    tops = {"prefect", "run_cache"}
    theirs = {name: m for name, m in sys.modules.items() if name.partition(".")[0] in tops}
    for name in theirs:
        del sys.modules[name]
    sys.modules.update(MODULES)
    sys.modules.update(others)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(theirs)


def _runtime() -> types.ModuleType:
    """Load the helper module of exports, once."""
    text = resources.files("pulpo.backends").joinpath("prefect_runtime.py").read_text("utf-8")
    made = types.ModuleType("run_cache.orchestration")
    made.__path__ = []
    with standing_in():
        exec(compile(text, "<runtime>", "exec", dont_inherit=True), vars(made))
    return made


RUNTIME = _runtime()


def load(texts: Mapping[str, str], operations: Mapping[str, Any]) -> dict[str, Flow]:
    """Run generated modules, given in an order in which they can be imported; return the flows."""
    package = _module("run_cache", __path__=[])
    own = _module("run_cache.operations", **operations)
    flows: dict[str, Flow] = {}
    with standing_in(
        **{
            "run_cache": package,
            "run_cache.operations": own,
            "run_cache.orchestration": RUNTIME,
        }
    ):
        for name, text in texts.items():
            full = f"run_cache.orchestration.{name}"
            made = types.ModuleType(full)
            made.__package__ = "run_cache.orchestration"
            exec(compile(text, f"<{name}>", "exec", dont_inherit=True), vars(made))
            sys.modules[full] = made
            flows[name] = vars(made).get(name)  # type: ignore[assignment]
        vars(RUNTIME).pop("__warningregistry__", None)
    return flows
