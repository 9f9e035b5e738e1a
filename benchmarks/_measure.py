"""Timing, and tables of what was timed."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Calls = Mapping[str, Callable[[], Any]]


def best(calls: Calls, rounds: int) -> dict[str, float]:
    """Return the least time of each call in seconds, all of them called in turn in each round.

    Processor time, which what else runs on the machine changes least. As in `timeit`, the collector
    rests during a call, for every call alike.
    """
    return _least(calls, rounds, time.process_time)


def quickest(calls: Calls, rounds: int) -> dict[str, float]:
    """Do the same as `best` by the clock on the wall, for what hands over between threads."""
    return _least(calls, rounds, time.perf_counter)


def _least(calls: Calls, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_time(call, clock))
    return {name: min(each) for name, each in times.items()}


def _time(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        result = call()
        taken = clock() - start
    finally:
        gc.enable()
    del result  # freed after the clock stopped, for every call alike
    return taken


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a call, one item for each round: on the wall, and of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def against(self, yard: Timed) -> list[float]:
        """The ratios of the rounds, in wall time."""
        return [own / other for own, other in zip(self.wall, yard.wall, strict=True)]


def interleaved(calls: Calls, *, seconds: float, least: int, most: int) -> dict[str, Timed]:
    """Return what each call took in each round; rounds go on until the seconds are used up.

    The order of the calls rotates from round to round, so that none always follows the same one.
    """
    times = {name: Timed() for name in calls}
    names = list(calls)
    end = time.monotonic() + seconds
    for place in range(most):
        if place >= least and time.monotonic() > end:
            break
        at = place % len(names)
        for name in (*names[at:], *names[:at]):
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name]()
            times[name].cpu.append(time.process_time() - cpu)
            times[name].wall.append(time.perf_counter() - wall)
    return times


def peak(call: Callable[[], Any]) -> int:
    """Return the most memory that a call held at a time, its result included, in bytes.

    As `tracemalloc` counts it: what Python allocated during the call, on top of what it was given.
    """
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return most


def mib(size: float) -> str:
    return f"{size / 2**20:,.1f}"


def median(times: Sequence[float]) -> float:
    return statistics.median(times)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f}" if seconds < 0.01 else f"{seconds * 1e3:,.1f}"


def ratio(value: float) -> str:
    return f"{value:,.2f} ×"


def quarters(ratios: Sequence[float]) -> str:
    """Return the median, and the middle half in brackets."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} × ({low:.2f} to {high:.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns also line up as plain text."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])
