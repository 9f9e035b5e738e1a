"""The law, for two thousand sessions; `prove.py` does it for as many as you like."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
from declared import declare, declared
from hypothesis import HealthCheck, Phase, given, settings
from law import call, graph_obeys, prove
from meaning import Meaning
from prove import Case, lines, prove_all, smaller
from sessions import WORLD, Sketch, operation_of, run_dry, sessions, written
from test_dataflow import CASES
from test_dataflow import Case as Bound

from pulpo.dataflow import build_graph
from pulpo.operations import Operation

#: What every hundred sessions hold.
VARIETY = (
    "maps", "loops of groups", "blocked", "flat", "threads", "process", "dask", "ray",
    "selections", "failures", "gather", "start", "subflows", "several returned",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(20))
def test_a_hundred_sessions_obey_the_law(hundred: int) -> None:
    seen: Counter[str] = Counter()
    prove_all([Case.of(hundred * 100 + number) for number in range(100)], seen)
    assert seen["sessions"] == 100
    assert seen["blocked"] <= 5
    assert all(seen[kind] for kind in VARIETY), seen


def test_a_few_sessions_obey_the_law() -> None:
    seen: Counter[str] = Counter()
    for number in range(1, 13):
        Case.of(number).prove(seen)
    assert seen["calls"] > 100, seen


@pytest.mark.slow
def test_hostile_sessions_obey_the_law() -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # making it smaller takes minutes
        suppress_health_check=[HealthCheck.too_slow],
        report_multiple_bugs=False,
    )
    @given(sessions(call=call))
    def check(operations: list[Operation]) -> None:
        prove(operations, seen)

    check()
    assert seen["sessions"] - seen["blocked"] > 30, seen


# --- Of the proof itself --------------------------------------------------------------------------


#: Random sessions, and so `Meaning`, know a model by its short name alone.
NAMED = [c for c in CASES if "two-models" not in c.problems and "qualified" not in c.title]


@pytest.mark.parametrize("case", NAMED, ids=[case.title for case in NAMED])
def test_the_rules_are_those_of_the_table(case: Bound) -> None:
    operations = declared(*case.session)
    meaning = Meaning(operations)
    graph_obeys(build_graph(operations), meaning, run_dry(meaning))


def test_a_sketch_is_what_its_line_declares() -> None:
    parts = [field.name for field in fields(Operation) if field.name != "function"]
    for sketch in [sketch for number in range(20) for sketch in written(number)]:
        made, told = operation_of(sketch, call), declare(sketch.line(), WORLD, call=call)
        assert [getattr(made, part) for part in parts] == [getattr(told, part) for part in parts]


def test_a_session_that_breaks_the_law_is_made_small() -> None:
    def breaks(sketches: list[Sketch]) -> bool:
        return any("list[" in text for sketch in sketches for text in sketch.ports)

    (line,) = lines(smaller(written(7), breaks))
    assert line.count(":") == 1
