"""Pictures in a real browser: both themes, trusted and not, and text that stays in its box."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pulpo.backends import render

sys.path.insert(0, os.fspath(Path(__file__).parent.parent))
import sample_plans

pytestmark = [pytest.mark.browser]

DRAW = f"""
import sys
sys.path.insert(0, {os.fspath(Path(__file__).parent.parent)!r})
import sample_plans
from pulpo.backends.render import draw
draw(sample_plans.jobs())
"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    yield page
    page.close()


def shows(page: Page, selector: str, cell: int = 0) -> bool:
    """Say whether the cell's output has the element where a person can see it."""
    found = page.locator(".jp-Cell").nth(cell).locator(f".jp-OutputArea-output {selector}")
    return found.count() > 0 and found.first.is_visible()


@pytest.mark.parametrize("plan", ["jobs", "troubled", "looped"])
@pytest.mark.parametrize("view", ["both", "dataflow", "hierarchy"])
def test_text_stays_in_its_box(page: Page, plan: str, view: str) -> None:
    picture = render.draw(getattr(sample_plans, plan)(), view)
    page.set_content(picture._repr_html_())
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.pulpo .node')].flatMap(node => {
            const box = node.querySelector('path,polygon').getBoundingClientRect();
            return [...node.querySelectorAll('text')].filter(text => {
                const words = text.getBoundingClientRect();
                return words.left < box.left || words.right > box.right
                    || words.top < box.top - 1 || words.bottom > box.bottom + 1;
            }).map(text => text.textContent);
        })"""
    )
    assert page.locator(".pulpo .node").count() > 0
    assert outside == []


@pytest.mark.parametrize(("background", "scheme"), [("#ffffff", "light"), ("#111111", "dark")])
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "img"])
def test_every_word_has_contrast_on_both_themes(
    page: Page, background: str, scheme: str, inline: bool
) -> None:
    picture = render.draw(sample_plans.troubled())
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    if inline:
        light = "true" if scheme == "light" else "false"
        ink = "#212121" if scheme == "light" else "#e0e0e0"
        page.set_content(
            f'<body data-jp-theme-light="{light}" style="background:{background};color:{ink}">'
            f"{picture._repr_html_()}</body>"
        )
    else:
        # What an <img> shows, opened as the document that it is.
        page.set_content(f'<body style="background:{background}">{picture.svg}</body>')
    contrasts = page.evaluate(
        """background => {
            const level = text => {
                const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                return .2126 * r + .7152 * g + .0722 * b;
            };
            document.body.style.backgroundColor = background;
            const page = level(getComputedStyle(document.body).backgroundColor);
            return [...document.querySelectorAll('.pulpo text,.pulpo tspan')].map(text => {
                const ink = level(getComputedStyle(text).fill);
                const [high, low] = [Math.max(ink, page), Math.min(ink, page)];
                return [text.textContent, (high + .05) / (low + .05)];
            });
        }""",
        background,
    )
    assert len(contrasts) > 10
    assert [pair for pair in contrasts if pair[1] < 4.5] == []


def test_an_image_alone_follows_the_preferred_scheme(page: Page) -> None:
    picture = render.draw(sample_plans.jobs())
    inks = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_content(picture.svg)
        inks.append(
            page.evaluate("() => getComputedStyle(document.querySelector('text.name')).fill")
        )
    assert inks == ["rgb(31, 35, 40)", "rgb(240, 246, 252)"]


def test_a_sanitised_output_shows_the_image_and_no_loose_words(page: Page) -> None:
    html = render.draw(sample_plans.jobs())._repr_html_()
    before, _, rest = html.partition("<style>")
    stripped = before + rest.partition("</style>")[2]
    start, end = stripped.index("<svg"), stripped.index("</svg>") + len("</svg>")
    words = "scraping.merge (sync) RawJobs"
    page.set_content(html + stripped[:start] + words + stripped[end:])

    trusted, untrusted = page.locator(".pulpo-picture").all()
    assert trusted.locator("svg").is_visible()
    assert not trusted.locator("img").is_visible()
    assert untrusted.locator("img").is_visible()
    assert not untrusted.get_by_text(words).is_visible()


@pytest.mark.slow
def test_jupyterlab_shows_the_image_of_an_untrusted_notebook_and_the_svg_of_a_run(lab) -> None:  # type: ignore[no-untyped-def]
    picture = render.draw(sample_plans.jobs())
    stored = dict(picture._repr_mimebundle_())
    lab.write("cloned.ipynb", ["# not run here", DRAW], [stored])
    page = lab.open("cloned.ipynb")
    page.wait_for_selector(".jp-OutputArea-output img")

    assert shows(page, "img")
    assert page.locator(".jp-OutputArea-output svg.pulpo").count() == 0
    assert not page.get_by_text("scraping.merge", exact=False).first.is_visible()

    lab.run_cell(page, 1)
    page.wait_for_selector(".jp-OutputArea-output svg.pulpo", state="visible")
    assert not shows(page, "img", cell=1)
    assert shows(page, "img", cell=0), "a run cell must not switch the untrusted one"

    ink = "() => getComputedStyle(document.querySelector('svg.pulpo text.name')).fill"
    light = page.evaluate(ink)
    _keep(lab, page, "light")
    lab.theme(page, "Dark")
    assert page.evaluate(ink) != light
    _keep(lab, page, "dark")


def _keep(lab, page: Page, name: str) -> None:  # type: ignore[no-untyped-def]
    """Keep a screenshot where KEEP_SCREENSHOTS says, for eyes."""
    if folder := os.environ.get("KEEP_SCREENSHOTS"):
        lab.screenshot(page, Path(folder) / f"picture-{name}.png")
