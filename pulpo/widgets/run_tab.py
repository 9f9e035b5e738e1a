"""The tab that runs a flow: its form, how it gets on, and what its operations say."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import ipywidgets as widgets

from ..backends.render import escape
from ..run_view import RunView, moments
from ..runs import Run, one_line
from ..session import Session
from .content import Content, Drawn, Wanted, detail_html, message, run_drawing, unforeseen
from .form import Form
from .graph import GraphView, aside
from .layout import html, row, short_label

__all__ = ["RunTab"]

_ENGINES = {"on Prefect": "prefect", "without Prefect": "local"}
_ALL = "everything"
_LINES = 400  # of a log, the last ones
_PAUSE = 0.5  # seconds between two looks at the log of a run
_UNDER_WAY = ("starting", "running")
_ANSI = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


class RunTab(widgets.VBox):  # type: ignore[misc]
    """Runs a flow of the session, and shows the session's runs, whoever started them.

    One at a time: another is shown once the one that is shown has ended.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run: Run | None = None
        self._view: RunView | None = None
        self._lock = threading.RLock()
        self._logged = 0.0
        self._is_cancelling = False
        self._was_quiet = True
        self._make()
        self._below = widgets.VBox([self.graph, self._logs, self.timeline])
        super().__init__([self._head, self.form, self._buttons, self.status, self.bar, self._below])
        self.add_class("pulpo-run-tab")
        self._below.layout.display = "none"
        self._unsubscribe = session.watch(self._on_run)
        if session.last_run is not None:
            self._on_run(session.last_run)

    def _make(self) -> None:
        self.flow = widgets.Dropdown(description="Flow", options=[], style=short_label())
        self.flow.observe(lambda _: self._show_form(), "value")
        self.engine = widgets.Dropdown(
            description="Run", options=list(_ENGINES), style=short_label()
        )
        self._head = row(self.flow, self.engine)
        self.form = Form(self._on_form)
        self.start = widgets.Button(
            description="Run", button_style="primary", tooltip="Run the flow in this kernel"
        )
        self.cancel = widgets.Button(
            description="Cancel",
            disabled=True,
            tooltip="End the run; what has finished is kept",
        )
        self.resume = widgets.Button(
            description="Resume", tooltip="Go on with the run that failed or was stopped"
        )
        self.resume.layout.display = "none"
        self.start.on_click(lambda _: self._start())
        self.cancel.on_click(lambda _: self._cancel())
        self.resume.on_click(lambda _: self._start(resume=True))
        self._buttons = row(self.start, self.cancel, self.resume)
        self.status = html("", "pulpo-status")
        self.bar = html()
        self.graph = GraphView(self._draw, lambda name: detail_html(self._session, name))
        self.graph.observe(lambda change: self._choose(change.new), "selected")
        self.timeline = html()
        self.about = widgets.Dropdown(
            description="Log of", options=[_ALL], value=_ALL, style=short_label()
        )
        self.about.observe(lambda _: self._show_log(), "value")
        self.lines = html("", "pulpo-log")
        self._logs = widgets.VBox([self.about, self.lines])

    # --- what can be run ------------------------------------------------------------------------

    def follow(self, content: Content) -> None:
        """Offer the flows that there are now."""
        with self._lock:
            wanted = self.flow.value if self.flow.value in content.flows else None
            if tuple(self.flow.options) != content.flows:
                self.flow.options = content.flows
            self.flow.value = wanted or (content.flows[0] if content.flows else None)
            empty = "" if content.flows else "none"
            for part in (self._head, self._buttons):
                part.layout.display = empty or None
        self._show_form()

    def _show_form(self) -> None:
        with self._lock:  # a cell and the end of a run may both ask for it
            self._show_fields()

    def _show_fields(self) -> None:
        flow = self.flow.value
        try:
            fields = self._session.form(flow) if flow else ()
        except Exception as error:
            self.form.show(())
            self.start.disabled = True
            self._was_quiet = False
            self.status.value = message(unforeseen(error), "bad")
            return
        self.form.show(fields)
        self.start.disabled = self._is_under_way
        if not self._was_quiet:
            self._was_quiet, self.status.value = True, ""

    def _on_form(self) -> None:
        if not self._was_quiet:  # what was told of the form is mended, perhaps
            self._was_quiet, self.status.value = True, ""

    # --- running --------------------------------------------------------------------------------

    @property
    def _is_under_way(self) -> bool:
        return self._run is not None and self._run.state in _UNDER_WAY

    def _start(self, *, resume: bool = False) -> None:
        flow = self.flow.value
        # A run that goes on takes from the form what its own flow has there.
        filled = not resume or (self._run is not None and self._run.flow == flow)
        values, wrong = self.form.values() if filled else ({}, {})
        if wrong:
            names = ", ".join(wrong)
            self._was_quiet = False
            self.status.value = message(f"Not started: see {names} above.", "bad")
            return
        with self._lock:
            if self._is_under_way:
                self.status.value = message("A run is under way: cancel it, or wait for it.")
                return
            self.start.disabled = self.resume.disabled = True
            self.status.value = message("Starting…")
        # What is asked for is what the page shows now, and not when the thread begins.
        how: dict[str, Any] = {"flow": flow, "engine": _ENGINES[self.engine.value]}
        if resume:
            how = {"resume": True}
        aside(lambda: self._begin(values, how), "pulpo-start")

    def _begin(self, values: dict[str, Any], how: dict[str, Any]) -> None:
        try:
            self._session.start(parameters=values, **how)
        except Exception as error:
            self._was_quiet = False
            self.status.value = message(f"Not started: {unforeseen(error)}", "bad")
            self.start.disabled = self.resume.disabled = False

    def _cancel(self) -> None:
        if self._run is not None and self._is_under_way:
            self._is_cancelling = self.cancel.disabled = True
            self.status.value = message("Cancelling…")
            self._run.cancel()

    # --- following a run ------------------------------------------------------------------------

    def _on_run(self, run: Run) -> None:
        """Show how a run gets on; called in the thread that runs it."""
        with self._lock:
            if run is not self._run:
                if self._is_under_way:
                    return  # one at a time: it would flip between them
                self._new(run)
            ended = run.state not in _UNDER_WAY
            self.graph.colour(moments(run))
            if self._view is not None:
                self.bar.value = self._view.line()
            self._show_buttons(run)
            if ended or time.monotonic() - self._logged > _PAUSE:
                self._show_log()
        if ended:
            aside(lambda: self._ended(run), "pulpo-picture")

    def _new(self, run: Run) -> None:
        self._run, self._view = run, RunView(run, draws=False)
        self.timeline.value = ""
        chosen = self.about.value
        self.about.options = [_ALL, *run.operations]
        self.about.value = chosen if chosen in run.operations else _ALL
        self._below.layout.display = None
        self.graph.unfold()
        self.graph.redraw()

    def _show_buttons(self, run: Run) -> None:
        busy = run.state in _UNDER_WAY
        self.start.disabled = busy or not self.flow.value
        self._is_cancelling = self._is_cancelling and busy
        self.cancel.disabled = not busy or self._is_cancelling
        self.resume.disabled = busy
        self.resume.layout.display = None if run.is_resumable else "none"
        if not self._is_cancelling:
            self.status.value = _said(run)

    def _ended(self, run: Run) -> None:
        try:
            drawn = run.timeline().inline
        except Exception as error:
            drawn = message(unforeseen(error), "bad")
        with self._lock:
            if run is self._run:
                self.timeline.value = f'<div class="pulpo-timeline">{drawn}</div>'
            if run is self._run and run.failed:
                self.about.value = run.failed[0]
        self._show_form()  # what it gave may be taken by the next run

    def _draw(self, wanted: Wanted) -> Drawn:
        run = self._run
        return run_drawing(run, wanted) if run is not None else Drawn({})

    # --- logs -----------------------------------------------------------------------------------

    def _choose(self, name: str) -> None:
        if self._run is not None and name in self._run.operations:
            self.about.value = name

    def _show_log(self) -> None:
        run, about = self._run, self.about.value
        if run is None:
            return
        self._logged = time.monotonic()
        lines = run.logs("" if about in (_ALL, None) else about)
        if about in run.operations:
            lines = [*lines, *run.traceback(about)]
        more = [f"… the last {_LINES:,} of {len(lines):,} lines:"] if len(lines) > _LINES else []
        text = "\n".join([*more, *lines[-_LINES:]])
        said = escape(_ANSI.sub("", text)) if text else "Nothing was logged or printed."
        value = f'<pre tabindex="0">{said}</pre>'
        if value != self.lines.value:
            self.lines.value = value

    def close(self) -> None:
        """Stop following runs; a run that is under way goes on."""
        if hasattr(self, "_unsubscribe"):
            self._unsubscribe()
        super().close()


def _said(run: Run) -> str:
    """Return in one line how a run stands, which is read out: so no times while it runs."""
    match run.state:
        case "starting":
            return message(f"{run.flow}: starting…")
        case "running":
            return message(f"{run.flow}: running")
        case "done":
            notes = "".join(message(note) for note in run.all_notes())
            return message(f"{run.flow}: done in {run.seconds:.1f} s", "good") + notes
        case "cancelled":
            kept = f"{len(run)} of {len(run.operations)} operations had finished"
            return message(f"{run.flow}: cancelled. {kept}; their results are kept.", "bad")
    return message(f"{run.flow}: failed. {_why(run)}", "bad")


def _why(run: Run) -> str:
    if not run.failed:
        return unforeseen(run.error) if run.error else ""
    first = run.operations[run.failed[0]]
    missed = f" Not reached: {', '.join(run.not_reached)}." if run.not_reached else ""
    told = one_line(first.error).rstrip(".")
    again = f" Called with: pulpo.last_run().inputs({first.name!r})."
    return f"{', '.join(run.failed)}: {told}.{missed}{again if first.attempts else ''}"
