"""A run that a person watches, and stops, in a real JupyterLab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SETUP = """\
%load_ext pulpo
import asyncio, time
from pathlib import Path
from typing import NewType
Url = NewType("Url", str)
Page = NewType("Page", str)
Report = NewType("Report", str)

async def until(name):
    while not Path(name).exists():
        await asyncio.sleep(0.05)"""
FIND = """\
%%operation pages.find
def find() -> list[Url]:
    return [Url(name) for name in ("one", "two", "three")]"""
FETCH = """\
%%operation pages.fetch
async def fetch(url: Url) -> Page:
    await until(url)
    return Page(url)"""
REPORT = """\
%%operation report
def report(pages: list[Page]) -> Report:
    while not Path("report").exists():
        time.sleep(0.05)
    return Report(" ".join(pages))"""
STEP = 120_000  # milliseconds; the first run starts a server


def test_a_run_colours_live_is_stopped_and_goes_on_and_leaves_its_timeline(lab: Any) -> None:
    folder: Path = lab.folder
    (folder / "one").touch()
    lab.write("watch.ipynb", [SETUP, FIND, FETCH, REPORT, "%pulpo run", "%pulpo run --resume"])
    page = lab.open("watch.ipynb")
    lab.start_all(page)
    live = page.locator(".pulpo-live")
    # One of three elements is there, and the others are waited for.
    expect(live.locator(".running .sign").first).to_contain_text("▶ 1/3", timeout=STEP)
    expect(live.locator('[data-operation="pages.find"]')).to_have_class("node operation sync done")
    expect(live.locator('[data-operation="report"] .sign')).to_have_text("· pending")
    expect(page.locator(".pulpo-progress .pulpo-seconds")).to_contain_text("pages.fetch 1/3")
    (folder / "two").touch()
    expect(live.locator(".running .sign").first).to_contain_text("▶ 2/3", timeout=STEP)
    lab.screenshot(page, folder / "live.png")

    lab.interrupt(page)
    stopped = page.locator(".pulpo-progress").first
    expect(stopped.locator(".pulpo-seconds")).to_contain_text("cancelled", timeout=STEP)
    expect(page.get_by_text("'%pulpo run --resume' goes on from there")).to_be_visible()

    (folder / "three").touch()
    (folder / "report").touch()
    lab.run_cell(page, 5)
    done = page.locator(".pulpo-progress").nth(1)
    expect(done.locator(".pulpo-time")).to_be_visible(timeout=STEP)
    expect(done.locator('.pulpo-live [data-operation="report"]')).to_have_class(
        "node operation sync done"
    )
    expect(done.locator('.pulpo-live [data-operation="pages.find"] .sign')).to_have_text("✓ cached")
    expect(done.locator(".pulpo-time .critical").last).to_be_visible()
    lab.screenshot(page, folder / "done.png")
