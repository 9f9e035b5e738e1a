"""SVG and the notebook's mime bundle, with each engine and with none."""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
import sample_plans

from pulpo.backends import render
from pulpo.errors import MissingProgramError, PulpoError, UsageError
from pulpo.plan import Edge, Orchestration

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    'a"b',
    "a\\N",
    "</svg><script>x</script>",
    "]]>",
    "&lt;",
    "a->b",
    "%41",
    "日本 🐙",
    "a b",
]
ENGINES = ["dot", "wheel"]


@pytest.fixture(autouse=True)
def _drawn_anew() -> None:
    render._finished.cache_clear()


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Leave one engine: the program, or the one in pygraphviz (there is no ``dot`` on the PATH)."""
    name = str(request.param)
    if name == "dot":
        if shutil.which("dot") is None:
            pytest.skip("no dot on this machine")
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    else:
        monkeypatch.setenv("PATH", os.fspath(tmp_path))
    return name


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


def parsed(picture: render.Picture) -> Element:
    return ElementTree.fromstring(picture.svg)


def operations(root: Element) -> dict[str, Element]:
    groups = root.iter(f"{SVG}g")
    return {g.attrib["data-operation"]: g for g in groups if "data-operation" in g.attrib}


def put_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("view", ["both", "dataflow", "hierarchy"])
@pytest.mark.parametrize("plan", ["jobs", "troubled", "looped"])
def test_both_engines_draw_every_operation(engine: str, view: str, plan: str) -> None:
    drawn = getattr(sample_plans, plan)()
    found = operations(parsed(render.draw(drawn, view)))
    assert sorted(found) == sorted(node.name for node in drawn.operations)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_docs_arrive_as_words(engine: str, name: str) -> None:
    plan = sample_plans.renamed(sample_plans.jobs(), "report", name)
    plan = replace(plan, operations=tuple(node._replace(doc=name) for node in plan.operations))
    root = parsed(render.draw(plan))
    assert root.find(f".//{SVG}script") is None
    node = operations(root)[name]
    title = node.findtext(f"{SVG}title")
    assert title is not None
    assert title.startswith(f"{name} (sync)")
    assert title.splitlines()[2] == name
    words = node.find(f"{SVG}text[@class='name']")
    assert words is not None
    assert words.text == name
    ends = {(g.get("data-source"), g.get("data-target")) for g in root.iter(f"{SVG}g")}
    assert ("parsing.skills", name) in ends


def test_nodes_have_stable_ids_classes_and_titles() -> None:
    node = operations(parsed(render.draw(sample_plans.jobs())))["scraping.linkedin.fetch"]
    assert node.get("id") == "op-scraping.linkedin.fetch"
    assert node.get("class") == "node operation async"
    assert node.findtext(f"{SVG}title") == (
        "scraping.linkedin.fetch (async)\n(query: str, pages: int = 3) → RawJobs\n"
        "Ask LinkedIn's API.\ncell 4"
    )
    assert node.findtext(f"{SVG}text/{SVG}tspan[@class='mark']") == "async"


def test_edges_have_their_ends_and_a_title() -> None:
    root = parsed(render.draw(sample_plans.jobs()))
    titles = {g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g") if g.get("data-source")}
    assert "scraping.merge → parsing.clean: CleanedJobs" in titles


def test_edges_of_a_large_picture_have_their_words_in_the_title() -> None:
    root = parsed(render.draw(sample_plans.layered(301)))
    titles = {g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g") if g.get("data-source")}
    assert "group_0.step_0_0 → group_0.step_1_0: Model0x0" in titles


def test_ends_that_are_no_operations_have_names_for_people() -> None:
    pictures = [
        render.draw(sample_plans.jobs(), depth=1),
        render.draw(sample_plans.jobs(), around="parsing.clean"),
        render.draw(sample_plans.troubled()),
    ]
    titles = {title.text for p in pictures for title in parsed(p).iter(f"{SVG}title")}
    assert {
        "scraping.* → parsing.*: CleanedJobs",
        "… → scraping.merge",
        "Template → publish: template",
    } <= titles


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_groups_that_need_each_other_many_times_over_are_drawn(engine: str) -> None:
    """Graphviz gives up on such frames (``lost edge``) unless it is told to rank them as one."""
    names = [f"g{n % 5}.op{n}" for n in range(60)]
    operations = tuple(sample_plans.operation(name, gives="M") for name in names)
    edges = tuple(
        Edge(source=names[n], target=names[n + step], port="p", model="M")
        for n in range(60)
        for step in (1, 7, 13)
        if n + step < 60
    )
    picture = render.draw(Orchestration(operations=operations, edges=edges))
    assert len({name for name in names if f'data-operation="{name}"' in picture.svg}) == 60


def test_operations_link_to_their_cells_in_the_page_and_nowhere_else() -> None:
    links = {"scraping.merge": "#cell-id=4f1c", "gone": "#cell-id=0"}
    picture = render.draw(sample_plans.jobs(), links=links)
    href = 'xlink:href="#cell-id=4f1c"'
    assert picture.inline.count("xlink:href") == 1
    node = picture.inline.partition('data-operation="scraping.merge">')[2].partition("</g>")[0]
    assert node.startswith(f"<a {href}>")
    assert node.endswith("</a>")
    assert 'role="group"' in picture.inline
    # A file of its own, and an image, are other pages.
    assert "href" not in picture.svg
    # JupyterLab fails on SVG's own href.
    assert " href=" not in picture._repr_html_()
    assert picture._repr_html_().count(href) == 1


def test_ids_are_unique() -> None:
    root = parsed(render.draw(sample_plans.troubled()))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids)) > 5


def test_the_picture_has_a_text_alternative() -> None:
    picture = render.draw(sample_plans.jobs())
    root = parsed(picture)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "Dataflow and groups of 6 operations in 2 groups."
    assert "parsing.clean needs CleanedJobs from scraping.merge" in (
        root.findtext(f"{SVG}desc") or ""
    )
    assert f'alt="{picture.alt}"' in picture._repr_html_()


def test_there_is_no_background_no_script_and_nothing_to_fetch() -> None:
    picture = render.draw(sample_plans.jobs())
    root = parsed(picture)
    graph = root.find(f"{SVG}g")
    assert graph is not None
    assert graph.find(f"{SVG}polygon") is None
    html = picture._repr_html_()
    assert "<script" not in html
    assert set(re.findall(r"https?://[^\"'< ]+", html)) == {"http://www.w3.org/2000/svg"}


def test_the_bundle_has_text_an_image_and_an_inline_svg() -> None:
    picture = render.draw(sample_plans.jobs())
    bundle = picture._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html"]
    assert bundle["text/plain"] == picture.text
    encoded = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', bundle["text/html"])
    assert encoded is not None
    assert base64.b64decode(encoded[1]).decode() == picture.svg
    assert '<div class="pulpo-inline" style="display:none"><svg' in bundle["text/html"]


def test_the_inline_svg_asks_the_page_for_its_theme_and_the_image_asks_the_reader() -> None:
    picture = render.draw(sample_plans.jobs())
    inline = picture._repr_html_().partition("pulpo-inline")[2].partition("<svg")[2]
    assert "prefers-color-scheme" in picture.svg
    assert "prefers-color-scheme" not in inline
    assert "--jp-ui-font-color1" in inline


def test_hostile_words_cannot_leave_the_html() -> None:
    hostile = '"><script>alert(1)</script>'
    picture = render.draw(sample_plans.renamed(sample_plans.jobs(), "report", hostile))
    assert "<script" not in picture._repr_html_()
    linked = replace(picture, links={hostile: f"#{hostile}"})
    assert "<script" not in linked._repr_html_()


def test_the_same_plan_gives_the_same_bundle() -> None:
    first = render.draw(sample_plans.jobs())._repr_mimebundle_()
    render._finished.cache_clear()
    assert render.draw(sample_plans.jobs())._repr_mimebundle_() == first


def test_the_text_of_each_view_has_the_edges_or_the_tree() -> None:
    plan = sample_plans.jobs()
    assert "-[CleanedJobs]->" in render.draw(plan, "dataflow").text
    assert "├── scraping" in render.draw(plan, "hierarchy").text
    assert str(render.draw(plan)) == render.draw(plan).text


def test_an_unknown_view_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(UsageError, match="both, dataflow, hierarchy"):
        render.draw(sample_plans.jobs(), "sideways")


def test_a_picture_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        render.draw(sample_plans.jobs()).dot = ""  # type: ignore[misc]


def test_an_empty_plan_is_drawn() -> None:
    assert operations(parsed(render.draw(Orchestration()))) == {}


def test_without_an_engine_the_text_stays_with_a_hint(no_engine: None) -> None:
    picture = render.draw(sample_plans.jobs())
    with pytest.raises(MissingProgramError, match="pip install pygraphviz"):
        _ = picture.svg
    bundle = picture._repr_mimebundle_()
    assert list(bundle) == ["text/plain"]
    assert bundle["text/plain"] == f"{picture.text}\n\n{render.HINT}"
    assert "\n" not in render.HINT


def test_a_dot_that_fails_hands_over_to_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, "echo broken >&2; exit 1", monkeypatch)
    assert "<svg" in render.draw(sample_plans.jobs()).svg


def test_when_the_only_engine_fails_the_error_has_its_words_and_the_text_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, "echo 'out of ink' >&2; exit 1", monkeypatch)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    picture = render.draw(sample_plans.jobs())
    with pytest.raises(PulpoError, match="out of ink"):
        _ = picture.svg
    assert picture.text in picture._repr_mimebundle_()["text/plain"]


def test_an_engine_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(render, "_TIMEOUT", 0.3)
    with pytest.raises(PulpoError, match="still drawing"):
        _ = render.draw(sample_plans.jobs()).svg


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".svg", b"<svg"),
        (".png", b"\x89PNG"),
        (".pdf", b"%PDF"),
        (".dot", b"digraph pulpo"),
        (".txt", b"main_flow"),
        (".mmd", b"flowchart TB\n"),
        (".md", b"```mermaid\nflowchart TB\n"),
    ],
)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_picture_is_saved_as_its_suffix_says(
    engine: str, suffix: str, start: bytes, tmp_path: Path
) -> None:
    path = render.draw(sample_plans.jobs()).save(tmp_path / f"graph{suffix}")
    assert path.read_bytes().startswith(start)


def test_an_unknown_suffix_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg, \.png"):
        render.draw(sample_plans.jobs()).save(tmp_path / "graph.docx")
    assert list(tmp_path.iterdir()) == []


def test_a_wide_picture_shrinks_only_so_far() -> None:
    root = parsed(render.draw(sample_plans.layered(60, 12)))
    least = re.search(r"min-width:(\d+)px", root.attrib["style"])
    assert least is not None
    assert int(least[1]) == pytest.approx(int(root.attrib["width"]) * 0.7, abs=1)
