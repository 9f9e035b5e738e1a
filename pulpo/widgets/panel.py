"""The panel: a session's pictures, code, runs, exports and problems, as it changes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets as widgets

from ..backends.look import closed_at_first
from ..session import Session
from .content import (
    Content,
    code_of,
    detail_html,
    drawing,
    look,
    problems_html,
    static_html,
)
from .export_tab import ExportTab
from .graph import CodeView, GraphView, Made
from .layout import close_all, html, short_label
from .run_tab import RunTab

__all__ = ["Panel", "open_panel"]

_PAUSE = 0.1  # seconds in which changes are gathered: ten updates a second at most
_TITLES = ("Dataflow", "Hierarchy", "Code", "Run", "Export", "Problems")


class Panel(widgets.VBox):  # type: ignore[misc]
    """Shows a session, and goes on following it until it is closed.

    Where the widget itself cannot live, as in an untrusted notebook or in HTML made by nbconvert,
    its output is a still picture. ``jupyter nbconvert --execute`` prefers the widget, which needs
    the network there, unless it is told otherwise:
    ``--NbConvertBase.display_data_priority=text/html`` (and further types after it).

    Parameters
    ----------
    session
        The session to show.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._content = Content()
        self._lock = threading.RLock()
        self._silent = False
        self._changed = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Messages to the page go out in the context of the cell that made the panel.
        self._context = contextvars.copy_context()
        self._loop = _running_loop()
        self._make()
        super().__init__(children=[self._head, self._tabs])
        self.add_class("pulpo-panel")
        self.refresh()
        self._unsubscribe = session.registry.subscribe(self._on_change)

    def _make(self) -> None:
        self._head = html()
        self.dataflow, self.hierarchy = (
            GraphView(
                lambda wanted: drawing(self._session, wanted),
                lambda name: detail_html(self._session, name),
                kind=kind,
            )
            for kind in ("both", "hierarchy")
        )
        self.flow = widgets.Dropdown(description="Flow", options=[], style=short_label())
        self.flow.observe(self._on_flow, "value")
        self.code = CodeView()
        self._code = widgets.VBox([self.flow, self.code])
        self.run = RunTab(self._session)
        self.export = ExportTab(self._session)
        self.problems = html()
        self._tabs = widgets.Tab(
            [self.dataflow, self.hierarchy, self._code, self.run, self.export, self.problems],
            titles=list(_TITLES),
        )

    # --- following the session ------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the session as it is now."""
        self._show(*self._look())

    def _look(self) -> tuple[Content, Sequence[Made]]:
        content = look(self._session, self.flow.value or "")
        return content, [graph.make() for graph in (self.dataflow, self.hierarchy)]

    def _on_change(self) -> None:
        """Note that the session changed; this is called inside the user's cell, so it is quick."""
        if self._loop is None:
            self.refresh()
            return
        if self._changed:
            return
        self._changed = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody looks any more
            self._loop.call_soon_threadsafe(self._start, context=self._context)

    def _start(self) -> None:
        task = asyncio.get_running_loop().create_task(self._follow())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        await asyncio.sleep(_PAUSE)
        self._changed = False
        # Drawing a thousand operations takes a second, in which the kernel should answer.
        self._show(*await asyncio.to_thread(self._look))

    def _show(self, content: Content, pictures: Sequence[Made]) -> None:
        with self._lock:
            if content.version < self._content.version:
                return  # looked at before what is shown
            self._content = content
            self._head.value = (
                '<span class="pulpo-title">Pulpo</span>'
                f'<span class="pulpo-summary">{content.summary}</span>'
            )
            if not content.trouble:
                for graph, made in zip((self.dataflow, self.hierarchy), pictures, strict=True):
                    graph.put(made)
                self._show_code(content)
                self.run.follow(content)
                self.export.follow(content)
            self.problems.value = problems_html(content)
            count = len(content.problems)
            problems = f"Problems ({count})" if count else "Problems"
            self._tabs.titles = [*_TITLES[:-1], problems]

    def _show_code(self, content: Content) -> None:
        wanted = self.flow.value if self.flow.value in content.flows else content.flow
        with self._quiet():
            if tuple(self.flow.options) != content.flows:
                self.flow.options = content.flows
            self.flow.value = wanted or None
            self.flow.layout.display = None if content.flows else "none"
        if wanted == content.flow:
            self._put_code(content.code, content.text)
        else:
            self._put_code(*code_of(self._session, wanted))

    def _put_code(self, shown: str, text: str) -> None:
        with self.code.hold_sync():
            self.code.html, self.code.text = shown, text

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def _on_flow(self, change: Any) -> None:
        if not self._silent and change.new:
            with self._lock:
                self._put_code(*code_of(self._session, change.new))

    # --- showing and closing --------------------------------------------------------------------

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return the widget, and for where it cannot live a picture and text that never change."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options) or {}
        content = self._content
        text, still = content.trouble, static_html(content)
        if not text:
            text = str(self._session.compile())
        if content.flows:
            # The very picture of the first tab, which is drawn by now.
            picture = self._session.graph(closed=closed_at_first(self._session.plan()))
            text, still = picture.text, static_html(content, picture)
        return {
            **bundle,
            "text/plain": f"Pulpo panel: {content.summary}\n\n{text}",
            "text/html": still,
        }

    def close(self) -> None:
        """Stop following the session, and free the widgets."""
        if hasattr(self, "_unsubscribe"):  # ipywidgets closes what failed halfway, too
            self._unsubscribe()
            for task in list(self._tasks):
                task.cancel()
            for child in self.children:
                close_all(child)
            self.layout.close()
        super().close()


#: The panels of each cell, with the execution that made them.
_opened: dict[str, tuple[Any, list[Panel]]] = {}


def open_panel(session: Session) -> Panel:
    """Return a panel, and close those that an earlier run of this cell made: nobody sees them."""
    cell, execution = _cell()
    if cell:
        earlier, panels = _opened.get(cell, (execution, []))
        if earlier != execution:
            for panel in panels:
                panel.close()
            panels = []
        panel = Panel(session)
        _opened[cell] = (execution, [*panels, panel])
        return panel
    return Panel(session)


def _cell() -> tuple[str, Any]:
    """Return the frontend's id of the cell that runs, and what tells this run of it from others."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    header = kernel.get_parent() if kernel is not None else {}
    cell = (header.get("metadata") or {}).get("cellId", "")
    return str(cell), (header.get("header") or {}).get("msg_id")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
