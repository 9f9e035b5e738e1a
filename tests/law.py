"""The law: what holds for every session, its plan, its code, and what the code does."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import fake_prefect
import pytest
from meaning import Interpreter, Meaning
from sessions import WORLD

from pulpo.backends.prefect import PrefectCodeGenerator
from pulpo.compiler import Selection, compile_graph, compile_plan
from pulpo.dataflow import DataFlowGraph, build_graph
from pulpo.operations import NO_DEFAULT, Operation, Output, Port
from pulpo.plan import (
    FlowDefinition,
    FromList,
    FromParameter,
    FromResult,
    Nothing,
    Orchestration,
    Runner,
    Source,
    Step,
)

# --- What operations do ---------------------------------------------------------------------------


class World:
    """Calls operations: notes what they get, and answers from that alone."""

    def __init__(self, operations: Iterable[Operation], fails: str = "") -> None:
        self.operations = {operation.name: operation for operation in operations}
        #: The operation that fails, whatever it gets.
        self.fails = fails
        #: What each call got, in the order of the calls; and which operations run per element.
        self.calls: list[tuple[str, str]] = []
        self.mapped: set[str] = set()

    def call(self, name: str, given: dict[str, Any]) -> Any:
        told = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}
        text = f"{name}({sorted(told.items())})"
        self.calls.append((name, text))
        if name == self.fails:
            raise FailedError(name)
        operation = self.operations[name]
        skips = operation.options.on_element_error == "skip" and name in self.mapped
        if skips and number_of(text) % 4 == 0:
            raise ValueError(text)
        items = [item(f"{text}{n}", output) for n, output in enumerate(operation.outputs)]
        if items and operation.outputs[0].index is None:
            return items[0]
        places = {o.index: item for o, item in zip(operation.outputs, items, strict=True)}
        width = 1 + max((place or 0 for place in places), default=0)
        if not operation.gives_value:
            return None
        return tuple(places.get(n, "nothing") for n in range(width)) if items else text


class FailedError(Exception):
    """What the operation that fails raises."""


def item(text: str, output: Output) -> Any:
    number = number_of(text)
    if output.optional and number % 3 == 0:
        return None
    size = (0, 1, 2, 2, 3, 3)[number % 6]
    return [f"{number}.{n}" for n in range(size)] if output.many else f"{number}"


def number_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:6], 16)


NOW = World([])


def call(name: str, given: dict[str, Any]) -> Any:
    """What every function of a random session does."""
    return NOW.call(name, given)


def person_gives(operation: Operation, port: Port) -> Any:
    """Return what a person gives for a port, the same for the same name, type and default."""
    if port.default is not NO_DEFAULT:
        return port.default
    what = port.annotation.text if port.annotation else ""
    number = number_of(f"{port.name} {what}")
    if port.model is None:
        return number if what == "int" else f"<{number}>"
    make = WORLD[port.model.name]
    made = [number] if make is WORLD["Table"] else make(n=number_of(port.model.name))
    return [made] if port.shape == "all" else made


# --- The law of the graph, and of a plan ----------------------------------------------------------


def graph_obeys(graph: DataFlowGraph, meaning: Meaning, known: Interpreter) -> None:
    """Check that each port takes what the rules say, and that what they cannot say is told."""
    names = graph.names
    found = {(names[e.source], names[e.target], e.port, e.kind) for e in graph.links}
    assert found == meaning.edges
    hows = {"none": "nothing", "missing": "person", "ambiguous": "unsettled"}
    bound = [(name, each) for name, own in zip(names, graph.bindings, strict=True) for each in own]
    for name, binding in bound:
        heads = tuple((names[place], output.index) for place, output in binding.heads)
        taken = meaning.takes[name, binding.port.name]
        how = hows.get(binding.how, binding.how)
        assert (how, heads) == taken or how == taken.how == "unsettled", (binding, taken)
    assert len(bound) == len(meaning.takes)
    assert graph.has_cycle() == (len(meaning.in_order()) < len(names))
    if not graph.has_cycle() and not meaning.unsettled():
        # What takes a result that nobody can make means nothing: it may be one, or many.
        ran = {name for name, _ in known.results}
        assert {names[place] for place in graph.maps} & ran == known.mapped
        steps = {p.operation for p in graph.problems if p.code == "maps-out-of-step"}
        assert steps & (ran | known.out_of_step.keys()) == known.out_of_step.keys()


def plan_obeys(plan: Orchestration) -> None:
    """Check that a plan runs every operation once, respects every edge, binds every port once."""
    nodes = {node.name: node for node in plan.operations}
    flows = {flow.name: flow for flow in plan.flows}
    assert len(flows) == len(plan.flows)
    assert len({name.lower() for name in flows}) == len(flows)
    for each in plan.flows:
        if not each.blocked:
            flow_obeys(each, flows, nodes, plan)
    if plan.flows and not (main := flows["main_flow"]).blocked:
        assert sorted(closure(main, flows)) == sorted(nodes)


def closure(each: FlowDefinition, flows: dict[str, FlowDefinition]) -> list[str]:
    found = [step.target for step in each.steps if step.kind == "task"]
    for step in each.steps:
        if step.kind == "flow":
            found += closure(flows[step.target], flows)
    return found


def flow_obeys(
    each: FlowDefinition,
    flows: dict[str, FlowDefinition],
    nodes: dict[str, Any],
    plan: Orchestration,
) -> None:
    assert sorted(closure(each, flows)) == sorted(each.covers)
    assert [step.target for step in each.steps] == [
        name for stage in each.parallel_groups for name in stage
    ]
    own = [parameter.name for parameter in each.parameters]
    assert len(set(own)) == len(own)
    defaults = [p.default is not None for p in each.parameters]
    assert defaults == sorted(defaults), "a parameter without a default stands after one with"
    home = {
        name: step
        for step in each.steps
        for name in ([step.target] if step.kind == "task" else flows[step.target].covers)
    }
    for step in each.steps:
        step_obeys(step, each, flows, nodes, home)
    for edge in plan.edges:
        source, target = home.get(edge.source), home.get(edge.target)
        if source is not None and target is not None and source is not target:
            assert source.stage < target.stage
            assert source.target in waited_for(target)
    for name in each.returns:
        assert nodes[name].gives_value
        step = home[name]
        assert step.kind == "task" or name in flows[step.target].returns


def step_obeys(
    step: Step,
    each: FlowDefinition,
    flows: dict[str, FlowDefinition],
    nodes: dict[str, Any],
    home: dict[str, Step],
) -> None:
    wanted = (
        [port.name for port in nodes[step.target].ports]
        if step.kind == "task"
        else [parameter.name for parameter in flows[step.target].parameters]
    )
    assert sorted(argument.name for argument in step.arguments) == sorted(wanted)
    known = {step.target: step for step in each.steps}
    for argument in step.arguments:
        for one in results(argument.source):
            assert known[one.step].stage < step.stage
            assert home[one.value.operation] is known[one.step]
            if known[one.step].kind == "flow":
                assert one.value.operation in flows[one.step].returns
        for name in given_parameters(argument.source):
            assert name in [parameter.name for parameter in each.parameters]
        assert isinstance(argument.source, FromResult | FromParameter | FromList | Nothing)
    for name in step.after:
        assert known[name].stage < step.stage


def waited_for(step: Step) -> set[str]:
    """Return the steps that a step comes after."""
    fed = {one.step for argument in step.arguments for one in results(argument.source)}
    return fed | set(step.after)


def results(source: Source) -> Iterator[FromResult]:
    for one in source.items if isinstance(source, FromList) else (source,):
        if isinstance(one, FromResult):
            yield one


def given_parameters(source: Source) -> Iterator[str]:
    for one in source.items if isinstance(source, FromList) else (source,):
        if isinstance(one, FromParameter):
            yield one.name


def compiles_again(
    plan: Orchestration, operations: Sequence[Operation], random: Random, *, flat: bool = False
) -> None:
    """Check that the same plan comes out again, and the same edges in whatever order.

    Only the order of transforms, among themselves, means something.
    """
    assert compile_plan(operations, flat=flat) == plan
    transforms = [o for o in operations if not set(o.models_in).isdisjoint(o.models_out)]
    shuffled = random.sample(list(operations), len(operations))
    in_turn = iter(transforms)
    kept = {operation.name for operation in transforms}
    shuffled = [next(in_turn) if o.name in kept else o for o in shuffled]
    other = compile_plan(shuffled, flat=flat)
    assert set(other.edges) == set(plan.edges)
    assert other.is_valid == plan.is_valid


# --- The law of generated code --------------------------------------------------------------------


class Style(NamedTuple):
    """One way to make flows of a session."""

    runner: Runner = "async"
    flat: bool = False
    selection: Selection | None = None


STYLES = (
    Style(),
    Style(flat=True),
    Style("threads"),
    Style("process"),
    Style("dask"),
    Style("ray"),
)
#: Task runners whose flows differ in nothing but the task runner.
TWINS: dict[Runner, Runner] = {
    "threads": "process",
    "process": "threads",
    "dask": "ray",
    "ray": "dask",
}


def some_selection(operations: Sequence[Operation], random: Random) -> Selection:
    names = [operation.name for operation in operations]
    some = tuple(random.sample(names, random.randint(1, min(3, len(names)))))
    return Selection(**{random.choice(("upto", "start", "only")): some})


class Proof:
    """Checks one session, in one style after the other.

    Parameters
    ----------
    operations
        Whose functions use `call`.
    seen
        Counts what was met.
    random
        Decides on what is selected, what fails, and what overtakes what.

    Attributes
    ----------
    texts
        A hash of every text that was generated.
    """

    def __init__(
        self, operations: list[Operation], seen: Counter[str], random: Random | None = None
    ) -> None:
        global NOW
        self.operations = operations
        self.seen = seen
        self.random = random or Random(len(operations))
        self.texts = hashlib.sha256()
        self.selection = some_selection(operations, self.random)
        self.graph = build_graph(operations)
        self.meaning = Meaning(operations)
        self.person = {(o.name, p.name): person_gives(o, p) for o in operations for p in o.ports}
        NOW = World(operations)
        self.known = Interpreter(self.meaning, self.person, NOW.call, NOW.mapped)
        self.calls, self.mapped = sorted(NOW.calls), NOW.mapped
        graph_obeys(self.graph, self.meaning, self.known)
        self.plan = compile_graph(self.graph)
        compiles_again(self.plan, operations, self.random)
        seen["sessions"] += 1
        seen["operations"] += len(operations)
        seen["edges"] += len(self.meaning.edges)
        seen["maps"] += len(self.mapped)
        codes = {problem.code for problem in self.plan.problems}
        seen["loops of groups"] += "groups-in-a-loop" in codes
        seen["blocked"] += any(f.name == "main_flow" and bool(f.blocked) for f in self.plan.flows)

    def holds_for(self, style: Style) -> None:
        """Check the plan and the code of one style, and what each flow does."""
        plan, flows = self._flows(style)
        part = "selections" if style.selection else ""
        self.seen[part or ("flat" if style.flat else style.runner)] += 1
        main = plan.get_flow("main_flow")
        for definition in plan.flows:
            if self.can_run(definition):
                self._does_what_is_meant(plan, definition, flows[definition.name])
        if main and self.can_run(main):
            self._fails_as_is_meant(plan, main, flows["main_flow"])

    # - one style -

    def _flows(self, style: Style) -> tuple[Orchestration, dict[str, Any]]:
        plan, texts = write(self.graph, style, self.texts)
        plan_obeys(plan)
        if twin := TWINS.get(style.runner):
            _, others = write(self.graph, style._replace(runner=twin), self.texts)
            assert list(map(but_for_the_runner, others.values())) == list(
                map(but_for_the_runner, texts.values())
            )
        functions = {operation.name: operation.function for operation in self.operations}
        fake_prefect.RANDOM.seed(self.random.random())
        return plan, self.load(plan, texts, functions)

    def can_run(self, definition: FlowDefinition) -> bool:
        """Return whether nothing stops a flow, or what it takes from others."""
        heads = {(p.value.operation, p.value.index) for p in definition.parameters if p.value}
        heads |= {(name, None) for name in definition.covers}
        return not definition.blocked and heads <= self.known.results.keys()

    def _given(self, plan: Orchestration, definition: FlowDefinition) -> dict[str, Any]:
        """Return the arguments of a flow: what others gave, and what a person gives."""
        people = self._people(plan)
        return {
            p.name: self.known.results[p.value.operation, p.value.index].value
            if p.value
            else people[p.name]
            for p in definition.parameters
            if p.default is None
        }

    def _people(self, plan: Orchestration) -> dict[str, Any]:
        """Return the value of each parameter that a person gives, which all its users share."""
        found: dict[str, Any] = {}
        for flow in plan.flows:
            others = {parameter.name for parameter in flow.parameters if parameter.value}
            for step in flow.steps:
                for argument in step.arguments if step.kind == "task" else ():
                    if isinstance(argument.source, FromParameter):
                        name, at = argument.source.name, (step.target, argument.name)
                        if name not in others:
                            assert found.setdefault(name, self.person[at]) == self.person[at]
        return found

    def _does_what_is_meant(
        self, plan: Orchestration, definition: FlowDefinition, flow: Any
    ) -> None:
        covers = set(definition.covers)
        expected = [called for called in self.calls if called[0] in covers]
        result, calls = self._run(flow, self._given(plan, definition))
        assert sorted(calls) == expected
        in_a_legal_order(plan, [name for name, _ in calls])
        returned = {name: self.known.results[name, None].value for name in definition.returns}
        assert result == (next(iter(returned.values()), None) if len(returned) < 2 else returned)
        few_at_a_time(plan, flow)
        self.seen["flows run"] += 1
        self.seen["calls"] += len(calls)
        self.seen["gather" if definition.waits else "start"] += 1
        self.seen["subflows"] += len(definition.subflows)
        self.seen["several returned"] += len(returned) > 1

    def _fails_as_is_meant(self, plan: Orchestration, main: FlowDefinition, flow: Any) -> None:
        """Check that an operation that fails stops what depends on it, and nothing else."""
        called = {name for name, _ in self.calls} & set(main.covers)
        skip = {o.name for o in self.operations if o.options.on_element_error == "skip"}
        can_fail = sorted(called - (skip & self.mapped))
        if not can_fail:
            return
        fails = self.random.choice(can_fail)
        reached, _ = reached_in(main, plan, fails)
        with pytest.raises(FailedError) as failed:
            self._run(flow, self._given(plan, main), fails)
        assert failed.value.args == (fails,)
        assert {name for name, _ in NOW.calls} == reached & called
        in_a_legal_order(plan, [name for name, _ in NOW.calls])
        self.seen["failures"] += 1

    def _run(
        self, flow: Any, given: dict[str, Any], fails: str = ""
    ) -> tuple[Any, list[tuple[str, str]]]:
        global NOW
        NOW = World(self.operations, fails)
        NOW.mapped = self.mapped
        return self.run(flow, given), NOW.calls

    # - where it runs -

    def load(
        self, plan: Orchestration, texts: dict[str, str], functions: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the flows of the generated modules."""
        return fake_prefect.load(texts, {"OPERATIONS": functions, **WORLD})

    def run(self, flow: Any, given: dict[str, Any]) -> Any:
        """Return what a flow gives."""
        try:
            return LOOP.run(alone(flow(**given)))
        finally:
            unheard, UNHEARD[:] = UNHEARD[:], []
            assert not unheard, unheard


def write(graph: DataFlowGraph, style: Style, texts: Any) -> tuple[Orchestration, dict[str, str]]:
    """Return the plan of a style and the text of each flow, and add them to a hash of all."""
    plan = compile_graph(graph, flat=style.flat, runner=style.runner, selection=style.selection)
    generator = PrefectCodeGenerator()
    # What runs is parsed anyway, and to do so twice takes a third of the time.
    with mock.patch("pulpo.backends.prefect._parsed", lambda code, name: code):
        found = generator.generate_all_flows(plan)
    for text in (*found.values(), generator.generate_flow_registry(plan)):
        texts.update(text.encode())
    return plan, found


def but_for_the_runner(text: str) -> list[str]:
    flow = r"@\w+\([^@]*TaskRunner.*?\)\n(?=async def)"
    shared = r"(?<=\.orchestration import )(?:\([^)]*\)|.*)"
    text = re.sub(flow, "", text, flags=re.DOTALL)
    text = re.sub(shared, lambda names: " ".join(_but_rays(names[0])), text)
    lines = text.splitlines()
    return [line for line in lines if "TaskRunner" not in line and line != "import os"]


def _but_rays(names: str) -> list[str]:
    return [name for name in re.findall(r"\w+", names) if name != "ray_options"]


LOOP = asyncio.Runner()
#: What the event loop would print: failures that nobody has looked at, and the like.
UNHEARD: list[dict[str, Any]] = []


async def alone(call: Any) -> Any:
    """Await a flow, and see that nothing of it goes on, or goes unheard."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: UNHEARD.append(told))
    try:
        return await call
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left


def reached_in(flow: FlowDefinition, plan: Orchestration, fails: str) -> tuple[set[str], bool]:
    """Return the operations that run although one fails, and whether all did."""
    reached: set[str] = set()
    lost: set[str] = set()
    for step in flow.steps:
        if waited_for(step) & lost:
            lost.add(step.target)
            continue
        inner, whole = {step.target}, step.target != fails
        if step.kind == "flow":
            child = plan.get_flow(step.target)
            assert child
            inner, whole = reached_in(child, plan, fails)
        reached |= inner
        if not whole:
            lost.add(step.target)
    return reached, not lost


def in_a_legal_order(plan: Orchestration, calls: list[str]) -> None:
    last = {name: place for place, name in enumerate(calls)}
    first = {name: place for place, name in reversed([*enumerate(calls)])}
    for edge in plan.edges:
        if edge.source in last and edge.target in first:
            assert last[edge.source] < first[edge.target], edge


def few_at_a_time(plan: Orchestration, flow: Any) -> None:
    for task in flow.fn.__globals__.values():
        if not isinstance(task, fake_prefect.Task):
            continue
        node = plan.get_operation(task.name)
        assert node
        if node.maps and node.options.max_concurrency:
            assert task.most <= node.options.max_concurrency


# --- Many sessions --------------------------------------------------------------------------------


def prove(
    operations: list[Operation],
    seen: Counter[str],
    *,
    random: Random | None = None,
    styles: Sequence[Style] = STYLES,
) -> str:
    """Check everything of one session, and a part of it; return a hash of all texts."""
    proof = Proof(operations, seen, random)
    for style in (*styles, Style(selection=proof.selection)):
        proof.holds_for(style)
    return proof.texts.hexdigest()
