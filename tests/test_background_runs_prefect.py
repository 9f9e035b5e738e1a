"""Runs in the background on a real Prefect: cancelled at every stage, and gone on with."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from background import SECONDS, Heard, began, book, end, go_on
from kernels import started

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def test_a_run_is_cancelled_while_its_server_starts() -> None:
    made = book()
    heard = Heard()
    made.session.watch(heard)
    run = made.session.start()
    assert not run.wait(0.5)
    assert run.state == "starting"
    run.cancel()
    assert run.wait(SECONDS)
    assert run.state == "cancelled"
    assert set(run.states.values()) == {"not reached"}
    assert (heard.states[0], heard.states[-1]) == ("starting", "cancelled")


@pytest.mark.parametrize("slow", ["sleep", "async"])
def test_a_run_is_cancelled_and_gone_on_with(slow: str) -> None:
    made = book(slow)
    run = made.session.start(parameters={"start": 4})
    began(made)
    run.cancel()
    at = time.monotonic()
    assert run.wait(SECONDS)
    assert time.monotonic() - at < 7, "it was waited for"
    assert run.states == {"load.raw": "done", "late": "cancelled"}
    go_on(made)
    again = made.session.start(resume=True)
    assert again.wait(SECONDS)
    assert (again.state, again["late"]) == ("done", 4)
    assert again.states["load.raw"] == "cached"


def test_what_a_cell_changed_during_a_run_is_not_taken_from_it() -> None:
    made = book("async")
    made.cell("factor = 2\n")
    made.operation("load.raw", "def raw() -> Raw:\n    return Raw(factor)\n")
    run = made.session.start()
    began(made)
    made.cell("factor = 3\n")
    run.cancel()
    assert run.wait(SECONDS)
    go_on(made)
    again = made.session.run(resume=True)
    assert (again.states["load.raw"], again["late"]) == ("done", 3)


@pytest.mark.parametrize("runner", ["async", "threads", "process"])
def test_a_process_ends_with_what_prefect_runs_in_it(
    private_env: dict[str, str], runner: str
) -> None:
    sleep = "for _ in range(2500): time.sleep(.1)" if runner == "threads" else "time.sleep(250)"
    said = end(private_env, kind="def", sleep=sleep, engine="prefect", runner=runner)
    assert runner == "process" or not said  # of which Python's resource tracker warns


CELL = """
%load_ext pulpo
import asyncio, time
import pulpo
from pulpo.session import current
@pulpo.operation
async def late() -> int:
    print("said by late")
    while not stop:
        await asyncio.sleep(0.05)
    return 7
stop = []
run = current().start()
while run.states["late"] != "running":
    time.sleep(0.05)
"""


def test_a_kernel_is_free_meanwhile_and_its_interrupt_is_not_for_the_run(
    private_env: dict[str, str], tmp_path: Path
) -> None:
    with started(private_env | {"PULPO_NO_WARMUP": "1"}, tmp_path) as kernel:
        kernel.run(CELL)
        request = kernel.send("open('waits', 'w').close()\ntime.sleep(300)")
        while not (tmp_path / "waits").exists():
            time.sleep(0.1)
        kernel.manager.interrupt_kernel()
        *_, error = kernel.outputs(request)
        assert error["ename"] == "KeyboardInterrupt"
        assert kernel.text("run.state") == "'running'"
        kernel.run("stop.append(1)")
        assert kernel.text("run.wait(60), run.state, run['late']") == "(True, 'done', 7)"
        assert kernel.text("run.logs('late')[0]") == "'late: said by late'"
