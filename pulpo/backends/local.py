"""One flow of a plan, and functions → its values: those of its Prefect code, without Prefect.

What holds:

- An operation starts as soon as what it needs is there. A flow in a flow starts when all of its own
  parameters are there; what needs a flow waits for all of it.
- Async operations are tasks on the loop that awaits this. Sync ones run in threads, each in a copy
  of the context. One thread goes from call to call, which costs a few microseconds each and no
  hand-over; when no thread has come further for a millisecond while others could start, more join
  (up to 64). So what waits, or computes, holds up neither the loop nor its siblings.
- What fails stops what depends on it, and the rest goes on to its end.
- ``--strategy process`` is taken for a thread, and ``--cache`` for nothing: both are Prefect's.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import itertools
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, Final, NamedTuple, Protocol

from ..plan import (
    FromList,
    FromParameter,
    FromResult,
    Node,
    Orchestration,
    Source,
    Step,
)

__all__ = ["Watcher", "exit_error", "run_flow"]

#: Threads of one run, at most.
_THREADS = 64
#: Seconds in which a thread is expected to come further, before others join.
_TICK = 0.001


class Watcher(Protocol):
    """Is told what becomes of the operations, one thing at a time, from several threads."""

    def called(self, operation: str, given: Mapping[str, Any]) -> None:
        """Note that it is called with ``given``, for the first time, again, or for one element."""

    def done(self, operation: str, value: Any) -> None:
        """Note what it gave; of many elements: what all of them gave."""

    def failed(self, operation: str, error: Exception, *, timed_out: bool) -> None:
        """Note that it failed for good."""

    def retrying(self, operation: str, error: Exception) -> None:
        """Note that a call failed and that another one follows."""

    def many(self, operation: str, count: int) -> None:
        """Note that it runs once for each of so many elements."""

    def element(
        self,
        operation: str,
        given: Mapping[str, Any],
        error: Exception | None,
        *,
        skipped: bool,
    ) -> None:
        """Note that one element has ended: well, or with an error, which may be left out."""


async def run_flow(
    orchestration: Orchestration,
    flow: str,
    functions: Mapping[str, Callable[..., Any]],
    parameters: Mapping[str, Any],
    *,
    watcher: Watcher | None = None,
) -> Any:
    """Run a flow on the running loop and return what it gives: one value, or several by name.

    When this is cancelled, so are its tasks, and `Interrupted` is raised in its threads; one that
    waits inside C code is left behind, and ends when that returns.

    Parameters
    ----------
    functions
        The operations by name, each looked up when it is called.
    parameters
        The flow's parameters, all of them.
    watcher
        Is told of every operation.

    Raises
    ------
    Exception
        What the first operation that failed raised, when all others have ended.
    """
    network = _Network(orchestration, flow)
    return await _Execution(network, functions, parameters, watcher).run()


class Interrupted(BaseException):
    """Raised inside a sync operation that was cancelled or has taken too long."""


def exit_error(leaving: BaseException) -> Exception:
    """Return what is raised instead of what would end more than the operation: ``sys.exit``."""
    what = f"raised {leaving!r}"
    if isinstance(leaving, SystemExit):
        what = f"called sys.exit({leaving.code!r})"
    error = RuntimeError(
        f"the operation {what}, which would end the whole process. "
        "Return instead, or raise an exception."
    )
    return error.with_traceback(leaving.__traceback__)


# --- The network: flows in flows laid out flat ----------------------------------------------------
#
# Every value has a place: the flow's parameters, results, and lists and items that are parameters
# of flows in it. Every operation is a node, and every flow two: its beginning and its end.


@dataclass(frozen=True, slots=True)
class _Item:
    """One item of a result that is a tuple."""

    place: int
    index: int


@dataclass(frozen=True, slots=True)
class _Joined:
    """Several values as one list: many flattened, absent ones left out."""

    items: tuple[_From, ...]
    many: tuple[bool, ...]
    optional: tuple[bool, ...]


_From = int | _Item | _Joined

#: The place of None.
_NONE: Final = 0


class _Job:
    """One operation: where its arguments come from, and where its result goes."""

    __slots__ = (
        "is_async", "is_plain", "keywords", "mapped", "name", "node", "options", "place", "ports",
        "variadic",
    )  # fmt: skip

    def __init__(self, node: Node, place: int, sources: Mapping[str, _From]) -> None:
        self.node = node
        self.name = node.name
        self.options = node.options
        self.is_async = node.is_async
        self.place = place
        self.ports: list[tuple[str, _From]] = []
        self.keywords: tuple[str, ...] = ()
        self.mapped: tuple[str, ...] = ()
        self.variadic = ""
        self.is_plain = True
        for port in node.ports:
            name, passing = port.name, port.passing
            self.ports.append((name, sources[name]))
            if passing == "keyword":
                self.is_plain, self.keywords = False, (*self.keywords, name)
            elif passing == "variadic":
                self.is_plain, self.variadic = False, name
            if port.mapped:
                self.mapped = (*self.mapped, name)

    def given(self, values: list[Any]) -> dict[str, Any]:
        """Return the arguments, in the order of the parameters."""
        return {
            name: values[source] if type(source) is int else _taken(source, values)
            for name, source in self.ports
        }

    def passed(self, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments as Python wants them: by position, and by keyword."""
        args: list[Any] = []
        for name, value in given.items():
            if name == self.variadic:
                args += value
            elif name not in self.keywords:
                args.append(value)
        return args, {name: given[name] for name in self.keywords}


@dataclass(slots=True)
class _Group:
    """A flow: what is computed when it begins, and the nodes of its children, in their order."""

    begin: int
    computed: list[tuple[int, _From]] = field(default_factory=list)
    children: list[int] = field(default_factory=list)


class _Network:
    """What of a plan a run needs: nodes, by number, and who waits for whom."""

    def __init__(self, orchestration: Orchestration, name: str) -> None:
        nodes = {node.name: node for node in orchestration.operations}
        flows = {flow.name: flow for flow in orchestration.flows}
        self.flow = flows[name]
        self.jobs: list[_Job | None] = []
        self.begins: dict[int, _Group] = {}
        self.ends: dict[int, _Group] = {}
        self.dependents: list[list[int]] = []
        self.missing: list[int] = []
        self.parameters = {p.name: n for n, p in enumerate(self.flow.parameters, start=_NONE + 1)}
        first = 1 + len(self.parameters)
        self.results = {each: n for n, each in enumerate(self.flow.covers, start=first)}
        self.size = first + len(self.results)
        self.begin, self.end = self._new_flow()
        scope: dict[str, _From] = dict(self.parameters)
        todo = [(self.flow, self.begin, self.end, scope)]
        while todo:  # a nest may be deeper than Python's stack
            flow, begin, end, scope = todo.pop()
            ended: dict[str, int] = {}
            children = self.ends[end].children
            for step in flow.steps:
                needs = [ended[each] for each in step.after]
                sources = self._sources(step, scope, ended, needs)
                if step.kind == "task":
                    job = _Job(nodes[step.target], self.results[step.target], sources)
                    start = stop = self._new_node(job)
                else:
                    start, stop = self._new_flow()
                    inner = self._scope(sources, self.begins[start])
                    todo.append((flows[step.target], start, stop, inner))
                ended[step.target] = stop
                children.append(stop)
                for other in {*needs} or (begin,):
                    self.dependents[other].append(start)
                    self.missing[start] += 1
                self.dependents[stop].append(end)
            self.missing[end] = len(children)
            if not children:
                self.dependents[begin].append(end)
                self.missing[end] = 1

    def _new_node(self, job: _Job | None) -> int:
        self.jobs.append(job)
        self.dependents.append([])
        self.missing.append(0)
        return len(self.jobs) - 1

    def _new_flow(self) -> tuple[int, int]:
        """Return the nodes with which a flow begins and ends."""
        begin, end = self._new_node(None), self._new_node(None)
        self.begins[begin] = self.ends[end] = _Group(begin)
        return begin, end

    def _sources(
        self,
        step: Step,
        scope: Mapping[str, _From],
        ended: Mapping[str, int],
        needs: list[int],
    ) -> dict[str, _From]:
        """Return where a step's arguments come from; what it waits for goes into ``needs``."""
        found: dict[str, _From] = {}
        for name, source in step.arguments:
            if type(source) is FromList:
                items = source.items
                needs += [ended[item.step] for item in items if type(item) is FromResult]
                found[name] = _Joined(
                    tuple(self._from(item, scope) for item in items), source.many, source.optional
                )
            else:
                if type(source) is FromResult:
                    needs.append(ended[source.step])
                found[name] = self._from(source, scope)
        return found

    def _from(self, source: Source, scope: Mapping[str, _From]) -> _From:
        if isinstance(source, FromResult):
            place, index = self.results[source.value.operation], source.value.index
            return place if index is None else _Item(place, index)
        return scope[source.name] if isinstance(source, FromParameter) else _NONE

    def _scope(self, sources: Mapping[str, _From], group: _Group) -> dict[str, _From]:
        """Return where a flow in a flow finds its parameters; lists and items are made once."""
        found: dict[str, _From] = {}
        for name, source in sources.items():
            if not isinstance(source, int):
                group.computed.append((self.size, source))
                source = self.size
                self.size += 1
            found[name] = source
        return found


def _taken(source: _From, values: list[Any]) -> Any:
    if isinstance(source, int):
        return values[source]
    if isinstance(source, _Item):
        return values[source.place][source.index]
    joined: list[Any] = []
    for item, many, optional in zip(source.items, source.many, source.optional, strict=True):
        value = _taken(item, values)  # a list holds no other list, so this goes no deeper
        several = _sequence(value, "several lists are joined") if many else (value,)
        joined += [each for each in several if each is not None] if optional else several
    return joined


# --- Running --------------------------------------------------------------------------------------


class _Lost(Exception):
    """Something that this needs has failed."""


_LOST: Final = _Lost()


class _Call:
    """An operation that is to be called, or one of its elements; again and again if it fails."""

    attempts = 0
    #: Its arguments, when they are there.
    given: dict[str, Any] | None = None
    many: _Many | None = None
    element = 0
    #: The thread in which it is now, and what looks at the time meanwhile.
    worker: _Worker | None = None
    timer: asyncio.TimerHandle | None = None

    def __init__(self, number: int, job: _Job) -> None:
        self.number = number
        self.job = job


class _Many:
    """The calls of an operation that runs once per element."""

    __slots__ = ("begun", "left", "results", "rows")

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.begun = 0
        self.left = len(rows)
        self.results: list[Any] = [None] * len(rows)


class _Failed(NamedTuple):
    """Stands among results for an element that failed."""

    error: Exception
    late: bool


class _Worker:
    """A thread: what it calls, how many calls that makes, and how many there were a tick ago.

    ``interrupted`` is set under the lock when `Interrupted` is on its way to the thread.
    """

    __slots__ = ("call", "count", "ident", "interrupted", "seen")

    def __init__(self) -> None:
        self.call: _Call | None = None
        self.count = 0
        self.seen = 0
        self.ident = 0
        self.interrupted = False

    def interrupt(self) -> None:
        """Raise `Interrupted` in what it calls, at its next line."""
        self.interrupted = True
        _raise_in(self.ident)


class _Execution:
    """One run of a network. What follows from what is worked out under one lock."""

    def __init__(
        self,
        network: _Network,
        functions: Mapping[str, Callable[..., Any]],
        parameters: Mapping[str, Any],
        watcher: Watcher | None,
    ) -> None:
        self.network = network
        self.functions = functions
        self.watcher = watcher
        self.values: list[Any] = [None] * network.size
        for name, place in network.parameters.items():
            self.values[place] = parameters[name]
        self.missing = list(network.missing)
        self.errors: dict[int, Exception] = {}
        self.lost: set[int] = set()
        #: Sync calls that may start, and async ones.
        self.queue: deque[_Call] = deque()
        self.awaited: deque[_Call] = deque()
        self.lock = threading.Lock()
        self.more = threading.Condition(self.lock)
        self.workers: list[_Worker] = []
        self.idle = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_over = False
        self.is_ticking = False
        self.is_launching = False
        self.loop = asyncio.get_running_loop()
        self.home = threading.get_ident()
        self.context = contextvars.copy_context()
        self.over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> Any:
        """Run it all and return what the flow gives; see `run_flow`."""
        with self.lock:
            self._settle(self.network.begin)
            self._staff()
        try:
            await self.over
        except asyncio.CancelledError:
            await self._stop()
            raise
        finally:
            with self.lock:
                self.is_over = True
                self.more.notify_all()
        error = self.errors.get(self.network.end)
        if error is not None:
            raise error
        returns = self.network.flow.returns
        values = {name: self.values[self.network.results[name]] for name in returns}
        return values if len(values) > 1 else next(iter(values.values()), None)

    async def _stop(self) -> None:
        with self.lock:
            self.is_over = True
            for worker in self.workers:
                if worker.call is not None:
                    worker.interrupt()
                    if worker.call.timer is not None:
                        worker.call.timer.cancel()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    def _at_home(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop, soon."""
        if threading.get_ident() == self.home:
            self.loop.call_soon(function, *args, context=self.context)
        else:
            self.loop.call_soon_threadsafe(function, *args, context=self.context)

    # - what follows from what: all of it under the lock -

    def _settle(self, node: int, error: Exception | None = None) -> None:
        """Take a node as ended, and start what waited for nothing else."""
        network, missing = self.network, self.missing
        todo = [(node, error)]
        while todo:
            node, error = todo.pop()
            if error is not None:
                self.errors[node] = error
            for other in network.dependents[node]:
                if error is not None and other not in network.ends:
                    self.lost.add(other)
                missing[other] -= 1
                if missing[other]:
                    continue
                if other in self.lost:
                    todo.append((other, _LOST))
                elif (job := network.jobs[other]) is not None:
                    self._start(_Call(other, job))
                elif other in network.begins:
                    todo.append((other, self._begin(network.begins[other])))
                else:
                    todo.append((other, self._error_of(network.ends[other])))
            if node == network.end:
                self._at_home(self._finish)

    def _begin(self, group: _Group) -> Exception | None:
        """Compute the parameters of a flow that begins."""
        try:
            for place, source in group.computed:
                self.values[place] = _taken(source, self.values)
        except Exception as error:
            return error
        return None

    def _error_of(self, group: _Group) -> Exception | None:
        """Return the first failure of a flow that has ended, which tells of the others."""
        nodes = [node for node in (group.begin, *group.children) if node in self.errors]
        failures = [error for node in nodes if (error := self.errors[node]) is not _LOST]
        return _first(failures) if failures else (_LOST if nodes else None)

    def _finish(self, error: Exception | None = None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)

    def _start(self, call: _Call) -> None:
        """Let a call begin as soon as somebody can make it."""
        if not call.job.is_async:
            self.queue.append(call)
            return
        self.awaited.append(call)
        if not self.is_launching:
            self.is_launching = True
            self._at_home(self._launch)

    def _is_open(self, call: _Call) -> bool:
        """Make the arguments of a call that begins; False when it is none: many, or a failure."""
        if call.given is None:
            try:
                call.given = call.job.given(self.values)
                rows = _rows(call.job, call.given) if call.job.mapped else None
            except Exception as error:  # of no operation: what another one gave is not what it said
                self._settle(call.number, error)
                return False
            if rows is not None:
                self._begin_many(call, rows)
                return False
        call.attempts += 1
        if self.watcher is not None:
            self.watcher.called(call.job.name, call.given)
        return True

    def _ended(
        self, call: _Call, value: Any, error: Exception | None, *, late: bool = False
    ) -> None:
        """Note what a call came to; ``late`` says that it took too long."""
        call.worker = None
        if call.timer is not None:
            self._at_home(call.timer.cancel)
            call.timer = None
        if self.is_over:
            return
        if error is None and call.many is None:
            self._job_done(call, value)
        elif error is not None and call.attempts <= call.job.options.retries:
            if self.watcher is not None:
                self.watcher.retrying(call.job.name, error)
            if delay := call.job.options.retry_delay:
                self._at_home(self.loop.call_later, delay, self._again, call)
            else:
                self._start(call)
        elif call.many is not None:
            self._element_ended(call, call.many, value, error, late)
        elif error is not None:
            self._job_failed(call, error, late)

    def _again(self, call: _Call) -> None:
        with self.lock:
            if not self.is_over:
                self._start(call)
                self._staff()

    def _job_done(self, call: _Call, value: Any) -> None:
        self.values[call.job.place] = value
        if self.watcher is not None:
            self.watcher.done(call.job.name, value)
        self._settle(call.number)

    def _job_failed(self, call: _Call, error: Exception, late: bool) -> None:
        if self.watcher is not None:
            self.watcher.failed(call.job.name, error, timed_out=late)
        self._settle(call.number, error)

    # - once per element -

    def _begin_many(self, call: _Call, rows: list[dict[str, Any]]) -> None:
        node, many = call.job.node, _Many(rows)
        if self.watcher is not None:
            self.watcher.many(node.name, len(rows))
        for _ in range(node.options.max_concurrency or len(rows)):
            self._next_element(call, many)
        if not rows:
            self._many_ended(call, many)

    def _next_element(self, call: _Call, many: _Many) -> None:
        if many.begun < len(many.rows):
            element = _Call(call.number, call.job)
            element.many, element.element = many, many.begun
            element.given = many.rows[many.begun]
            many.begun += 1
            self._start(element)

    def _element_ended(
        self, call: _Call, many: _Many, value: Any, error: Exception | None, late: bool
    ) -> None:
        node, given = call.job.node, call.given or {}
        if error is not None:
            at = f"element {call.element + 1} of {len(many.rows)}"
            error.add_note(f"{node.name} was at {at}: {_brief(given, call.job.mapped)}")
        if self.watcher is not None:
            skipped = error is not None and node.options.on_element_error == "skip"
            self.watcher.element(node.name, given, error, skipped=skipped)
        many.results[call.element] = value if error is None else _Failed(error, late)
        many.left -= 1
        self._next_element(call, many)
        if not many.left:
            self._many_ended(call, many)

    def _many_ended(self, call: _Call, many: _Many) -> None:
        node = call.job.node
        failed = [each for each in many.results if isinstance(each, _Failed)]
        if failed and node.options.on_element_error == "fail":
            self._job_failed(call, _first([each.error for each in failed]), failed[0].late)
            return
        try:
            value = _gathered([r for r in many.results if not isinstance(r, _Failed)], node)
        except Exception as error:
            self._job_failed(call, error, late=False)
        else:
            self._job_done(call, value)

    # - async operations: tasks on the loop -

    def _launch(self) -> None:
        self.is_launching = False
        with self.lock:
            while self.awaited and not self.is_over:
                call = self.awaited.popleft()
                if self._is_open(call):
                    self._await(call)
            self._staff()

    def _await(self, call: _Call, given: Coroutine[Any, Any, Any] | None = None) -> None:
        """Make a task of a call, or of the coroutine that a sync operation gave."""
        if self.is_over:
            if given is not None:
                given.close()
            return
        task = self.loop.create_task(self._awaiting(call, given), context=self.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _awaiting(self, call: _Call, given: Coroutine[Any, Any, Any] | None) -> None:
        node = call.job.node
        value: Any = None
        error: Exception | None = None
        limit = asyncio.timeout(node.options.timeout)
        try:
            async with limit:
                if given is None:
                    args, kwargs = call.job.passed(call.given or {})
                    value = await self.functions[node.name](*args, **kwargs)
                else:
                    value = await given
        except SystemExit as leaving:
            error = exit_error(leaving)
        except asyncio.CancelledError as leaving:
            if self.is_over:
                raise
            error = exit_error(leaving)
        except Exception as caught:
            error = _too_long(node) if limit.expired() else caught
        with self.lock:
            self._ended(call, value, error, late=limit.expired())
            self._staff()

    # - sync operations: threads -

    def _staff(self) -> None:
        """See from the loop that there is a thread for what is in the queue."""
        if not self.queue or self.is_over:
            return
        if self.idle:
            self.more.notify(min(self.idle, len(self.queue)))
        elif not self.workers:
            self._hire(1)
        self._watch()

    def _watch(self) -> None:
        """See that there are more threads in a moment, if these come no further."""
        if not self.is_ticking and (self.idle or len(self.workers) < _THREADS):
            self.is_ticking = True
            self._at_home(self.loop.call_later, _TICK, self._tick)

    def _tick(self) -> None:
        with self.lock:
            self.is_ticking = False
            if not self.queue or self.is_over:
                return
            stuck = all(worker.count == worker.seen for worker in self.workers)
            for worker in self.workers:
                worker.seen = worker.count
            if stuck and self.idle:
                self.more.notify(min(self.idle, len(self.queue)))
            elif stuck:
                busy = len(self.workers)
                self._hire(min(len(self.queue), max(1, busy), _THREADS - busy))
            self._watch()

    def _hire(self, count: int) -> None:
        for _ in range(count):
            worker = _Worker()
            self.workers.append(worker)
            name = "pulpo-operation"
            threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()

    def _work(self, worker: _Worker) -> None:
        worker.ident = threading.get_ident()
        value, error = None, None
        try:
            while True:
                with self.lock:
                    # Nothing is touched before it is known that no interrupt is on its way here.
                    interrupted = worker.interrupted
                    goes_on = not interrupted and not self.is_over
                    call = self._next(worker, value, error) if goes_on else None
                if call is not None:
                    value, error = self._called(call)
                elif not interrupted:
                    return
                else:
                    _let_it_come()
                    with self.lock:
                        worker.interrupted, worker.call = False, None
        except Interrupted:  # it came between two calls: the next tick hires another thread
            with self.lock:
                self.workers.remove(worker)
                if self.queue and not self.is_over:
                    self._watch()
        except BaseException as broken:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._at_home(self._finish, broken)

    def _next(self, worker: _Worker, value: Any, error: Exception | None) -> _Call | None:
        """Note what the thread's last call came to, and return the next one; None at the end."""
        call, worker.call = worker.call, None
        if call is not None and type(value) is CoroutineType:
            call.worker = None  # its time is the loop's now
            self._at_home(self._await, call, value)
        elif call is not None:
            self._ended(call, value, error)
        while True:
            while not self.queue and not self.is_over:
                self.idle += 1
                self.more.wait()
                self.idle -= 1
            if self.is_over:
                return None
            call = self.queue.popleft()
            worker.count += 1
            if self.queue and not self.is_ticking:
                self._watch()
            if self._is_open(call):
                worker.call, call.worker = call, worker
                return call

    def _called(self, call: _Call) -> tuple[Any, Exception | None]:
        job = call.job
        if job.options.timeout is not None:
            self._at_home(self._limit, call, call.attempts, job.options.timeout)
        run, given = self.context.copy().run, call.given or {}
        try:
            function = self.functions[job.name]
            if job.is_plain:
                return run(function, *given.values()), None
            args, kwargs = job.passed(given)
            return run(function, *args, **kwargs), None
        except Exception as error:
            return None, error
        except BaseException as leaving:
            return None, exit_error(leaving)

    def _limit(self, call: _Call, attempt: int, seconds: float) -> None:
        with self.lock:
            if call.worker is not None and call.attempts == attempt and not self.is_over:
                call.timer = self.loop.call_later(seconds, self._time_out, call, attempt)

    def _time_out(self, call: _Call, attempt: int) -> None:
        with self.lock:
            if call.worker is not None and call.attempts == attempt and not self.is_over:
                call.worker.interrupt()
                self._ended(call, None, _too_long(call.job.node), late=True)
                self._staff()


def _raise_in(ident: int) -> None:
    error = ctypes.py_object(Interrupted)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), error)


def _let_it_come() -> None:
    """Let an interrupt that came too late hit this function, and not what the thread does next.

    To take it back, by NULL, would leave Python 3.11 looking for it for ever, at every call.
    """
    try:
        _raise_in(threading.get_ident())
        while True:
            pass
    except Interrupted:
        pass


def _too_long(node: Node) -> TimeoutError:
    return TimeoutError(f"{node.name} took longer than {node.options.timeout:g} seconds")


# --- Many, and what is told of failures: word by word as in the export's own helper ---------------


def _rows(job: _Job, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments of each call of an operation that runs once per element."""
    name = job.node.name
    lists = {
        key: list(_sequence(given[key], f"{name} takes each of {key!r}"))
        for key in given
        if key in job.mapped
    }
    if len({len(each) for each in lists.values()}) > 1:
        told = ", ".join(f"{len(each)} of {key!r}" for key, each in lists.items())
        raise ValueError(f"{name} takes its elements in step, but there are {told}.")
    rows = zip(*lists.values(), strict=True)
    return [{**given, **dict(zip(lists, row, strict=True))} for row in rows]


def _sequence(value: Any, why: str) -> Sequence[Any]:
    """Return several values; a text, a dict or a generator is taken for a mistake."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    raise TypeError(
        f"{why}, and a {type(value).__name__} is no list: what gives it has to return a list"
    )


def _gathered(results: list[Any], node: Node) -> Any:
    """Return what all elements gave together: a list, or a tuple of lists."""
    places = [output.index for output in node.outputs if output.index is not None]
    flat = {output.index or 0 for output in node.outputs if output.flat}
    if not places:
        return _flattened(results) if flat else results
    columns = [[row[place] for row in results] for place in range(max(places) + 1)]
    return tuple(
        _flattened(column) if place in flat else column for place, column in enumerate(columns)
    )


def _flattened(lists: Sequence[Any]) -> list[Any]:
    why = "the results of each element are joined"
    return list(itertools.chain.from_iterable(_sequence(each, why) for each in lists))


def _first(failures: Sequence[Exception]) -> Exception:
    """Return the first failure, with notes of the others."""
    for failure in failures[1:4]:
        failures[0].add_note(f"Another one of the same flow failed too: {failure!r}")
    if len(failures) > 4:
        failures[0].add_note(f"And {len(failures) - 4} more.")
    return failures[0]


def _brief(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    told = []
    for key in row:
        if key in keys:
            text = _shown(row[key])
            told.append(f"{key}={text if len(text) <= 80 else text[:79] + '…'}")
    return ", ".join(told)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # a user's class may do anything in it
        return f"<{type(value).__name__}>"
