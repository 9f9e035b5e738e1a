"""How the panel's ipywidgets are laid out, and closed."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

__all__ = ["close_all", "html", "row", "short_label", "wide"]


def wide() -> Any:
    """Return the layout of what is as wide as the panel."""
    return widgets.Layout(width="auto", max_width="100%")


def short_label() -> dict[str, str]:
    """Return the style of a control whose label is as wide as its words."""
    return {"description_width": "initial"}


def html(value: str = "", *classes: str) -> Any:
    """Return a piece of HTML; of class ``"pulpo-status"`` it is read out when it changes."""
    made = widgets.HTML(value=value, layout=wide())
    for each in classes:
        made.add_class(each)
    return made


def row(*children: Any) -> Any:
    """Return controls beside each other, and below each other where the page is narrow."""
    made = widgets.HBox(list(children))
    made.add_class("pulpo-row")
    return made


def close_all(widget: Any) -> None:
    """Close a widget with its children, layouts and styles."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for name in ("layout", "style"):
        if hasattr(widget, name):
            getattr(widget, name).close()
    widget.close()
