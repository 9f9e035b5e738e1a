"""Runs in a real kernel: on workers, again after edits, and after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import Kernel, plain, started

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

MODELS = """
%load_ext pulpo
import os
import time
from typing import NewType
from prefect import get_run_logger
from pydantic import BaseModel
import pulpo
class Raw(BaseModel):
    numbers: list[int]
class Item(BaseModel):
    number: int
class Score(BaseModel):
    number: int
Total = NewType("Total", int)
def divided(number):
    return 12 // (3 - number)
"""
FETCH = """
%%operation load.fetch
def fetch(count: int = 2) -> Raw:
    print("in", "line")
    get_run_logger().warning("logged")
    print("begun", end="")
    return Raw(numbers=list(range(count)))
"""
SPLIT = """
%%operation load.split
def split(raw: Raw) -> list[Item]:
    assert isinstance(raw, Raw), "of another class"
    return [Item(number=number) for number in raw.numbers]
"""
SCORE = """
%%operation score
async def score(item: Item) -> Score:
    assert isinstance(item, Item), "of another class"
    return Score(number=divided(item.number))
"""
TOTAL = """
%%operation total
def total(scores: list[Score]) -> Total:
    assert all(isinstance(score, Score) for score in scores), "of another class"
    return sum(score.number for score in scores)
"""


@pytest.fixture
def kernel(private_env: dict[str, str], tmp_path: Path) -> Iterator[Kernel]:
    with started(private_env | {"PULPO_NO_WARMUP": "1"}, tmp_path) as made:
        define(made)
        yield made


def define(kernel: Kernel) -> None:
    for cell in (MODELS, FETCH, SPLIT, SCORE, TOTAL):
        kernel.run(cell)


def states(kernel: Kernel) -> str:
    return kernel.text("' '.join(pulpo.last_run().states.values())").strip("'")


def test_operations_of_cells_run_on_workers_which_tell_what_they_say_and_when(
    kernel: Kernel,
) -> None:
    for runner in ("threads", "process", "dask"):
        outputs = kernel.run(f"run = %pulpo run --runner {runner}")
        shown = {plain(output) for output in outputs}
        assert shown == {"main_flow: 4 operations"}, runner
        assert kernel.text("run['total']") == "10"
        said = kernel.text("print(*run.logs('load.fetch'), sep='\\n')").split("\n")
        assert {"load.fetch: in line", "load.fetch: begun", "WARNING load.fetch: logged"} <= {*said}
        assert kernel.text("[o.attempts for o in run.operations.values()]") == "[1, 1, 2, 1]"
        ordered = "o = run.operations\n0 < o['load.fetch'].start < o['load.split'].start"
        assert kernel.text(f"{ordered} < o['total'].start <= run.seconds") == "True"
        assert kernel.text("'total' in run.timeline().critical") == "True"

        *_, error = kernel.run(f"%pulpo run --runner {runner} --param count=4")
        lines = "\n".join(error["traceback"])
        assert error["ename"] == "OperationFailedError"
        assert "score failed at element 4 of 4: item=Item(number=3)" in lines
        assert "return Score(number=divided(item.number))" in lines
        assert "return 12 // (3 - number)" in lines
        assert "site-packages" not in lines
        assert "dynamic" not in lines


def test_an_interrupt_does_not_wait_for_a_worker_and_leaves_the_pool_usable(
    kernel: Kernel, tmp_path: Path
) -> None:
    # Longer than a message is waited for: what were not interrupted would fail here.
    waits = "    open('began', 'w').close()\n    time.sleep(300)\n    return"
    slow = TOTAL.replace("    return", waits)
    for flags in ("--runner threads", ""):
        kernel.run(slow)
        kernel.run("import pathlib\npathlib.Path('began').unlink(missing_ok=True)")
        request = kernel.send(f"%pulpo run {flags}")
        began = tmp_path / "began"
        while not began.exists():
            time.sleep(0.1)
        kernel.manager.interrupt_kernel()
        *_, error = kernel.outputs(request)
        assert error["ename"] == "RunInterrupted", flags
        assert "3 of 4 operations had finished" in error["evalue"]
        assert states(kernel) == "done done done cancelled"
    # A process that waits for work does not mind an interrupt that is meant for another cell.
    kernel.run(TOTAL.replace("total", "total --strategy process", 1))
    assert kernel.text("run = %pulpo run\nrun['total']").endswith("10")
    request = kernel.send("open('began', 'w').close()\ntime.sleep(300)")
    time.sleep(1)
    kernel.manager.interrupt_kernel()
    assert [output["ename"] for output in kernel.outputs(request)] == ["KeyboardInterrupt"]
    outputs = kernel.run("run = %pulpo run\nrun['total']")
    assert [output for output in outputs if output["type"] in ("stream", "error")] == []
    assert outputs[-1]["data"]["text/plain"] == "10"


def test_a_model_that_is_defined_again_between_runs_breaks_nothing(kernel: Kernel) -> None:
    kernel.run("%pulpo run")
    kernel.run(MODELS)
    assert kernel.text("run = %pulpo run\nrun['total']").endswith("10")
    assert kernel.text("type(run['load.fetch']) is Raw") == "True"
    # A kept result is of the old class, so it is made again.
    kernel.run("%pulpo run --param count=4")
    assert states(kernel) == "done done failed not reached"
    kernel.run(MODELS.replace("(3 - number)", "(4 - number)"))
    kernel.run("run = %pulpo run --resume")
    assert states(kernel) == "done done done done"
    assert kernel.text("run['total']") == "25"


def test_changed_finds_its_results_after_a_restart_and_a_new_class(kernel: Kernel) -> None:
    kernel.run("%pulpo run --changed")
    assert states(kernel) == "done done done done"
    kernel.run(MODELS)
    kernel.run("run = %pulpo run --changed")
    assert states(kernel) == "cached cached cached cached"
    assert kernel.text("type(run['load.split'][0]) is Item") == "True"

    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=120)
    define(kernel)
    kernel.run("run = %pulpo run --changed")
    assert states(kernel) == "cached cached cached cached"
    assert kernel.text("run['total']") == "10"
    kernel.run(SCORE.replace("divided(item.number)", "divided(item.number) + 1"))
    kernel.run("run = %pulpo run --changed")
    assert states(kernel) == "cached cached done done"
    assert kernel.text("run['total']") == "12"
