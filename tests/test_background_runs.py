"""Runs in the background: told from their first moment, cancelled, waited for; listeners to all."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from background import HEAD, SECONDS, Heard, began, book, end, go_on
from recorded import Notebook

from pulpo.errors import BlockedFlowError, MissingInputError, RunError, UnknownNameError, UsageError
from pulpo.runs import Run, RunInterrupted


@pytest.fixture(autouse=True)
def quiet_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread ends with a traceback."""
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    yield
    assert raised == []


# --- Starting, and waiting -----------------------------------------------------------------------


def test_a_started_run_comes_back_at_once_and_goes_on_by_itself() -> None:
    made = book()
    run = made.session.start(parameters={"start": "3"}, engine="local")
    assert made.session.last_run is run
    began(made)
    assert run.state == "running"
    assert not run.wait(0.01)
    assert run.states == {"load.raw": "done", "late": "running"}
    assert "running" in str(run.graph())
    go_on(made)
    assert run.wait(SECONDS)
    assert (run.state, run["late"], run.result) == ("done", 3, 3)
    assert run.wait()
    assert made.session.run(only="late", engine="local").notes == (
        "raw: the result of load.raw in an earlier run",
    )


def test_what_a_run_refuses_is_refused_before_a_thread_is_started() -> None:
    made = book()
    start: Callable[..., Run] = made.session.start
    with pytest.raises(UsageError, match="no parameter 'strat'"):
        start(parameters={"strat": 1}, engine="local")
    with pytest.raises(UsageError, match="needs 'start' as int, not 'x'"):
        start(parameters={"start": "x"}, engine="local")
    with pytest.raises(UsageError, match="needs 'start' as int, not 'x'"):
        start(parameters={"start": "x"})
    with pytest.raises(UsageError, match="nothing to resume"):
        start(resume=True)
    with pytest.raises(MissingInputError):
        start(only="late", engine="local")
    with pytest.raises(UnknownNameError):
        start("nowhere", engine="local")
    made.operation("again", "def again() -> Late:\n    return 1\n")
    made.operation("use", "def use(x: Late) -> int:\n    return x\n")
    with pytest.raises(BlockedFlowError):
        start(engine="local")
    assert made.session.last_run is None
    assert "pulpo-run" not in {thread.name for thread in threading.enumerate()}


def test_an_operation_that_fails_fails_the_run_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = book()
    made.operation("late", "def late(raw: Raw) -> Late:\n    return 1 / 0\n")
    run = made.session.start(engine="local")
    assert run.wait(SECONDS)
    assert (run.state, run.failed) == ("failed", ["late"])
    assert isinstance(run.error, ZeroDivisionError)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("engine", ["local", "prefect"])
def test_an_error_outside_of_operations_stands_in_the_run(
    engine: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_given: Any, **_more: Any) -> Any:
        raise RuntimeError("no server today")

    monkeypatch.setattr("pulpo.local_runs.run_locally", broken)
    monkeypatch.setattr("pulpo.runner._load", broken)
    heard = Heard()
    run = book().session.start(engine=engine, on_change=heard)
    assert run.wait(SECONDS)
    assert (run.state, str(run.error)) == ("failed", "no server today")
    assert set(run.states.values()) == {"not reached"}
    assert heard.states[-1] == "failed"
    with pytest.raises(RunError, match="failed outside its operations: RuntimeError: no server"):
        run.raise_for_failure()
    assert capfd.readouterr().err == ""


def test_two_runs_go_side_by_side() -> None:
    made = book()
    slow = made.session.start(engine="local")
    began(made)
    quick = made.session.run("load", engine="local")
    other = made.session.start("load", engine="local")
    assert other.wait(SECONDS)
    assert (quick.state, other.state, slow.state) == ("done", "done", "running")
    go_on(made)
    assert slow.wait(SECONDS)
    assert slow.state == "done"


# --- Cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["python", "async"])
def test_a_cancelled_run_keeps_what_had_finished(slow: str) -> None:
    made = book(slow)
    run = made.session.start(engine="local")
    began(made)
    run.cancel()
    assert run.wait(SECONDS)
    assert run.state == "cancelled"
    assert run.states == {"load.raw": "done", "late": "cancelled"}
    assert run["load.raw"].number == 1
    run.cancel()
    assert run.state == "cancelled"
    go_on(made)
    assert made.session.run(only="late", engine="local").state == "done"


def test_a_run_that_was_cancelled_before_its_first_moment_runs_nothing() -> None:
    made = book()
    unwatch = made.session.watch(lambda run: run.cancel())
    run = made.session.start(engine="local")
    assert run.wait(SECONDS)
    unwatch()
    assert run.state == "cancelled"
    assert set(run.states.values()) == {"not reached"}


def test_cancelling_what_has_ended_does_nothing() -> None:
    made = book()
    run = made.session.run("load", engine="local")
    assert run.wait(0)
    run.cancel()
    assert run.state == "done"
    by_hand = Run("main_flow", ["a"])
    assert by_hand.wait(0)


@pytest.mark.parametrize("inside", ["a loop", "none", "arun"])
def test_another_thread_cancels_a_run_that_somebody_waits_for(inside: str) -> None:
    made = book()

    def press() -> None:
        began(made)
        assert made.session.last_run is not None
        made.session.last_run.cancel()

    async def main() -> Run:
        if inside == "arun":
            return await made.session.arun(engine="local")
        return made.session.run(engine="local")

    other = threading.Thread(target=press)
    other.start()
    with pytest.raises(RunInterrupted, match="1 of 2 operations had finished") as caught:
        made.session.run(engine="local") if inside == "none" else asyncio.run(main())
    other.join()
    assert caught.value.run.wait(0)
    assert caught.value.run.state == "cancelled"


def test_an_interrupt_of_the_main_thread_leaves_a_started_run_alone() -> None:
    made = book()
    run = made.session.start(engine="local")
    began(made)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run.wait(SECONDS)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert run.state == "running"
    go_on(made)
    assert run.wait(SECONDS)
    assert run.state == "done"


# --- Listening -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["run", "arun", "start"])
def test_a_listener_hears_of_every_run_from_its_beginning_to_its_end(way: str) -> None:
    made = book()
    go_on(made)
    heard = Heard()
    unwatch = made.session.watch(heard)

    def run() -> Run:
        if way == "arun":
            return asyncio.run(made.session.arun(engine="local"))
        if way == "run":
            return made.session.run(engine="local")
        return made.session.start(engine="local")

    assert run().wait(SECONDS)
    assert (heard.states[0], heard.states[-1]) == ("starting", "done")
    assert heard.threads == {"MainThread", "pulpo-run"} if way == "start" else {"MainThread"}
    unwatch()
    unwatch()
    told = len(heard.states)
    assert run().wait(SECONDS)
    assert len(heard.states) == told


def test_a_listener_is_told_ten_times_a_second_at_most() -> None:
    made = Notebook()
    made.cell(HEAD)
    made.operation("many", "def many() -> list[Raw]:\n    return [Raw(n) for n in range(60)]\n")
    made.operation("each", "def each(raw: Raw) -> Late:\n    time.sleep(0.01)\n", max_concurrency=1)
    heard = Heard()
    made.session.watch(heard)
    run = made.session.start(engine="local")
    assert run.wait(SECONDS)
    assert run.state == "done"
    assert 3 <= len(heard.states) <= 4 + 10 * (heard.times[-1] - heard.times[0])


def test_a_listener_that_raises_breaks_neither_the_run_nor_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = book()
    go_on(made)

    def broken(run: Run) -> None:
        raise ValueError("no panel")

    made.session.watch(broken)
    heard = Heard()
    made.session.watch(heard)
    run = made.session.start(engine="local", on_change=broken)
    assert run.wait(SECONDS)
    assert run.state == "done"
    assert heard.states[-1] == "done"
    assert [record.message for record in caplog.records] == ["a listener to runs raised"] * 2


def test_a_person_is_not_told_of_a_start_that_takes_no_time() -> None:
    made = book()
    go_on(made)
    heard = Heard()
    made.session.run(engine="local", on_change=heard)
    assert "starting" not in heard.states
    assert heard.states[-1] == "done"


# --- The end of the process ----------------------------------------------------------------------


def test_a_process_ends_with_what_runs_in_it(private_env: dict[str, str]) -> None:
    assert not end(private_env, kind="def", sleep="time.sleep(250)", engine="local", runner="async")
