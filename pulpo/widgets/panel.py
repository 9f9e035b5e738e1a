"""The panel: a session's picture, code and problems, and the button that exports its flows."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..errors import EditedFileError, SettingsError
from ..session import Session
from ..settings import load_settings
from .content import (
    Content,
    code_of,
    exported_html,
    files_html,
    look,
    message,
    picture_html,
    problems_html,
    refused_html,
    static_html,
)
from .graph import GraphView

__all__ = ["Panel"]

_PAUSE = 0.1  # seconds in which changes are gathered: ten updates a second at most
# Of the process, not of a panel: two panels would write the same folder.
_EXPORTING = threading.Lock()


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
        self._exporting = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Messages to the page go out in the context of the cell that made the panel.
        self._context = contextvars.copy_context()
        self._loop = _running_loop()
        self._make()
        super().__init__(children=[self._head, self._tabs, self._export])
        self.add_class("pulpo-panel")
        self.refresh()
        self._unsubscribe = session.registry.subscribe(self._on_change)

    def _make(self) -> None:
        self._head = widgets.HTML()
        self.graph = GraphView()
        self.flow = widgets.Dropdown(description="Flow", options=[], style=_short_label())
        self.flow.observe(self._on_flow, "value")
        self.code = widgets.HTML(layout=_wide())
        self.problems = widgets.HTML(layout=_wide())
        self._code = widgets.VBox([self.flow, self.code])
        self._tabs = widgets.Tab(
            [self.graph, self._code, self.problems], titles=["Graph", "Code", "Problems"]
        )
        folder, complaint = _default_folder()
        self.folder = widgets.Text(
            value=folder, description="Export to folder", placeholder=folder, style=_short_label()
        )
        self.button = widgets.Button(
            description="Export flows",
            button_style="primary",
            tooltip="Write the flows, and the source that they need, as files that run alone",
        )
        self.button.on_click(self._on_export)
        self.replace = widgets.Checkbox(
            description="Replace files that were edited by hand (each is kept as NAME.bak)",
            indent=False,
            layout=widgets.Layout(display="none", width="auto"),
        )
        self.result = widgets.HTML(value=complaint, layout=_wide())
        self.result.add_class("pulpo-live")
        # Apart from the result, which is read out when it changes: the list would take a minute.
        self.files = widgets.HTML(layout=_wide())
        row = widgets.HBox([self.folder, self.button], layout=widgets.Layout(flex_flow="row wrap"))
        self._export = widgets.VBox([row, self.replace, self.result, self.files])
        self._export.add_class("pulpo-export")

    # --- following the session ------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the session as it is now."""
        self._show(look(self._session, self.flow.value or ""))

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
        content = await asyncio.to_thread(look, self._session, self.flow.value or "")
        self._show(content)

    def _show(self, content: Content) -> None:
        with self._lock:
            if content.version < self._content.version:
                return  # looked at before what is shown
            self._content = content
            self._head.value = (
                '<span class="pulpo-title">Pulpo</span>'
                f'<span class="pulpo-summary">{content.summary}</span>'
            )
            if not content.trouble:
                self.graph.drawings = dict(content.drawings)
                self._show_code(content)
            self.problems.value = problems_html(content)
            count = len(content.problems)
            self._tabs.titles = ["Graph", "Code", f"Problems ({count})" if count else "Problems"]

    def _show_code(self, content: Content) -> None:
        wanted = self.flow.value if self.flow.value in content.flows else content.flow
        with self._quiet():
            if self.flow.options != content.flows:
                self.flow.options = content.flows
            self.flow.value = wanted or None
            self.flow.layout.display = None if content.flows else "none"
        same = wanted == content.flow
        self.code.value = content.code if same else code_of(self._session, wanted)

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
                self.code.value = code_of(self._session, change.new)

    # --- exporting ------------------------------------------------------------------------------

    def _on_export(self, _button: Any) -> None:
        if not _EXPORTING.acquire(blocking=False):
            if not self._exporting:
                self.result.value = message("Another panel is exporting. Click again after it.")
            return
        self._exporting = True
        try:
            folder = self.folder.value.strip() or self.folder.placeholder
            self.result.value, self.files.value = message("Exporting…"), ""
            job = threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._export_to, folder, self.replace.value),
                name="pulpo-export",
                daemon=True,
            )
            job.start()
        except BaseException:
            self._exporting = False
            _EXPORTING.release()
            raise

    def _export_to(self, folder: str, force: bool) -> None:
        listed, edited = "", False
        try:
            exported = self._session.export(Path(folder).expanduser(), force=force)
            said, listed = exported_html(exported, folder), files_html(exported)
        except Exception as error:  # in a thread nobody else would tell
            said, edited = refused_html(error), isinstance(error, EditedFileError)
        try:
            self.replace.layout.display = None if edited else "none"
            self.replace.value = False
            self.result.value, self.files.value = said, listed
        finally:
            self._exporting = False
            _EXPORTING.release()

    # --- showing and closing --------------------------------------------------------------------

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return the widget, and for where it cannot live a picture and text that never change."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options) or {}
        content = self._content
        text = content.drawings.get("both", {"text": content.trouble})["text"]
        still = static_html(lambda: picture_html(self._session.graph()), content)
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
                _close(child)
            self.layout.close()
        super().close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wide() -> Any:
    return widgets.Layout(width="auto", max_width="100%")


def _short_label() -> dict[str, str]:
    return {"description_width": "initial"}


def _close(widget: Any) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    for name in ("layout", "style"):
        if hasattr(widget, name):
            getattr(widget, name).close()
    widget.close()


def _default_folder() -> tuple[str, str]:
    """Return the export folder of the settings, and what is wrong with them."""
    try:
        return load_settings().cache_dir.as_posix(), ""
    except SettingsError as error:
        return "run_cache", refused_html(error)
