"""A view as a picture: SVG themed for light and dark pages, and the notebook's mime bundle."""

from __future__ import annotations

import base64
import html
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingProgramError, PulpoError, UsageError
from .dot import DIRECTIONS, VIEWS, name_of
from .look import look
from .view import SIGNS, View, summary

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..plan import FlowDefinition, Orchestration

__all__ = ["ALONE", "INLINE", "Picture", "draw", "escape", "in_page", "svg"]

HINT = (
    "No picture: Graphviz is not here. `pip install pygraphviz`, or `apt install graphviz` "
    "(`brew install graphviz`, `winget install graphviz`), brings it."
)
_TIMEOUT = 60.0  # seconds; 1,300 nodes with 3,500 edges take about three
_SMALLEST = 0.7  # of its own size, at which its 11 pixel letters have nearly 8
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_TITLE = "{http://www.w3.org/1999/xlink}title"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"

# Words have a contrast of 4.5 to 1, as WCAG asks for, on the tints of nodes and frames too.
_LIGHT = (
    "--ink:#1f2328;--dim:#535d68;--line:#7d8590;--op:#2f6fbd;--frame:#8b949e;--stale:#765300;"
    "--order:#59636e;--warn:#983e06;--bad:#b01825;--good:#146a2e;--busy:#086172;"
)
_DARK = (
    "--ink:#f0f6fc;--dim:#a3adb8;--line:#8b949e;--op:#6cb0f5;--frame:#8b949e;--stale:#e3b341;"
    "--order:#a3adb8;--warn:#f0a04b;--bad:#ff7b72;--good:#4ac26b;--busy:#4cc9d9;"
)
#: For an <img>, which is a page of its own: it can only ask which scheme the reader prefers.
ALONE = f".pulpo{{{_LIGHT}}}@media(prefers-color-scheme:dark){{.pulpo{{{_DARK}}}}}"
#: Inline, the page says: JupyterLab, Notebook and nbconvert; VS Code; Sphinx; Colab. Text takes the
#: page's own colour, so that it can be read on pages that say nothing.
INLINE = (
    f".pulpo{{{_LIGHT}--ink:var(--jp-ui-font-color1,currentColor);}}"
    '[data-jp-theme-light="false"] .pulpo,.vscode-dark .pulpo,.vscode-high-contrast .pulpo,'
    f'[data-theme="dark"] .pulpo,html[theme="dark"] .pulpo{{{_DARK}'
    "--ink:var(--jp-ui-font-color1,currentColor);}"
)
_RULES = (
    ".pulpo{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',"
    "Arial,sans-serif}"
    ".pulpo text{fill:var(--dim);font-size:11px}"
    ".pulpo a{color:inherit;text-decoration:none}"
    ".pulpo .node text.name{fill:var(--ink);font-size:12px;font-weight:600}"
    ".pulpo .node .mark{fill:var(--dim);font-size:10px;font-weight:400;font-style:italic}"
    ".pulpo .node text{transform:translateY(1px)}"
    ".pulpo .operation path,.pulpo .operation polygon{stroke:var(--op);stroke-width:1.2}"
    ".pulpo .group path{stroke:var(--frame)}"
    ".pulpo .cluster text{font-size:12px;font-weight:600;transform:translate(5px,3px)}"
    ".pulpo .edge path,.pulpo .edge polygon{stroke:var(--line)}"
    ".pulpo .edge polygon{fill:var(--line)}"
    ".pulpo .edge.order path{stroke:var(--order)}"
    ".pulpo .around path{stroke-width:3}"
    ".pulpo .more text.name{fill:var(--dim);font-weight:400}"
    ".pulpo .outside text.name{fill:var(--dim);font-weight:400}"
    ".pulpo .outside path{stroke:var(--frame)}"
    + "".join(
        f".pulpo .{kind} path,.pulpo .{kind} polygon{{stroke:var(--{colour})}}"
        f".pulpo .{kind} text.sign,.pulpo .edge.{kind} text{{fill:var(--{colour})}}"
        f".pulpo .edge.{kind} polygon{{fill:var(--{colour})}}"
        for kind, colour in {
            "candidate": "warn",
            "problem": "warn",
            "stale": "stale",
            "running": "busy",
            "done": "good",
            "cached": "good",
            "failed": "bad",
            "missing": "bad",
        }.items()
    )
    + ".pulpo .problem path,.pulpo .running path,.pulpo .failed path{stroke-width:2}"
    ".pulpo .missing text.name{fill:var(--bad)}"
)
# The sanitizer of an untrusted notebook drops <style> and <svg>: then the <img> stays. With :has,
# a trusted picture on the same page cannot switch on what is left of an untrusted one.
_SWITCH = (
    ".pulpo-picture:has(svg)>.pulpo-inline{display:block!important}"
    ".pulpo-picture:has(svg)>img{display:none}"
)
_IN_WHEEL = """\
import sys, pygraphviz
source = sys.stdin.buffer.read().decode()
drawn = pygraphviz.AGraph(string=source).draw(format=sys.argv[1], prog="dot")
sys.stdout.buffer.write(drawn)
"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn plan: shows itself in a notebook, and as text where nothing can be drawn.

    Parameters
    ----------
    view
        What is drawn.
    kind
        ``"both"``, ``"dataflow"`` or ``"hierarchy"``.
    states
        What each operation's run came to, by name.
    links
        Where in the page an operation's source stands, by name, as ``#anchor``.
    direction
        ``"down"`` or ``"right"``; the dataflow goes down and the hierarchy right when left out.
    """

    view: View
    kind: str = "both"
    states: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    direction: str = ""

    @cached_property
    def dot(self) -> str:
        """The DOT text."""
        way = {"direction": self.direction} if self.direction else {}
        return VIEWS[self.kind](self.view, self.states, **way)

    @cached_property
    def text(self) -> str:
        """The same as plain text; equal plans give equal text."""
        from . import tree

        return tree.VIEWS[self.kind](self.view, self.states)

    @cached_property
    def mermaid(self) -> str:
        """The same as a Mermaid flowchart, for Markdown; small enough that Mermaid draws it."""
        from . import mermaid

        return mermaid.draw(self.view, self.kind, self.states)

    @cached_property
    def alt(self) -> str:
        """One line for those who cannot see the picture."""
        return summary(self.view, "Graph").partition("\n")[0]

    @property
    def svg(self) -> str:
        """The picture as an SVG document of its own, for light and dark pages."""
        return svg(self.dot)

    @property
    def inline(self) -> str:
        """The picture as an SVG element of a page, in whose theme it is shown.

        Its operations are links to their cells, where these are known.
        """
        return _linked(self.svg.replace(ALONE, INLINE, 1), self.links)

    def save(self, path: str | Path) -> Path:
        """Write the picture as its suffix says.

        That is ``.svg``, ``.png``, ``.pdf``, ``.dot`` or ``.gv``, ``.txt``, and Mermaid's ``.mmd``,
        or ``.md`` with a fence around it.
        """
        path = Path(path).expanduser()
        writer = _WRITERS.get(path.suffix.lower())
        if writer is None:
            known = ", ".join(_WRITERS)
            raise UsageError(f"cannot save a picture as {path.name!r}: end its name in {known}.")
        try:
            path.write_bytes(writer(self))
        except OSError as error:
            raise PulpoError(
                f"cannot write {path.name!r}: {error.strerror or error}. "
                "Name a file in a folder that exists and that you may write to."
            ) from error
        return path

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        alone = self.svg
        least = re.search(r"min-width:\d+px", alone)
        return in_page(alone, self.inline, alt=self.alt, style=least[0] if least else "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        try:
            return {"text/plain": self.text, "text/html": self._repr_html_()}
        except MissingProgramError:
            return {"text/plain": f"{self.text}\n\n{HINT}"}
        except PulpoError as error:
            return {"text/plain": f"{self.text}\n\n{error}"}


def draw(
    plan: Orchestration,
    view: str = "both",
    *,
    flow: str | FlowDefinition | None = None,
    depth: int | None = None,
    around: str | None = None,
    hops: int | None = None,
    closed: Collection[str] | None = None,
    states: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    direction: str = "",
) -> Picture:
    """Return the picture of a plan: ``"both"``, ``"dataflow"`` or ``"hierarchy"``.

    ``flow``, ``depth``, ``around``, ``hops`` and ``closed`` choose a part, as
    `pulpo.backends.look.look` says; ``states``, ``links`` and ``direction`` are those of `Picture`.
    """
    if view not in VIEWS:
        raise UsageError(f"no view is called {view!r}: choose {', '.join(VIEWS)}.")
    if direction and direction not in DIRECTIONS:
        raise UsageError(f"no direction is called {direction!r}: {' or '.join(DIRECTIONS)}.")
    part = look(plan, flow, depth=depth, around=around, hops=hops, closed=closed)
    return Picture(
        view=part, kind=view, states=states or {}, links=links or {}, direction=direction
    )


def svg(dot_text: str) -> str:
    """Return DOT text from `pulpo.backends.dot` as SVG without a background and without scripts.

    Raises
    ------
    MissingProgramError
        When neither ``dot`` nor pygraphviz is installed.
    PulpoError
        When Graphviz fails, or takes longer than a minute.
    """
    return _finished(dot_text)


def in_page(alone: str, inline: str, *, alt: str, style: str = "") -> str:
    """Return HTML that shows an SVG: as an element, or as an image where elements are not trusted.

    ``alone`` is a document of its own, ``inline`` an element of the page.
    """
    data = base64.b64encode(alone.encode()).decode("ascii")
    return (
        f'<div class="pulpo-picture" style="overflow-x:auto"><style>{_SWITCH}</style>'
        f'<img alt="{escape(alt)}" style="max-width:100%;{style}" '
        f'src="data:image/svg+xml;base64,{data}">'
        f'<div class="pulpo-inline" style="display:none">{inline}</div></div>'
    )


def escape(text: str) -> str:
    """Return ``text`` for HTML, inside or outside of a quoted attribute."""
    return html.escape(_clean(text), quote=True)


def _clean(text: str) -> str:
    """Return ``text`` with a sign for each character that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@lru_cache(maxsize=32)
def _finished(dot_text: str) -> str:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(_run(dot_text, "svg"))
    graph = root.find(f"{_SVG}g")
    assert graph is not None, "Graphviz writes one g"
    told = _unwrap(graph) or "A graph of operations"
    for note in graph.findall(f"{_SVG}text"):
        _dress(note, "note", first=False)
    title, _, description = told.partition("\n")
    for element in [*graph.iter(f"{_SVG}g")]:
        _name(element)
    _frame(root, graph)
    style = ElementTree.Element("style")
    style.text = ALONE + _RULES
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        root.insert(place, ElementTree.Element(tag))
        root[place].text = text
    root.insert(2, style)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _frame(root: Element, graph: Element) -> None:
    """Size the drawing in the page's pixels, and drop Graphviz's own title and background."""
    for child in [*graph]:
        if child.tag == f"{_SVG}title" or child.tag == f"{_SVG}polygon":
            graph.remove(child)
    graph.attrib.pop("id", None)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.update(
        {
            "xmlns": _SVG[1:-1],
            "class": "pulpo",
            "role": "img",
            "width": f"{float(width):.0f}",
            "height": f"{float(height):.0f}",
            # A wide picture shrinks to the page until its text would be too small, then scrolls.
            "style": f"max-width:100%;min-width:{float(width) * _SMALLEST:.0f}px;height:auto",
        }
    )


def _unwrap(element: Element) -> str:
    """Take the children out of Graphviz's ``<g><a xlink:title>``, and return the first title."""
    told = ""
    for child in [*element]:
        if child.tag == f"{_SVG}g" and (link := child.find(f"{_SVG}a")) is not None:
            if link.get(_XLINK_HREF):
                continue
            told = told or link.get(_XLINK_TITLE, "")
            at = [*element].index(child)
            element.remove(child)
            for offset, inner in enumerate(link):
                element.insert(at + offset, inner)
    return told


def _name(element: Element) -> None:
    """Give a node, frame or edge its tooltip, its operations and its text classes."""
    kind = element.get("class", "").partition(" ")[0]
    if kind not in ("node", "cluster", "edge"):
        return
    told = _unwrap(element)
    texts = element.findall(f"{_SVG}text")
    for number, text in enumerate(texts):
        _dress(text, kind, first=number == 0)
    title = element.find(f"{_SVG}title")
    assert title is not None, "Graphviz titles every element"
    if kind == "edge":
        # Graphviz numbers edges, which is no lasting name; the ends are.
        del element.attrib["id"]
        ends = [_clean(_end(end)) for end in (title.text or "").split("->")]
        if "tree" not in element.attrib["class"].split():
            element.attrib.update({"data-source": ends[0], "data-target": ends[-1]})
            said = "".join(text.text or "" for text in texts) or told.strip()
            told = " → ".join(ends) + (f": {said}" if said else "")
    title.text = told.strip()
    if element.attrib.get("id", "").startswith("op-"):
        element.set("data-operation", _clean(name_of(element.attrib["id"][3:])))


def _end(key: str) -> str:
    """Return what a person calls an edge's end: an operation, a group, a model, or the rest."""
    kind, _, rest = key.partition("-")
    if kind == "group":
        return f"{name_of(rest)}.*"
    if kind == "missing":
        return name_of(rest)
    return "…" if kind == "more" else name_of(key)


def _linked(drawn: str, links: Mapping[str, str]) -> str:
    """Make links of a page's operations.

    By ``xlink:href``, which every browser knows: JupyterLab takes SVG's ``href`` for that of an
    HTML link, and fails on it.
    """

    def link(found: re.Match[str]) -> str:
        start, name, inside = found.groups()
        href = links.get(html.unescape(name))
        return f'{start}<a xlink:href="{escape(href)}">{inside}</a></g>' if href else found[0]

    if not links:
        return drawn
    # What is an image to a screen reader has nothing in it.
    return _OPERATION.sub(link, drawn.replace('role="img"', 'role="group"', 1))


_OPERATION = re.compile(r'(<g id="op-[^>]* data-operation="([^"]*)">)(.*?)</g>', re.DOTALL)


def _dress(text: Element, kind: str, *, first: bool) -> None:
    from xml.etree import ElementTree

    for name in ("font-family", "{http://www.w3.org/XML/1998/namespace}space"):
        text.attrib.pop(name, None)
    words = text.text or ""
    if kind != "node":
        text.text = words.strip()
        return
    if first:
        text.set("class", "name")
        name, _, last = words.rpartition(" ")
        if name and last in ("async", "sync"):
            text.text = name
            called = ElementTree.SubElement(text, f"{_SVG}tspan", {"class": "mark", "dx": "5"})
            called.text = last
    elif words[:1] in _SIGN_CHARACTERS:
        text.set("class", "sign")


_SIGN_CHARACTERS = frozenset(SIGNS.values())


def _run(dot_text: str, form: str) -> bytes:
    """Let the first engine that can draw; one that fails passes the work on to the next."""
    failures = []
    for engine in (_with_program, _with_wheel):
        try:
            return engine(dot_text.encode(), form)
        except MissingProgramError:
            continue
        except subprocess.TimeoutExpired as error:
            raise PulpoError(
                f"Graphviz was still drawing after {_TIMEOUT:.0f} seconds. "
                "Draw less of it (--depth 1, --around OPERATION, one flow), or look at the text."
            ) from error
        except (subprocess.CalledProcessError, OSError) as error:
            failures.append(_last_words(error))
    if failures:
        raise PulpoError(f"Graphviz could not draw this graph: {'; '.join(failures)}")
    raise MissingProgramError(HINT)


def _with_program(source: bytes, form: str) -> bytes:
    from graphviz import ExecutableNotFound  # type: ignore[import-untyped]
    from graphviz.backend import dot_command, execute  # type: ignore[import-untyped]

    command = dot_command.command("dot", form)
    try:
        done = execute.run_check(
            command, input=source, capture_output=True, quiet=True, timeout=_TIMEOUT
        )
    except ExecutableNotFound as error:
        raise MissingProgramError(HINT) from error
    drawn: bytes = done.stdout
    return drawn


def _with_wheel(source: bytes, form: str) -> bytes:
    """Draw with the Graphviz inside pygraphviz.

    In a process of its own: the library is not safe in threads, cannot be stopped, and a crash in
    it would take the kernel along.
    """
    from importlib.util import find_spec

    if find_spec("pygraphviz") is None or not sys.executable:
        raise MissingProgramError(HINT)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IN_WHEEL, form],
        input=source,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT,
    )
    return done.stdout


def _last_words(error: Exception) -> str:
    said = getattr(error, "stderr", None) or b""
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else str(error)


def _raster(picture: Picture, form: str) -> bytes:
    """Draw on white at twice the screen's resolution: pixels cannot follow a theme."""
    white = picture.dot.replace('bgcolor="transparent"', 'bgcolor="white" dpi=144', 1)
    return _run(white, form)


_WRITERS: Mapping[str, Callable[[Picture], bytes]] = {
    ".svg": lambda picture: picture.svg.encode(),
    ".png": lambda picture: _raster(picture, "png"),
    ".pdf": lambda picture: _raster(picture, "pdf"),
    ".dot": lambda picture: picture.dot.encode(),
    ".gv": lambda picture: picture.dot.encode(),
    ".txt": lambda picture: f"{picture.text}\n".encode(),
    ".mmd": lambda picture: f"{picture.mermaid}\n".encode(),
    ".md": lambda picture: f"```mermaid\n{picture.mermaid}\n```\n".encode(),
}
