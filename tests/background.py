"""A session with an operation that takes long, and who listens to its runs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from recorded import Notebook

from pulpo.runs import Run

HEAD = """
import asyncio, threading, time
from dataclasses import dataclass
from typing import NewType

@dataclass
class Raw:
    number: int

Late = NewType("Late", int)
began, goes_on = threading.Event(), threading.Event()
"""
RAW = "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n"
#: Operations that take long, in each of the ways in which they can.
SLOW = {
    "python": """
def late(raw: Raw) -> Late:
    began.set()
    while not goes_on.wait(0.01):
        pass
    return Late(raw.number)
""",
    "sleep": """
def late(raw: Raw) -> Late:
    began.set()
    time.sleep(8)
    return Late(raw.number)
""",
    "async": """
async def late(raw: Raw) -> Late:
    began.set()
    while not goes_on.is_set():
        await asyncio.sleep(0.01)
    return Late(raw.number)
""",
}
#: Seconds after which what should come has not.
SECONDS = 60


def book(slow: str = "python") -> Notebook:
    made = Notebook()
    made.cell(HEAD)
    made.operation("load.raw", RAW)
    made.operation("late", SLOW[slow])
    return made


def began(made: Notebook) -> None:
    assert made.namespace["began"].wait(SECONDS)


def go_on(made: Notebook) -> None:
    made.namespace["goes_on"].set()


class Heard:
    """Listens to runs: the states that were told, and in which threads."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.threads: set[str] = set()
        self.times: list[float] = []

    def __call__(self, run: Run) -> None:
        self.states.append(run.state)
        self.threads.add(threading.current_thread().name)
        self.times.append(time.monotonic())


ENDING = """
import time
import pulpo
from pulpo.session import current

@pulpo.operation
{kind} late() -> int:
    {sleep}

run = current().start(engine={engine!r}, runner={runner!r})
while run.states["late"] == "pending":
    time.sleep(.1)
assert run.states["late"] == "running", run
print(time.time(), flush=True)
"""


def end(private_env: dict[str, str], **how: str) -> list[str]:
    """End a process in which an operation runs; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(**how)],
        capture_output=True,
        text=True,
        timeout=300,
        env=private_env,
        check=False,
    )
    ended = time.time()
    assert done.returncode == 0, done.stderr
    assert ended - float(done.stdout) < 60
    # Prefect says so of events, when a process ends soon after a run.
    return [line for line in done.stderr.splitlines() if "Still processing items" not in line]
