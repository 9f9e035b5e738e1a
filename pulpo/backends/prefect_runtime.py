"""What the flows of this export share: threads, data by reference, order, the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import ctypes
import functools
import inspect
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import cloudpickle
from prefect.cache_policies import CachePolicy
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.utilities.annotations import opaque
from prefect.utilities.callables import cloudpickle_wrapped_call
from pydantic import ConfigDict, TypeAdapter, ValidationError, WrapValidator
from pydantic.errors import PydanticSchemaGenerationError

# --- Sync operations, off the event loop ---------------------------------------------------------

# asyncio's own pool has six threads on a two-core machine, too few for operations that wait.
THREADS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="operation")


class Interrupted(BaseException):
    """Raised inside a sync operation whose task was cancelled or timed out."""


async def in_thread(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a sync function in a thread that keeps the context, so that ``get_run_logger()`` works.

    When the task is cancelled or times out, `Interrupted` is raised in the function at its next
    line; a call that waits inside C code ends only when it returns.
    """
    context = contextvars.copy_context()
    thread: list[int] = []
    lock = threading.Lock()

    def call() -> Any:
        with lock:
            thread.append(threading.get_ident())
        try:
            return context.run(function, *args, **kwargs)
        finally:
            with lock:
                thread.clear()
                # One that came too late must not hit what the thread does next.
                _raise_in(threading.get_ident(), None)

    future = asyncio.get_running_loop().run_in_executor(THREADS, call)
    try:
        return await future
    except asyncio.CancelledError:
        with lock:
            for ident in thread:
                _raise_in(ident, Interrupted)
        raise


def _raise_in(ident: int, error: type[BaseException] | None) -> None:
    """Raise an exception in another thread at its next line; None takes back one still due."""
    given = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), given)


@functools.cache
def _processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))


async def in_process(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a sync function in another process, for work that keeps a core busy."""
    call = cloudpickle_wrapped_call(function, *args, **kwargs)
    try:
        given = await asyncio.get_running_loop().run_in_executor(_processes(), call)
    except BrokenProcessPool:
        _processes.cache_clear()  # a pool that lost a process takes no more work
        raise
    return cloudpickle.loads(given)


def code_of(operations: Mapping[str, Callable[..., Any]], name: str, /) -> CachePolicy:
    """Keep cached results apart by operation, and forget them when its code changes."""

    def key(context: Any, arguments: Any) -> str:
        function = inspect.unwrap(operations[name])
        try:
            code = inspect.getsource(function)
        except (OSError, TypeError):
            code = ""
        return f"{name}\n{code}"

    return CachePolicy.from_cache_key_fn(key)


# --- Data by reference ---------------------------------------------------------------------------


class Ref:
    """Carries data between flows by reference: Prefect does not walk, copy or send it."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


def _unwrap(value: Any, validate: Callable[[Any], Any]) -> Any:
    return value.value if isinstance(value, Ref) else validate(value)


#: Marks a flow parameter that a parent flow passes as a `Ref`; what a person gives is validated.
by_reference = WrapValidator(_unwrap)

_subflow: contextvars.ContextVar[Flow[..., Any] | None] = contextvars.ContextVar(
    "subflow", default=None
)


async def subflow(flow: Flow[..., Any], /, **parameters: Any) -> Any:
    """Await ``flow`` as a child of the running flow; what it returns comes by reference."""
    token = _subflow.set(flow)
    try:
        result = await flow(**parameters)
    finally:
        _subflow.reset(token)
    return result.value if isinstance(result, Ref) else result


def give(value: Any) -> Any:
    """Return a flow's result: by reference to a parent's `subflow` call, else as itself."""
    run = FlowRunContext.get()
    return Ref(value) if run is not None and run.flow is _subflow.get() else value


# --- Order: start when ready, finish what can be finished -----------------------------------------


def finished(results: Sequence[Any]) -> Sequence[Any]:
    """Return what ``asyncio.gather(..., return_exceptions=True)`` gave, or raise the first failure.

    Gathering that way lets independent siblings of a failed operation finish.
    """
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures[1:]:
        failures[0].add_note(f"Another operation of the same flow failed too: {failure!r}")
    if failures:
        raise failures[0]
    return results


class NotReached(Exception):
    """Something that this operation needs has failed."""


class Started:
    """An operation, or a subflow, that runs as soon as what it needs is there."""

    def __init__(self, call: asyncio.Task[Any], path: tuple[Any, ...] = ()) -> None:
        self.call = call
        self.path = path

    def __getitem__(self, key: Any) -> Started:
        return Started(self.call, (*self.path, key))

    async def value(self) -> Any:
        """Wait for the value; raise `NotReached` when there will be none."""
        await asyncio.wait([self.call])
        if self.call.cancelled() or self.call.exception() is not None:
            raise NotReached from None
        return self.result()

    def result(self) -> Any:
        """Return the value; to be used after `settled`."""
        return functools.reduce(lambda value, key: value[key], self.path, self.call.result())


async def _arrived(value: Any) -> Any:
    if isinstance(value, Started):
        return await value.value()
    if isinstance(value, Several):
        return value.join([await _arrived(item) for item in value.items])
    if isinstance(value, opaque):
        return opaque(await _arrived(value.unwrap()))
    if isinstance(value, Ref):
        return Ref(await _arrived(value.value))
    return value


def start(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Started:
    """Call an async function as soon as its arguments are there."""
    return start_after((), function, *args, **kwargs)


def start_after(
    others: Sequence[Started], function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Started:
    """Call an async function as soon as its arguments are there and ``others`` have finished."""

    async def run() -> Any:
        for other in others:
            await other.value()
        ready = {name: await _arrived(value) for name, value in kwargs.items()}
        return await function(*args, **ready)

    return Started(asyncio.create_task(run()))


async def settled(*started: Started) -> None:
    """Wait until all of them have ended; raise the first failure, if there was one."""
    calls = [item.call for item in started]
    try:
        await asyncio.wait(calls)
    except asyncio.CancelledError:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        raise
    ended = [asyncio.CancelledError() if c.cancelled() else c.exception() for c in calls]
    finished([error for error in ended if error is not None and not isinstance(error, NotReached)])


class Several:
    """Several results for one ``list`` parameter: many flattened, absent ones left out."""

    def __init__(self, *items: Any, many: Sequence[int] = (), optional: Sequence[int] = ()) -> None:
        self.items = items
        self.many = many
        self.optional = optional

    def join(self, values: Sequence[Any]) -> list[Any]:
        """Return the values as one list."""
        joined: list[Any] = []
        for place, value in enumerate(values):
            if value is None and place in self.optional:
                continue
            if place in self.many:
                joined.extend(value)
            else:
                joined.append(value)
        return joined


def several(*items: Any, many: Sequence[int] = (), optional: Sequence[int] = ()) -> Any:
    """Return the items as one list, which is made later when one of them is still running.

    Items at the places ``many`` are flattened; those at ``optional`` are left out when None.
    """
    joined = Several(*items, many=many, optional=optional)
    return joined if any(isinstance(item, Started) for item in items) else joined.join(items)


# --- The command line -----------------------------------------------------------------------------


def command_line(flow: Flow[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Run ``flow`` with parameters from the command line, and print what it returns.

    Text, numbers and dates are given as they are, lists and dicts as JSON, models as the path of
    a JSON file.
    """
    parser = argparse.ArgumentParser(
        prog=f"{flow.name}.py", description=inspect.cleandoc(flow.description or "")
    )
    types = get_type_hints(flow.fn, include_extras=True)
    signature = inspect.signature(flow.fn)
    for name, parameter in signature.parameters.items():
        required = parameter.default is parameter.empty
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            required=required,
            default=argparse.SUPPRESS,
            metavar=_metavar(types.get(name)),
            help="required" if required else f"default: {parameter.default!r}",
        )
    given = vars(parser.parse_args(arguments))
    try:
        parameters = {name: _parsed(name, text, types.get(name)) for name, text in given.items()}
    except ValueError as error:
        parser.error(str(error))
    with quiet_server():
        result = asyncio.run(flow(**parameters))
    _print(result)


def _metavar(type_: Any) -> str:
    if get_origin(type_) is Annotated and by_reference in type_.__metadata__:
        return "FILE.json"
    return getattr(type_, "__name__", "VALUE").upper()


def _parsed(name: str, text: str, type_: Any) -> Any:
    flag = f"--{name.replace('_', '-')}"
    if type_ is None or type_ is str:
        return text
    try:
        adapter = _adapter(type_)
    except PydanticSchemaGenerationError as error:
        raise ValueError(f"{flag}: {error}") from None
    path = Path(text)
    is_file = get_origin(type_) is Annotated and by_reference in type_.__metadata__
    try:
        if is_file or (text.endswith(".json") and path.is_file()):
            return adapter.validate_json(path.read_bytes())
        try:
            return adapter.validate_json(text)
        except ValidationError:
            return adapter.validate_python(text)
    except OSError as error:
        raise ValueError(f"{flag}: cannot read {text!r}: {error.strerror}") from None
    except ValidationError as error:
        if error.errors()[0]["type"] == "is_instance_of":
            raise ValueError(
                f"{flag}: {error.errors()[0]['msg']}, which no JSON file can hold. "
                "Run main_flow.py, which makes it, or call this flow from Python."
            ) from None
        why = "; ".join(
            ".".join(map(str, each["loc"])) + (": " if each["loc"] else "") + each["msg"]
            for each in error.errors()[:3]
        )
        raise ValueError(f"{flag}: {text!r} does not fit: {why}") from None


def _adapter(type_: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(type_)  # models bring their own configuration, and accept no other
    except PydanticSchemaGenerationError:
        return TypeAdapter(type_, config=ConfigDict(arbitrary_types_allowed=True))


def _print(result: Any) -> None:
    if isinstance(result, dict):
        for name, value in result.items():
            print(f"{name}: {_shown(value)}")
    elif result is not None:
        print(_shown(result))


def _shown(value: Any) -> str:
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        return str(value)
    return json.dumps(_shortened(dump(mode="json")), indent=2, ensure_ascii=False)


def _shortened(value: Any) -> Any:
    """Return JSON with texts that nobody reads, such as those of pictures, cut short."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and len(value) > 2000:
        return f"{value[:40]}… ({len(value)} characters)"
    return value


@contextmanager
def quiet_server() -> Iterator[None]:
    """Give Prefect's own temporary server what it needs, when no server is configured.

    Its database is in memory, since a SQLite file collides under concurrent subflows; it has two
    minutes to start; and it sends nothing anywhere.
    """
    if PREFECT_API_URL.value():
        yield
        return
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_DATABASE_CONNECTION_URL: "sqlite+aiosqlite:///:memory:",
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    ):
        yield
