"""The tab that exports: the folder, what and how, the button, and what was written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..errors import EditedFileError, SettingsError
from ..session import RUNNERS, Session
from ..settings import load_settings
from .content import (
    Content,
    exported_html,
    files_html,
    message,
    problem_list,
    refused_html,
    unforeseen,
)
from .graph import aside
from .layout import html, row, short_label

__all__ = ["ExportTab"]

# Of the process, not of a panel: two panels would write the same folder.
_EXPORTING = threading.Lock()
_ALL = "all flows"


class ExportTab(widgets.VBox):  # type: ignore[misc]
    """Writes the flows as files that run alone."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._exporting = False
        self._is_refused = False
        self._make()
        super().__init__(
            [
                row(self.folder, self.button, self.check),
                row(self.flow, self.runner, self.flat, self.lock),
                self.freeze,
                self.replace,
                self.result,
                self.files,
            ]
        )
        self.add_class("pulpo-export")

    def _make(self) -> None:
        folder, complaint = _default_folder()
        self.folder = widgets.Text(
            value=folder, description="Export to folder", placeholder=folder, style=short_label()
        )
        self.button = widgets.Button(
            description="Export flows",
            button_style="primary",
            tooltip="Write the flows, and the source that they need, as files that run alone",
        )
        self.button.on_click(self._on_export)
        self.check = widgets.Button(
            description="Check",
            tooltip="List all that an export would refuse, or do differently; nothing is written",
        )
        self.check.on_click(self._on_check)
        self.flow = widgets.Dropdown(description="Export", options=[_ALL], style=short_label())
        self.runner = widgets.Dropdown(
            description="Operations run",
            options=[(_RUNNERS.get(name, name), name) for name in RUNNERS],
            style=short_label(),
        )
        self.flat = _box("One flow, no subflows")
        self.lock = _box("Lock all packages for uv run")
        self.freeze = widgets.Text(
            description="Freeze variables",
            placeholder="names, separated by commas: their values of now become literals",
            style=short_label(),
            layout=widgets.Layout(width="min(100%, 620px)"),
        )
        self.replace = _box("Replace files that were edited by hand (each is kept as NAME.bak)")
        self.replace.layout.display = "none"
        self.result = html(complaint, "pulpo-status")
        # Apart from the result, which is read out when it changes: the list would take a minute.
        self.files = html()

    def follow(self, content: Content) -> None:
        """Offer the flows that there are now."""
        flows = (_ALL, *(flow for flow in content.flows if flow != "main_flow"))
        if tuple(self.flow.options) != flows:
            chosen = self.flow.value if self.flow.value in flows else _ALL
            self.flow.options = flows
            self.flow.value = chosen
        if self._is_refused and not self._exporting:  # its cause may be mended
            self._is_refused, self.result.value, self.files.value = False, "", ""

    def _on_export(self, _button: Any) -> None:
        folder = self.folder.value.strip() or self.folder.placeholder
        how: dict[str, Any] = {
            "force": self.replace.value,
            "lock": self.lock.value,
            "flat": self.flat.value,
            "runner": self.runner.value,
            "flow": None if self.flow.value == _ALL else self.flow.value,
            "freeze": [n.strip() for n in self.freeze.value.split(",") if n.strip()],
        }
        self._begin("Exporting…", lambda: self._export(folder, how))

    def _on_check(self, _button: Any) -> None:
        self._begin("Checking…", self._check)

    def _begin(self, words: str, work: Callable[[], None]) -> None:
        if not _EXPORTING.acquire(blocking=False):
            if not self._exporting:
                self.result.value = message("Another panel is exporting. Click again after it.")
            return
        self._exporting = True
        try:
            self.result.value, self.files.value = message(words), ""
            aside(work, "pulpo-export")
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._exporting = False
        _EXPORTING.release()

    def _check(self) -> None:
        listed = ""
        try:
            checked = self._session.check(export=True)
            said = message("An export does what the cells do.", "good")
            if checked.problems:
                listed = problem_list(checked.problems, self._session.links(checked.orchestration))
                count = len(checked.problems)
                said = message(f"{count} problem{'s' if count > 1 else ''} found:")
        except Exception as error:  # in a thread nobody else would tell
            said = message(unforeseen(error), "bad")
        try:
            self.result.value, self.files.value = said, listed
            self._is_refused = bool(listed)
        finally:
            self._end()

    def _export(self, folder: str, how: dict[str, Any]) -> None:
        listed, edited = "", False
        try:
            exported = self._session.export(Path(folder).expanduser(), **how)
            said, listed = exported_html(exported, folder), files_html(exported)
        except Exception as error:  # in a thread nobody else would tell
            said, edited = refused_html(error), isinstance(error, EditedFileError)
        try:
            self.replace.layout.display = None if edited else "none"
            self.replace.value = False
            self.result.value, self.files.value = said, listed
            self._is_refused = not listed
        finally:
            self._end()


_RUNNERS = {"async": "in one process", "threads": "in threads", "process": "in processes"}
_RUNNERS |= {"dask": "on Dask", "ray": "on Ray"}


def _box(words: str) -> Any:
    return widgets.Checkbox(
        description=words, indent=False, layout=widgets.Layout(width="auto", max_width="100%")
    )


def _default_folder() -> tuple[str, str]:
    """Return the export folder of the settings, and what is wrong with them."""
    try:
        return load_settings().cache_dir.as_posix(), ""
    except SettingsError as error:
        return "run_cache", refused_html(error)
