"""The panel in a real JupyterLab: seen, clicked, followed, by keyboard, in both themes."""

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
LOOKS = {"Code": ".pulpo-code", "Problems": ".pulpo-problems", "Graph": ".pulpo-stage svg"}
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


def rewrite(page: Page, index: int, source: str) -> None:
    """Type another source into a cell."""
    page.evaluate(
        """([index, source]) => {
            const cell = jupyterapp.shell.currentWidget.content.widgets[index];
            cell.model.sharedModel.setSource(source);
        }""",
        [index, source],
    )


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
    expect(panel.get_by_role("textbox", name="Export to folder")).to_have_value("run_cache")
    panel.get_by_role("button", name="Export flows").click()
    expect(panel.get_by_role("status")).to_contain_text("✓ 3 flows exported to run_cache")

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
    expect(panel.get_by_role("status")).to_contain_text("✗ Not exported")
    expect(panel.get_by_role("status")).to_contain_text("not_a_name")
    expect(rows).to_have_count(0)
    assert not (root / "not-a-name").exists()


def test_open_panels_follow_the_session_and_the_page_can_be_reloaded(lab: Any) -> None:
    page = opened(lab, [*CELLS, "%pulpo panel"])
    first, second = panel_of(page, 0), panel_of(page, 1)
    nodes = ".pulpo-stage .node.operation"
    expect(first.locator(nodes)).to_have_count(2)

    # A cell that is run again, and a new one: both panels show it.
    rewrite(page, 2, CLEAN.replace("raw: Raw", "raw: Raw, limit: int = 9"))
    lab.run_cell(page, 2)
    for panel in (first, second):
        expect(panel.locator(f"{nodes}:has-text('limit')")).to_have_count(1)
    first.get_by_role("tab", name="Code").click()
    expect(first.locator(".pulpo-code")).to_contain_text("limit: int = 9")
    first.get_by_label("Flow", exact=True).select_option("parsing_flow")
    expect(first.locator(".pulpo-code")).to_contain_text("async def parsing_flow")
    rewrite(page, 2, CLEAN.replace("parsing.clean", "parsing.wash"))
    lab.run_cell(page, 2)
    expect(first.locator(".pulpo-code")).to_contain_text("parsing.wash")
    expect(second.locator('[data-operation="parsing.wash"]')).to_have_count(1)
    expect(second.locator('[data-operation="parsing.clean"]')).to_have_count(0)

    # A problem is counted on its tab and told with its fix.
    rewrite(page, 2, CLEAN.replace("raw: Raw", "raw: Clean"))
    lab.run_cell(page, 2)
    first.get_by_role("tab", name=re.compile(r"Problems \(\d\)")).click()
    expect(first.locator(".pulpo-problems li").first).to_be_visible()
    rewrite(page, 2, CLEAN)
    lab.run_cell(page, 2)
    expect(first.get_by_role("tab", name="Problems", exact=True)).to_be_visible()

    # The view is kept, also by a page that is loaded anew.
    chosen = second.get_by_role("button", name="Hierarchy")
    chosen.click()
    expect(chosen).to_have_attribute("aria-pressed", "true")
    expect(second.locator(".pulpo-stage svg title").first).to_contain_text("Hierarchy")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    expect(second.get_by_role("button", name="Hierarchy")).to_have_attribute("aria-pressed", "true")
    expect(second.locator(".pulpo-stage svg title").first).to_contain_text("Hierarchy")


def test_the_keyboard_reaches_the_panel_and_never_the_notebook_behind_it(lab: Any) -> None:
    page = opened(lab, CELLS)
    panel = panel_of(page)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    count = cells.count()
    page.keyboard.press("Escape")
    panel.get_by_role("button", name="Dataflow").focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_role("button", name="Dataflow")).to_have_attribute("aria-pressed", "true")
    for name in ("Hierarchy", "Both"):
        page.keyboard.press("Tab")
        expect(panel.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Tab")
    expect(panel.get_by_role("region")).to_be_focused()
    for key in ("x", "d", "d", "a"):
        page.keyboard.press(key)
    panel.get_by_role("button", name="Export flows").focus()
    page.keyboard.press("x")
    page.keyboard.press("Space")
    expect(panel.get_by_role("status")).to_contain_text("✓ 3 flows exported")
    assert cells.count() == count


def test_words_have_contrast_and_nothing_overflows_in_both_themes(lab: Any) -> None:
    page = opened(lab, [*CELLS[:-1], ALONE, CELLS[-1]], height=1500)
    panel = panel_of(page)
    panel.get_by_role("button", name="Export flows").click()
    expect(panel.locator(".pulpo-files")).to_be_visible()
    look_at_both_themes(lab, page, "exported")

    # An error on a tab, a refusal below.
    rewrite(page, 1, LOAD.replace("count: int = 3", "clean: Clean"))
    lab.run_cell(page, 1)
    expect(panel.locator(".pulpo-problems .pulpo-error")).to_have_count(1)
    panel.get_by_role("button", name="Export flows").click()
    expect(panel.get_by_role("status")).to_contain_text("✗ Not exported")
    look_at_both_themes(lab, page, "refused")


def look_at_both_themes(lab: Any, page: Page, name: str) -> None:
    """Look at every tab on light and on dark."""
    panel = panel_of(page)
    for theme in ("Light", "Dark"):
        lab.theme(page, theme)
        for tab, shown in LOOKS.items():
            panel.get_by_role("tab", name=tab).click()
            if name == "exported" or tab != "Code":  # a blocked flow has no code
                expect(panel.locator(shown).first).to_be_visible()
            panel.scroll_into_view_if_needed()
            keep(lab, page, f"{name}-{theme}-{tab}".lower())
            assert weak_words(panel) == []
            wide = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
            assert wide <= 0, (theme, tab)


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
            const own = '.pulpo-title,.pulpo-summary,.pulpo-view,.pulpo-message,.pulpo-files th,'
                + '.pulpo-files code,.pulpo-files td,.pulpo-problems *';
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
