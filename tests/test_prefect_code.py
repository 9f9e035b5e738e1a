"""Generated Prefect code: as text, compared whole, and run on a stand-in for Prefect."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import linecache
import os
from collections import Counter
from pathlib import Path
from typing import Any

import fake_prefect
import pytest
from declared import MODELS, Duck, declare, declared
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sessions import WORLD, sessions

import pulpo
from pulpo.backends.prefect import (
    PrefectCodeGenerator,
    cache_seconds,
    generate_flow,
    generate_modules,
    literal,
    names_in_signatures,
)
from pulpo.compiler import compile_graph, compile_plan
from pulpo.dataflow import DataFlowGraph, build_graph
from pulpo.errors import BlockedFlowError, UnknownNameError
from pulpo.operations import Operation, Output, make_operation, options_from_flags
from pulpo.plan import FlowDefinition, FromParameter, Orchestration

# --- As text -----------------------------------------------------------------------------------

SNAPSHOTS = Path(__file__).parent / "snapshots"


def cell(source: str, **names: Any) -> dict[str, Any]:
    """Run source as a notebook does: in ``__main__``, and so that its text can be found again."""
    file = f"<cell {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope = {**MODELS, "pulpo": pulpo, **names, "__name__": "__main__"}
    exec(compile(source, file, "exec", dont_inherit=True), scope)
    return scope


def session(source: str, **flags: dict[str, Any]) -> list[Operation]:
    """Return the operations of a source in which ``# name`` stands above each function."""
    scope = cell(source)
    found = []
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("# ") and number + 1 < len(lines) and "def " in lines[number + 1]:
            function = lines[number + 1].partition("def ")[2].partition("(")[0]
            name = line.removeprefix("# ")
            options = options_from_flags(flags.get(function, {}))
            found.append(make_operation(scope[function], name=name, options=options))
    return found


JOBS = '''
import datetime
from typing import Literal
LIMIT = 5

# scraping.stepstone.fetch
async def fetch_stepstone(query: str) -> Raw:
    """Fetch the pages of StepStone."""

# scraping.linkedin.fetch
async def fetch_linkedin(query: str, pages: int = 3) -> Raw:
    """Ask LinkedIn's API.

    One page at a time:
        slowly.
    """

# scraping.merge
def merge(stepstone: Raw, linkedin: Raw) -> Clean:
    return Clean()

# parsing.skills
def skills(jobs: Clean, top: int = LIMIT, *, mode: Literal["all", "few"] = "all") -> list[Skills]:
    return []

# report
def report(jobs: Clean, skills: list[Skills], since: datetime.date | None = None) -> Report:
    return Report()
'''

UNBALANCED = """
# a.quick
async def quick(n: int) -> Raw: ...

# a.slow
def slow(n: int) -> Clean: ...

# a.after_quick
async def after_quick(raw: Raw) -> tuple[Skills, list[Report]]: ...

# a.after_slow
async def after_slow(clean: Clean, template: Table) -> Clean | None: ...

# a.sub.first
async def first(reports: list[Report]) -> Table: ...

# a.sub.second
async def second(table: Table): ...

# b.all
def everything(clean: Clean | None, skills: Skills, tables: list[Table]) -> str: ...
"""

FLAGS: dict[str, dict[str, Any]] = {
    "fetch_stepstone": {
        "description": 'Says "hello"\nand \\ more',
        "tags": ["web", "it's"],
        "retries": 3,
        "retry_delay": 1.5,
        "timeout": 1234567,
        "cache": "30m",
    },
    "fetch_linkedin": {"cache": "inputs", "tags": "web", "after": "scraping.stepstone.fetch"},
    "merge": {"strategy": "process", "retries": 1, "retry_delay": 60},
    "skills": {"cache": "0.5d", "timeout": 0.25},
}

HOSTILE = r'''
# flow.task
def task(flow: Raw, opaque: str = "it's", OPERATIONS: int = 0) -> Clean: ...

# flow.OPERATIONS
async def asyncio(wait_for: Raw, OPERATIONS_2: int = 1) -> Clean: ...

# list
async def list(task: Clean, self: int, /, _: int = 2) -> "Report": ...

# main_flow
def main_flow(list: Raw) -> None: ...

# OPERATIONS
def in_thread(clean: Skills | None, Raw: Raw, *, in_thread: int = 3) -> Table: ...

task.__doc__ = 'Ends with a quote: "'
asyncio.__doc__ = 'Three quotes: """ and a tab:\t, and code: {__import__("os")} """ + x'
list.__doc__ = '"Starts with a quote,\n\n    and is indented,\nand ends with a backslash \\'
main_flow.__doc__ = 'A form feed \x0c, a null \0, a return \r and \u2028 a separator.'
in_thread.__doc__ = 'Ends with two quotes""'
'''

TEXTS = {
    "jobs": (session(JOBS), False),
    "jobs_flat": (session(JOBS), True),
    "unbalanced": (session(UNBALANCED), False),
    "flags": (session(JOBS, **FLAGS), False),
    "hostile": (session(HOSTILE), False),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_generated_text_is_as_it_was(name: str) -> None:
    """TESTS_SNAPSHOTS=write writes the files anew, to be read before they are committed."""
    operations, flat = TEXTS[name]
    plan = compile_plan(operations, flat=flat)
    assert plan.is_valid, plan.problems
    texts = PrefectCodeGenerator().generate_all_flows(plan)
    whole = "\n".join(f"# {'=' * 20} {flow}.py {'=' * 20}\n{text}" for flow, text in texts.items())
    file = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("TESTS_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(whole, encoding="utf-8")
    assert whole == file.read_text(encoding="utf-8")


def test_docstrings_survive_as_they_are() -> None:
    operations = session(HOSTILE)
    tree = ast.parse(generate_flow(compile_plan(operations, flat=True), "main_flow"))
    written = [
        ast.get_docstring(node) for node in tree.body if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert sorted(filter(None, written[:-1])) == sorted(o.doc for o in operations)


def test_the_registry_holds_every_flow_that_is_not_blocked() -> None:
    plan = compile_plan(declared("a.x() -> Raw", "b.x() -> Raw", "c.y(raw: Raw) -> Clean", "d.z()"))
    texts = PrefectCodeGenerator().generate_all_flows(plan)
    assert list(texts) == ["a_flow", "b_flow", "d_flow"]
    registry = PrefectCodeGenerator().generate_flow_registry(plan)
    for name in ("a_flow", "b_flow", "d_flow"):
        assert f'"{name}": {name},' in registry
    assert "c_flow" not in registry
    assert list(generate_modules(plan, "other")) == [
        "other",
        "other.orchestration",
        *(f"other.orchestration.{name}" for name in texts),
        "other.orchestration.registry",
    ]
    assert (
        "from other.operations import"
        in generate_modules(plan, "other")["other.orchestration.a_flow"]
    )


def test_a_blocked_flow_says_why_it_cannot_be_made() -> None:
    plan = compile_plan(declared("a.x() -> Raw", "b.x() -> Raw", "c.y(raw: Raw) -> Clean"))
    with pytest.raises(BlockedFlowError, match=r"main_flow cannot be made: .*--bind raw=a\.x"):
        generate_flow(plan, "main_flow")


def test_an_unknown_flow_is_told_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'a_flow'"):
        generate_flow(compile_plan(declared("a.x() -> Raw")), "a_flw")


def test_the_names_in_signatures_are_those_to_export() -> None:
    assert names_in_signatures(compile_plan(session(JOBS))) == (
        "Clean",
        "LIMIT",
        "Literal",
        "Raw",
        "Report",
        "Skills",
        "datetime",
    )


@pytest.mark.parametrize(
    ("cache", "seconds"),
    [("inputs", None), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800)],
)
def test_how_long_a_result_is_kept(cache: str, seconds: float | None) -> None:
    assert cache_seconds(cache) == seconds


@given(st.text())
def test_any_text_is_a_literal(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert "\n" not in literal(text)


@settings(max_examples=50, deadline=None)
@given(st.text(), st.lists(st.text(), max_size=2), st.text())
def test_what_people_write_reaches_the_code_as_text_only(
    doc: str, tags: list[str], description: str
) -> None:
    def f() -> None: ...

    f.__doc__ = doc
    options = options_from_flags({"tags": tags, "description": description})
    plan = compile_plan([make_operation(f, name="a.x", options=options)])
    task = ast.parse(generate_flow(plan, "a_flow")).body[-3]
    assert isinstance(task, ast.AsyncFunctionDef)
    (decorator,) = task.decorator_list
    assert isinstance(decorator, ast.Call)
    given = {word.arg: word.value for word in decorator.keywords}
    if tags:
        assert ast.literal_eval(given["tags"]) == tags
    if description:
        assert ast.literal_eval(given["description"]) == description
    assert len(task.body) == (2 if ast.get_docstring(task) is not None else 1)


def test_operations_of_one_function_name_get_names_of_their_own() -> None:
    ducks = [Duck(f"g{n}.op", [f"M{n - 1}"] if n else [], [f"M{n}"]) for n in range(300)]
    tree = ast.parse(generate_flow(compile_plan(ducks, flat=True), "main_flow"))
    names = [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    assert len(set(names)) == len(names) == 301


# --- Run on the stand-in -------------------------------------------------------------------------


class World:
    """Calls operations: notes what they get, and answers from that alone."""

    def __init__(self) -> None:
        self.outputs: dict[str, tuple[Output, ...]] = {}
        self.calls: dict[str, dict[str, Any]] = {}

    def call(self, name: str, given: dict[str, Any]) -> Any:
        assert name not in self.calls, f"{name} ran twice"
        self.calls[name] = given
        text = f"{name}({sorted(given.items())})"
        outputs = self.outputs[name]
        items = [self.item(f"{text}{n}", output) for n, output in enumerate(outputs)]
        if outputs and outputs[0].index is None:
            return items[0]
        width = 1 + max((output.index or 0 for output in outputs), default=0)
        places = {output.index: item for output, item in zip(outputs, items, strict=True)}
        return tuple(places.get(n, "nothing") for n in range(width)) if outputs else text

    def item(self, text: str, output: Output) -> Any:
        number = int(hashlib.sha256(text.encode()).hexdigest()[:6], 16)
        if output.optional and number % 3 == 0:
            return None
        return [f"{number}.{n}" for n in range(number % 3)] if output.many else f"{number}"


WORLD_NOW = World()


def call(name: str, given: dict[str, Any]) -> Any:
    return WORLD_NOW.call(name, given)


def interpret(graph: DataFlowGraph, person: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Run the operations by their bindings alone."""
    values: dict[str, Any] = {}
    bound = {(graph.names[b.operation], b.port.name): b for b in graph.bindings}
    for name in graph.topological_sort():
        operation = graph.operations[graph.names.index(name)]
        arguments = {}
        for port in operation.ports:
            binding = bound.get((name, port.name))
            if binding is None or binding.how == "missing":
                arguments[port.name] = person[name, port.name]
            elif binding.how == "none":
                arguments[port.name] = None
            else:
                heads = [(item(values[graph.names[p]], o.index), o) for p, o in binding.heads]
                if binding.how == "one":
                    arguments[port.name] = heads[0][0]
                else:
                    arguments[port.name] = joined(heads)
        values[name] = WORLD_NOW.call(name, arguments)
    return values


def joined(heads: list[tuple[Any, Output]]) -> list[Any]:
    found = []
    for value, output in heads:
        if value is None and output.optional:
            continue
        found += value if output.many else [value]
    return found


def item(value: Any, index: int | None) -> Any:
    return value if index is None else value[index]


def what_a_person_gives(plan: Orchestration, graph: DataFlowGraph) -> dict[tuple[str, str], Any]:
    """Return the value of each port that a person feeds; names are the same, flat or nested."""
    main = plan.get_flow("main_flow")
    assert main
    defaults = {p.name: p.default for p in main.parameters}
    ports = {(o.name, port.name): port for o in graph.operations for port in o.ports}
    return {
        (step.target, argument.name): (
            f"<{argument.source.name}>"
            if defaults[argument.source.name] is None
            else ports[step.target, argument.name].default
        )
        for step in main.steps
        for argument in step.arguments
        if isinstance(argument.source, FromParameter)
    }


def run_flow(flow: Any, definition: FlowDefinition, values: dict[str, Any]) -> Any:
    given = {
        p.name: item(values[p.value.operation], p.value.index) if p.value else f"<{p.name}>"
        for p in definition.parameters
        if p.default is None
    }
    return asyncio.run(flow(**given))


def same_as_the_graph_says(operations: list[Operation], flat: bool, seen: Counter[str]) -> None:
    global WORLD_NOW
    graph = build_graph(operations)
    plan = compile_graph(graph, flat=flat)
    seen["sessions"] += 1
    texts = PrefectCodeGenerator().generate_all_flows(plan)
    generated = {"OPERATIONS": {o.name: o.function for o in operations}, **WORLD}
    flows = fake_prefect.load(texts, generated)
    if graph.has_cycle() or (main := plan.get_flow("main_flow")) is None or main.blocked:
        return
    WORLD_NOW = World()
    WORLD_NOW.outputs = {o.name: o.outputs for o in operations}
    person = what_a_person_gives(compile_graph(graph, flat=True), graph)
    values = interpret(graph, person)
    expected = WORLD_NOW.calls
    for definition in plan.flows:
        WORLD_NOW.calls = {}
        result = run_flow(flows[definition.name], definition, values)
        assert WORLD_NOW.calls == {name: expected[name] for name in definition.covers}
        returned = {name: values[name] for name in definition.returns}
        assert result == (next(iter(returned.values()), None) if len(returned) < 2 else returned)
        seen["gather" if definition.waits else "start"] += 1
        seen["subflows"] += len(definition.subflows)
        seen["dict"] += len(returned) > 1


@pytest.mark.slow
def test_generated_code_does_what_the_graph_says() -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # making it smaller takes minutes
        suppress_health_check=[HealthCheck.too_slow],
        report_multiple_bugs=False,
    )
    @given(sessions(call=call), st.booleans())
    def check(operations: list[Operation], flat: bool) -> None:
        same_as_the_graph_says(operations, flat, seen)

    check()
    assert min(seen[kind] for kind in ("gather", "start", "subflows", "dict")) > 5, seen


EXACT = [
    ("unbalanced", ("a.p() -> Raw", "a.q() -> Clean", "a.r(x: Raw) -> Skills", "a.s(c: Clean)")),
    ("tuples", ("a.x() -> tuple[Raw, list[Clean]]", "a.y() -> Clean", "b.z(c: list[Clean])")),
    (
        "lists",
        ("a.x() -> list[Raw]", "a.y() -> Raw | None", "b.z(r: list[Raw])", "c.w(r: list[Raw])"),
    ),
    ("nothing", ("a.x(r: Raw | None, s: list[Clean] | None) -> Skills", "b.y(s: Skills)")),
    ("keyword only", ("a.x(*, r: Raw, n: int) -> Raw", "a.y(r: Raw, /, *, n: int) -> Clean")),
    (
        "a loop of groups with a subgroup",
        ("a.x() -> Raw", "b.y(r: Raw) -> Clean", "a.s.p(c: Clean) -> Skills", "a.s.q(s: Skills)"),
    ),
    ("order between flows", ("a.x()", "b.y() --after a.x", "c() --after b.y", "d() --after a.x")),
    ("items into two flows", ("a.x() -> tuple[Raw, Clean]", "b.y(r: Raw)", "c.z(c: Clean)")),
    ("many whole", ("a.x() -> list[Raw]", "b.y(r: list[Raw])", "c.z(d) --in Raw")),
]


@pytest.mark.parametrize(("title", "lines"), EXACT, ids=[title for title, _ in EXACT])
@pytest.mark.parametrize("flat", [False, True])
def test_the_code_of_a_session_does_what_the_graph_says(
    title: str, lines: tuple[str, ...], flat: bool
) -> None:
    seen: Counter[str] = Counter()
    operations = [declare(line, call=call) for line in lines]
    same_as_the_graph_says(operations, flat, seen)
    assert seen["gather"] + seen["start"] >= 1
