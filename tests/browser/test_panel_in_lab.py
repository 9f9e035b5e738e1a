"""The panel in a real JupyterLab: seen, clicked, run, followed, by keyboard, in both themes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from pulpo.registry import OperationRegistry
from pulpo.session import Session
from pulpo.widgets.panel import Panel

pytestmark = [pytest.mark.browser, pytest.mark.slow]
# A page of JupyterLab takes many seconds to load on a busy machine.
expect.set_options(timeout=90_000)

MODELS = """\
%load_ext pulpo
from dataclasses import dataclass

@dataclass
class Raw:
    rows: list[int]

@dataclass
class Clean:
    rows: list[int]

@dataclass
class Lost:
    rows: list[int]
"""
LOAD = (
    "%%operation source.load\nasync def load(count: int = 3) -> Raw:\n    return Raw([1] * count)"
)
CLEAN = "%%operation parsing.clean\ndef clean(raw: Raw) -> Clean:\n    return Clean(raw.rows[1:])"
# It takes what nobody gives.
ALONE = "%%operation parsing.alone\ndef alone(lost: Lost) -> int:\n    return 1"
SLOW = """\
%%operation source.load
import asyncio
from typing import Annotated, Literal
from pydantic import Field

async def load(
    count: Annotated[int, Field(ge=1, le=50)] = 3,
    how: Literal["quickly", "slowly"] = "quickly",
) -> Raw:
    for number in range(count):
        print("row", number)
        await asyncio.sleep(0.3 if how == "quickly" else 5)
    return Raw([1] * count)
"""
LOOKS = {
    "Code": ".pulpo-code",
    "Problems": ".pulpo-problems",
    "Run": ".pulpo-form",
    "Hierarchy": ".pulpo-stage svg",
    "Dataflow": ".pulpo-stage svg",
    "Export": ".pulpo-export",
}
CELLS = [MODELS, LOAD, CLEAN, "%pulpo panel"]


def opened(lab: Any, cells: list[str], **size: int) -> Page:
    """Run a notebook whose last cell shows the panel, and return its page."""
    lab.write("panel.ipynb", cells)
    page: Page = lab.open("panel.ipynb", **size)
    lab.run_all(page)
    shown = page.locator(".pulpo-panel .pulpo-stage:visible")
    expect(shown).to_have_count(sum("%pulpo panel" in cell for cell in cells))
    return page


def panel_of(page: Page, number: int = 0) -> Locator:
    return page.locator(".pulpo-panel").nth(number)


def tab(panel: Locator, name: str | re.Pattern[str]) -> None:
    """Choose a tab."""
    panel.get_by_role("tab", name=name).click()


def status(panel: Locator) -> Locator:
    """What the tab that is shown says, and reads out, of what it does."""
    return panel.locator(".pulpo-status:visible")


def rewrite(page: Page, index: int, source: str) -> None:
    """Type another source into a cell."""
    page.evaluate(
        """([index, source]) => {
            const cell = jupyterapp.shell.currentWidget.content.widgets[index];
            cell.model.sharedModel.setSource(source);
        }""",
        [index, source],
    )


def add(lab: Any, page: Page, source: str) -> None:
    """Run a new cell at the end of the notebook."""
    last = page.evaluate("() => jupyterapp.shell.currentWidget.content.widgets.length - 1")
    page.evaluate(
        """async last => {
            jupyterapp.shell.currentWidget.content.activeCellIndex = last;
            await jupyterapp.commands.execute("notebook:insert-cell-below");
        }""",
        last,
    )
    rewrite(page, last + 1, source)
    lab.run_cell(page, last + 1)


def keep(lab: Any, page: Page, name: str) -> None:
    """Keep a screenshot where KEEP_SCREENSHOTS says, for eyes."""
    if folder := os.environ.get("KEEP_SCREENSHOTS"):
        lab.screenshot(page, Path(folder) / f"panel-{name}.png")


def test_a_click_on_export_flows_writes_files_that_run(
    lab: Any, private_env: dict[str, str]
) -> None:
    page = opened(lab, CELLS)
    panel = panel_of(page)
    expect(panel).to_contain_text("2 operations · 3 flows · no problems")
    tab(panel, "Export")
    expect(panel.get_by_role("textbox", name="Export to folder")).to_have_value("run_cache")
    panel.get_by_role("button", name="Export flows").click()
    expect(status(panel)).to_contain_text("✓ 3 flows exported to run_cache")

    root = lab.folder
    files = sorted(path for path in (root / "run_cache").rglob("*.py"))
    assert root / "run_cache/orchestration/main_flow.py" in files
    rows = panel.locator(".pulpo-files tbody tr")
    listed = [row.split("\t")[0].strip() for row in rows.all_inner_texts()]
    assert set(listed) >= {path.relative_to(root).as_posix() for path in files}
    code = (
        "import sys; sys.path.insert(0, '.'); from run_cache.operations import OPERATIONS as made"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}; print(sorted(made))"],
        cwd=root,
        env=private_env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout.strip() == "['parsing.clean', 'source.load']"

    panel.get_by_role("textbox", name="Export to folder").fill("not-a-name")
    panel.get_by_role("button", name="Export flows").click()
    expect(status(panel)).to_contain_text("✗ Not exported")
    expect(status(panel)).to_contain_text("not_a_name")
    expect(rows).to_have_count(0)
    assert not (root / "not-a-name").exists()


def test_open_panels_follow_the_session_and_the_page_can_be_reloaded(lab: Any) -> None:
    page = opened(lab, [*CELLS, "%pulpo panel"])
    first, second = panel_of(page, 0), panel_of(page, 1)
    nodes = ".pulpo-stage:visible .node.operation"
    expect(first.locator(nodes)).to_have_count(2)

    # A cell that is run again, and a new one: both panels show it.
    rewrite(page, 2, CLEAN.replace("raw: Raw", "raw: Raw, limit: int = 9"))
    lab.run_cell(page, 2)
    for panel in (first, second):
        expect(panel.locator(f"{nodes}:has-text('limit')")).to_have_count(1)
    tab(first, "Code")
    expect(first.locator(".pulpo-code")).to_contain_text("limit: int = 9")
    first.get_by_label("Flow", exact=True).locator("visible=true").select_option("parsing_flow")
    expect(first.locator(".pulpo-code")).to_contain_text("async def parsing_flow")
    rewrite(page, 2, CLEAN.replace("parsing.clean", "parsing.wash"))
    lab.run_cell(page, 2)
    expect(first.locator(".pulpo-code")).to_contain_text("parsing.wash")
    shown = second.locator(".pulpo-stage:visible")
    expect(shown.locator('[data-operation="parsing.wash"]')).to_have_count(1)
    expect(shown.locator('[data-operation="parsing.clean"]')).to_have_count(0)

    # A problem is counted on its tab and told with its fix.
    rewrite(page, 2, CLEAN.replace("raw: Raw", "raw: Clean"))
    lab.run_cell(page, 2)
    tab(first, re.compile(r"Problems \(\d\)"))
    expect(first.locator(".pulpo-problems li").first).to_be_visible()
    rewrite(page, 2, CLEAN)
    lab.run_cell(page, 2)
    expect(first.get_by_role("tab", name="Problems", exact=True)).to_be_visible()

    # An operation that is new stands in both; a panel has its own look.
    add(lab, page, "%%operation parsing.count\ndef count(clean: Clean) -> int:\n    return 1")
    new = ".pulpo-stage:visible [data-operation='parsing.count']"
    expect(second.locator(new)).to_have_count(1)
    tab(first, "Dataflow")
    expect(first.locator(new)).to_have_count(1)
    shown.locator('[data-key="parsing.*"] text').first.click()  # its name closes a group
    expect(second.locator(new)).to_have_count(0)
    expect(shown.locator('[data-key="parsing.*"]')).to_have_attribute("aria-expanded", "false")
    expect(first.locator(new)).to_have_count(1)
    second.get_by_role("button", name="Left to right").locator("visible=true").click()
    turned = second.get_by_role("button", name="Left to right", pressed=True)
    expect(turned.locator("visible=true")).to_have_count(1)
    second.locator(".pulpo-stage:visible [data-key='source.load']").click()
    detail = second.get_by_role("region", name="Details").locator("visible=true")
    expect(detail).to_contain_text("return Raw([1] * count)")
    expect(detail).to_contain_text("gives Raw to parsing.clean")
    detail.get_by_role("link", name="go to the cell").click()
    expect(page).to_have_url(re.compile("#cell-id="))

    # The page that is loaded anew has the last state.
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.goto(page.url.partition("#")[0])
    page.reload()
    expect(turned.locator("visible=true")).to_have_count(1)
    expect(detail).to_contain_text("return Raw([1] * count)")
    expect(shown.locator('[data-key="parsing.*"]')).to_have_attribute("aria-expanded", "false")


@pytest.mark.prefect
def test_a_form_is_filled_wrongly_and_rightly_and_a_run_is_watched_and_cancelled(lab: Any) -> None:
    page = opened(lab, [MODELS, SLOW, CLEAN, ALONE, "%pulpo panel", "%pulpo panel"], height=1500)
    panel, other = panel_of(page, 0), panel_of(page, 1)
    for each in (panel, other):
        tab(each, "Run")
    start = panel.get_by_role("button", name="Run", exact=True)
    start.click()
    expect(status(panel)).to_have_text("✗ Not started: see lost above.")
    expect(panel.locator(".pulpo-invalid")).to_have_count(1)
    panel.get_by_label("lost", exact=True).fill('{"rows": "none"}')
    panel.get_by_label("count", exact=True).fill("0")
    panel.get_by_label("count", exact=True).blur()
    wrong = panel.locator(".pulpo-invalid .pulpo-field-words")
    expect(wrong).to_contain_text(
        ["Input should be a valid", "Input should be greater than or equal to 1"]
    )
    panel.get_by_label("lost", exact=True).fill('{"rows": [1]}')
    panel.get_by_label("count", exact=True).fill("5")
    panel.get_by_label("count", exact=True).blur()
    expect(panel.locator(".pulpo-invalid")).to_have_count(0)
    start.click()

    def node(name: str, state: str, of: Locator = panel) -> Locator:
        return of.locator(f".pulpo-run-tab .node.{state}[data-key='{name}']")

    expect(node("source.load", "running")).to_be_visible()
    expect(node("source.load", "running", other)).to_be_visible()  # two panels agree
    expect(node("parsing.clean", "pending")).to_be_visible()
    keep(lab, page, "running")
    expect(start).to_be_disabled()
    expect(node("parsing.clean", "done")).to_be_visible()
    expect(status(panel)).to_contain_text("✓ main_flow: done in")
    expect(status(other)).to_contain_text("✓ main_flow: done in")
    expect(panel.locator(".pulpo-timeline svg")).to_contain_text("source.load")
    node("source.load", "done").click()
    expect(panel.get_by_label("Log of")).to_have_value(re.compile("source.load"))
    expect(panel.locator(".pulpo-log")).to_contain_text("source.load: row 4")
    keep(lab, page, "done")

    panel.get_by_label("how", exact=True).select_option("slowly")
    start.click()
    expect(node("source.load", "running")).to_be_visible()
    # A cell may run meanwhile: no button holds up the kernel, and no cell a run.
    add(lab, page, "import pulpo\nprint('answered', pulpo.last_run().state)")
    expect(page.locator(".jp-OutputArea-output", has_text="answered running")).to_be_visible()
    other.get_by_role("button", name="Cancel").click()
    for each in (panel, other):
        expect(status(each)).to_contain_text("✗ main_flow: cancelled.")
        expect(each.get_by_role("button", name="Resume")).to_be_visible()
    expect(node("source.load", "cancelled")).to_be_visible()
    keep(lab, page, "cancelled")

    # A run that a cell starts is shown, too.
    add(lab, page, "%pulpo run source --param count=2")
    expect(status(panel)).to_contain_text("✓ source_flow: done in")
    expect(node("source.load", "done")).to_be_visible()
    expect(node("parsing.clean", "done")).to_have_count(0)


def test_the_keyboard_reaches_the_panel_and_never_the_notebook_behind_it(lab: Any) -> None:
    page = opened(lab, CELLS)
    panel = panel_of(page)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    count = cells.count()
    page.keyboard.press("Escape")
    panel.get_by_role("tab", name="Dataflow").focus()
    page.keyboard.press("Tab")
    expect(panel.get_by_role("searchbox").locator("visible=true")).to_be_focused()
    for name in ("Zoom out", "Zoom in", "Fit", "Left to right", "Groups", "Collapse all"):
        page.keyboard.press("Tab")
        button = panel.get_by_role("button", name=name, exact=True).locator("visible=true")
        expect(button).to_be_focused()
    page.keyboard.press("Tab")
    focused = panel.locator(".pulpo-stage:visible [data-key]:focus")
    expect(focused).to_have_count(1)
    for key in ("x", "d", "d", "a"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    detail = panel.get_by_role("region", name="Details").locator("visible=true")
    expect(detail).to_contain_text("return Raw([1] * count)")
    page.keyboard.press("Escape")
    expect(detail).to_have_count(0)
    assert cells.count() == count

    # The tabs by arrow keys; the button by Tab and Space.
    panel.get_by_role("tab", name="Dataflow").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    button = panel.get_by_role("button", name="Export flows")
    expect(button).to_be_visible()
    for _ in range(6):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("x")
    page.keyboard.press("Space")
    expect(status(panel)).to_contain_text("✓ 3 flows exported")
    assert cells.count() == count


def test_words_have_contrast_and_nothing_overflows_in_both_themes(lab: Any) -> None:
    page = opened(lab, [*CELLS[:-1], ALONE, CELLS[-1]], height=1500)
    panel = panel_of(page)
    tab(panel, "Export")
    panel.get_by_role("button", name="Export flows").click()
    expect(panel.locator(".pulpo-files")).to_be_visible()
    look_at_both_themes(lab, page, "exported")

    # An error on a tab, a refusal below.
    rewrite(page, 1, LOAD.replace("count: int = 3", "clean: Clean"))
    lab.run_cell(page, 1)
    expect(panel.locator(".pulpo-problems .pulpo-error")).to_have_count(1)
    tab(panel, "Export")
    panel.get_by_role("button", name="Export flows").click()
    expect(status(panel)).to_contain_text("✗ Not exported")
    look_at_both_themes(lab, page, "refused")


def look_at_both_themes(lab: Any, page: Page, name: str) -> None:
    """Look at every tab on light and on dark."""
    panel = panel_of(page)
    for theme in ("Light", "Dark"):
        lab.theme(page, theme)
        for title, shown in LOOKS.items():
            tab(panel, title)
            if name == "exported" or title not in ("Code", "Run"):  # a blocked flow has neither
                expect(panel.locator(shown).locator("visible=true").first).to_be_visible()
            panel.scroll_into_view_if_needed()
            keep(lab, page, f"{name}-{theme}-{title}".lower())
            assert weak_words(panel) == []
            wide = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
            assert wide <= 0, (theme, title)


def weak_words(panel: Locator) -> list[Any]:
    """The texts of the panel's own HTML that stand out from what is behind them less than 4.5:1."""
    found: list[Any] = panel.evaluate(
        """panel => {
            const parse = text => text.match(/[\\d.]+/g).map(Number);
            const level = ([r, g, b]) => {
                const part = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
                return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
            };
            const behind = element => {
                for (let at = element; at; at = at.parentElement) {
                    const colour = parse(getComputedStyle(at).backgroundColor);
                    if (colour.length === 3 || colour[3] === 1) return colour;
                }
                return [255, 255, 255];
            };
            const own = '.pulpo-title,.pulpo-summary,.pulpo-button,.pulpo-message,.pulpo-files th,'
                + '.pulpo-files code,.pulpo-files td,.pulpo-problems *,.pulpo-field-words *,'
                + '.pulpo-log *,.pulpo-found,label';
            return [...panel.querySelectorAll(own)].filter(e => e.offsetParent).map(element => {
                const ink = level(parse(getComputedStyle(element).color));
                const page = level(behind(element));
                const contrast = (Math.max(ink, page) + .05) / (Math.min(ink, page) + .05);
                return [element.className, element.textContent, contrast];
            }).filter(([, , contrast]) => contrast < 4.5);
        }"""
    )
    return found


def test_an_untrusted_notebook_shows_the_still_picture(lab: Any) -> None:
    def load(count: int = 3) -> int:
        return count

    session = Session(OperationRegistry(), {})
    session.declare(load, name="source.load")
    made = Panel(session)
    output = made._repr_mimebundle_()
    made.close()
    lab.write("cloned.ipynb", ["%pulpo panel"], [output])
    page = lab.open("cloned.ipynb")
    picture = page.locator(".jp-OutputArea-output img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 50
    seen = page.locator(".jp-OutputArea-output").inner_text()
    assert "This is a still picture" in seen
    assert "source.load" not in seen, "the words of the picture, loose"
    keep(lab, page, "untrusted")
