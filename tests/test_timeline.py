"""The timeline of a run, its critical path, and the picture that changes while it runs."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from recorded import Notebook

from pulpo.backends.live import Moment, Stage, progress_bar
from pulpo.backends.render import draw
from pulpo.backends.timeline import Bar, Timeline, critical_path, duration
from pulpo.plan import FlowDefinition, Orchestration
from pulpo.run_view import RunView
from pulpo.runs import Run


def planned(book: Notebook) -> tuple[Orchestration, FlowDefinition]:
    plan = book.session.plan()
    flow = plan.get_flow("main_flow")
    assert flow is not None
    return plan, flow


@pytest.fixture
def book() -> Notebook:
    """``a.fetch → a.slow → report`` and ``a.fetch → b.quick → report``; ``c`` comes after all."""
    made = Notebook()
    models = "\n".join(f"{name} = NewType('{name}', int)" for name in ("Raw", "Slow", "Quick"))
    made.cell(f"from typing import NewType\n{models}")
    made.operation("a.fetch", "def fetch(n: int = 1) -> Raw:\n    return Raw(n)")
    made.operation("a.slow", "def slow(raw: Raw) -> Slow:\n    return Slow(raw)")
    made.operation("b.quick", "def quick(raw: Raw) -> Quick:\n    return Quick(raw)")
    made.operation("report", "def report(s: Slow, q: Quick) -> str:\n    return ''")
    made.operation("c", "def c() -> str:\n    return ''", after="report")
    return made


# --- The critical path ----------------------------------------------------------------------------


def test_the_critical_path_is_what_the_run_waited_for(book: Notebook) -> None:
    # b.quick needs a.fetch alone, but its flow gets it when the flow of a is done.
    bars = [
        Bar("a.fetch", 0.0, 1.0),
        Bar("a.slow", 1.0, 3.0),
        Bar("b.quick", 4.1, 0.5),
        Bar("report", 4.7, 0.1),
        Bar("c", 4.9, 0.1),
    ]
    assert critical_path(*planned(book), bars) == ("a.fetch", "a.slow", "b.quick", "report", "c")


def test_the_critical_path_goes_by_what_ran_and_not_by_what_might_have(book: Notebook) -> None:
    plan, flow = planned(book)
    assert critical_path(plan, flow, []) == ()
    failed = [Bar("a.fetch", 0.2, 1.0), Bar("a.slow", 1.3, 0.5, "failed")]
    assert critical_path(plan, flow, failed) == ("a.fetch", "a.slow")
    flat = book.session.part({"flat": True})
    whole = flat.get_flow("main_flow")
    assert whole is not None
    bars = [
        Bar("a.fetch", 0.0, 1.0),
        Bar("a.slow", 1.0, 0.2),
        Bar("b.quick", 1.0, 2.0),
        Bar("report", 3.0, 1.0),
    ]
    assert critical_path(flat, whole, bars) == ("a.fetch", "b.quick", "report")


# --- The timeline ---------------------------------------------------------------------------------

BARS = (
    Bar("a.fetch", 0.0, 1.0),
    Bar("b.<look>", 1.0, 3.0, note="7 of 7"),
    Bar("c", 1.0, 0.5, "failed"),
)


def timeline(*bars: Bar, critical: tuple[str, ...] = ("a.fetch", "b.<look>")) -> Timeline:
    return Timeline(flow="main_flow", bars=bars, critical=critical, seconds=4.5)


def test_a_timeline_is_a_picture_with_a_bar_for_each_operation() -> None:
    made = timeline(*BARS)
    root = ElementTree.fromstring(made.svg)
    spans = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        bar = group.find("{http://www.w3.org/2000/svg}rect")
        assert bar is not None
        texts = [text.text for text in group.iter("{http://www.w3.org/2000/svg}text")]
        spans[group.attrib["class"]] = (float(bar.attrib["x"]), float(bar.attrib["width"]), texts)
    assert set(spans) == {"done critical", "failed"}
    (look, failed) = spans["done critical"], spans["failed"]
    assert look[2] == ["◆", "b.<look>", "3.0 s · 7 of 7"]
    assert failed[2] == ["c", "0.50 s · ✗ failed"]
    assert failed[0] == look[0]  # they began together
    assert look[1] / failed[1] == pytest.approx(6, rel=0.01)
    assert "4.0 s of 4.5 s" in made.svg


def test_equal_runs_have_equal_text_and_times_stand_where_they_are_taken_out() -> None:
    one, other = timeline(*BARS), timeline(*(bar._replace(start=bar.start * 2) for bar in BARS))
    assert one.svg != other.svg
    shown = [
        re.sub(r'(?s)<svg\b.*?</svg>|base64,[^"]*', "", each._repr_mimebundle_()["text/html"])
        for each in (one, other)
    ]
    assert shown[0] == shown[1]
    assert one._repr_mimebundle_()["text/plain"] == (
        "Timeline of main_flow: 3 operations; print() shows it as text"
    )


def test_a_timeline_is_text_too() -> None:
    lines = str(timeline(*BARS)).split("\n")
    assert lines[0] == "Timeline of main_flow: 3 operations, 4.5 s"
    assert lines[1].startswith("◆ a.fetch  |████████████ ")
    assert lines[2].startswith("  c        |           ▒▒▒▒▒▒ ")
    assert lines[2].endswith("| 0.50 s ✗ failed")
    assert lines[-1].startswith("◆ critical path: 4.0 s of 4.5 s")
    assert str(timeline(critical=())) == "Timeline of main_flow: 0 operations, 4.5 s"
    assert "<svg" in timeline(critical=()).svg


def test_of_very_many_operations_the_longest_are_drawn() -> None:
    many = [Bar(f"op{n}", n * 0.01, 0.001 * n) for n in range(500)]
    made = timeline(*many, critical=("op3",))
    assert made.svg.count("<rect") == 60
    assert "… and 440 shorter ones" in made.svg
    assert "◆ op3 " in str(made)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (3.21, "3.2 s"), (125.4, "2 min 5 s"), (3725, "1 h 2 min")],
)
def test_seconds_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- The picture that changes ---------------------------------------------------------------------


def signs(svg: str) -> list[tuple[str, str]]:
    """Return the class that tells the state, and the sign, of each node."""
    nodes = re.findall(r'class="(node [^"]*)".*?class="sign">([^<]*)<', svg, re.DOTALL)
    return [(classes.split()[-1], sign) for classes, sign in nodes]


def stage(book: Notebook, **how: Any) -> Stage:
    plan = book.session.plan()
    states = Stage.states([node.name for node in plan.operations])
    return Stage(draw(plan, "both", flow="main_flow", states=states, **how))


@pytest.mark.parametrize("links", [{}, {"a.fetch": "#cell", "a.slow": "#other"}])
def test_a_picture_is_coloured_again_without_being_laid_out(
    book: Notebook, links: dict[str, str]
) -> None:
    made = stage(book, links=links)
    before = made.at({})
    assert set(signs(before)) == {("pending", "")}
    now = made.at(
        {
            "a.fetch": Moment("done", "✓ 1.0 s"),
            "a.slow": Moment("timed out", "✗ timed out"),
            "b.quick": Moment("running", "▶ <3/7>"),
        }
    )
    assert signs(now)[:3] == [
        ("done", "✓ 1.0 s"), ("failed", "✗ timed out"), ("running", "▶ &lt;3/7&gt;"),
    ]  # fmt: skip
    ElementTree.fromstring(made.at({}, alone=True))
    assert re.findall(r' d="[^"]*"', now) == re.findall(r' d="[^"]*"', before)


def test_a_group_that_is_one_node_counts_its_operations(book: Notebook) -> None:
    made = stage(book, depth=1)
    said = dict(
        zip(
            ("a", "b"),
            signs(
                made.at({"a.fetch": Moment("done"), "a.slow": Moment("pending"),
                         "b.quick": Moment("failed")})
            ),
            strict=False,
        )
    )  # fmt: skip
    assert said == {"a": ("running", "▶ 1/2"), "b": ("failed", "✗ 1/1")}


def test_the_bar_is_as_long_as_what_is_done_and_failed() -> None:
    widths = re.findall(r'width="([\d.]+)" height="8" rx', progress_bar(0.5, 0.25))
    assert widths == ["240", "120.0", "60.0"]


def test_a_run_shows_how_far_it_is_and_nothing_changes_but_what_is_taken_out(
    book: Notebook,
) -> None:
    plan, flow = planned(book)
    run = Run("main_flow", [node.name for node in plan.operations])
    run._plan, run._draw = (plan, flow), lambda **how: draw(plan, flow=flow, **how)
    view = RunView(run)
    first = view.html()
    run.state = "running"
    run.operations["a.fetch"].state = "running"
    run.operations["a.fetch"].elements, run.operations["a.fetch"].ended = 7, 3
    view._drawing.join()
    assert ("running", "▶ 3/7 · running") in signs(view.html())
    run.state = "done"
    last = view.html()
    assert 'class="pulpo pulpo-time"' in last

    def compared(text: str) -> str:
        text = re.sub(r'(?s)<svg\b.*?</svg>|base64,[^"]*', "", text)
        return re.sub(r'<span class="pulpo-seconds">[^<]*</span>', "", text)

    assert compared(first) == compared(last)
