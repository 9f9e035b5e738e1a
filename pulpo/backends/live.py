"""The picture of a run while it runs: laid out once, and coloured again at every change."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .dot import ident
from .render import Picture, escape
from .view import SIGNS, Collapsed, View

__all__ = ["Moment", "Stage", "moments_of", "progress_bar", "staged"]

_NODE = re.compile(
    r'<g id="((?:op|group)-[^"]*)" class="(node [^"]*)"(.*?)'
    r'(<text [^>]*class="sign">)[^<]*(</text>\s*(?:</a>)?</g>)',
    re.DOTALL,
)
_STATES = frozenset({"problem", "stale", "running", "done", "cached", "failed", "cancelled"})
_STATES |= {"not-reached"}
# What an operation looks like that has not started; its sign takes as much room as any other.
_NEUTRAL = "not reached"
_LIKE = {
    "retrying": "running",
    "timed out": "failed",
    "not reached": "not-reached",
}
#: What a group looks like: the first of these that one of its operations does.
_URGENT = ("failed", "running", "cancelled", "not-reached", "pending")
_COLOURS = {"done": "good", "cached": "good", "running": "busy", "failed": "bad"}
_RULES = (
    ".pulpo-live .node path{stroke-dasharray:none;stroke-width:1.2;fill-opacity:.14}"
    + "".join(
        f".pulpo-live .{state} path{{stroke:var(--{colour});fill:var(--{colour})}}"
        for state, colour in _COLOURS.items()
    )
    + ".pulpo-live .running path,.pulpo-live .failed path{stroke-width:2.2}"
    ".pulpo-live .pending path,.pulpo-live .not-reached path,.pulpo-live .cancelled path"
    "{stroke:var(--frame);fill:none}"
    ".pulpo-live .cached path,.pulpo-live .not-reached path,.pulpo-live .cancelled path"
    "{stroke-dasharray:5 3}"
)


class Moment(NamedTuple):
    """How an operation stands: its state, and what its node says of it."""

    state: str
    words: str = ""


class Stage:
    """A picture whose nodes change their looks, and nothing else.

    Parameters
    ----------
    picture
        Every operation in it has to be in some state, so that its node has a line for it.
    """

    def __init__(self, picture: Picture) -> None:
        self._view = picture.view
        self._forms = [_split(text) for text in (picture.inline, picture.svg)]

    @staticmethod
    def states(names: Iterable[str]) -> dict[str, str]:
        """Return the states to draw the picture with."""
        return dict.fromkeys(names, _NEUTRAL)

    def at(self, moments: Mapping[str, Moment], *, alone: bool = False) -> str:
        """Return the picture as SVG; of operations that are not told nothing changes.

        ``alone`` makes a document of it, else it is an element of a page.
        """
        looks = moments_of(self._view, moments)
        parts = []
        for part in self._forms[alone]:
            if isinstance(part, str):
                parts.append(part)
                continue
            state, words = looks.get(part.ident, ("pending", ""))
            parts += [part.head, f"{part.classes} {state}", part.body, escape(words), part.end]
        return "".join(parts)


def moments_of(view: View, moments: Mapping[str, Moment]) -> dict[str, tuple[str, str]]:
    """Return the class and the words of each node, by the id of its element.

    A group that is drawn as one node says how many of its operations have ended.
    """
    looks = {}
    for node in view.nodes:
        if isinstance(node, Collapsed):
            moment = _group_moment([moments[m.name] for m in node.members if m.name in moments])
        else:
            moment = moments.get(node.name, Moment("pending"))
        looks[ident(node)] = (_LIKE.get(moment.state, moment.state), moment.words)
    return looks


def staged(svg: str) -> str:
    """Return a picture's SVG with the rules by which its nodes change their looks."""
    svg = svg.replace('class="pulpo"', 'class="pulpo pulpo-live"', 1)
    return svg.replace("</style>", f"{_RULES}</style>", 1)


def _group_moment(inside: Sequence[Moment]) -> Moment:
    states = [_LIKE.get(each.state, each.state) for each in inside]
    state = next((state for state in _URGENT if state in states), "done")
    if state == "pending" and set(states) - {"pending"}:
        state = "running"
    ended = sum(each in ("done", "cached", "failed", "cancelled") for each in states)
    return Moment(state, f"{SIGNS.get(state, '·')} {ended}/{len(inside)}")


class _Part(NamedTuple):
    ident: str
    head: str
    classes: str
    body: str
    end: str


def _split(svg: str) -> list[str | _Part]:
    svg = staged(svg)
    parts: list[str | _Part] = []
    last = 0
    for found in _NODE.finditer(svg):
        ident, classes, rest, sign, end = found.groups()
        kept = " ".join(each for each in classes.split() if each not in _STATES)
        parts.append(svg[last : found.start()])
        head = f'<g id="{ident}" class="'
        parts.append(_Part(html.unescape(ident), head, kept, f'"{rest}{sign}', end))
        last = found.end()
    return [*parts, svg[last:]]


def progress_bar(done: float, failed: float) -> str:
    """Return a bar as SVG: how much of a run is done, and failed, as fractions of one."""
    good, bad = 240 * min(done, 1.0), 240 * min(failed, 1.0)
    return (
        '<svg class="pulpo-bar" width="240" height="8" viewBox="0 0 240 8" aria-hidden="true">'
        '<rect width="240" height="8" rx="4" fill="#8b949e" fill-opacity=".25"/>'
        f'<rect width="{good:.1f}" height="8" rx="4" fill="#2da44e"/>'
        f'<rect x="{good:.1f}" width="{bad:.1f}" height="8" rx="4" fill="#d1242f"/></svg>'
    )
