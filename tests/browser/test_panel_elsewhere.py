"""The panel where it is no JupyterLab that shows it: drawn, clicked, and silent to the world."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=90_000)

MODELS = """\
%load_ext pulpo
from dataclasses import dataclass

@dataclass
class Raw:
    rows: list[int]
"""
LOAD = "%%operation source.load\ndef load(count: int = 3) -> Raw:\n    return Raw([1] * count)"
CLEAN = "%%operation parsing.clean\ndef clean(raw: Raw) -> int:\n    return len(raw.rows)"
CELLS = [MODELS, LOAD, CLEAN, "%pulpo panel"]
# A stylesheet of Voilà's own page, with or without a panel in it.
VOILAS_OWN = "https://cdn.jsdelivr.net/npm/@fortawesome/"
# The panel's module is a blob to the browser, and anywidget tells what it throws.
OURS = ("blob:", "/anywidget/", "[anywidget]")


def works(host: Any, page: Page) -> None:
    """See that the panel is drawn, that a tab opens, and that nothing went wrong or out."""
    panel = page.locator(".pulpo-panel").first
    for name in ("source.load", "parsing.clean"):
        node = panel.locator(f'svg [data-operation="{name}"]').first
        expect(node).to_be_visible()
        box = node.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 5

    tab = panel.get_by_role("tab").last
    expect(tab).to_have_attribute("aria-selected", "false")
    tab.click()
    expect(tab).to_have_attribute("aria-selected", "true")
    use(host, panel)
    # What was clicked may ask for something too.
    page.wait_for_timeout(500)

    assert any(url.startswith("ws://127.0.0.1:") for url in host.requests)
    assert [url for url in host.requests if leaves(url)] == []
    assert [text for text in host.complaints if any(mark in text for mark in OURS)] == []


def use(host: Any, panel: Locator) -> None:
    """Read an operation's source, run the flow without Prefect, and export it."""
    panel.get_by_role("tab", name="Dataflow").click()
    panel.locator(".pulpo-stage:visible [data-key='source.load']").click()
    detail = panel.get_by_role("region", name="Details").locator("visible=true")
    expect(detail).to_contain_text("return Raw([1] * count)")

    panel.get_by_role("tab", name="Run").click()
    panel.get_by_label("Run", exact=True).select_option("without Prefect")
    panel.get_by_label("count", exact=True).fill("2")
    panel.get_by_label("count", exact=True).blur()
    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator(".pulpo-status:visible")).to_contain_text("✓ main_flow: done in")
    expect(panel.locator(".pulpo-run-tab .node.done")).to_have_count(2)

    panel.get_by_role("tab", name="Export").click()
    panel.get_by_role("button", name="Export flows").click()
    expect(panel.locator(".pulpo-status:visible")).to_contain_text("✓ 3 flows exported")
    assert (host.folder / "run_cache/orchestration/main_flow.py").is_file()


def leaves(url: str) -> bool:
    """Say whether a request went to another machine."""
    there = urlsplit(url)
    return (
        there.scheme not in ("blob", "data")
        and there.hostname != "127.0.0.1"
        and not url.startswith(VOILAS_OWN)
    )


def ink(page: Page) -> str:
    """Tell the colour of an operation's words."""
    words = page.locator('.pulpo-panel svg [data-operation="source.load"] text').first
    return str(words.evaluate("words => getComputedStyle(words).fill"))


def test_notebook_7_shows_the_panel(notebook7: Any) -> None:
    notebook7.write("panel.ipynb", CELLS)
    page = notebook7.open("panel.ipynb")
    notebook7.run_all(page)
    works(notebook7, page)


def test_voila_shows_the_panel_on_light_and_on_dark(voila: Any) -> None:
    voila.write("panel.ipynb", CELLS)
    inks = []
    for theme, light in (("light", "true"), ("dark", "false")):
        page = voila.open("panel.ipynb", theme=theme)
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        inks.append(ink(page))
        works(voila, page)
    assert inks[0] != inks[1]
