"""A picture in the panel; `graph.js` is its half in the browser."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..backends.live import Moment, moments_of
from ..backends.look import toggled
from ..backends.view import Group, View
from .content import Drawn, Wanted

__all__ = ["CodeView", "GraphView", "Made", "aside"]

_HERE = Path(__file__).parent


def aside(work: Callable[[], object], name: str) -> None:
    """Do what takes a while in a thread of its own: nothing in the panel may hold up the kernel."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Made:
    """A picture that was drawn, and the number of its order: a later one has a higher number."""

    number: int
    drawn: Drawn


class GraphView(anywidget.AnyWidget):
    """Shows a picture that is zoomed, searched, folded and clicked.

    Parameters
    ----------
    draw
        Draws it as it is wanted; called in threads, and never raises.
    tell
        Returns as HTML what there is to know of an operation.
    kind
        ``"both"``, ``"dataflow"`` or ``"hierarchy"``.

    Attributes
    ----------
    picture
        The SVG, its text and its nodes and edges, as `pulpo.backends.scene` has them.
    moments
        How the nodes look by now: class and words, by the id of their element.
    selected
        The key of the node that is chosen; the page sets it.
    detail
        What there is to know of it: its key, and HTML.
    direction, frames
        How the person wants it: ``"down"`` or ``"right"``, with a frame around each group or
        without.
    """

    _esm = (_HERE / "graph.js").read_text(encoding="utf-8")
    _css = (_HERE / "panel.css").read_text(encoding="utf-8")

    picture = traitlets.Dict().tag(sync=True)
    moments = traitlets.Dict().tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    detail = traitlets.Dict().tag(sync=True)
    direction = traitlets.Enum(["down", "right"], default_value="down").tag(sync=True)
    frames = traitlets.Bool(True).tag(sync=True)
    has_frames = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, draw: Callable[[Wanted], Drawn], tell: Callable[[str], str], *, kind: str = "both"
    ) -> None:
        self._draw = draw
        self._tell = tell
        self._kind = kind
        self._lock = threading.Lock()
        self._asked = 0
        self._shown = 0
        self._closed: list[str] | None = None  # until a person folds something
        self._view: View | None = None
        self._now: dict[str, Moment] = {}
        way = "right" if kind == "hierarchy" else "down"
        super().__init__(direction=way, has_frames=kind == "both")
        self.observe(lambda _: self.redraw(), ["direction", "frames"])
        self.observe(lambda _: self._look_up(), "selected")
        self.on_msg(lambda _widget, content, _buffers: self._on_message(content))

    def make(self) -> Made:
        """Draw it as it is wanted now; `put` shows it."""
        with self._lock:
            self._asked += 1
            number = self._asked
            kind = self._kind if self.frames or self._kind != "both" else "dataflow"
            wanted = Wanted(kind, self.direction, self._closed)
        return Made(number, self._draw(wanted))

    def put(self, made: Made) -> None:
        """Show what was drawn, unless what is shown was asked for later."""
        with self._lock:
            if made.number < self._shown:
                return
            self._shown, self._view = made.number, made.drawn.view
            with self.hold_sync():
                self.picture = made.drawn.picture
                self._show_moments()
        self._look_up()

    def redraw(self) -> None:
        """Draw it again, in a thread."""
        aside(lambda: self.put(self.make()), "pulpo-picture")

    def colour(self, now: dict[str, Moment]) -> None:
        """Say how the operations stand."""
        with self._lock:
            self._now = now
            self._show_moments()

    def unfold(self) -> None:
        """Forget which groups the person closed and opened."""
        self._closed = None

    def _show_moments(self) -> None:
        # What is drawn without states, for want of a run, has no place for them.
        looks = moments_of(self._view, self._now) if self._view and self._now else {}
        self.moments = {ident: list(look) for ident, look in looks.items()}

    def _look_up(self) -> None:
        key = self.selected
        if not key:
            self.detail = {}
            return
        aside(lambda: self._found(key), "pulpo-detail")

    def _found(self, key: str) -> None:
        told = {"key": key, "html": self._tell(key)}
        if self.selected == key and self.detail != told:
            self.detail = told

    def _on_message(self, content: Any) -> None:
        match content:
            case {"type": "toggle", "group": str(group)} if self._view is not None:
                self._closed = toggled(self._view, group, self._closed)
            case {"type": "all", "open": True}:
                self._closed = []
            case {"type": "all", "open": False} if self._view is not None:
                tree = (self._view.whole or self._view).top
                self._closed = [each.name for each in tree.children if isinstance(each, Group)]
            case _:
                return
        self.redraw()


class CodeView(anywidget.AnyWidget):
    """Shows code, and copies it.

    Attributes
    ----------
    html
        The code as it is shown, or a message.
    text
        What is copied; nothing when there is no code.
    """

    _esm = (_HERE / "code.js").read_text(encoding="utf-8")

    html = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
