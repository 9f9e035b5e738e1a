"""The picture in the panel; `graph.js` is its half in the browser."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

from .content import VIEWS

__all__ = ["GraphView"]

_HERE = Path(__file__).parent


class GraphView(anywidget.AnyWidget):
    """Shows the picture of a session, in the view that the person chooses.

    Attributes
    ----------
    view
        The view that is shown; the page sets it, so a reloaded page finds it again.
    views
        The views that there are, each with its label.
    drawings
        Every view as SVG, text and a line that tells what is to be seen. The page has them all,
        so that it can change views while a cell keeps the kernel busy.
    """

    _esm = (_HERE / "graph.js").read_text(encoding="utf-8")
    _css = (_HERE / "panel.css").read_text(encoding="utf-8")

    view = traitlets.Enum(list(VIEWS), default_value="both").tag(sync=True)
    views = traitlets.List(default_value=[list(pair) for pair in VIEWS.items()]).tag(sync=True)
    drawings = traitlets.Dict().tag(sync=True)
