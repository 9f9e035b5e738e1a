"""Runs a compiled flow in this process: states, values, cancellation; on Prefect or without."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import copyreg
import ctypes
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import linecache
import logging
import os
import sys
import tempfile
import threading
import time
import types
import weakref
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    NewType,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from .backends.local import exit_error
from .backends.prefect import blocked_error
from .errors import RunError, ServerError, UnknownNameError, did_you_mean
from .models import misfit
from .parameters import (
    LiveNames,
    all_values,
    check_names,
    check_values,
    convert,
    without_usual_none,
)
from .plan import Engine, FlowDefinition, Orchestration
from .prefect_server import KeptServer, PrivateServer, find_kept, shared, turn_to, without_server
from .reuse import Calls, FromRun, FromStorage, Reuse
from .run_logs import Report, Reporter, Reports, Speaker, busy_threads, kept_logs
from .runs import OperationFailedError, OperationRun, OperationState, Run, RunInterrupted
from .seeds import apart_from_the_users
from .threads import Threads

if TYPE_CHECKING:
    from prefect import Flow, Task
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import State, TaskRun

__all__ = [
    "OperationFailedError",
    "OperationRun",
    "Run",
    "RunInterrupted",
    "load_flows",
    "run_flow",
    "run_flow_blocking",
    "start_flow",
    "warm_up",
]

T = TypeVar("T")
OnChange = Callable[[Run], None]

#: Seconds between two looks at the run. An interrupt wakes no idle loop, so this is also how long
#: one may take to be noticed.
_TICK = 0.1
#: Seconds that a cancelled run has to end in; Prefect reports the cancellation meanwhile.
_GRACE = 3.0


# --- Running -------------------------------------------------------------------------------------


async def run_flow(
    orchestration: Orchestration,
    flow: str,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    modules: Mapping[str, str],
    on_change: OnChange | None = None,
    server: PrivateServer | None = None,
    engine: Engine = "prefect",
    reuse: Reuse | None = None,
    storage: FromStorage | None = None,
) -> Run:
    """Run ``flow`` on the running event loop and return what came of it.

    A failing operation does not raise: `Run.raise_for_failure` does.

    Parameters
    ----------
    functions
        The operations, by name.
    namespace
        Where the types in the generated signatures are looked up.
    parameters
        The flow's parameters. A text is converted to the parameter's type; data is passed on as
        the very object.
    modules
        The generated code, as `load_flows` takes it.
    on_change
        Called with the run: at once, in the calling thread, then at most ten times a second when
        something changed, and once when it has ended.
    server
        The private server to use where none is configured and ``pulpo prefect start`` keeps none;
        the process's own by default.
    engine
        ``"local"`` runs the plan without Prefect, which needs neither ``modules`` nor a server.
    reuse
        Where results are taken from, so that operations need not run.
    storage
        Where results are kept; that of ``reuse``, or one that renews what it has.

    Raises
    ------
    UnknownNameError, BlockedFlowError, UsageError, MissingInputError
        Before anything starts.
    ServerError
        When no Prefect server can be reached or started.
    RunInterrupted
        When the run was cancelled; it carries the run.
    """
    job = _Job(orchestration, flow, functions, namespace, parameters, modules, server)
    job.set_engine(engine, reuse, storage)
    with job.under_way(on_change):
        return await job.drive(on_change)


def run_flow_blocking(
    orchestration: Orchestration,
    flow: str,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    modules: Mapping[str, str],
    on_change: OnChange | None = None,
    server: PrivateServer | None = None,
    engine: Engine = "prefect",
    reuse: Reuse | None = None,
    storage: FromStorage | None = None,
) -> Run:
    """Do the same as `run_flow`, from code that cannot await.

    Where a loop runs already, as in a notebook, the flow runs on another one in a thread of its
    own; ``on_change`` is called in this thread all the same.
    """
    job = _Job(orchestration, flow, functions, namespace, parameters, modules, server)
    job.set_engine(engine, reuse, storage)
    with job.under_way(on_change):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            try:
                return asyncio.run(job.drive(on_change))
            except KeyboardInterrupt:
                raise RunInterrupted(job.run) from None
        return _in_other_loop(job, on_change)


def start_flow(
    orchestration: Orchestration,
    flow: str,
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    modules: Mapping[str, str],
    on_change: OnChange | None = None,
    server: PrivateServer | None = None,
    engine: Engine = "prefect",
    reuse: Reuse | None = None,
    storage: FromStorage | None = None,
) -> Run:
    """Do the same as `run_flow` in a thread with a loop of its own, and return the run at once.

    Whatever goes wrong after that stands in the run. ``on_change`` is called in that thread, but
    for the first time. When the process ends, so does the run.

    Raises
    ------
    UnknownNameError, BlockedFlowError, UsageError, MissingInputError, RunError
        Before anything starts; parameters are converted here already.
    """
    job = _Job(orchestration, flow, functions, namespace, parameters, modules, server)
    job.set_engine(engine, reuse, storage)
    check_values(job.definition, functions, namespace, parameters)

    async def main() -> None:
        try:
            await job.drive(on_change)
        except BaseException as error:
            job.broke_off(error)
        finally:
            job.run._over.set()  # asyncio may yet wait for what is left behind

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            job.broke_off(error)
        finally:
            job.run._over.set()

    job.begin(on_change)
    _end_with_the_process(job.run)
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="pulpo-run", daemon=True)
    try:
        thread.start()
    except BaseException:
        job.run.cancel()
        job.run._over.set()
        raise
    return job.run


def _in_other_loop(job: _Job, on_change: OnChange | None) -> Run:
    box: list[Run | BaseException] = []
    changed, ended = threading.Event(), threading.Event()

    def body() -> None:
        try:
            box.append(asyncio.run(job.drive(lambda run: changed.set())))
        except BaseException as error:
            box.append(error)
        finally:
            ended.set()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="pulpo-run", daemon=True)
    try:
        thread.start()
        while not ended.wait(_TICK):
            if changed.is_set() and on_change is not None:
                changed.clear()
                on_change(job.run)
    except KeyboardInterrupt:
        job.run.cancel()
        ended.wait(_GRACE + 1)
        job.run_ended("cancelled")
    if on_change is not None:
        on_change(job.run)
    if job.run.state == "cancelled":
        raise RunInterrupted(job.run)
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


class _Job:
    """One run: checked when made, then driven once."""

    def __init__(
        self,
        orchestration: Orchestration,
        flow: str,
        functions: Mapping[str, Callable[..., Any]],
        namespace: Mapping[str, Any],
        parameters: Mapping[str, Any],
        modules: Mapping[str, str],
        server: PrivateServer | None,
    ) -> None:
        self.definition = _definition(orchestration, flow)
        check_names(orchestration, self.definition, parameters)
        covers = set(self.definition.covers)
        self.run = Run(
            flow, [node.name for node in orchestration.operations if node.name in covers]
        )
        self.engine: Engine = "prefect"
        self.plan = orchestration
        self.options = {node.name: node.options for node in orchestration.operations}
        self.run.runner = orchestration.runner
        self.run._plan = orchestration, self.definition
        self.run._functions = tuple(functions.values())
        self.functions = functions
        self.namespace = namespace
        self.parameters = parameters
        self.modules = modules
        self.server = server or shared()
        self._private = False
        self._kept: KeptServer | None = None
        self._pages = ""
        self._began = 0.0
        self._epoch = 0.0
        self._has_begun_again = False  # which a run does once, when its server ends
        self._reports: Reports | None = None
        self._task_runner: object = None

    def set_engine(self, engine: Engine, reuse: Reuse | None, storage: FromStorage | None) -> None:
        """Say what runs it, where results come from, and where they are kept."""
        self.engine = engine
        self.run._reuse, self.run._storage = reuse, storage
        if engine == "local":
            self.run.runner = "local"

    def begin(self, on_change: OnChange | None) -> None:
        """Tell that there is a run, which somebody may wait for from now on."""
        self.run._over.clear()
        try:
            if on_change is not None:
                on_change(self.run)
        except BaseException:
            self.run._over.set()
            raise

    @contextmanager
    def under_way(self, on_change: OnChange | None) -> Iterator[None]:
        """Begin, and tell those who wait when it is over."""
        self.begin(on_change)
        try:
            yield
        finally:
            self.run._over.set()

    def broke_off(self, error: BaseException) -> None:
        """Note what ended a run that nobody waits for; what `drive` noted already stays."""
        if self.run.state in ("starting", "running"):
            self.run.error = error
            self.run_ended("failed")

    async def drive(self, on_change: OnChange | None) -> Run:
        """Run, while telling ``on_change`` what changes; see `run_flow`."""
        task = asyncio.create_task(self._execute())
        begun = time.monotonic()
        told = self._seen(begun)
        try:
            while not task.done():
                if self.run._has_to_end:
                    raise asyncio.CancelledError
                await asyncio.wait({task}, timeout=_TICK)
                self._read_reports()
                if self._lost_server("running"):
                    goes_on = self._begins_again()
                    if not goes_on:
                        self._blame_server(None)
                    with without_server():  # Prefect's client would try to reach it for minutes
                        await _cancel(task)
                    if not goes_on:
                        return self.run
                    task = asyncio.create_task(self._execute())
                if on_change is None or task.done():
                    continue
                if (now := self._seen(begun)) != told:
                    told = now
                    on_change(self.run)
        except asyncio.CancelledError:
            self._read_reports()  # of what has begun since
            self._let_workers_go()
            await _cancel(task)
            self.run_ended("cancelled")
            raise RunInterrupted(self.run) from None
        finally:
            if not task.done():
                task.cancel()
            if on_change is not None:
                on_change(self.run)
        task.result()
        return self.run

    def _seen(self, begun: float) -> str:
        """Return what one sees of the run: when that changes it is told."""
        run = self.run
        states = [(each.state, each.ended) for each in run.operations.values()]
        # Time is shown, too; and that it starts is worth a word when that takes longer.
        is_slow = run.state == "starting" and time.monotonic() - begun > 1
        return f"{run.state}{states}{int(run.elapsed())}{is_slow}"

    async def _execute(self) -> None:
        try:
            await (self._run_locally() if self.engine == "local" else self._run_on_prefect())
        except Exception as error:  # nothing has run
            self.run.error = error
            self.run_ended("failed")
            raise

    async def _run_on_prefect(self) -> None:
        await _aside(_import_prefect)
        loaded = _load(self.modules, self.functions, self.namespace, self.run.flow)
        flow = loaded.flows[self.run.flow]
        annotations = inspect.get_annotations(flow.fn)
        given = without_usual_none(self.definition, self.parameters)
        values = convert(self.definition, annotations, given, loaded.helpers.Ref)
        url = await self._server_url()
        await _aside(lambda: turn_to(url))
        storage = self.run._storage
        if storage is not None:
            with _settings(url, self._private, None):  # Prefect asks the server for it
                await _aside(storage.open)
        with (
            self._workers_reports() as folder,
            _settings(url, self._private, self._results_folder()),
            kept_logs(self.run),
            _watching_maps(self.run, loaded.helpers),
            _in_every_thread(self.run.runner == "process"),
            _portable_new_types(),
        ):
            _watch(loaded, self.run, folder, self._read_reports)
            vars(flow)["__wrapped__"] = flow.fn = _AtHome(flow.fn, self._flow_began)
            await self._to_its_end(flow(**values))
        if storage is not None:
            await _aside(storage.close)

    async def _run_locally(self) -> None:
        from .local_runs import run_locally

        values = all_values(self.definition, self.functions, self.namespace, self.parameters)
        await self._to_its_end(run_locally(self.run, self.plan, self.functions, values))

    async def _to_its_end(self, call: Awaitable[Any]) -> None:
        again = self._has_begun_again
        self.run.state = "running"
        if not self._began:
            self._began = self.run._began = time.perf_counter()
            self._epoch = time.time()
        try:
            self.run._result = await call
        except Exception as error:
            if self._has_begun_again != again:  # left behind, while the run goes on without it
                return
            self.run.error = error
            self.run_ended("failed")
        except BaseException:
            if self._has_begun_again == again:
                self.run_ended("cancelled")
            raise
        else:
            self.run_ended("done")
        self._take_blame()
        if self._lost_server(self.run.state):
            with without_server():
                pass

    @contextmanager
    def _workers_reports(self) -> Iterator[Path | None]:
        """Give the folder where operations on workers of this machine write what they say."""
        if self.run.runner == "async":
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="pulpo-run-", ignore_cleanup_errors=True) as folder:
            self._reports = Reports(Path(folder))
            try:
                yield self._reports.folder
            finally:
                self._read_reports()

    def _read_reports(self) -> None:
        for report in self._reports.new() if self._reports else []:
            self._note_report(report)

    def _note_report(self, report: Report) -> None:
        if report.what == "line":
            self.run.keep_line(report.operation, report.text, level=report.level)
            return
        operation = self.run.operations[report.operation]
        at = report.at - self._epoch
        if report.what == "ended":
            operation.seconds = at - (operation.start or 0.0)
            return
        operation.attempts += 1
        operation.start = at if operation.start is None else min(operation.start, at)
        if operation.state == "pending":
            operation.state = "running"

    def run_ended(self, state: Literal["done", "failed", "cancelled"]) -> None:
        """Give the run, and each operation that has not ended, its last state; once."""
        if self.run.state not in ("starting", "running"):
            return
        self.run.state = state
        self.run.seconds = time.perf_counter() - self._began if self._began else 0.0
        for operation in self.run.operations.values():
            if operation.has_value and (told := _misfit(self.functions, operation)):
                self.run.misfits[operation.name] = told
            if state == "done" and operation.calls:
                operation.calls = Calls()
            if operation.state == "pending":
                operation.state = "not reached"
            elif operation.state in ("running", "retrying"):
                operation.state = "cancelled"
                if operation.start is not None:
                    operation.seconds = self.run.seconds - operation.start

    def _take_blame(self) -> None:
        run = self.run
        if run.state != "failed":
            return
        if run.failed:
            run.error = run.operations[run.failed[0]].error
        elif self._lost_server(run.state):
            self._blame_server(run.error)

    def _flow_began(self) -> None:
        """Note where Prefect shows the run; called inside the flow."""
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        self._task_runner = context.task_runner
        if self._pages:
            self.run.url = f"{self._pages}/runs/flow-run/{context.flow_run.id}"

    def _let_workers_go(self) -> None:
        """Interrupt what runs in threads, and end processes, of a task runner of Prefect's own.

        It would wait for them, and keep the event loop busy meanwhile.
        """
        executor: Any = getattr(self._task_runner, "_executor", None)
        if executor is None:
            return
        for process in (getattr(executor, "_processes", None) or {}).values():
            process.terminate()
        for ident in {thread.ident for thread in getattr(executor, "_threads", ())} & busy_threads:
            error = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), error)
        executor.shutdown(wait=False, cancel_futures=True)
        executor.shutdown = lambda *args, **options: None

    def _lost_server(self, state: str) -> bool:
        server = self._kept or (self.server if self._private else None)
        return self.run.state == state and server is not None and not server.is_running

    def _begins_again(self) -> bool:
        """Say whether the run goes on with another server, once; what finished is kept then.

        What was under way is called again, as after a retry of Prefect's.
        """
        run = self.run
        if self._has_begun_again or run.runner != "async":
            return False
        self._has_begun_again = True
        run.state = "starting"
        kept, self._kept, self._private = self._kept, None, False
        run.url = None
        which = f"Prefect server at {kept.address}" if kept else "private Prefect server"
        busy = [each.name for each in run.operations.values() if each.start and not each.has_value]
        for name in busy:  # what is left behind of them writes into the old ones
            calls = run.operations[name].calls
            run.operations[name] = OperationRun(name=name, calls=calls)
        if not isinstance(run._reuse, FromStorage):
            calls_of = {name: each.calls for name, each in run.operations.items()}
            run._reuse = FromRun(calls_of, {})
        again = f"; {', '.join(busy)} ran again" if busy else ""
        run._reuse.notes.append(
            f"the {which} ended during the run, which went on with another one{again}"
        )
        return True

    def _blame_server(self, cause: BaseException | None) -> None:
        self.run_ended("failed")
        which = "private Prefect server"
        then = "run it again, a new server is started then."
        if self._kept is not None:
            which = f"Prefect server at {self._kept.address}"
            then = "'pulpo prefect start' starts it again; without it, a run starts a private one."
        if self.run.is_resumable:
            then += " '%pulpo run --resume' goes on from there."
        self.run.error = ServerError(f"the {which} ended during the run of {self.run.flow}: {then}")
        self.run.error.__cause__ = cause

    def _results_folder(self) -> Path | None:
        # Prefect writes the exception of a failed flow into its home, whatever it is told. With a
        # private server that is of no use; `--cache` asks for results that stay.
        caches = any(self.options[name].cache for name in self.run.operations)
        home = self.server.home if self._private and not caches else None
        return home / "results" if home else None

    async def _server_url(self) -> str:
        configured = _configured_url()
        if configured:
            self.run.server = "configured"
            self._pages = await _must_answer(configured)
            return configured
        self._kept = await _aside(find_kept)
        if self._kept is not None:
            self.run.server = "kept"
            self._pages = self._kept.address if self._kept.ui else ""
            return self._kept.url
        self.run.server, self._private = "private", True
        return await _aside(self.server.url)


#: Runs that nobody waits for, and what keeps them quiet when the process ends.
_started: weakref.WeakSet[Run] = weakref.WeakSet()
_silence = ExitStack()


def _end_with_the_process(run: Run) -> None:
    """Have a run cancelled when the process ends."""
    _started.add(run)
    _look_after_started_runs()


@functools.cache
def _look_after_started_runs() -> None:
    # Before pools are waited for, where Python lets us: they wait for their workers. What is
    # registered last comes first, so they have to be there.
    for pools in ("thread", "process"):
        with suppress(ImportError):
            importlib.import_module(f"concurrent.futures.{pools}")
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_end_started_runs)


def _end_started_runs() -> None:
    left = [run for run in _started if not run.wait(0)]
    if not left:
        return
    end = time.monotonic() + _GRACE
    # For good: what is left behind may yet complain that everything ends.
    _silence.enter_context(kept_logs(left[0]))
    logging.getLogger("concurrent.futures").disabled = True
    with without_server():  # Prefect has sent its last events by now
        for run in left:
            run.cancel()
        for run in left:
            run.wait(max(0.0, end - time.monotonic()))


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` and give it a moment; what does not end then is left behind."""
    task.cancel()
    end = time.monotonic() + _GRACE
    while not task.done() and time.monotonic() < end:
        try:
            await asyncio.wait({task}, timeout=_TICK)
        except asyncio.CancelledError:  # a second interrupt
            task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


async def _aside(function: Callable[[], T]) -> T:
    """Call what blocks in a daemon thread: unlike a pool's, nobody waits for it at the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def body() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), daemon=True).start()
    return await future


def _definition(orchestration: Orchestration, flow: str) -> FlowDefinition:
    found = orchestration.get_flow(flow)
    if found is None:
        names = tuple(each.name for each in orchestration.flows)
        raise UnknownNameError(
            f"no flow {flow!r}.{did_you_mean(flow, names)} Flows: {', '.join(names) or 'none'}.",
            candidates=names,
        )
    if found.blocked:
        raise blocked_error(flow, found.blocked)
    return found


# --- Loading the generated code ------------------------------------------------------------------

_loading = threading.Lock()
# The helpers of the generated code hold a thread pool, so each text of theirs is loaded once.
_helpers: dict[str, types.ModuleType] = {}


def load_flows(
    modules: Mapping[str, str],
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
) -> dict[str, Flow[..., Any]]:
    """Make the generated package live, without files, and return its flows by name.

    Parameters
    ----------
    modules
        The texts by full module name, such as ``"run_cache.orchestration.main_flow"``; without
        ``run_cache.operations``, which ``functions`` and ``namespace`` stand for.
    functions
        The operations by name, looked up anew at each call.
    namespace
        Where names in the generated signatures are looked up before the operations' own modules.

    Raises
    ------
    RunError
        When a name in a signature is not there.
    """
    return _load(modules, functions, namespace).flows


class _Loaded(NamedTuple):
    flows: dict[str, Flow[..., Any]]
    tasks: list[tuple[types.ModuleType, str, Task[..., Any]]]
    helpers: Any


def _load(
    modules: Mapping[str, str],
    functions: Mapping[str, Callable[..., Any]],
    namespace: Mapping[str, Any],
    flow: str = "",
) -> _Loaded:
    """Load the code of one flow, with that of its subflows; of all when none is named.

    Prefect takes half a millisecond for each task that it makes, and flows share operations.
    """
    _import_prefect()
    from prefect import Flow, Task

    package = min(modules, key=len)
    wanted = [name for name in modules if not flow or name == f"{package}.orchestration.{flow}"]
    finder = _Finder(modules, LiveNames(f"{package}.operations", functions, namespace))
    with _loading, _standing_in(package, finder):
        for name in wanted:
            try:
                importlib.import_module(name)
            except ImportError as error:
                what = name.rpartition(".")[2]
                raise RunError(
                    f"the generated code of {what} cannot be loaded: {error.msg}. "
                    "Run the cell that defines it again."
                ) from error
        loaded = [sys.modules[name] for name in modules if name in sys.modules]
    own = [(module, name, value) for module in loaded for name, value in vars(module).items()]
    flows = {value.name: value for _, _, value in own if isinstance(value, Flow)}
    helpers = next(module for module in loaded if module.__name__ == f"{package}.orchestration")
    tasks = [(module, name, value) for module, name, value in own if isinstance(value, Task)]
    return _Loaded(flows, tasks, helpers)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of one generated package by their texts."""

    def __init__(self, texts: Mapping[str, str], operations: LiveNames) -> None:
        self._texts = texts
        self._operations = operations

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._texts and fullname != self._operations.__name__:
            return None
        inner = any(name.startswith(f"{fullname}.") for name in self._texts)
        return importlib.util.spec_from_loader(fullname, self, is_package=inner)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        if spec.name == self._operations.__name__:
            return self._operations
        return _helpers.get(f"{spec.name}\n{self._texts[spec.name]}")

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if module is self._operations or module in _helpers.values():
            return
        text = self._texts[name]
        filename = f"<pulpo {name.rpartition('.')[2]}>"
        # No modification time: linecache leaves such an entry alone, and tracebacks show its lines.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec", dont_inherit=True), vars(module))
        if name.endswith(".orchestration"):
            module.THREADS = Threads(64)  # type: ignore[attr-defined]  # nobody waits for these
            _helpers[f"{name}\n{text}"] = module


@contextmanager
def _standing_in(package: str, finder: _Finder) -> Iterator[None]:
    # A folder of the same name, exported earlier, may be on the path and even imported.
    def take() -> dict[str, types.ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == package]
        return {name: sys.modules.pop(name) for name in names}

    theirs = take()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        take()
        sys.modules.update(theirs)


# --- States and values ---------------------------------------------------------------------------


def _watch(loaded: _Loaded, run: Run, folder: Path | None, read: Callable[[], None]) -> None:
    """Have each task write down in ``run`` what becomes of it, on workers through a folder."""
    from prefect.cache_policies import NO_CACHE

    for module, name, task in loaded.tasks:
        operation = run.operations.get(task.name)
        if operation is None:
            continue
        if folder is not None:
            task.fn = Reporter(task.fn, operation.name, folder)
            setattr(module, name, _Submitted(task, operation, run, read))
            continue
        # Prefect's own state arrives through hooks; the value by reference only here.
        task.fn = _noted(task.fn, operation, run, task.retries)
        done, failed = _hooks(operation, run)
        if task.cache_policy != NO_CACHE:  # for each hook that it calls, Prefect logs two lines
            task.on_completion_hooks = [*task.on_completion_hooks, done]
        task.on_failure_hooks = [*task.on_failure_hooks, failed]


class _Note:
    """Writes down the states of an operation, with the time since it was first called."""

    def __init__(self, operation: OperationRun, run: Run) -> None:
        self.operation = operation
        self.run = run
        self.began = 0.0

    def __call__(self, state: OperationState) -> None:
        if self.run.state != "running":  # it was left behind by an interrupt
            return
        if not self.began:
            self.began = time.perf_counter()
            self.operation.start = self.began - self.run._began
        self.operation.state = state
        self.operation.seconds = time.perf_counter() - self.began


def _noted(
    function: Callable[..., Awaitable[Any]], operation: OperationRun, run: Run, retries: int
) -> Callable[..., Awaitable[Any]]:
    note = _Note(operation, run)
    signature = inspect.signature(function)

    async def call(*args: Any, **kwargs: Any) -> Any:
        with Speaker(run, operation.name):
            return await _without_exit(function(*args, **kwargs))

    @functools.wraps(function)
    async def noted(*args: Any, **kwargs: Any) -> Any:
        inputs = signature.bind(*args, **kwargs).arguments
        found = await run._reuse.find(operation.name, inputs) if run._reuse else None
        if found is not None:
            value = found.value
            operation.reused += 1
        else:
            operation.attempts += 1
            note("running")
            value = await called(inputs, *args, **kwargs)
        if run.state == "running":
            call_ended = operation.calls.add(inputs, value)
            if operation.elements is None:
                kept = found is not None and operation.has_value  # by this very run
                operation._inputs, operation._value, operation.error = inputs, value, None
                operation.call = call_ended
                if not kept:
                    note("done" if found is None else "cached")
            if found is None and run._storage and run._storage.keeps(operation.name):
                await run._storage.keep(operation.name, inputs, value)
        return value

    async def called(inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if operation.elements is not None:  # what becomes of it is told when all have ended
            try:
                return await call(*args, **kwargs)
            except Exception:
                operation._inputs = operation._inputs or inputs
                raise
        operation._inputs = inputs
        try:
            return await call(*args, **kwargs)
        except Exception as error:
            operation.error = error
            note("retrying" if operation.attempts <= retries else "failed")
            raise
        except BaseException:
            note("running")  # cancelled, or timed out: the hook knows
            raise

    return noted


class _Submitted:
    """Stands for a task in a flow, and writes down in ``run`` what becomes of what it submits.

    The task itself stays as it is, since it goes to other processes.
    """

    def __init__(
        self, task: Task[..., Any], operation: OperationRun, run: Run, read: Callable[[], None]
    ) -> None:
        self.name = task.name
        self._task = task
        self._operation = operation
        self._run = run
        self._read = read

    def submit(self, **arguments: Any) -> Any:
        """Submit the task."""
        future = self._task.submit(**arguments)
        given = {name: value for name, value in arguments.items() if name != "wait_for"}
        future.add_done_callback(functools.partial(self._ended, given, self._run.elapsed()))
        return future

    def _ended(self, arguments: dict[str, Any], submitted: float, future: Any) -> None:
        operation = self._operation
        if self._run.state != "running":
            return
        future.wait()  # it has ended, but would ask the server for its state
        self._read()
        state = future.state
        if state.is_final() and not operation.attempts:  # a worker that could not tell
            operation.attempts, operation.start = 1, submitted
            operation.seconds = self._run.elapsed() - submitted
        if operation.elements is not None:  # what becomes of it is told when all have ended
            if state.is_failed():
                operation._inputs = operation._inputs or arguments
            return
        if state.is_completed():
            operation._inputs, operation._value = arguments, future.result()
            operation.state = "done"
        elif state.is_final():
            operation._inputs, operation.error = arguments, future.result(raise_on_failure=False)
            operation.state = "timed out" if state.name == "TimedOut" else "failed"


class _AtHome:
    """A flow's function, which stays here when Prefect sends the flow along with a task."""

    def __init__(self, function: Callable[..., Any], began: Callable[[], None]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._began = began

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._began()
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, ()


def _elsewhere() -> Callable[..., None]:
    """Return what a flow's function is in another process, where nobody calls it."""
    return lambda *args, **kwargs: None


@contextmanager
def _watching_maps(run: Run, helpers: Any) -> Iterator[None]:
    """Have ``run`` told what becomes of operations that run once per element."""

    def tell(name: str, what: str, content: Any) -> None:
        operation = run.operations.get(name)
        if operation is None or run.state != "running":
            return
        note = notes.setdefault(name, _Note(operation, run))
        match what:
            case "began":
                operation.elements, operation.ended = content, 0
                note("running")
            case "element":
                operation.ended += 1
                operation.skipped += content is not None
            case "ended":
                operation._value, operation.error = content, None
                note("cached" if content and operation.reused == operation.elements else "done")
            case "failed":
                operation.error, operation.skipped = content, 0
                note("timed out" if type(content).__name__ == "TaskRunTimeoutError" else "failed")

    notes: dict[str, _Note] = {}
    token = helpers.watcher.set(tell)
    try:
        yield
    finally:
        helpers.watcher.reset(token)


async def _without_exit(call: Awaitable[Any]) -> Any:
    """Await an operation; ``sys.exit`` and the like would stop the kernel's loop for good."""
    try:
        return await call
    except (SystemExit, KeyboardInterrupt) as leaving:
        raise exit_error(leaving) from None


def _hooks(operation: OperationRun, run: Run) -> tuple[Callable[..., None], Callable[..., None]]:
    def pulpo_done(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> None:
        if operation.elements is not None:
            return
        if run.state == "running" and not operation.has_value:  # it came from Prefect's cache
            operation._value = getattr(state.data, "result", state.data)
            operation.seconds = operation.seconds or 0.0
            operation.state = "cached"

    def pulpo_failed(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> None:
        if run.state == "running" and operation.elements is None:
            timed_out = state.name == "TimedOut"
            operation.state = "timed out" if timed_out else "failed"
            if timed_out or operation.error is None:
                data = getattr(state.data, "result", state.data)
                operation.error = data if isinstance(data, BaseException) else None

    return pulpo_done, pulpo_failed


def _misfit(functions: Mapping[str, Callable[..., Any]], operation: OperationRun) -> str:
    """Say what an operation gave instead of what its annotation says; "" when that fits."""
    function = functions.get(operation.name)
    returns = getattr(function, "__annotations__", {}).get("return")
    value = operation.value
    if isinstance(value, Generator | AsyncGenerator):
        return "a generator, which can be read once only: return a list"
    if function is None or returns is None or type(value) is returns:
        return ""
    try:
        returns = get_type_hints(function, include_extras=True)["return"]
        if operation.elements is None:
            return misfit(returns, value)
        if get_origin(returns) is tuple or not isinstance(value, list):
            return ""  # of many tuples the parts are taken together
        each = returns if get_origin(returns) is not list else get_args(returns)[0]
        return next(filter(None, (misfit(each, one) for one in value)), "")
    except Exception:  # an annotation may name what is not there, and a user's class do anything
        return ""


# --- Prefect -------------------------------------------------------------------------------------

_importing = threading.Lock()
_warm = threading.Event()


def warm_up() -> None:
    """Import Prefect in the background, so that the first run need not wait for it; once."""
    if _warm.is_set() or "prefect" in sys.modules:
        return
    _warm.set()

    def body() -> None:
        with suppress(Exception):  # the run will meet the same error, and say so
            _import_prefect()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), name="pulpo-warm-up", daemon=True).start()


def _import_prefect() -> None:
    # Set before the import, which would report a first use, and for good, since flows report too.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with _importing:
        if "prefect.main" in sys.modules:
            importlib.import_module("prefect")
            return
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        try:
            with apart_from_the_users():
                importlib.import_module("prefect.main")
        finally:
            # Prefect gives the root logger a console: the kernel's is none of its business.
            root.setLevel(level)
            root.handlers[:] = handlers


def _configured_url() -> str:
    from prefect.settings import PREFECT_API_URL

    return os.environ.get("PREFECT_API_URL") or PREFECT_API_URL.value() or ""


async def _must_answer(url: str) -> str:
    """Return where the pages of the server are, ``""`` when it has none."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

    problem: object
    pages = ""
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            async with asyncio.timeout(15), get_client() as client:
                problem = await client.api_healthcheck()
                pages = str(PREFECT_UI_URL.value() or "").rstrip("/")
                if pages and url.startswith(pages) and not await _is_there(client, pages):
                    pages = ""
    except TimeoutError:
        problem = "no answer within 15 seconds"
    except Exception as error:
        problem = error
    if problem:
        raise ServerError(
            f"the Prefect server at {url} does not answer ({problem}). Start it, or unset "
            "PREFECT_API_URL ('prefect config unset PREFECT_API_URL') to have a private one."
        )
    return pages


async def _is_there(client: PrefectClient, page: str) -> bool:
    try:
        await client._client.get(page, headers={"Accept": "text/html"})  # raises for a status
    except Exception:
        return False
    return True


@contextmanager
def _settings(url: str, private: bool, results: Path | None) -> Iterator[None]:
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOCAL_STORAGE_PATH,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )

    settings: dict[Any, Any] = {PREFECT_API_URL: url, PREFECT_SERVER_ANALYTICS_ENABLED: False}
    if private:
        # Nobody looks at a private server's pages, and both cost time.
        settings |= {PREFECT_LOGGING_TO_API_ENABLED: False, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if results is not None:
        settings[PREFECT_LOCAL_STORAGE_PATH] = results
    with temporary_settings(settings):
        yield


@contextmanager
def _portable_new_types() -> Iterator[None]:
    """Let the `NewType`s of cells go to other processes, inside the signatures of functions.

    They are pickled by name, and ``__main__`` is another one there. (cloudpickle does not see to
    them, as it does to the classes of cells.)
    """
    before = copyreg.dispatch_table.get(NewType)
    copyreg.pickle(NewType, _new_type)
    try:
        yield
    finally:
        if before is None:
            del copyreg.dispatch_table[NewType]


def _new_type(type_: NewType) -> Any:
    if type_.__module__ != "__main__":
        return vars(type_)["__qualname__"]
    return _new_type_again, (type_.__name__, type_.__supertype__)


def _new_type_again(name: str, supertype: Any) -> NewType:
    make: Any = NewType
    made: NewType = make(name, supertype)
    made.__module__ = "__main__"  # Dask reads what it sends, and sends it on
    return made


@contextmanager
def _in_every_thread(needed: bool) -> Iterator[None]:
    """Make the settings hold in threads of Prefect's too.

    The one that forwards events from a process pool knows nothing of ours, and would start a
    server of its own.
    """
    if not needed:
        yield
        return
    from prefect import context

    before = context.GLOBAL_SETTINGS_CONTEXT
    context.GLOBAL_SETTINGS_CONTEXT = context.get_settings_context()
    try:
        yield
    finally:
        context.GLOBAL_SETTINGS_CONTEXT = before
