"""A stand-in for Prefect, to run generated code by the thousand: what it needs, and no more.

It takes every liberty that Prefect may take: tasks wait a while before and after they run, and
what was submitted runs in any order.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from random import Random
from typing import Annotated, Any, get_args, get_origin

#: Decides on what is open; seeded by who wants the same again.
RANDOM = Random()
TAKING = threading.Lock()
LOGGER = logging.Logger("fake", level=logging.CRITICAL)


class FlowRunContext:
    running: contextvars.ContextVar[FlowRunContext | None] = contextvars.ContextVar(
        "running", default=None
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.submitted: list[PrefectFuture] = []

    @classmethod
    def get(cls) -> FlowRunContext | None:
        return cls.running.get()


class Generic:
    def __class_getitem__(cls, _: Any) -> Any:
        return cls


class Flow(Generic):
    def __init__(self, function: Callable[..., Any], name: str, task_runner: Any = None) -> None:
        self.fn = function
        self.name = name
        self.task_runner = task_runner
        self.signature = inspect.signature(function)

    @cached_property
    def hints(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.fn, eval_str=True).parameters

    async def __call__(self, *args: Any, wait_for: Any = None, **given: Any) -> Any:
        assert not args
        self.signature.bind(**given)
        for name, parameter in self.hints.items():
            if name not in given and parameter.default is None:
                assert takes_none(parameter.annotation), f"Prefect refuses the default of {name}"
        token = FlowRunContext.running.set(FlowRunContext(self))
        try:
            return await self.fn(**{name: self.taken(name, given[name]) for name in given})
        finally:
            FlowRunContext.running.reset(token)

    def taken(self, name: str, value: Any) -> Any:
        hint = self.hints[name].annotation
        if get_origin(hint) is Annotated:
            (mark,) = get_args(hint)[1:]
            return mark.func(value, lambda given: given)
        assert type(value).__name__ != "Ref", f"{name} is no parameter by reference"
        return value


def takes_none(hint: Any) -> bool:
    type_ = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return type_ in (Any, inspect.Parameter.empty) or type(None) in get_args(type_)


class State(Generic):
    """What became of a call: a value, an error, or neither when it could not start."""

    def __init__(self, value: Any = None, error: Any = None, *, started: bool = True) -> None:
        self.value, self.error, self.started = value, error, started

    def is_completed(self) -> bool:
        return self.started and self.error is None

    def is_pending(self) -> bool:
        return not self.started

    def result(self) -> Any:
        assert self.started
        if self.error is not None:
            raise self.error
        return self.value

    async def aresult(self) -> Any:
        return self.result()


class PrefectFuture(Generic):
    """A call that was submitted; it runs when somebody waits for any of the same flow."""

    waiting = threading.local()

    def __init__(self, call: Callable[[], State], others: list[PrefectFuture]) -> None:
        self.call = call
        self.known: State | None = None
        self.lock = threading.Lock()
        self.others = others
        others.append(self)

    def wait(self) -> None:
        if not getattr(self.waiting, "here", False):
            self.waiting.here = True
            try:
                while (other := any_of(self.others)) is not None:
                    other.run()
            finally:
                self.waiting.here = False
        self.run()

    def run(self) -> None:
        with self.lock:
            if self.known is None:
                self.known = self.call()

    @property
    def state(self) -> State:
        assert self.known is not None, "somebody looks at a future that has not ended"
        return self.known

    def result(self) -> Any:
        self.wait()
        return self.state.result()


def any_of(futures: list[PrefectFuture]) -> PrefectFuture | None:
    with TAKING:
        return futures.pop(RANDOM.randrange(len(futures))) if futures else None


class NotReady(Exception):
    pass


def resolve(value: Any) -> Any:
    """Do what Prefect does with an argument: futures and states become their values."""
    if isinstance(value, (opaque, unmapped)):
        value = value.unwrap()
        if isinstance(value, list):
            return value
    if isinstance(value, list):
        return [resolve(item) for item in value]
    if isinstance(value, PrefectFuture):
        value.wait()
        value = value.state
    if isinstance(value, State):
        if not value.is_completed():
            raise NotReady
        return value.value
    return value


class Task(Generic):
    """Knows how many of its calls went on at the same time, at most."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.signature = inspect.signature(function)
        assert "wait_for" not in self.signature.parameters
        self.fn = function
        self.options = options
        self.name = options.get("name", "")
        self.lock = threading.Lock()
        self.now = self.most = 0

    def count(self, more: int) -> None:
        with self.lock:
            self.now += more
            self.most = max(self.most, self.now)

    async def __call__(
        self, *args: Any, wait_for: Any = None, return_state: bool = False, **given: Any
    ) -> Any:
        ready = self.ready(args, wait_for, given)
        self.count(1)
        try:
            await a_while()
            result = await self.fn(**ready)
            await a_while()
        except Exception as error:
            if not return_state:
                raise
            return State(error=error)
        finally:
            self.count(-1)
        return State(result) if return_state else result

    def ready(self, args: Any, wait_for: Any, given: dict[str, Any]) -> dict[str, Any]:
        assert not args
        self.signature.bind(**given)
        for other in wait_for or ():
            assert isinstance(other, (opaque, State, PrefectFuture)), other
            resolve(other)
        ready = {name: resolve(value) for name, value in given.items()}
        for name, value in ready.items():
            items = value if isinstance(value, list) else [value]
            for item in items:
                assert not isinstance(item, (Generic, Annotation)), (name, value)
                assert type(item).__name__ not in ("Started", "Several", "Ref"), (name, value)
        return ready

    def submit(self, *args: Any, wait_for: Any = None, **given: Any) -> PrefectFuture:
        running = FlowRunContext.get()
        assert running is not None
        assert running.flow.task_runner is not None
        if isinstance(running.flow.task_runner, Remote):
            items = [item for v in given.values() for item in (v if isinstance(v, list) else [v])]
            assert not any(isinstance(item, Annotation) for item in items), given
        self.count(1)

        def call() -> State:
            try:
                ready = self.ready(args, wait_for, given)
                result = self.fn(**ready)
                return State(awaited(result) if inspect.iscoroutine(result) else result)
            except NotReady:
                return State(started=False)
            except Exception as error:
                return State(error=error)
            finally:
                self.count(-1)

        return PrefectFuture(call, running.submitted)


def awaited(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine that waits for nothing gives; an event loop would cost more."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("an operation of a random session waits")


async def a_while() -> None:
    for _ in range(RANDOM.randrange(3)):
        await asyncio.sleep(0)


class Annotation(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __new__(cls, value: Any) -> Annotation:
        return super().__new__(cls, (value,))

    def unwrap(self) -> Any:
        return self[0]

    def rewrap(self, value: Any) -> Annotation:
        return type(self)(value)


class opaque(Annotation):
    __slots__ = ()


class unmapped(Annotation):
    __slots__ = ()


class Runner:
    def __init__(self, **options: Any) -> None:
        self.options = options


class Remote(Runner):
    """Dask's and Ray's: an annotation arrives there as the tuple that it is."""

    __module__ = "prefect_dask"


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
    "PREFECT_LOGGING_SERVER_LEVEL",
    "PREFECT_LOGGING_TO_API_ENABLED",
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
            flow=lambda *, name, task_runner=None: (
                lambda function: Flow(function, name, task_runner)
            ),
            task=lambda **options: lambda function: Task(function, options),
        ),
        _module("prefect.context", FlowRunContext=FlowRunContext),
        _module("prefect.flows", Flow=Flow),
        _module("prefect.tasks", Task=Task),
        _module("prefect.futures", PrefectFuture=PrefectFuture),
        _module("prefect.client"),
        _module("prefect.client.schemas"),
        _module("prefect.client.schemas.objects", State=State),
        _module("prefect.exceptions", MissingContextError=LookupError),
        _module("prefect.logging", get_run_logger=lambda: LOGGER),
        _module("prefect.task_runners", ThreadPoolTaskRunner=Runner, ProcessPoolTaskRunner=Runner),
        _module("prefect_dask", DaskTaskRunner=Remote),
        _module("prefect_ray", RayTaskRunner=Remote),
        _module("prefect.cache_policies", NO_CACHE=Policy(), INPUTS=Policy(), CachePolicy=Policy),
        _module("prefect.settings", **dict.fromkeys(_SETTINGS)),
        _module("prefect.utilities"),
        _module("prefect.utilities.annotations", opaque=opaque, unmapped=unmapped),
        _module(
            "prefect.utilities.engine",
            get_state_for_result=lambda value: None,
            link_state_to_flow_run_result=None,
        ),
        _module("prefect.utilities.callables", cloudpickle_wrapped_call=None),
    )
}


@contextmanager
def standing_in(**others: types.ModuleType) -> Iterator[None]:
    """Put the stand-in, and nothing else of Prefect or of an export, where imports look."""
    tops = {"prefect", "prefect_dask", "prefect_ray", "run_cache"}
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
