"""The flows that are run: as operations for pulpo, and as a good user of Prefect writes them."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from _graphs import Graph, chain, layered

from pulpo.operations import make_operation
from pulpo.registry import OperationRegistry
from pulpo.session import Session

#: How an operation stands in a flow written by hand.
Hand = Literal["async", "thread", "submit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation: ``takes`` are (parameter, type, where the flow written by hand has it)."""

    name: str
    takes: tuple[tuple[str, str, str], ...] = ()
    gives: str
    seconds: float = 0.0

    @property
    def function(self) -> str:
        return self.name.replace(".", "_")

    @property
    def signature(self) -> str:
        ports = ", ".join(f"{name}: {type_}" for name, type_, _ in self.takes)
        return f"{self.function}({ports}) -> {self.gives}:"

    @property
    def call(self) -> str:
        given = "".join(f", {name}={source}" for name, _, source in self.takes)
        return f"{self.function}({given[2:]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is run: ``flows`` are the bodies of the flows written by hand, the last one is main."""

    name: str
    steps: tuple[Step, ...]
    flows: dict[str, str]
    is_async: bool = True
    hand: Hand = "async"
    #: The longest path of sleeps: its seconds, and how many operations it has.
    critical: tuple[float, int] = (0.0, 0)

    def __len__(self) -> int:
        return len(self.steps)

    def operations_text(self) -> str:
        """Return the module of models and plain functions that pulpo and the hand both use."""
        lines = [
            "import asyncio",
            "import time",
            "from typing import NewType",
            "",
            "from pydantic import BaseModel",
            "",
            "",
            "class Value(BaseModel):",
            "    number: int",
            "",
            "",
            *(f'{name} = NewType("{name}", Value)' for name in self._models()),
        ]
        for step in self.steps:
            lines += ["", "", *self._function(step, "")]
        return "\n".join(lines) + "\n"

    def hand_text(self, operations: str) -> str:
        """Return the flow as written by hand: tasks with their bodies, and the flows."""
        names = ["Value", *self._models()]
        lines = ["import asyncio", "", "from prefect import flow, task"]
        lines += ["from prefect.cache_policies import NO_CACHE", ""]
        if self.hand == "async":
            lines += [f"from {operations} import {', '.join(names)}"]
        else:  # the functions are there, and sync
            lines += [f"from {operations} import *", f"import {operations} as functions"]
        for step in self.steps:
            lines += ["", "", "@task(cache_policy=NO_CACHE)", *self._task(step)]
        for name, body in self.flows.items():
            lines += ["", "", "@flow", f"async def {name}:", *_indented(body)]
        return "\n".join(lines) + "\n"

    def _models(self) -> list[str]:
        return list(dict.fromkeys(step.gives for step in self.steps))

    def _function(self, step: Step, prefix: str) -> list[str]:
        waits = "await asyncio.sleep" if self.is_async else "time.sleep"
        return [
            f"{'async ' if self.is_async else ''}def {prefix}{step.signature}",
            *([f"    {waits}({step.seconds})"] if step.seconds else []),
            f"    return {step.gives}(Value(number=1))",
        ]

    def _task(self, step: Step) -> list[str]:
        if self.hand == "async":
            return self._function(step, "")
        given = "".join(f", {name}" for name, _, _ in step.takes)
        function = f"functions.{step.function}"
        if self.hand == "thread":
            call = f"await asyncio.to_thread({function}{given})"
            return [f"async def {step.signature}", f"    return {call}"]
        return [f"def {step.signature}", f"    return {function}({given[2:]})"]


def _indented(body: str) -> list[str]:
    return [f"    {line}" if line else line for line in body.strip("\n").split("\n")]


# --- Shapes --------------------------------------------------------------------------------------


def wide(count: int, *, is_async: bool = True, hand: Hand = "async") -> Shape:
    """Return operations that need nothing."""
    steps = tuple(Step(name=f"op_{place}", gives=f"M{place}") for place in range(count))
    if hand == "submit":
        calls = "\n".join(f"    {step.function}.submit()," for step in steps)
        body = f"futures = [\n{calls}\n]\nreturn [future.result() for future in futures]"
    else:
        calls = "\n".join(f"    {step.call}," for step in steps)
        body = f"return await asyncio.gather(\n{calls}\n)"
    name = "wide" if is_async else f"wide_sync_{hand}"
    flows = {"main_flow()": body}
    return Shape(name=name, steps=steps, flows=flows, is_async=is_async, hand=hand)


def deep(count: int) -> Shape:
    """Return operations that each take the result of the one before."""
    steps = _steps(chain(count))
    lines = [f"{step.gives.lower()} = await {step.call}" for step in steps]
    body = "\n".join([*lines, f"return {steps[-1].gives.lower()}"])
    return Shape(name="deep", steps=steps, flows={"main_flow()": body})


def nested(count: int) -> Shape:
    """Return groups: one operation, several that take its result, one that takes all of theirs.

    What the groups give goes to a report, so data passes between tasks, and out of flows.
    """
    groups = {10: 2, 100: 10}.get(count, count // 50)
    steps: list[Step] = []
    flows: dict[str, str] = {}
    for place in range(groups):
        page, works, joined = f"Page{place}", f"Work{place}", f"Joined{place}"
        name = f"group{place}"
        fetch = Step(name=f"{name}.fetch", gives=page)
        work = [
            Step(name=f"{name}.work_{number}", takes=(("page", page, "page"),), gives=works)
            for number in range(count // groups - 2)
        ]
        join = Step(
            name=f"{name}.join", takes=(("works", f"list[{works}]", "works"),), gives=joined
        )
        steps += [fetch, *work, join]
        calls = "\n".join(f"    {step.call}," for step in work)
        flows[f"{name}_flow()"] = (
            f"page = await {fetch.call}\n"
            f"works = await asyncio.gather(\n{calls}\n)\n"
            f"return await {join.call}"
        )
    takes = tuple((f"j{p}", f"Joined{p}", f"joined[{p}]") for p in range(groups))
    report = Step(name="report", takes=takes, gives="Report")
    calls = "\n".join(f"    {flow}," for flow in flows)
    flows["main_flow()"] = f"joined = await asyncio.gather(\n{calls}\n)\nreturn await {report.call}"
    return Shape(name="nested", steps=(*steps, report), flows=flows)


def crossing() -> Shape:
    """Return a → c and b → d, where a barrier between the stages would cost the most."""
    graph = Graph(sources=((), (), (0,), (1,)), layers=(0, 0, 1, 1))
    return _unbalanced("crossing", graph, (0.2, 0.7, 0.7, 0.2))


def random_layers(count: int = 36, seed: int = 0) -> Shape:
    """Return a layered random DAG, fan-in 2, whose operations sleep between 0.05 and 0.5 s."""
    chance = random.Random(seed)
    sleeps = tuple(round(chance.uniform(0.05, 0.5), 2) for _ in range(count))
    return _unbalanced("random", layered(count), sleeps)


def idle(shape: Shape) -> Shape:
    """Return the same without sleeps."""
    steps = tuple(Step(name=step.name, takes=step.takes, gives=step.gives) for step in shape.steps)
    return Shape(name=f"{shape.name}_idle", steps=steps, flows=shape.flows)


def _unbalanced(name: str, graph: Graph, sleeps: Sequence[float]) -> Shape:
    steps = _steps(graph, sleeps)
    ends: list[tuple[float, int]] = []
    for place, sources in enumerate(graph.sources):
        seconds, length = max((ends[source] for source in sources), default=(0.0, 0))
        ends.append((seconds + sleeps[place], length + 1))
    lines = []
    for layer in sorted(set(graph.layers)):  # by hand, as most do it: stage after stage
        stage = [step for step, at in zip(steps, graph.layers, strict=True) if at == layer]
        calls = "\n".join(f"    {step.call}," for step in stage)
        names = ", ".join(step.gives.lower() for step in stage)
        lines.append(f"{names} = await asyncio.gather(\n{calls}\n)")
    given = ", ".join(f"m{place}" for place in graph.ends)
    body = "\n".join([*lines, f"return [{given}]"])
    return Shape(name=name, steps=steps, flows={"main_flow()": body}, critical=max(ends))


def _steps(graph: Graph, sleeps: Sequence[float] = ()) -> tuple[Step, ...]:
    return tuple(
        Step(
            name=f"op_{place}",
            takes=tuple(
                (port, f"M{source}", f"m{source}")
                for port, source in zip("ab", sources, strict=False)
            ),
            gives=f"M{place}",
            seconds=sleeps[place] if sleeps else 0.0,
        )
        for place, sources in enumerate(graph.sources)
    )


# --- Made live -----------------------------------------------------------------------------------


class Built(NamedTuple):
    """A shape, ready to run: ``exported`` and ``by_hand`` are flows of Prefect."""

    session: Session
    exported: Callable[[], Any]
    by_hand: Callable[[], Any]


def build(shape: Shape, folder: Path) -> Built:
    """Write the shape's modules into a folder that is on the path, and import them."""
    label = f"{shape.name}_{len(shape)}"
    (folder / f"steps_{label}.py").write_text(shape.operations_text(), "utf-8")
    (folder / f"hand_{label}.py").write_text(shape.hand_text(f"steps_{label}"), "utf-8")
    importlib.invalidate_caches()
    steps = importlib.import_module(f"steps_{label}")
    session = Session(OperationRegistry(), {})
    for step in shape.steps:
        function = getattr(steps, step.function)
        session.registry.register(make_operation(function, name=step.name))
    package = f"exported_{label}"
    session.export(folder / package)
    importlib.invalidate_caches()
    exported = importlib.import_module(f"{package}.orchestration.main_flow")
    by_hand = importlib.import_module(f"hand_{label}")
    return Built(session, exported.main_flow, by_hand.main_flow)


def put_on_path(folder: Path) -> None:
    sys.path.insert(0, str(folder))
