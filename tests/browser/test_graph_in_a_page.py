"""The panel's JavaScript, in a real Chromium but without Jupyter around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_a_page import Mounted, mount
from playwright.sync_api import Browser, Page, expect

from pulpo.backends.live import Moment, Stage, moments_of, staged
from pulpo.backends.render import draw
from pulpo.backends.scene import scene
from pulpo.plan import Orchestration
from pulpo.registry import OperationRegistry
from pulpo.session import Session
from pulpo.widgets.content import Wanted, detail_html, drawing, highlighted

pytestmark = pytest.mark.browser

STORY = '''
from dataclasses import dataclass
from typing import Any

@dataclass
class Raw:
    rows: list[int]

@dataclass
class Clean:
    rows: list[int]

@dataclass
class Lost:
    rows: list[int]

def load(count: int = 3) -> Raw:
    """Load <b>it</b>."""
    return Raw([])

def load2() -> Raw: ...
def merge(load: Raw, load2: Raw) -> Raw: ...
def clean(raw: Raw) -> Clean: ...
def report(clean: Clean, lost: Lost) -> int: ...
def alone() -> None: ...
'''
NAMES = {
    "source.load": "load",
    "source.other.load2": "load2",
    "source.merge": "merge",
    "parsing.clean": "clean",
    "report": "report",
    "alone": "alone",
}


@pytest.fixture(scope="module")
def session() -> Session:
    """Six operations in two groups; one needs what nobody gives."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(STORY, namespace)
    session = Session(OperationRegistry(), namespace)
    for name, function in NAMES.items():
        session.declare(namespace[function], name=name, cell="cell 3")
    return session


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when its scripts do."""
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield page
    page.close()
    assert errors == []


def state_of(picture: dict[str, Any], **more: Any) -> dict[str, Any]:
    empty = {"moments": {}, "selected": "", "detail": {}, "direction": "down", "frames": True}
    return {"picture": picture, "has_frames": True, **empty, **more}


@pytest.fixture
def graph(page: Page, session: Session) -> Mounted:
    """The picture of the session, groups as frames."""
    return mount(page, "graph.js", state_of(drawing(session, Wanted()).picture))


def node(graph: Mounted, key: str) -> Any:
    return graph.page.locator(f'.pulpo-stage [data-key="{key}"]')


def having(graph: Mounted, name: str) -> list[str]:
    """The keys of the nodes that have a class, in the order of their names."""
    found = graph.page.locator(f".pulpo-stage [data-key].{name}")
    return sorted(found.evaluate_all("all => all.map(each => each.dataset.key)"))


# --- What can be told without a page ------------------------------------------------------------


def test_what_a_node_needs_and_what_needs_it(graph: Mounted) -> None:
    edges = [{"source": s, "target": t} for s, t in ("ab", "bc", "cd", "ca", "xc")]
    assert sorted(graph.call("reach", edges, "b", "up")) == ["a", "c", "x"]  # a loop ends
    assert sorted(graph.call("reach", edges, "x", "down")) == ["a", "b", "c", "d"]
    assert graph.call("reach", edges, "x", "up") == []
    assert graph.call("reach", edges, "nobody", "down") == []


def test_a_search_finds_names_models_and_members_of_closed_groups(graph: Mounted) -> None:
    nodes = [
        {"key": "1", "kind": "operation", "name": "a.Load", "lines": ["sync (n: int) → Raw"]},
        {"key": "2", "kind": "group", "name": "b", "lines": [], "members": ["b.reload"]},
        {"key": "3", "kind": "frame", "name": "c", "lines": [], "members": ["c.load"]},
    ]

    def found(text: str) -> list[str]:
        return [each["key"] for each in graph.call("matching", nodes, text)]

    assert found("load") == ["1", "2"]  # an open group's members are nodes of their own
    assert found("LOAD raw") == ["1"]
    assert found("  ") == []
    assert found("nothing") == []


def test_arrow_keys_mean_what_is_near_in_their_direction(graph: Mounted) -> None:
    boxes = [{"x": x, "y": y} for x, y in ((0, 0), (10, 100), (100, 5), (300, 0), (-50, -50))]
    assert graph.call("nearest", boxes, 0, [1, 0]) == 2
    assert graph.call("nearest", boxes, 0, [0, 1]) == 1
    assert graph.call("nearest", boxes, 0, [-1, 0]) == 4
    assert graph.call("nearest", boxes, 3, [1, 0]) == -1


# --- The picture --------------------------------------------------------------------------------


def test_every_node_is_a_button_with_a_name_and_one_is_in_the_tab_order(graph: Mounted) -> None:
    picture = graph.get("picture")
    shown = graph.page.locator(".pulpo-stage [data-key]")
    assert shown.count() == len(picture["nodes"]) == 6 + 2 + 1  # operations, frames, the model
    labels = shown.evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert all(labels)
    assert "source.merge, sync (load: Raw, load2: Raw) → Raw" in labels
    assert "Lost, nobody gives it" in labels
    assert graph.page.locator('.pulpo-stage [tabindex="0"]').count() == 1
    expect(graph.page.get_by_role("region")).to_have_attribute("aria-label", picture["alt"])


def test_hovering_and_focus_show_models_and_signature(graph: Mounted) -> None:
    tip = graph.page.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    node(graph, "source.load").hover()
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("sync (count: int = 3) → Raw")
    expect(tip).to_contain_text("Load <b>it</b>.")  # words, not HTML
    expect(tip).to_contain_text("cell 3")
    graph.page.get_by_role("searchbox").hover()
    expect(tip).to_be_hidden()
    node(graph, "alone").focus()
    expect(tip).to_contain_text("alone")


def test_a_click_chooses_a_node_and_marks_what_it_needs_and_what_needs_it(
    graph: Mounted, session: Session
) -> None:
    node(graph, "source.merge").click()
    assert graph.get("selected") == "source.merge"
    assert having(graph, "is-selected") == ["source.merge"]
    assert having(graph, "is-up") == ["source.load", "source.other.load2"]
    assert having(graph, "is-down") == ["parsing.clean", "report"]
    ways = graph.page.locator(".pulpo-stage .is-way")
    expect(ways).to_have_count(4)
    detail = graph.page.get_by_role("region", name="Details")
    expect(detail).to_contain_text(
        "sync (load: Raw, load2: Raw) → Raw"
    )  # before the kernel answers
    graph.set("detail", {"key": "source.merge", "html": detail_html(session, "source.merge")})
    expect(detail).to_contain_text("gives Raw to parsing.clean")
    detail.get_by_role("button", name="report").click()
    assert graph.get("selected") == "report"
    expect(node(graph, "report")).to_be_focused()
    detail.get_by_role("button", name="Close").click()
    assert graph.get("selected") == ""
    expect(detail).to_be_hidden()
    assert having(graph, "is-up") == having(graph, "is-down") == []


def test_a_drag_moves_the_picture_and_chooses_nothing(graph: Mounted) -> None:
    for _ in range(2):
        graph.page.get_by_role("button", name="Zoom in").click()
    stage = graph.page.locator(".pulpo-stage")
    before = stage.evaluate("stage => [stage.scrollLeft, stage.scrollTop]")
    box = node(graph, "source.merge").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    graph.page.mouse.move(x, y)
    graph.page.mouse.down()
    graph.page.mouse.move(x - 60, y - 40, steps=4)
    graph.page.mouse.up()
    after = stage.evaluate("stage => [stage.scrollLeft, stage.scrollTop]")
    assert [now - then for now, then in zip(after, before, strict=True)] == [60, 40]
    assert graph.get("selected") == ""


def test_only_ctrl_and_the_wheel_zoom_and_the_pointer_stays_where_it_is(graph: Mounted) -> None:
    def width() -> float:
        box = graph.page.locator(".pulpo-stage svg").bounding_box()
        assert box
        return float(box["width"])

    before = width()
    box = node(graph, "source.merge").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    graph.page.mouse.move(x, y)
    graph.page.mouse.wheel(0, -300)
    graph.page.wait_for_timeout(100)
    assert width() == before
    graph.page.keyboard.down("Control")
    for _ in range(4):
        graph.page.mouse.wheel(0, -300)
    graph.page.keyboard.up("Control")
    graph.page.wait_for_function(
        "before => document.querySelector('.pulpo-stage svg').clientWidth > 2 * before", arg=before
    )
    assert (
        graph.page.evaluate(
            "([x, y]) => document.elementFromPoint(x, y).closest('[data-key]')?.dataset.key", [x, y]
        )
        == "source.merge"
    )
    graph.page.get_by_role("button", name="Fit").click()
    inside = """stage => {
        const [out, box] = [stage, stage.querySelector("svg")].map(e => e.getBoundingClientRect());
        return box.left >= out.left && box.top >= out.top && box.right <= out.right
            && box.bottom <= out.bottom;
    }"""
    assert graph.page.locator(".pulpo-stage").evaluate(inside)


def test_the_keyboard_alone_reaches_every_node(graph: Mounted) -> None:
    page = graph.page
    page.get_by_role("searchbox").focus()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.hasAttribute('data-key')"):
            break
    seen = set()
    todo = [page.evaluate("() => document.activeElement.dataset.key")]
    while todo:
        key = todo.pop()
        if key in seen:
            continue
        seen.add(key)
        for arrow in ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
            node(graph, key).focus()
            page.keyboard.press(arrow)
            todo.append(page.evaluate("() => document.activeElement.dataset.key"))
    assert seen == {each["key"] for each in graph.get("picture")["nodes"]}


def test_enter_chooses_escape_lets_go_and_signs_zoom(graph: Mounted) -> None:
    page = graph.page
    node(graph, "parsing.clean").click()
    graph.set("selected", "")
    page.keyboard.press("Enter")
    assert graph.get("selected") == "parsing.clean"
    page.keyboard.press("Escape")
    assert graph.get("selected") == ""
    page.keyboard.press("Space")
    assert graph.get("selected") == "parsing.clean"
    wide = page.locator(".pulpo-stage svg").bounding_box()
    page.keyboard.press("+")
    wider = page.locator(".pulpo-stage svg").bounding_box()
    assert wide
    assert wider
    assert wider["width"] > wide["width"]
    page.keyboard.press("0")
    assert page.locator(".pulpo-stage svg").bounding_box() == wide


def test_a_frame_is_closed_by_its_name_and_a_closed_group_is_opened(
    graph: Mounted, session: Session
) -> None:
    frame = node(graph, "source.*")
    expect(frame).to_have_attribute("aria-expanded", "true")
    box = frame.bounding_box()
    assert box
    graph.page.mouse.click(box["x"] + box["width"] - 6, box["y"] + box["height"] - 6)
    assert graph.sent == []  # its ground is for dragging
    frame.locator("text").first.click()
    assert graph.sent == [{"type": "toggle", "group": "source"}]
    graph.set("picture", drawing(session, Wanted(closed=["source"])).picture)
    closed = node(graph, "source.*")
    expect(closed).to_have_attribute("aria-expanded", "false")
    expect(closed).to_contain_text("▸ source")
    expect(closed).to_be_focused()  # it is the same node for who folded it
    graph.page.keyboard.press("Enter")
    assert graph.sent[1:] == [{"type": "toggle", "group": "source"}]
    graph.page.get_by_role("button", name="Expand all").click()
    assert graph.sent[2:] == [{"type": "all", "open": True}]


def test_a_search_marks_what_it_finds_and_enter_goes_through_it(graph: Mounted) -> None:
    search = graph.page.get_by_role("searchbox")
    search.fill("load")
    expect(graph.page.locator(".pulpo-found")).to_have_text("3 found")
    assert having(graph, "is-match") == ["source.load", "source.merge", "source.other.load2"]
    search.press("Enter")
    first = graph.get("selected")
    search.press("Enter")
    second = graph.get("selected")
    search.press("Shift+Enter")
    assert graph.get("selected") == first != second
    search.press("Escape")
    expect(search).to_have_value("")
    assert having(graph, "is-match") == []


def test_a_picture_that_cannot_be_drawn_is_text(page: Page) -> None:
    picture = {"svg": "", "text": "a -> <b>", "alt": "two", "nodes": [], "edges": []}
    graph = mount(page, "graph.js", state_of(picture))
    expect(page.locator(".pulpo-stage pre")).to_have_text("a -> <b>")
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Fit").click()
    assert graph.unmount() == 0


def test_a_closed_widget_leaves_no_handlers(graph: Mounted) -> None:
    assert graph.unmount() == 0


# --- A run --------------------------------------------------------------------------------------


def test_only_nodes_that_change_are_touched_and_a_new_picture_is_coloured_too(
    page: Page, session: Session
) -> None:
    plan = session.plan()
    picture = draw(plan, "both", states=Stage.states([n.name for n in plan.operations]))
    told = {"svg": picture.inline, "text": "", "alt": "run", **scene(picture.view)}
    graph = mount(page, "graph.js", state_of(told))

    def now(**moments: Moment) -> dict[str, list[str]]:
        every = {name.replace("__", "."): moment for name, moment in moments.items()}
        return {key: list(look) for key, look in moments_of(picture.view, every).items()}

    graph.set("moments", now(source__load=Moment("running", "▶ 1/3 · 0.2 s")))
    load, merge = node(graph, "source.load"), node(graph, "source.merge")
    expect(load).to_have_class("node operation sync running")
    expect(load.locator("text.sign")).to_have_text("▶ 1/3 · 0.2 s")
    expect(load).to_have_attribute(
        "aria-label", "source.load, sync (count: int = 3) → Raw, ▶ 1/3 · 0.2 s"
    )
    page.evaluate(
        """() => {
            window.touched = [];
            const watch = new MutationObserver(all =>
                touched.push(...all.map(each => each.target.closest("[data-key]").dataset.key)));
            const what = { attributes: true, childList: true, subtree: true, characterData: true };
            watch.observe(document.querySelector(".pulpo-stage svg"), what);
        }"""
    )
    done = now(
        source__load=Moment("running", "▶ 1/3 · 0.2 s"), source__merge=Moment("done", "✓ 1.0 s")
    )
    graph.set("moments", done)
    expect(merge).to_have_class("node operation sync done")
    assert set(page.evaluate("() => touched")) == {"source.merge"}

    graph.set("picture", {**told, "alt": "drawn again"})
    expect(node(graph, "source.merge")).to_have_class("node operation sync done")


# --- Themes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_of_pictures_and_controls_have_contrast(
    page: Page, session: Session, dark: bool
) -> None:
    picture = drawing(session, Wanted(closed=["source"])).picture
    graph = mount(page, "graph.js", state_of(picture), dark=dark)
    node(graph, "report").click()
    graph.set("detail", {"key": "report", "html": detail_html(session, "report")})
    node(graph, "report").hover()
    weak = page.evaluate(
        """() => {
            const parse = text => text.match(/[\\d.]+/g).map(Number);
            const level = ([r, g, b]) => {
                const part = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
                return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
            };
            const ground = level(parse(getComputedStyle(document.body).backgroundColor));
            const words = [...document.querySelectorAll(
                ".pulpo-stage text, .pulpo-button, .pulpo-tip *, .pulpo-way *, .pulpo-detail div")];
            return words.map(element => {
                const style = getComputedStyle(element);
                const ink = level(parse(element.closest("svg") ? style.fill : style.color));
                const contrast = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
                return [element.textContent, contrast];
            }).filter(([, contrast]) => contrast < 4.5);
        }"""
    )
    assert weak == []


STATES = ("pending", "running", "done", "cached", "failed", "cancelled", "not reached")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_states_have_contrast_on_the_tints_of_nodes_and_frames(
    page: Page, session: Session, dark: bool
) -> None:
    names = [node.name for node in session.plan().operations]
    picture = draw(session.plan(), "both", states=Stage.states(names))
    told = {"svg": staged(picture.inline), "text": "", "alt": "run", **scene(picture.view)}
    graph = mount(page, "graph.js", state_of(told), dark=dark)
    for first in range(len(STATES)):  # each state on each operation, some of them in frames
        now = {n: Moment(STATES[(first + i) % len(STATES)], "▶ 1.0 s") for i, n in enumerate(names)}
        looks = moments_of(picture.view, now)
        graph.set("moments", {ident: list(look) for ident, look in looks.items()})
        weak = page.evaluate(
            """() => {
                const parse = text => text.match(/[\\d.]+/g).map(Number);
                const level = ([r, g, b]) => {
                    const part = v =>
                        (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
                    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
                };
                const over = (ground, shape) => {
                    const style = getComputedStyle(shape);
                    if (style.fill === "none") return ground;
                    const [ink, part] = [parse(style.fill), Number(style.fillOpacity)];
                    return ground.map((value, place) => ink[place] * part + value * (1 - part));
                };
                const page = parse(getComputedStyle(document.body).backgroundColor);
                const frame = document.querySelector(".cluster path");
                return [...document.querySelectorAll(".node.operation")].flatMap(node => {
                    const ground = over(over(page, frame), node.querySelector("path"));
                    return [...node.querySelectorAll("text")].map(words => {
                        const ink = level(parse(getComputedStyle(words).fill));
                        const behind = level(ground);
                        const contrast = (Math.max(ink, behind) + .05)
                            / (Math.min(ink, behind) + .05);
                        return [node.getAttribute("class"), words.textContent, contrast];
                    });
                }).filter(([, , contrast]) => contrast < 4.5);
            }"""
        )
        assert weak == [], STATES[first]


# --- Names that nobody should use ---------------------------------------------------------------


def test_names_with_signs_of_css_and_html_are_found_and_stay_words(page: Page) -> None:
    from pulpo.plan import Edge, Node

    names = ['a"]<script>x</script>', "ö.ß", "per%cent", "back\\slash"]
    plan = Orchestration(
        operations=tuple(Node(name=name, function="f") for name in names),
        edges=(Edge(names[0], names[1], model="<i>M</i>"),),
    )
    picture = draw(plan, "both")
    told = {"svg": picture.inline, "text": "", "alt": "odd", **scene(picture.view)}
    graph = mount(page, "graph.js", state_of(told))
    assert page.locator(".pulpo-stage .node[data-key]").count() == len(names)
    page.locator(".pulpo-stage .node").first.click()
    assert graph.get("selected") == names[0]
    assert having(graph, "is-down") == [names[1]]
    expect(page.locator(".pulpo-detail h4")).to_have_text(names[0])
    assert page.locator("script", has_text="x").count() == 0


# --- Code ---------------------------------------------------------------------------------------


def test_code_is_copied_as_it_is(page: Page) -> None:
    text = 'async def flow():\n    return "<b>"\n'
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    code = mount(page, "code.js", {"html": highlighted(text), "text": text})
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("status")).to_have_text("Copied.")
    page.evaluate("() => document.body.append(document.createElement('textarea'))")
    area = page.locator("body > textarea")
    area.focus()
    page.keyboard.press("Control+v")
    assert area.input_value() == text
    code.set("html", "<div>✗ blocked</div>")
    code.set("text", "")
    expect(page.get_by_role("button", name="Copy")).to_be_hidden()
    assert code.unmount() == 0
