"""The panel's tab that runs a flow, without a browser: its form, its buttons, what it shows."""

from __future__ import annotations

import datetime
import html
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets as widgets
import pytest
from background import SECONDS, began, book, go_on
from ipywidgets.widgets import widget as all_widgets
from recorded import Notebook

from pulpo.backends.look import READABLE
from pulpo.widgets.content import look
from pulpo.widgets.run_tab import RunTab

TYPES = """
import datetime as dt, enum
from typing import Annotated, Literal
from pydantic import BaseModel, Field

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

class Filters(BaseModel):
    words: list[str] = ["python"]
    most: int = Field(3, ge=1)

class Lost:
    pass
"""
ASK = """
def ask(
    city: str,
    pages: Annotated[int, Field(ge=1)] = 3,
    share: float = 0.5,
    dry: bool = True,
    how: Literal["fast", "slow"] = "slow",
    colour: Colour = Colour.BLUE,
    since: dt.date = dt.date(2026, 1, 2),
    most: int | None = None,
    words: dict[str, int] = {"a": 1},
) -> str:
    print("asked", city)
    return f"{city} {pages} {share} {dry} {how} {colour} {since} {most} {words}"
"""


@pytest.fixture
def tabs() -> Iterator[Callable[[Notebook], RunTab]]:
    """Make tabs that follow a notebook, and close them."""
    made: list[RunTab] = []

    def make(notebook: Notebook) -> RunTab:
        tab = RunTab(notebook.session)
        made.append(tab)
        tab.follow(look(notebook.session))
        tab.engine.value = "without Prefect"
        return tab

    yield make
    for each in made:
        each.close()


@pytest.fixture
def asking() -> Notebook:
    """One operation with parameters of many types."""
    notebook = Notebook()
    notebook.cell(TYPES)
    notebook.operation("ask", ASK)
    return notebook


def words(markup: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup))).strip()


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def run(tab: RunTab, said: str = "done") -> str:
    """Click Run, and return what the tab says when it says that."""
    tab.start.click()
    wait_for(lambda: said in tab.status.value and not tab.start.disabled)
    return words(tab.status.value)


# --- The form -----------------------------------------------------------------------------------


def test_each_parameter_has_the_control_of_its_type(asking: Notebook, tabs: Any) -> None:
    rows = tabs(asking).form.rows
    controls = {name: (type(row.control), row.control.value) for name, row in rows.items()}
    assert controls == {
        "city": (widgets.Text, ""),
        "pages": (widgets.Text, "3"),
        "share": (widgets.Text, "0.5"),
        "dry": (widgets.Checkbox, True),
        "how": (widgets.Dropdown, "slow"),
        "colour": (widgets.Dropdown, "blue"),
        "since": (widgets.DatePicker, datetime.date(2026, 1, 2)),
        "most": (widgets.Text, ""),
        "words": (widgets.Textarea, '{"a":1}'),
    }
    assert [row.control.description for row in rows.values()] == list(controls)


def test_what_is_wrong_is_told_at_its_field_and_nothing_starts(asking: Notebook, tabs: Any) -> None:
    tab = tabs(asking)
    rows = tab.form.rows
    rows["pages"].control.value = "0"
    assert "greater than or equal to 1" in rows["pages"].wrong
    rows["words"].control.value = '{"a": "x"}'
    assert "valid integer" in rows["words"].wrong
    rows["most"].control.value = "many"
    assert rows["city"].wrong == ""  # nobody tells a person off before they began
    tab.start.click()
    assert words(tab.status.value) == "✗ Not started: see city, pages, most, words above."
    assert "needs a value" in rows["city"].wrong
    assert asking.session.last_run is None
    rows["pages"].control.value = "2"
    assert rows["pages"].wrong == ""


def test_a_run_gets_what_was_typed_and_the_rest_has_its_defaults(
    asking: Notebook, tabs: Any
) -> None:
    tab = tabs(asking)
    rows = tab.form.rows
    assert rows["city"].field.required
    rows["city"].control.value = "Bonn"
    rows["dry"].control.value = False
    rows["colour"].control.value = "red"
    rows["most"].control.value = "7"
    rows["since"].control.value = datetime.date(2025, 12, 31)
    assert run(tab).startswith("✓ main_flow: done in")
    assert asking.session.last_run is not None
    assert asking.session.last_run["ask"] == (
        "Bonn 3 0.5 False slow Colour.RED 2025-12-31 7 {'a': 1}"
    )


def test_a_live_object_of_the_notebook_can_be_given(tabs: Any) -> None:
    notebook = Notebook()
    notebook.cell(TYPES)
    notebook.operation("use", "def use(lost: Lost) -> int:\n    return id(lost)")
    tab = tabs(notebook)
    control = tab.form.rows["lost"].control
    control.value = "@treasur"
    notebook.cell("treasure = Lost()")
    assert "treasur" in words(tab.form.rows["lost"].wrong)
    control.value = "@treasure"
    run(tab)
    assert notebook.session.last_run is not None
    assert notebook.session.last_run["use"] == id(notebook.namespace["treasure"])


def test_what_was_typed_stays_while_the_parameter_does(asking: Notebook, tabs: Any) -> None:
    tab = tabs(asking)
    tab.form.rows["city"].control.value = "Bonn"
    tab.form.rows["pages"].control.value = "9"
    asking.operation("ask", ASK.replace("= 3,", "= 4,").replace("    dry: bool = True,\n", ""))
    tab.follow(look(asking.session))
    rows = tab.form.rows
    assert rows["city"].control.value == "Bonn"
    assert rows["pages"].control.value == "4"  # it has another default now
    assert "dry" not in rows


def test_of_very_many_parameters_those_are_asked_for_that_are_needed(tabs: Any) -> None:
    notebook = Notebook()
    takes = ", ".join(
        [*(f"need{n}: int" for n in range(3)), *(f"p{n}: int = 1" for n in range(90))]
    )
    notebook.operation("many", f"def many({takes}) -> int:\n    return need0 + p89")
    tab = tabs(notebook)
    assert list(tab.form.rows) == [f"need{n}" for n in range(3)] + [f"p{n}" for n in range(37)]
    assert words(tab.form.children[-1].value) == (
        "53 more parameters have their defaults: "
        "p37, p38, p39, p40, p41, p42, p43, p44, p45, p46, p47, p48 and 41 more."
    )
    for number in range(3):
        tab.form.rows[f"need{number}"].control.value = "4"
    run(tab)
    assert notebook.session.last_run is not None
    assert notebook.session.last_run["many"] == 5


@pytest.mark.parametrize(
    ("annotation", "default", "typed", "given"),
    [
        ("float", "float('inf')", None, float("inf")),
        ("float", "float('inf')", "1.5", 1.5),
        ("int", "2**60", None, 2**60),
        ("int", "3", "2.5", "valid integer"),
        ("int | None", "5", "None", None),
        ("str", "'a\\nb'", "a\nc", "a\nc"),
        ("str", "'x'", "@@home", "@home"),
        ("str", "'x'", "@home", "@@ begins a text"),
        (
            "dt.datetime",
            "dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)",
            None,
            datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        ),
        (
            "dt.datetime",
            "dt.datetime(2026, 1, 2)",
            "2026-05-06T07:08+02:00",
            datetime.datetime.fromisoformat("2026-05-06T07:08+02:00"),
        ),
        ("dt.time", "dt.time(1, 2, 3, 4)", None, datetime.time(1, 2, 3, 4)),
        ("dt.date | None", "None", "2026-05-06", datetime.date(2026, 5, 6)),
        ("Literal[1, True]", "True", None, True),
    ],
)
def test_what_is_seen_in_a_field_is_what_runs(
    tabs: Any, annotation: str, default: str, typed: str | None, given: Any
) -> None:
    notebook = Notebook()
    notebook.cell("import datetime as dt\nfrom typing import Literal")
    notebook.operation("use", f"def use(x: {annotation} = {default}) -> object:\n    return [x]")
    tab = tabs(notebook)
    row = tab.form.rows["x"]
    if typed is not None:
        row.control.value = typed
    if isinstance(given, str) and row.wrong:
        assert given in row.wrong
        return
    run(tab)
    assert notebook.session.last_run is not None
    (got,) = notebook.session.last_run["use"]
    assert (type(got), got) == (type(given), given)


def test_a_field_says_when_an_earlier_run_has_its_value(tabs: Any) -> None:
    notebook = Notebook()
    notebook.cell("from typing import NewType\nRaw = NewType('Raw', int)")
    notebook.operation("source.load", "def load() -> Raw:\n    return 3")
    notebook.operation("use.it", "def it(raw: Raw) -> int:\n    return raw + 1")
    tab = tabs(notebook)
    tab.flow.value = "use_flow"
    (row,) = tab.form.rows.values()
    assert "has to run before" in row._words.value
    notebook.session.run("source", engine="local")
    wait_for(lambda: "in an earlier run" in row._words.value)
    assert tab.form.rows[row.field.name] is row
    run(tab)
    assert notebook.session.last_run is not None
    assert notebook.session.last_run["use.it"] == 4


def test_an_object_of_another_class_is_no_model(asking: Notebook, tabs: Any) -> None:
    asking.operation("use", "def use(filters: Filters) -> int: ...")
    asking.cell("table = [1, 2]\nfine = Filters()")
    tab = tabs(asking)
    row = tab.form.rows["filters"]
    row.control.value = "@table"
    assert "@table is" in row.wrong
    assert "Filters" in row.wrong
    row.control.value = "@fine"
    assert row.wrong == ""


def test_a_blocked_flow_has_no_form_and_says_why(asking: Notebook, tabs: Any) -> None:
    tab = tabs(asking)
    asking.operation("one", "def one() -> Filters: ...")
    asking.operation("two", "def two() -> Filters: ...")
    asking.operation("use", "def use(filters: Filters) -> Lost: ...")
    tab.follow(look(asking.session))
    assert tab.start.disabled
    assert tab.form.rows == {}
    assert "--bind" in words(tab.status.value)
    asking.session.remove("two")
    tab.follow(look(asking.session))
    assert not tab.start.disabled
    assert words(tab.status.value) == ""


# --- Runs ---------------------------------------------------------------------------------------


def test_a_run_colours_its_picture_and_is_cancelled(tabs: Any) -> None:
    notebook = book()
    tab, other = tabs(notebook), tabs(notebook)
    tab.start.click()
    began(notebook)
    wait_for(lambda: tab.graph.moments.get("op-late", [""])[0] == "running")
    for each in (tab, other):  # two panels agree
        assert each.start.disabled
        assert not each.cancel.disabled
        wait_for(lambda each=each: each.graph.picture.get("svg"))
        wait_for(lambda each=each: each.graph.moments.get("op-load.raw", [""])[0] == "done")
        assert 'class="pulpo pulpo-live"' in each.graph.picture["svg"]
        assert words(each.status.value) == "main_flow: running"
        assert "1/2: late" in words(each.bar.value)
    tab.start.click()
    assert "under way" in words(tab.status.value)
    other.cancel.click()
    wait_for(lambda: "cancelled" in tab.status.value)
    assert words(tab.status.value) == (
        "✗ main_flow: cancelled. 1 of 2 operations had finished; their results are kept."
    )
    wait_for(lambda: tab.graph.moments["op-late"][0] == "cancelled")
    assert tab.cancel.disabled
    assert not tab.start.disabled
    go_on(notebook)
    assert run(tab).startswith("✓ main_flow: done in")
    wait_for(lambda: "<svg" in tab.timeline.value)


def test_a_run_of_a_cell_is_shown_with_the_log_of_the_chosen_operation(
    asking: Notebook, tabs: Any
) -> None:
    tab = tabs(asking)
    asking.operation("quiet", "def quiet() -> int:\n    return 1")
    asking.session.run(parameters={"city": "Bonn"}, engine="local")
    assert words(tab.status.value).startswith("✓ main_flow: done in")
    assert words(tab.lines.value) == "ask: asked Bonn"
    tab.graph.selected = "quiet"  # as a click on it does
    assert tab.about.value == "quiet"
    assert words(tab.lines.value) == "Nothing was logged or printed."
    late = tabs(asking)  # opened after the run
    assert words(late.status.value).startswith("✓ main_flow: done in")


def test_a_failure_is_told_with_what_was_not_reached(tabs: Any) -> None:
    notebook = Notebook()
    notebook.cell("from typing import NewType\nRaw = NewType('Raw', int)")
    notebook.operation("load", "def load() -> Raw:\n    raise ValueError('no <rows>')")
    notebook.operation("use", "def use(raw: Raw) -> int: ...")
    tab = tabs(notebook)
    said = run(tab, "failed")
    assert said == (
        "✗ main_flow: failed. load: ValueError: no <rows>. Not reached: use. "
        "Called with: pulpo.last_run().inputs('load')."
    )
    assert "<rows>" not in tab.status.value
    wait_for(lambda: tab.about.value == "load")  # what a person wants to see now
    wait_for(lambda: "line 2, in load" in words(tab.lines.value))
    log = words(tab.lines.value)
    assert "ValueError: no <rows>" in log
    assert "pulpo/" not in log


def test_an_exception_that_cannot_be_told_is_told_as_such(tabs: Any) -> None:
    notebook = Notebook()
    notebook.cell("class Evil(Exception):\n    def __str__(self): raise RuntimeError")
    notebook.operation("load", "def load() -> int:\n    raise Evil")
    said = run(tabs(notebook), "failed")
    assert "load: Evil: its text cannot be made." in said


def test_a_run_that_is_watched_is_not_replaced_by_another(tabs: Any) -> None:
    notebook = book()
    tab = tabs(notebook)
    tab.start.click()
    began(notebook)
    notebook.session.run("load_flow", engine="local")
    wait_for(lambda: "main_flow: running" in words(tab.status.value))
    assert set(tab.about.options) == {"everything", "load.raw", "late"}
    go_on(notebook)
    wait_for(lambda: "main_flow: done" in tab.status.value)


def test_what_a_start_refuses_is_told(asking: Notebook, tabs: Any) -> None:
    tab = tabs(asking)
    tab.form.rows["city"].control.value = "Bonn"
    asking.session.clear()  # and the tab has not heard of it
    tab.start.click()
    wait_for(lambda: "Not started:" in tab.status.value)
    assert "no operations" in words(tab.status.value).lower()
    assert "Traceback" not in tab.status.value


def test_a_large_run_is_drawn_with_its_groups_closed(tabs: Any) -> None:
    notebook = Notebook()
    for number in range(READABLE + 20):
        notebook.namespace[f"f{number}"] = eval("lambda: None")
        notebook.session.declare(notebook.namespace[f"f{number}"], name=f"g{number % 9}.f{number}")
    tab = tabs(notebook)
    run(tab)
    wait_for(lambda: tab.graph.picture.get("svg"))
    assert [node["key"] for node in tab.graph.picture["nodes"]] == [f"g{n}.*" for n in range(9)]
    wait_for(lambda: tab.graph.moments.get("group-g0", [""])[0] == "done")
    assert tab.graph.moments["group-g0"][1] == "✓ 36/36"


def test_a_closed_tab_hears_of_no_run_and_leaves_no_widgets() -> None:
    from pulpo.widgets.layout import close_all

    notebook = book()
    before = dict(all_widgets._instances)
    tab = RunTab(notebook.session)
    tab.follow(look(notebook.session))
    assert len(notebook.session._watchers) == 1
    close_all(tab)
    assert notebook.session._watchers == []
    assert all_widgets._instances == before
