"""What the flows of this export share: threads, references, order, many, the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import copy
import ctypes
import functools
import hashlib
import inspect
import itertools
import json
import multiprocessing
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import cloudpickle
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_SERVER_LEVEL,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task
from prefect.utilities.annotations import opaque, unmapped
from prefect.utilities.callables import cloudpickle_wrapped_call
from prefect.utilities.engine import get_state_for_result, link_state_to_flow_run_result
from pydantic import ConfigDict, TypeAdapter, ValidationError, WrapValidator
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

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
    interrupted: list[int] = []
    lock = threading.Lock()

    def call() -> Any:
        with lock:
            thread.append(threading.get_ident())
        try:
            return context.run(function, *args, **kwargs)
        finally:
            with lock:
                thread.clear()
            if interrupted:
                _raise_what_is_due()

    future = asyncio.get_running_loop().run_in_executor(THREADS, call)
    try:
        given = await future
    except asyncio.CancelledError:
        with lock:
            for ident in thread:
                interrupted.append(ident)
                _raise_in(ident)
        raise
    # A plain wrapper around an async function gives a coroutine.
    return await given if inspect.iscoroutine(given) else given


def _raise_in(ident: int) -> None:
    """Raise `Interrupted` in a thread at its next line."""
    error = ctypes.py_object(Interrupted)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), error)


def _raise_what_is_due() -> None:
    """Let an interrupt that came too late hit this function, and not what the thread does next.

    To take it back, by NULL, would leave Python 3.11 looking for it for ever, at every call:
    slower, and without end under a profiler or a debugger.
    """
    try:
        _raise_in(threading.get_ident())
        while True:
            pass
    except Interrupted:
        pass


@functools.cache
def _processes() -> ProcessPoolExecutor:
    # Ctrl-C reaches all processes of a terminal's, or a kernel's, group: those that wait for work
    # would end, with a traceback each.
    return ProcessPoolExecutor(
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


def _interruptible(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call ``function``, which Ctrl-C ends, in a process that else does not mind it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(*args, **kwargs)
    finally:
        signal.signal(signal.SIGINT, before)


async def in_process(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a sync function in another process, for work that keeps a core busy."""
    call = cloudpickle_wrapped_call(_interruptible, function, *args, **kwargs)
    try:
        given = await asyncio.get_running_loop().run_in_executor(_processes(), call)
    except BrokenProcessPool:
        _processes.cache_clear()  # a pool that lost a process takes no more work
        raise
    return cloudpickle.loads(given)


def code_of(operations: Mapping[str, Callable[..., Any]], name: str, /) -> CachePolicy:
    """Keep cached results apart by operation, and forget them when code changes that it may use.

    That is all of ``operations.py``, with the modules beside this export that are imported.
    """

    def key(context: Any, arguments: Any) -> str:
        told = getattr(operations, "code", None)  # a notebook knows what each of them uses
        return f"{name}\n{told(name) if told else _code_beside()}"

    return CachePolicy.from_cache_key_fn(key)


@functools.cache
def _code_beside() -> str:
    flows = Path(__file__).resolve().parent
    root = flows.parents[1]
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    digest = hashlib.sha256()
    for path in sorted(Path(file).resolve() for file in files if file.endswith(".py")):
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        own = path.is_relative_to(root) and path.parent != flows and not installed
        if own and path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


# --- Data by reference ---------------------------------------------------------------------------


class Ref:
    """Carries data between flows by reference: Prefect does not walk, copy or send it."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


def _unwrap(value: Any, validate: Callable[[Any], Any]) -> Any:
    return value.value if isinstance(value, Ref) else validate(value)


class _ByReference(WrapValidator):
    """Validates what is no `Ref`, as far as pydantic knows the type."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        def known(type_: Any) -> Any:
            try:
                return handler(type_)
            except PydanticUserError:  # typing's TypedDict, before Python 3.12
                is_dict = isinstance(type_, type) and issubclass(type_, dict)
                return handler(dict[str, Any] if is_dict else Any)

        return super().__get_pydantic_core_schema__(source, known)  # type: ignore[arg-type]


#: Marks a flow parameter that a parent flow passes as a `Ref`; what a person gives is validated.
by_reference = _ByReference(_unwrap)

_subflow: contextvars.ContextVar[Flow[..., Any] | None] = contextvars.ContextVar(
    "subflow", default=None
)


async def subflow(flow: Flow[..., Any], /, **parameters: Any) -> Any:
    """Await ``flow`` as a child of the running flow; what it returns comes by reference."""
    data = [opaque(value.value) for value in parameters.values() if isinstance(value, Ref)]
    token = _subflow.set(flow)
    try:
        # Prefect looks into no reference: by waiting for what is there its graph has the edges.
        result = await flow(**parameters, wait_for=data or None)
    finally:
        _subflow.reset(token)
    if not isinstance(result, Ref):
        return result
    if known := get_state_for_result(result):
        link_state_to_flow_run_result(known[0], result.value)
    return result.value


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
    for failure in failures[1:4]:
        failures[0].add_note(f"Another one of the same flow failed too: {failure!r}")
    if len(failures) > 4:
        failures[0].add_note(f"And {len(failures) - 4} more.")
    if failures:
        raise failures[0]
    return results


def state_of(task: Task[..., Any]) -> Callable[..., Awaitable[State[Any]]]:
    """Return an async function that calls ``task`` and gives its state, to wait for.

    For an operation that returns nothing: Prefect knows a value again, but not None.
    """

    async def call(**given: Any) -> State[Any]:
        state: State[Any] = await task(**given, return_state=True)
        await state.aresult()  # raises what the operation raised
        return state

    return call


class NotReached(Exception):
    """Something that this operation needs has failed."""


class Started:
    """An operation, or a subflow, that runs as soon as what it needs is there."""

    def __init__(
        self, call: asyncio.Task[Any], path: tuple[Callable[[Any], Any], ...] = ()
    ) -> None:
        self.call = call
        self.path = path

    def __getitem__(self, key: Any) -> Started:
        return self.then(lambda value: _resolved(value)[key])

    def then(self, function: Callable[[Any], Any]) -> Started:
        """Return the same, with ``function`` applied to the value when it is there."""
        return Started(self.call, (*self.path, function))

    async def value(self) -> Any:
        """Wait for the value; raise `NotReached` when there will be none."""
        await asyncio.wait([self.call])
        if self.call.cancelled() or self.call.exception() is not None:
            raise NotReached from None
        return self._value()

    def _value(self) -> Any:
        return functools.reduce(lambda value, step: step(value), self.path, self.call.result())

    def result(self) -> Any:
        """Return the value; to be used after `settled`."""
        return _resolved(self._value())


#: What a list that stands in a call may hold beside values.
_LATER = (opaque, Started, PrefectFuture)


async def _arrived(value: Any) -> Any:
    if isinstance(value, Started):
        return await value.value()
    if isinstance(value, Several):
        joined = value.join([_resolved(item) for item in await _all_arrived(value.items)])
        return linked(joined) if value.linked else joined
    if isinstance(value, (opaque, unmapped)):
        return value.rewrap(await _arrived(value.unwrap()))
    if isinstance(value, Ref):
        return Ref(_resolved(await _arrived(value.value)))
    if isinstance(value, list) and any(isinstance(item, _LATER) for item in value):
        return await _all_arrived(value)
    if isinstance(value, PrefectFuture):
        await _ended([value])
        if not value.state.is_completed():
            raise NotReached
    return value


async def _all_arrived(values: Sequence[Any]) -> list[Any]:
    """Wait for all, also when one is not reached: nothing is waited for when the flow has ended."""
    arrived: list[Any] = []
    missed: NotReached | None = None
    for value in values:
        try:
            arrived.append(await _arrived(value))
        except NotReached as error:
            missed = error
    if missed is not None:
        raise missed
    return arrived


def start(
    function: Callable[..., Any], /, *args: Any, wait_for: Sequence[Any] = (), **kwargs: Any
) -> Started:
    """Call a function as soon as its arguments, and all of ``wait_for``, are there."""

    async def run() -> Any:
        arrived = await _all_arrived([*wait_for, *kwargs.values()])
        others = arrived[: len(wait_for)]
        ready = dict(zip(kwargs, arrived[len(wait_for) :], strict=True))
        if others and function is not subflow:
            ready["wait_for"] = list(_known(others))
        return await _called(functools.partial(function, *args), ready)

    return Started(asyncio.create_task(run()))


def _known(values: Sequence[Any]) -> Iterator[Any]:
    """Give the futures and states among what was waited for, by which Prefect knows a task."""
    for value in values:
        if isinstance(value, list):
            yield from _known(value)
        elif isinstance(value, (PrefectFuture, State, opaque)):
            yield value


async def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what ``function`` gives: a value, or a future that has ended well."""
    called = function(**arguments)
    if not isinstance(called, PrefectFuture):
        return await called
    await _ended([called])
    called.result()  # raises what the operation raised
    return called


async def settled(*started: Started | PrefectFuture[Any]) -> None:
    """Wait until all of them have ended; raise the first failure, if there was one."""
    futures = [item for item in started if isinstance(item, PrefectFuture)]
    calls = [item.call for item in started if isinstance(item, Started)]
    if futures:
        calls.append(asyncio.create_task(_ended(futures)))
    try:
        await asyncio.wait(calls)
    except asyncio.CancelledError:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        raise
    ended = [asyncio.CancelledError() if c.cancelled() else c.exception() for c in calls]
    ended += [_failure(future) for future in futures]
    finished([error for error in ended if error is not None and not isinstance(error, NotReached)])


class Several:
    """Several results for one ``list`` parameter: many flattened, absent ones left out."""

    def __init__(self, *items: Any, many: Sequence[int] = (), optional: Sequence[int] = ()) -> None:
        self.items = items
        self.many = many
        self.optional = optional
        self.linked = False

    def join(self, values: Sequence[Any]) -> list[Any]:
        """Return the values as one list."""
        joined: list[Any] = []
        for place, value in enumerate(values):
            if place not in self.many:
                value = [value]
            else:
                value = _sequence(value, "several lists are joined")
            if place in self.optional:
                value = [item for item in value or () if item is not None]
            joined.extend(value)
        return joined


def several(*items: Any, many: Sequence[int] = (), optional: Sequence[int] = ()) -> Any:
    """Return the items as one list, which is made later when one of them is still running.

    Items at the places ``many`` are flattened; those at ``optional`` are left out when None.
    """
    joined = Several(*items, many=many, optional=optional)
    later = any(isinstance(item, (Started, PrefectFuture)) for item in items)
    return joined if later else joined.join(items)


# --- Task runners ---------------------------------------------------------------------------------


class RayOptions(dict[str, Any]):
    """Options for ``ray.init``, which writes into what it gets: every run has a copy of its own."""

    def copy(self) -> RayOptions:
        """Return a copy of all of it."""
        return copy.deepcopy(self)


def ray_options() -> RayOptions:
    """Return the options by which Ray's workers, on whatever machine, get this package.

    Without them they import from the flow's own folder and the working directory only.
    """
    if "__file__" not in globals():  # in a notebook: functions travel themselves
        return RayOptions()
    folder = Path(__file__).resolve().parents[1]
    return RayOptions(runtime_env={"py_modules": [str(folder)]})


async def _ended(futures: Sequence[PrefectFuture[Any]]) -> None:
    """Wait in a thread until all futures have ended, however."""

    def wait() -> None:
        for future in futures:
            future.wait()

    await asyncio.get_running_loop().run_in_executor(THREADS, wait)


def _failure(future: PrefectFuture[Any]) -> BaseException | None:
    """Return what an operation raised; None when it did not, or was never started."""
    state = future.state
    if state.is_completed() or state.is_pending():
        return None
    try:
        future.result()
    except BaseException as error:
        return error
    return None


def _resolved(value: Any) -> Any:
    """Return the value of a future that has ended; those in a list too."""
    if isinstance(value, list) and any(isinstance(item, PrefectFuture) for item in value):
        return [_resolved(item) for item in value]
    return value.result() if isinstance(value, PrefectFuture) else value


def part(pair: Any, index: int) -> Any:
    """Return one item of what an operation gives, when it is there."""
    if not isinstance(pair, PrefectFuture):
        return pair[index]
    value = asyncio.create_task(_value_of(pair))
    # Who needs it hears of a failure from the future; asyncio complains if nobody looks here.
    value.add_done_callback(lambda call: call.cancelled() or call.exception())
    return Started(value)[index]


async def _value_of(future: PrefectFuture[Any]) -> Any:
    return (await _arrived(future)).result()


# --- Many: once per element -----------------------------------------------------------------------

#: Told what becomes of an operation that runs once per element: that it began (with how many), of
#: each element that it ended (with an error or None), that all did (with the results, or an error).
watcher: contextvars.ContextVar[Callable[[str, str, Any], None] | None] = contextvars.ContextVar(
    "watcher", default=None
)


def linked(values: Any) -> Any:
    """Return the results of several calls so that Prefect knows each of them again.

    Beyond a thousand that would take longer than the calls.
    """
    if isinstance(values, Started):
        return values.then(linked)
    if isinstance(values, Several):
        values.linked = True
        return values
    if len(values) > 1000:
        return _light(values)
    return [_light(value) for value in values]


def _light(value: Any) -> Any:
    """Return an argument into which Prefect does not look, but by which it knows its task."""
    run = FlowRunContext.get()
    runner = type(run.flow.task_runner).__module__ if run is not None and run.flow else ""
    # Dask and Ray take an annotation for the tuple that it is.
    return value if runner.startswith(("prefect_dask", "prefect_ray")) else opaque(value)


def mapped(
    task: Callable[..., Any],
    /,
    *,
    max_concurrency: int | None = None,
    on_error: str = "fail",
    parts: int = 0,
    flatten: Sequence[int] = (),
) -> Callable[..., Awaitable[Any]]:
    """Return an async function that calls ``task`` once per element of its arguments, in step.

    As with Prefect's ``task.map``, an argument in ``unmapped`` is the same for all.

    Parameters
    ----------
    task
        A task, or its ``submit``.
    max_concurrency
        How many elements are worked on at a time; all of them when left out.
    on_error
        ``"fail"``: the first failure is raised when all elements have ended. ``"skip"``: elements
        that failed are left out.
    parts
        The number of items of the tuples that the task returns; what comes is a tuple of lists.
    flatten
        The items (or 0, without ``parts``) that are lists, and are made one.
    """
    name: str = getattr(task, "__self__", task).name  # type: ignore[union-attr]

    async def call(wait_for: Sequence[Any] = (), **given: Any) -> Any:
        wait_for = [*wait_for, *(v for v in given.values() if isinstance(v, PrefectFuture))]
        each = [key for key, value in given.items() if not isinstance(value, unmapped)]
        rows = _rows(name, given)
        tell = watcher.get() or (lambda *what: None)
        tell(name, "began", len(rows))
        gate = asyncio.Semaphore(max_concurrency or len(rows) or 1)
        order = {"wait_for": wait_for} if wait_for else {}

        async def one(place: int, row: dict[str, Any]) -> Any:
            async with gate:
                try:
                    called = await _called(task, {**row, **order})
                except Exception as error:
                    tell(name, "element", error)
                    at = f"element {place + 1} of {len(rows)}"
                    error.add_note(f"{name} was at {at}: {_brief(row, each)}")
                    raise
            tell(name, "element", None)
            return called

        ended = await asyncio.gather(
            *(one(place, row) for place, row in enumerate(rows)), return_exceptions=True
        )
        if on_error == "skip":
            skipped = [each for each in ended if isinstance(each, Exception)]
            for error in skipped:
                _log_skipped(error)
            ended = [each for each in ended if not isinstance(each, Exception)]
        try:
            finished(ended)
        except Exception as error:
            tell(name, "failed", error)
            raise
        results = _gathered(ended, parts, flatten)
        tell(name, "ended", _resolved(results))
        return results

    return call


def _rows(name: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments of each call."""
    same = {key: value.unwrap() for key, value in given.items() if isinstance(value, unmapped)}
    lists = {
        key: list(_sequence(_resolved(value), f"{name} takes each of {key!r}"))
        for key, value in given.items()
        if key not in same
    }
    sizes = {len(each) for each in lists.values()}
    if len(sizes) > 1:
        told = ", ".join(f"{len(each)} of {key!r}" for key, each in lists.items())
        raise ValueError(f"{name} takes its elements in step, but there are {told}.")
    return [
        {**{key: _light(value) for key, value in zip(lists, row, strict=True)}, **same}
        for row in zip(*lists.values(), strict=True)
    ]


def _sequence(value: Any, why: str) -> Sequence[Any]:
    """Return several values; a text, a dict or a generator is taken for a mistake."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    raise TypeError(
        f"{why}, and a {type(value).__name__} is no list: what gives it has to return a list"
    )


def _gathered(results: list[Any], parts: int, flatten: Sequence[int]) -> Any:
    if not parts:
        return _joined(_resolved(results)) if flatten else results
    columns = [[row[place] for row in _resolved(results)] for place in range(parts)]
    return tuple(
        _joined(column) if place in flatten else column for place, column in enumerate(columns)
    )


def _joined(lists: Sequence[Any]) -> list[Any]:
    why = "the results of each element are joined"
    return list(itertools.chain.from_iterable(_sequence(each, why) for each in lists))


def _log_skipped(error: Exception) -> None:
    where = error.__notes__[-1]
    with suppress(MissingContextError):
        get_run_logger().warning("Skipped: %s: %r", where, error)


def _brief(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    told = []
    for key in keys:
        value = row[key]
        text = repr(_resolved(value.unwrap() if isinstance(value, opaque) else value))
        told.append(f"{key}={text if len(text) <= 80 else text[:79] + '…'}")
    return ", ".join(told)


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
    with quiet_server(in_processes=not isinstance(flow.task_runner, ThreadPoolTaskRunner)):
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
def quiet_server(*, in_processes: bool = False) -> Iterator[None]:
    """Give Prefect's own temporary server what it needs, when no server is configured.

    Its database is in memory, since a SQLite file collides under concurrent subflows; it has two
    minutes to start; and it sends nothing anywhere. Tasks that run ``in_processes`` of their own
    are told where it is: each of those would start another one.
    """
    if PREFECT_API_URL.value():
        yield
        return
    with temporary_settings(
        {
            PREFECT_LOGGING_TO_API_ENABLED: False,  # they are printed, and the server ends too
            # Its services complain when it ends, since they have no database any more.
            PREFECT_LOGGING_SERVER_LEVEL: "CRITICAL",
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_DATABASE_CONNECTION_URL: "sqlite+aiosqlite:///:memory:",
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    ):
        if not in_processes:
            yield
            return
        from prefect.server.api.server import SubprocessASGIServer  # it takes seconds

        server = SubprocessASGIServer()
        with server, temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
