"""Generated Prefect code: as text, compared whole, and run on a stand-in for Prefect."""

from __future__ import annotations

import ast
import hashlib
import linecache
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from declared import MODELS, Duck, declare, declared
from hypothesis import given, settings
from hypothesis import strategies as st
from law import call, prove
from sessions import WORLD

import pulpo
from pulpo.backends.prefect import (
    PrefectCodeGenerator,
    cache_seconds,
    generate_flow,
    generate_modules,
    literal,
    names_in_signatures,
)
from pulpo.compiler import compile_plan
from pulpo.errors import BlockedFlowError, UnknownNameError
from pulpo.operations import Operation, make_operation, options_from_flags

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

MAPS = """
# urls.find
async def find(query: str) -> list[Raw]: ...

# urls.rules
def rules() -> Table: ...

# pages.fetch
async def fetch(url: Raw, rules: Table, timeout: float = 3.0) -> Clean:
    'Fetch one page.'

# pages.parse
def parse(raw: Raw, page: Clean, rules: Table) -> tuple[Skills, list[Report]]: ...

# pages.archive
def archive(pages: list[Clean]) -> None: ...

# report
def report(skills: list[Skills], reports: list[Report]) -> int: ...

# tell
async def tell(skill: Skills): ...
"""

MANY: dict[str, dict[str, Any]] = {
    "fetch": {"max_concurrency": 4, "on_element_error": "fail"},
    "tell": {"after": "pages.archive", "on_element_error": "skip"},
}

TEXTS: dict[str, tuple[list[Operation], dict[str, Any]]] = {
    "jobs": (session(JOBS), {}),
    "jobs_flat": (session(JOBS), {"flat": True}),
    "jobs_dask": (session(JOBS, **FLAGS), {"runner": "dask"}),
    "unbalanced": (session(UNBALANCED), {}),
    "unbalanced_threads": (session(UNBALANCED), {"runner": "threads"}),
    "flags": (session(JOBS, **FLAGS), {}),
    "hostile": (session(HOSTILE), {}),
    "maps": (session(MAPS, **MANY), {}),
    "maps_process": (session(MAPS, **MANY), {"runner": "process"}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_generated_text_is_as_it_was(name: str) -> None:
    """TESTS_SNAPSHOTS=write writes the files anew, to be read before they are committed."""
    operations, options = TEXTS[name]
    plan = compile_plan(operations, **options)
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


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        ("str", "str | None"),
        ("list[str | None]", "list[str | None] | None"),
        ("str | None", "str | None"),
        ("Optional[str]", "Optional[str]"),
        ("Union[str, None, int]", "Union[str, None, int]"),
        ("Literal['a', None]", "Literal['a', None]"),
        ("Literal['a']", "Literal['a'] | None"),
        ("Any", "Any"),
        ("object", "object"),
        ("Annotated[str, 3]", "Annotated[str, 3] | None"),
        ("Annotated[str | None, 3]", "Annotated[str | None, 3]"),
    ],
)
def test_a_default_of_none_fits_its_parameter(annotation: str, written: str) -> None:
    source = f"""
from typing import Annotated, Any, Literal, Optional, Union
# a.x
def f(n: {annotation} = None): ...
"""
    code = generate_flow(compile_plan(session(source)), "a_flow")
    assert f"async def a_flow(n: {written} = None):" in code


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
    ("a map", ("a.x() -> list[Raw]", "a.y(r: Raw) -> Clean", "a.z(c: list[Clean]) -> Report")),
    ("a map that ends", ("a.x() -> list[Raw]", "a.y(r: Raw) -> Clean")),
    ("a map of nothing", ("a.x() -> list[Raw]", "a.y(r: Raw)", "a.z() --after a.y")),
    ("maps in a chain", ("a.x() -> list[Raw]", "b.y(r: Raw) -> Clean", "c.z(c: Clean) -> Skills")),
    (
        "in step, and the same for all",
        (
            "a.x() -> list[Raw]",
            "a.y(r: Raw) -> Clean",
            "a.t() -> Skills",
            "b.z(r: Raw, c: Clean, n: int, s: Skills, m: list[Raw]) -> Report",
        ),
    ),
    (
        "lists made one",
        ("a.x() -> list[Raw]", "a.y(r: Raw) -> list[Clean]", "b.z(c: Clean) -> Skills"),
    ),
    (
        "tuples of each",
        (
            "a.x() -> list[Raw]",
            "a.y(r: Raw) -> tuple[Clean, list[Skills]]",
            "b.z(r: Raw, c: Clean) -> Report",
            "b.w(s: Skills)",
        ),
    ),
    (
        "each may be absent",
        (
            "a.x() -> list[Raw]",
            "a.y(r: Raw) -> Clean | None",
            "a.z(c: list[Clean])",
            "a.w(c: Clean | None)",
        ),
    ),
    ("a list that may be absent", ("a.x() -> list[Raw] | None", "a.y(r: Raw) -> Clean")),
    (
        "with one of its own",
        ("a.x() -> list[Raw]", "a.y(r: Raw) -> Clean", "b.y() -> Clean", "c.z(c: list[Clean])"),
    ),
    ("an item alone in a list", ("a.x() -> tuple[Raw, Clean]", "a.y(r: list[Raw])")),
    (
        "a value and an item, of which the value fails",
        ("a.x() -> tuple[Raw, Clean]", "a.y() -> Skills", "a.z(s: list[Skills], r: Raw)"),
    ),
    (
        "what is left of an operation that skips, in step",
        (
            "a.x() -> list[Raw]",
            "a.y(r: Raw) -> tuple[Clean, Skills] --skip",
            "a.z(c: Clean, s: Skills) -> Report",
        ),
    ),
    (
        "defaults of None",
        ("a.x(r: Raw = None, n: int = None, c: list[Clean | None] = None) -> Skills",),
    ),
    ("a full name that starts with a digit", ("_1(n: int)", "b.y(n: str)")),
    (
        "a full name that is a keyword",
        ("_if() -> Raw", "a.x() -> Raw", "b.y(rs: list[Raw])"),
    ),
    ("a transform maps", ("a.x() -> list[Raw]", "a.t(r: Raw) -> Raw", "b.y(r: Raw) -> Clean")),
]


@pytest.mark.parametrize(("title", "lines"), EXACT, ids=[title for title, _ in EXACT])
def test_the_code_of_a_session_does_what_the_session_means(
    title: str, lines: tuple[str, ...]
) -> None:
    seen: Counter[str] = Counter()
    prove([declare(line, WORLD, call=call) for line in lines], seen)
    assert not seen["blocked"]
    assert seen["calls"]


PROFILED = """
import asyncio, cProfile, threading
from fake_prefect import RUNTIME

async def main():
    for _ in range(3):
        await RUNTIME.in_thread(lambda: None)
    entered, late = threading.Event(), threading.Event()
    def stuck():
        entered.set()
        while not late.is_set():
            pass
    call = asyncio.create_task(RUNTIME.in_thread(stuck))
    await asyncio.to_thread(entered.wait)
    call.cancel()
    await asyncio.wait([call])
    return await RUNTIME.in_thread(lambda: "ended")

with cProfile.Profile():
    print(asyncio.run(main()))
"""


def test_a_profiler_goes_on_after_sync_operations_and_an_interrupt() -> None:
    """In Python 3.11 an exception that was taken back again makes it hang in the next call."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROFILED], cwd=here, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "ended\n", done.stderr
