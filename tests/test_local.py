"""The engine without Prefect: random sessions against their meaning, then one rule at a time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any, NewType

import law
import pytest
from law import STYLES, Proof, Style
from prove import Case
from pydantic import BaseModel
from recorded import MODELS, Notebook
from runner_sample import NAMES, CleanedJobs, RawJobs, sample
from sessions import WORLD

from pulpo import runner
from pulpo.backends import local
from pulpo.compiler import compile_graph, compile_plan
from pulpo.errors import MissingInputError, RunError, UsageError
from pulpo.operations import Operation, make_operation, options_from_flags
from pulpo.plan import Orchestration
from pulpo.runs import OperationFailedError, Run, RunInterrupted

#: A test that waits so long has failed; no test takes it.
SECONDS = 60

# --- The law --------------------------------------------------------------------------------------


class LocalProof(Proof):
    """Checks one session as this engine runs it."""

    def _flows(self, style: Style) -> tuple[Orchestration, dict[str, Any]]:
        plan = compile_graph(self.graph, flat=style.flat, selection=style.selection)
        fn = SimpleNamespace(__globals__={})
        return plan, {f.name: SimpleNamespace(plan=plan, name=f.name, fn=fn) for f in plan.flows}

    def run(self, flow: Any, given: dict[str, Any]) -> Any:
        definition = flow.plan.get_flow(flow.name)
        defaults = {p.name: eval(p.default.text, WORLD) for p in definition.parameters if p.default}
        functions = {each.name: dawdling(each.function, self.random) for each in self.operations}
        call = local.run_flow(flow.plan, flow.name, functions, {**defaults, **given})
        try:
            return law.LOOP.run(law.alone(call))
        finally:
            unheard, law.UNHEARD[:] = law.UNHEARD[:], []
            assert not unheard, unheard


def dawdling(function: Any, random: Random) -> Callable[..., Any]:
    """Return a function that takes its time now and then, so that others overtake it."""

    async def slow(*args: Any, **kwargs: Any) -> Any:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        return await function(*args, **kwargs)

    def sluggish(*args: Any, **kwargs: Any) -> Any:
        if random.random() < 0.03:
            time.sleep(0.002)  # longer than a thread is left alone
        return function(*args, **kwargs)

    return slow if inspect.iscoroutinefunction(function) else sluggish


def prove(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        proof = LocalProof(Case.of(seed).operations(), seen, Random(seed))
        for style in (*STYLES[:2], Style(selection=proof.selection)):
            proof.holds_for(style)
    return seen


def test_a_few_sessions_are_run_as_they_are_meant() -> None:
    assert prove(range(1, 21))["calls"] > 500


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(3))
def test_a_hundred_sessions_are_run_as_they_are_meant(hundred: int) -> None:
    seen = prove(range(100 + hundred * 100, 200 + hundred * 100))
    for kind in ("maps", "flat", "selections", "failures", "subflows", "several returned"):
        assert seen[kind], seen
    assert seen["calls"] > 1000, seen


# --- Order, and what goes on at the same time -----------------------------------------------------

Raw = NewType("Raw", int)
Other = NewType("Other", int)
Clean = NewType("Clean", int)
Last = NewType("Last", int)


def made(name: str, function: Callable[..., Any], **flags: Any) -> Operation:
    return make_operation(function, name=name, options=options_from_flags(flags))


def run(*operations: Operation, flow: str = "main_flow", flat: bool = False, **given: Any) -> Run:
    plan = compile_plan(list(operations), flat=flat)
    functions = {operation.name: operation.function for operation in operations}
    return runner.run_flow_blocking(
        plan, flow, functions, globals(), given, modules={}, engine="local"
    )


def values(done: Run) -> dict[str, Any]:
    done.raise_for_failure()
    return dict(done)


def test_async_operations_overlap() -> None:
    here, there = threading.Event(), threading.Event()

    async def meet(own: threading.Event, other: threading.Event) -> int:
        own.set()
        while not other.is_set():
            await asyncio.sleep(0)
        return 1

    async def one() -> Raw:
        return Raw(await meet(here, there))

    async def two() -> Other:
        return Other(await meet(there, here))

    assert values(run(made("one", one), made("two", two))) == {"one": 1, "two": 1}


def test_sync_operations_that_wait_hold_up_neither_each_other_nor_the_loop() -> None:
    all_here = threading.Barrier(20, timeout=SECONDS)
    told = threading.Event()

    def wait() -> None:
        all_here.wait()
        assert told.wait(SECONDS)

    async def tell(rest: int = 3) -> None:
        await asyncio.sleep(0)
        told.set()

    many = [made(f"wait_{number}", wait) for number in range(20)]
    assert len(values(run(*many, made("tell", tell)))) == 21


def test_an_operation_starts_without_waiting_for_a_stage() -> None:
    reached = threading.Event()

    def slow() -> Raw:
        assert reached.wait(SECONDS)
        return Raw(1)

    def quick() -> Other:
        return Other(1)

    def after_quick(other: Other) -> Clean:
        reached.set()
        return Clean(other)

    def after_slow(raw: Raw) -> Last:
        return Last(raw)

    functions = (slow, quick, after_quick, after_slow)
    assert run(*(made(each.__name__, each) for each in functions)).state == "done"


@pytest.mark.parametrize("flat", [False, True])
def test_what_needs_a_group_waits_for_all_of_it(flat: bool) -> None:
    """As a subflow returns when all of it is done; in a flat flow nothing waits for a group."""
    reached, ended = threading.Event(), threading.Event()

    def quick() -> Raw:
        return Raw(1)

    async def slow(raw: Raw) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        while flat and not reached.is_set():
            await asyncio.sleep(0)
        ended.set()

    def use(raw: Raw) -> Clean:
        assert flat or ended.is_set()
        reached.set()
        return Clean(raw)

    done = run(made("group.quick", quick), made("group.slow", slow), made("use", use), flat=flat)
    assert values(done)["use"] == 1


@pytest.mark.slow
def test_a_chain_and_a_nest_may_be_deeper_than_the_stack() -> None:
    calls: list[int] = []

    def step() -> None:
        calls.append(len(calls))

    chain = [made("a.op_0", step)]
    chain += [made(f"a.op_{n}", step, after=f"a.op_{n - 1}") for n in range(1, 10_000)]
    assert run(*chain).state == "done"
    assert calls == list(range(10_000))
    nest = [made(f"{'g.' * depth}op_{n}", step) for depth in range(1, 60) for n in range(2)]
    assert run(*nest).state == "done"
    assert len(calls) == 10_000 + len(nest)


# --- Failures -------------------------------------------------------------------------------------


def fail(_error: BaseException) -> Any:
    raise _error


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    def bad() -> Raw:
        raise ValueError("no")

    def worse() -> None:
        raise KeyError("neither")

    def use(raw: Raw) -> Clean:
        return Clean(raw)

    def good(n: int = 1) -> Last:
        return Last(n)

    done = run(made("a.bad", bad), made("a.worse", worse), made("use", use), made("good", good))
    assert done.states == {
        "a.bad": "failed",
        "a.worse": "failed",
        "use": "not reached",
        "good": "done",
    }
    assert done.error is done.operations["a.bad"].error
    assert done.error.__notes__ == [
        "Another one of the same flow failed too: KeyError('neither')",
    ]
    with pytest.raises(OperationFailedError) as caught:
        done.raise_for_failure()
    shown = caught.value._render_traceback_()
    assert shown[0] == "OperationFailedError: a.bad and a.worse failed; not reached: use"
    assert sum(line.startswith('  File "') for line in shown) == 1
    assert done.inputs("good") == {"n": 1}
    with pytest.raises(RunError, match="it was not called"):
        done.inputs("use")


def test_results_that_are_not_what_they_say_fail_the_flow_and_no_operation() -> None:
    scope: dict[str, Any] = {"Raw": Raw, "Other": Other, "Clean": Clean}
    exec("def pair() -> tuple[Raw, Other]: return (1,)\ndef use(x: Other) -> Clean: ...", scope)
    done = run(made("a.pair", scope["pair"]), made("b.use", scope["use"]), made("b.other", print))
    assert (done.state, done.failed, done.not_reached) == ("failed", [], ["b.use", "b.other"])
    with pytest.raises(RunError, match="failed outside its operations: IndexError"):
        done.raise_for_failure()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SystemExit(3), r"called sys\.exit\(3\), which would end the whole process"),
        (asyncio.CancelledError(), r"raised CancelledError\(\)"),
    ],
)
def test_what_would_end_more_than_the_operation_fails_it(
    kind: str, error: BaseException, told: str
) -> None:
    def plain() -> Raw:
        raise error

    async def coroutine() -> Raw:
        raise error

    done = run(made("a", plain if kind == "sync" else coroutine), made("b", lambda: 1))
    assert done.states == {"a": "failed", "b": "done"}
    with pytest.raises(OperationFailedError, match=told):
        done.raise_for_failure()


@pytest.mark.parametrize("delay", [None, 0.01])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_operation_is_tried_again(kind: str, delay: float | None) -> None:
    calls: list[int] = []

    def plain() -> Raw:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("again")
        return Raw(len(calls))

    async def coroutine() -> Raw:
        return plain()

    flags = {"retries": 2, **({"retry_delay": delay} if delay else {})}
    done = run(made("a", plain if kind == "sync" else coroutine, **flags))
    assert values(done) == {"a": 3}
    assert (done.operations["a"].attempts, done.operations["a"].error) == (3, None)
    failed = run(made("a", lambda: fail(ValueError("always")), retries=1))
    assert (failed.states["a"], failed.operations["a"].attempts) == ("failed", 2)


@pytest.mark.parametrize("kind", ["sync", "async", "given"])
def test_an_operation_that_takes_too_long_is_stopped_and_tried_again(kind: str) -> None:
    calls: list[int] = []
    stopped: list[BaseException] = []

    def plain() -> Raw:
        calls.append(1)
        try:
            while len(calls) < 2:
                threading.Event().wait(0.001)
        except BaseException as error:
            stopped.append(error)
            raise
        return Raw(1)

    async def coroutine() -> Raw:
        calls.append(1)
        try:
            while len(calls) < 2:
                await asyncio.sleep(0.001)
        except BaseException as error:
            stopped.append(error)
            raise
        return Raw(1)

    function = {"sync": plain, "async": coroutine, "given": lambda: coroutine()}[kind]
    after = made("b", lambda: 2, after="a")
    done = run(made("a", function, timeout=0.2, retries=1), after)
    assert values(done) == {"a": 1, "b": 2}
    assert done.operations["a"].attempts == 2
    assert len(stopped) == 1
    calls.clear()
    failed = run(made("a", function, timeout=0.2), after)
    assert failed.states == {"a": "timed out", "b": "not reached"}
    with pytest.raises(OperationFailedError, match="a took longer than its timeout") as caught:
        failed.raise_for_failure()
    assert len(caught.value._render_traceback_()) == 1


def test_a_timeout_that_is_not_reached_leaves_nothing_behind() -> None:
    async def main() -> Run:
        plan = compile_plan([operation])
        functions = {"a": operation.function}
        started = runner.run_flow(plan, "main_flow", functions, {}, {}, modules={}, engine="local")
        done = await started
        await asyncio.sleep(0)
        loop: Any = asyncio.get_running_loop()
        later = loop.time() + 1000
        assert all(handle.cancelled() for handle in loop._scheduled if handle.when() > later)
        return done

    operation = made("a", lambda: 1, timeout=100_000)
    assert values(asyncio.run(main())) == {"a": 1}


# --- Many -----------------------------------------------------------------------------------------


class Url(BaseModel):
    number: int


class Page(BaseModel):
    number: int


def find(count: int = 4) -> list[Url]:
    return [Url(number=number) for number in range(count)]


def fetch(url: Url, bad: int = -1, factor: int = 10) -> Page:
    if url.number == bad:
        raise ValueError(f"number {bad} is bad")
    return Page(number=url.number * factor)


async def afetch(url: Url, bad: int = -1, factor: int = 10) -> Page:
    await asyncio.sleep(0)
    return fetch(url, bad, factor)


def total(pages: list[Page]) -> Last:
    return Last(sum(page.number for page in pages))


@pytest.fixture(params=[fetch, afetch])
def fetcher(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


def mapping(fetcher: Callable[..., Any], **flags: Any) -> list[Operation]:
    return [made("urls.find", find), made("pages.fetch", fetcher, **flags), made("total", total)]


def test_an_operation_runs_once_per_element(fetcher: Callable[..., Any]) -> None:
    done = run(*mapping(fetcher))
    assert values(done)["pages.fetch"] == [Page(number=number) for number in (0, 10, 20, 30)]
    assert done["total"] == done.result == 60
    fetched = done.operations["pages.fetch"]
    assert (fetched.elements, fetched.ended, fetched.attempts) == (4, 4, 4)
    nothing = run(*mapping(fetcher), count=0)
    assert values(nothing) == {"urls.find": [], "pages.fetch": [], "total": 0}


def test_a_failing_element_is_named_and_the_others_finish(fetcher: Callable[..., Any]) -> None:
    failed = run(*mapping(fetcher, retries=1), bad=2)
    assert failed.states == {"urls.find": "done", "pages.fetch": "failed", "total": "not reached"}
    fetched = failed.operations["pages.fetch"]
    assert (fetched.ended, fetched.elements, fetched.attempts) == (4, 4, 5)
    with pytest.raises(OperationFailedError) as caught:
        failed.raise_for_failure()
    told = "".join(caught.value._render_traceback_())
    assert "pages.fetch failed at element 3 of 4: url=Url(number=2)" in told
    assert failed.inputs("pages.fetch")["url"] == Url(number=2)


def test_a_failing_element_can_be_left_out(fetcher: Callable[..., Any]) -> None:
    done = run(*mapping(fetcher, on_element_error="skip"), bad=2)
    assert values(done)["total"] == 40
    assert "1 of 4 skipped" in str(done)
    assert done.logs("pages.fetch") == [
        "WARNING pages.fetch: Skipped: pages.fetch was at element 3 of 4: url=Url(number=2): "
        "ValueError('number 2 is bad')"
    ]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_more_elements_are_worked_on_at_a_time_than_said(kind: str) -> None:
    now: list[int] = []
    most: list[int] = []
    two = threading.Barrier(2, timeout=SECONDS)

    def meet(url: Url) -> Page:
        now.append(url.number)
        two.wait()
        most.append(len(now))
        two.wait()
        now.remove(url.number)
        return Page(number=url.number)

    async def ameet(url: Url) -> Page:
        now.append(url.number)
        most.append(len(now))
        await asyncio.sleep(0)
        now.remove(url.number)
        return Page(number=url.number)

    operations = mapping(meet if kind == "sync" else ameet, max_concurrency=2)
    assert values(run(*operations, count=6))["total"] == 15
    assert max(most) == 2


def test_elements_of_different_lists_are_told_from_each_other() -> None:
    def both(url: Url, page: Page) -> Last:
        return Last(url.number + page.number)

    operations = [*mapping(fetch)[:2], made("both", both)]
    assert values(run(*operations))["both"] == [0, 11, 22, 33]

    job: Any = SimpleNamespace(node=SimpleNamespace(name="both"), mapped=["url", "page"])
    with pytest.raises(ValueError, match="takes its elements in step, but there are 1 of 'url', 2"):
        local._rows(job, {"url": [1], "page": [1, 2]})


@pytest.mark.parametrize(
    ("given", "kind"), [("http", "str"), ({"a": 1}, "dict"), (7, "int"), (iter("ab"), "str_asc")]
)
def test_what_is_no_list_is_not_taken_for_many(given: Any, kind: str) -> None:
    def find() -> list[Url]:
        return given  # type: ignore[no-any-return]

    failed = run(made("urls.find", find), *mapping(fetch)[1:])
    told = rf"pages\.fetch takes each of 'url', and a {kind}\w* is no list"
    with pytest.raises(RunError, match=told):
        failed.raise_for_failure()


# --- What an operation finds where it runs --------------------------------------------------------

VARIABLE = contextvars.ContextVar("VARIABLE", default="nothing")


def test_context_variables_are_kept_and_do_not_leak() -> None:
    found: dict[str, str] = {}

    def plain() -> None:
        found["sync"] = VARIABLE.get()
        VARIABLE.set("sync")

    async def coroutine() -> None:
        found["async"] = VARIABLE.get()
        VARIABLE.set("async")

    def later() -> None:
        found["later"] = VARIABLE.get()

    token = VARIABLE.set("mine")
    try:
        after = ["a", "b"]
        assert run(made("a", plain), made("b", coroutine), made("c", later, after=after)).state
    finally:
        VARIABLE.reset(token)
    assert found == {"sync": "mine", "async": "mine", "later": "mine"}


def test_async_operations_share_the_loop_that_awaits_and_sync_ones_leave_its_thread() -> None:
    async def main() -> None:
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        async def coroutine() -> bool:
            return asyncio.get_running_loop() is loop

        async def given_later() -> bool:
            return asyncio.get_running_loop() is loop

        operations = [
            made("a", coroutine),
            made("b", lambda: given_later()),
            made("c", lambda: threading.get_ident() == thread),
        ]
        functions = {each.name: each.function for each in operations}
        plan = compile_plan(operations)
        done = await runner.run_flow(
            plan, "main_flow", functions, {}, {}, modules={}, engine="local"
        )
        assert values(done) == {"a": True, "b": True, "c": False}

    asyncio.run(main())


def test_what_operations_print_is_kept_with_each(capfd: pytest.CaptureFixture[str]) -> None:
    def plain() -> None:
        print("plain 1")
        print("plain 2", end="")

    async def coroutine() -> None:
        print("coroutine 1")
        await asyncio.sleep(0)
        print("coroutine 2")

    before = sys.stdout
    done = run(made("a", plain), made("b", coroutine), made("c", lambda: coroutine()))
    assert sys.stdout is before
    for thread in threading.enumerate():
        if thread.name == "pulpo-operation":
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert done.logs("a") == ["a: plain 1", "a: plain 2"]
    for name in "bc":
        assert done.logs(name) == [f"{name}: coroutine 1", f"{name}: coroutine 2"]
    assert "a, b and c printed 6 lines" in str(done)


def test_every_kind_of_parameter_gets_its_own() -> None:
    scope: dict[str, Any] = {"Raw": Raw, "Other": Other, "Clean": Clean}
    lines = (
        "def one() -> Raw: return 1",
        "def two() -> Other | None: return None",
        "def three() -> Other: return 3",
        "def use(a, /, b: Raw, *rest: Other, c: str = 'c', d: Clean | None): "
        "return [a, b, rest, c, d]",
    )
    for line in lines:
        exec(line, scope)
    done = run(*(made(name, scope[name]) for name in ("one", "two", "three", "use")), a="first")
    assert values(done)["use"] == ["first", 1, (3,), "c", None]


# --- Parameters, as Prefect takes them ------------------------------------------------------------


class Query(BaseModel):
    words: list[str]


def test_text_becomes_the_parameters_type() -> None:
    def use(
        n: int,
        query: Query,
        flag: bool = False,
        size: float = 2,
        nothing: int = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> Last:
        return [n, query, flag, size, nothing]  # type: ignore[return-value]

    operation = made("use", use)
    done = run(operation, n="3", query='{"words": ["a"]}', flag="yes", nothing="4")
    assert values(done)["use"] == [3, Query(words=["a"]), True, 2.0, 4]
    assert values(run(operation, n=3, query=Query(words=[])))["use"][-1] is None
    with pytest.raises(UsageError, match="main_flow needs 'n' as int, not 'many'"):
        run(operation, n="many", query=Query(words=[]))
    with pytest.raises(UsageError, match="main_flow needs 'n' as int, not None"):
        run(operation, n=None, query=Query(words=[]))
    with pytest.raises(MissingInputError, match="add --param n="):
        run(operation, query=Query(words=[]))


def test_data_is_passed_on_as_the_very_object() -> None:
    jobs = RawJobs(titles=["b", "a"])
    the = sample()
    given, options = the.arguments("parsing_flow", raw_jobs=jobs)
    done = runner.run_flow_blocking(*given, **options, engine="local")
    assert done.inputs("parsing.clean")["data"] is jobs
    assert done.result == CleanedJobs(titles=["a", "b"])
    assert done["parsing.clean"] is done.result


def test_a_type_that_is_gone_is_told() -> None:
    scope: dict[str, Any] = {"Gone": NewType("Gone", int), "__name__": "__main__"}
    exec("def use(gone: Gone) -> int: return gone", scope)
    operation = made("use", scope["use"])
    assert values(run(operation, gone=1)) == {"use": 1}
    del scope["Gone"]
    with pytest.raises(RunError, match=r"'Gone', of a parameter of main_flow, has no meaning any"):
        run(operation, gone=1)


# --- Interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_cancelling_the_task_cancels_the_run_and_keeps_results(kind: str) -> None:
    started, stopped = threading.Event(), threading.Event()

    def linkedin(query: str) -> RawJobs:
        return RawJobs(titles=["kept"])

    def plain(query: str) -> RawJobs:
        started.set()
        try:
            while True:
                threading.Event().wait(0.01)
        finally:
            stopped.set()

    async def coroutine(query: str) -> RawJobs:
        started.set()
        try:
            await asyncio.sleep(SECONDS)
        finally:
            stopped.set()
        raise AssertionError

    async def main() -> Run:
        stepstone = plain if kind == "sync" else coroutine
        names = ("scraping.stepstone.fetch", "scraping.linkedin.fetch")
        given, options = sample(dict(zip(names, (stepstone, linkedin), strict=True))).arguments(
            query="x"
        )
        seen: list[Run] = []
        run = runner.run_flow(*given, **options, on_change=seen.append, engine="local")
        task = asyncio.create_task(run)
        while not started.is_set() or not seen or names[1] not in seen[-1]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value, RunInterrupted)
        assert await asyncio.to_thread(stopped.wait, SECONDS)
        return caught.value.run

    ended = asyncio.run(main())
    assert ended.state == "cancelled"
    assert ended["scraping.linkedin.fetch"].titles == ["kept"]
    assert ended.states["scraping.stepstone.fetch"] == "cancelled"
    assert ended.not_reached == ["scraping.merge", "parsing.clean"]
    given, options = sample().arguments(query="x")
    again = runner.run_flow_blocking(*given, **options, engine="local")
    assert list(again) == NAMES


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handling of SIGINT, which a shell turns off for what it starts in background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("inside", ["a loop", "none"])
def test_an_interrupt_ends_a_blocking_run(inside: str) -> None:
    def wait() -> Raw:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(SECONDS * 100):  # should the signal be lost, the test fails and ends
            threading.Event().wait(0.01)
        return Raw(1)

    async def main() -> Run:
        return run(made("a", wait))

    loop = asyncio.new_event_loop()  # asyncio.run would take the signal for itself
    with contextlib.closing(loop), pytest.raises(KeyboardInterrupt) as caught:
        loop.run_until_complete(main()) if inside == "a loop" else run(made("a", wait))
    assert isinstance(caught.value, RunInterrupted)
    assert caught.value.run.states == {"a": "cancelled"}
    assert run(made("b", lambda: 1)).state == "done"


# --- As a session's ------------------------------------------------------------------------------


def book() -> Notebook:
    book = Notebook()
    book.cell(MODELS)
    book.operation("load.raw", "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n")
    book.operation("clean", "def clean(data: Raw) -> Clean:\n    return Clean(data.number * 2)\n")
    return book


def test_a_session_runs_a_part_and_takes_what_was_cut_from_the_last_run() -> None:
    session = book().session
    done = session.run(parameters={"start": "4"}, engine="local")
    assert done["clean"].number == 8
    assert session.last_run is done
    assert "✓ done" in str(done.graph())
    part = session.run(only="clean", engine="local")
    assert part["clean"].number == 8
    assert part.notes == ("raw: the result of load.raw in an earlier run",)
    awaited = asyncio.run(session.arun("load", engine="local"))
    assert awaited.result.number == 1


def test_flags_that_are_prefects_are_told() -> None:
    noted = book()
    noted.operation(
        "late", "def late(x: Clean) -> int:\n    return 1\n", cache="inputs", strategy="process"
    )
    done = noted.session.run(engine="local")
    assert done.state == "done"
    assert done.notes == (
        "late: not looked up in the cache, which is Prefect's (--engine local)",
        "late: in a thread, not in a process of its own (--engine local)",
    )


def test_a_task_runner_and_the_local_engine_exclude_each_other() -> None:
    session = book().session
    with pytest.raises(UsageError, match=r"--runner threads .* leave one of them out\."):
        session.run(engine="local", runner="threads")
    with pytest.raises(UsageError, match=r"engine is one of prefect, local, not 'lokal'. Did you"):
        session.run(engine="lokal")  # type: ignore[arg-type]


def test_runs_without_prefect_keep_nothing_to_go_on_from() -> None:
    session = book().session
    session.run(engine="local").raise_for_failure()
    for flag in ("resume", "changed"):
        with pytest.raises(UsageError, match=rf"--{flag} takes results of runs on Prefect"):
            session.run(engine="local", **{flag: True})  # type: ignore[arg-type]
    broken = book()
    broken.operation("late", "def late(x: Clean) -> int:\n    return 1 / 0\n")
    failed = broken.session.run(engine="local")
    assert (failed.state, failed.runner, failed.is_resumable) == ("failed", "local", False)
    with pytest.raises(OperationFailedError) as caught:
        failed.raise_for_failure()
    assert "--resume" not in "".join(caught.value._render_traceback_())
    with pytest.raises(UsageError, match=r"the last run, of main_flow, was one of 'local'"):
        broken.session.run(resume=True)
    assert [bar.name for bar in failed.timeline().bars] == ["load.raw", "clean", "late"]


def test_nothing_of_prefect_is_imported() -> None:
    code = """
import sys
import pulpo
from typing import NewType
Raw = NewType("Raw", int)

@pulpo.operation
def raw(n: int = 1) -> Raw:
    print("raw")
    return Raw(n)

@pulpo.operation
async def double(each: Raw) -> int:
    return each * 2

run = pulpo.run(n="4", engine="local")
print(run["double"], sorted(name for name in sys.modules if name.partition(".")[0] == "prefect"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.splitlines() == ["raw", "8 []"], done.stderr
