"""What changed between two plans is told in rows, and none of a plan's fields is overlooked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from declared import declared
from hypothesis import given
from hypothesis import strategies as st
from sessions import sessions

from pulpo import changes, plan
from pulpo.backends.document import (
    Flow,
    Operation,
    Parameter,
    PlanDocument,
    Port,
    Step,
    describe,
)
from pulpo.changes import (
    compare_edges,
    compare_files,
    compare_flows,
    compare_operations,
    functions_of,
)
from pulpo.compiler import compile_plan
from pulpo.plan import TaskOptions

LOAD = "a.load() -> Raw"
CLEAN = "clean(raw: Raw) -> Clean"


def document(*lines: str) -> PlanDocument:
    return describe(compile_plan(declared(*lines)))


def rows(old: PlanDocument, new: PlanDocument) -> list[str]:
    """Return all changes of operations, edges and flows, each in a line."""
    found = [
        *compare_operations(old, new, ({}, {})),
        *compare_edges(old, new),
        *compare_flows(old, new),
    ]
    return [
        line
        for change in found
        for line in (
            [f"{change.kind} {change.name}: {detail}" for detail in change.details]
            or [f"{change.kind} {change.name}"]
        )
    ]


CASES: list[tuple[list[str], list[str], list[str]]] = [
    ([LOAD], [LOAD], []),
    (
        [LOAD],
        [LOAD, "a.more(raw: Raw)"],
        [
            "added a.more: more(raw: Raw)",
            "added a.load -[Raw]-> a.more(raw)",
            "changed a_flow: runs a.more too",
        ],
    ),
    (
        [LOAD, CLEAN],
        [LOAD],
        [
            "removed clean: clean(raw: Raw) -> Clean",
            "removed a.load -[Raw]-> clean(raw)",
            "changed main_flow: does not run clean any more",
            "removed standalones_flow",
        ],
    ),
    (
        ["a.load(n: int = 1) -> Raw"],
        ["a.load(n: int = 2) -> Raw"],
        [
            "changed a.load: parameter n: default 1 → 2",
            "changed a_flow: parameter n: default 1 → 2",
            "changed main_flow: parameter n: default 1 → 2",
        ],
    ),
    (
        ["a.load(n: int = 1) -> Raw"],
        ["a.load(m: int = 1) -> Raw --async"],
        [
            "changed a.load: takes no longer n: int = 1",
            "changed a.load: takes also m: int = 1",
            "changed a.load: async no → yes",
            "changed a_flow: takes no longer n: int = 1",
            "changed a_flow: takes also m: int = 1",
            "changed a_flow: a.load(n): gets parameter n no longer",
            "changed a_flow: a.load(m): gets parameter m",
            "changed main_flow: takes no longer n: int = 1",
            "changed main_flow: takes also m: int = 1",
            "changed main_flow: a_flow(n): gets parameter n no longer",
            "changed main_flow: a_flow(m): gets parameter m",
        ],
    ),
    (
        [LOAD, "a.two() -> Raw", "a.use(x: Raw) --bind x=a.load"],
        [LOAD, "a.two() -> Raw", "a.use(x: Raw) --bind x=a.two"],
        [
            "changed a.use: bind x=a.load → x=a.two",
            "removed a.load -[Raw]-> a.use(x)",
            "added a.two -[Raw]-> a.use(x)",
            "changed a_flow: a.use(x): gets a.two instead of a.load",
        ],
    ),
    (
        [LOAD, "a.use(x: Raw)"],
        [LOAD, "a.use(x: list[Raw])"],
        [
            "changed a.use: parameter x: shape one → all",
            "changed a.use: parameter x: annotation Raw → list[Raw]",
            "changed a_flow: a.use(x): gets [a.load] instead of a.load",
        ],
    ),
    (
        [LOAD, "a.use(x: Raw)"],
        [LOAD, "a.two() -> Raw", "a.use(x: Raw)"],
        [
            "added a.two: two() -> Raw",
            "removed a.load -[Raw]-> a.use(x)",
            "added a.load -[Raw ?]-> a.use(x)",
            "added a.two -[Raw ?]-> a.use(x)",
        ],
    ),
    (
        [LOAD, "a.two()"],
        [LOAD, "a.two() --after a.load"],
        [
            "changed a.two: after none → a.load",
            "added a.load -[after]-> a.two",
            "changed a_flow: runs in other stages: a.load → a.two",
            "changed a_flow: a.two: after none → a.load",
        ],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_changes_are_told(old: list[str], new: list[str], expected: list[str]) -> None:
    told = rows(document(*old), document(*new))
    assert [line for line in expected if line not in told] == []
    if not expected:
        assert told == []


def test_a_flow_that_is_blocked_now_says_why() -> None:
    told = rows(document(LOAD, "a.use(x: Raw)"), document(LOAD, "a.two() -> Raw", "a.use(x: Raw)"))
    blocked = [line for line in told if line.startswith("changed a_flow: is blocked: ")]
    assert len(blocked) == 1
    assert "'a.use'" in blocked[0]


def test_where_an_operation_stands_is_no_change() -> None:
    first, second = (
        describe(
            plan.Orchestration(
                operations=(plan.Node(name="a", function="a", cell=cell, stale=stale),)
            )
        )
        for cell, stale in (("cell 1", False), ("cell 9", True))
    )
    assert rows(first, second) == []


@given(sessions(), st.data())
def test_what_is_told_is_all_there_is(operations: list[Any], data: st.DataObject) -> None:
    """Take one operation of a session away, or make it another; nothing else may go unsaid."""
    old = describe(compile_plan(operations))
    assert rows(old, old) == []
    place = data.draw(st.integers(0, len(operations) - 1))
    flag = TaskOptions(retries=7)
    changed = [
        *operations[:place],
        replace(operations[place], options=flag),
        *operations[place + 1 :],
    ]
    for other in ([*operations[:place], *operations[place + 1 :]], changed):
        new = describe(compile_plan(other))
        assert any(operations[place].name in line for line in rows(old, new))
        said = {change.name for change in compare_flows(old, new)}
        assert unlike(old.flows, new.flows) <= said
        said = {change.name for change in compare_operations(old, new, ({}, {}))}
        assert unlike(old.operations, new.operations) <= said


def unlike(old: Any, new: Any) -> set[str]:
    """Return the names of parts that are not the same, but for what follows from others."""
    dumped = [
        {part.name: part.model_dump(exclude=FOLLOWS) for part in parts} for parts in (old, new)
    ]
    names = {*dumped[0], *dumped[1]}
    return {name for name in names if dumped[0].get(name) != dumped[1].get(name)}


#: What a person is told by the edges, or by the flows inside.
FOLLOWS: Any = {"covers": True, "ports": {"__all__": {"producers", "hint"}}}


# --- No field is overlooked -----------------------------------------------------------------------

PARTS = {
    "operation": Operation,
    "port": Port,
    "parameter": Parameter,
    "step": Step,
    "flow": Flow,
}
#: Fields that hold parts, which are compared one by one, by their names.
INSIDE = {"ports", "options", "parameters", "operations", "subflows", "parallel_groups"}
INSIDE |= {"steps", "returns", "blocked", "arguments"}
#: Fields by which parts are found, that no export depends on, or that follow from others.
BESIDE = {"name", "target", "cell", "stale", "hint", "producers", "covers", "stage"}


@pytest.mark.parametrize("part", PARTS)
def test_a_difference_in_any_field_is_told_wherever_it_is_looked_for(part: str) -> None:
    model, known = PARTS[part], changes._SAID[part]
    assert known <= INSIDE | BESIDE
    same: dict[str, Any] = dict.fromkeys(model.model_fields, ())
    for name in set(model.model_fields) - known:
        old, new = (model.model_construct(**{**same, name: value}) for value in ("x", "y"))
        assert len(list(changes._differences(old, new, known))) == 1, name


# --- Files ----------------------------------------------------------------------------------------


def test_files_are_compared_line_by_line() -> None:
    old = {"a.py": "one\ntwo\n", "gone.py": "x\n", "same.py": "s\n"}
    new = {"a.py": "one\nthree\n", "new.py": "y\n", "same.py": "s\n"}
    assert [(f.kind, f.name, f.lines) for f in compare_files("out", old, new)] == [
        (
            "changed",
            "a.py",
            ("--- out/a.py", "+++ out/a.py", "@@ -1,2 +1,2 @@", " one", "-two", "+three"),
        ),
        ("removed", "gone.py", ("--- out/gone.py", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")),
        ("added", "new.py", ("--- /dev/null", "+++ out/new.py", "@@ -0,0 +1 @@", "+y")),
    ]


HIDDEN = [
    "api_key = 'hunter2hunter2'\n",
    "def f(token='hunter2hunter2'): ...\n",
    "x = 1  # password=hunter2hunter2\n",
    "KEY = '''\n-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2\n'''\n",
    "def f(:\n    password = 'hunter2hunter2'\n    # password=hunter2hunter2\n",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_lines_that_look_like_credentials_are_not_shown(text: str) -> None:
    for old, new in (({}, {"a.py": text}), ({"a.py": text}, {}), ({"a.py": text}, {"a.py": "x\n"})):
        (file,) = compare_files("out", old, new)
        assert "hunter2" not in "\n".join(file.lines)
        assert "not shown" in "\n".join(file.lines)


def test_a_credential_that_changed_is_a_change_that_shows_none() -> None:
    (file,) = compare_files("out", {"a.py": HIDDEN[0]}, {"a.py": HIDDEN[0].upper()})
    assert "hunter2" not in "\n".join(file.lines).lower()
    assert "not shown" in file.counts()


def test_the_source_of_an_operation_is_found_by_its_name() -> None:
    text = (
        "import jobs\n\n@wrap\ndef f(x):\n    return 1\n\nasync def g(): ...\n\n"
        "OPERATIONS = {\n    'a.f': f,\n    'g': g,\n    'far': jobs.far,\n}\n"
    )
    assert functions_of(text) == {
        "a.f": "@wrap\ndef f(x):\n    return 1",
        "g": "async def g(): ...",
    }
    assert functions_of("def f(:\n") == {}


def test_other_code_of_an_operation_is_told() -> None:
    old = new = document(LOAD)
    sources = ({"a.load": "def f(): return 1"}, {"a.load": "def f(): return 2"})
    (change,) = compare_operations(old, new, sources)
    assert (change.kind, change.name, change.details) == ("changed", "a.load", ("code",))
    assert compare_operations(old, new, (sources[0], {})) == ()
