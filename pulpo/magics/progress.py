"""What tells how a run gets on, updated in place."""

from __future__ import annotations

import sys
import time
from typing import Any

from IPython.display import display

__all__ = ["ProgressLine", "show"]

#: How many bytes a second are sent to the page at most, until the run has ended.
_BYTES = 500_000

show: Any = display  # IPython gives it no types


class ProgressLine:
    """Shows a run; call it with the run whenever something changed."""

    def __init__(self, *, in_a_kernel: bool) -> None:
        self._in_a_kernel = in_a_kernel
        self._view: Any = None
        self._handle: Any = None
        self._next = 0.0

    def __call__(self, run: Any) -> None:
        """Show the run as it is now."""
        if not self._in_a_kernel:
            _show_in_terminal(run)
            return
        if self._view is None:
            from ..run_view import RunView

            self._view = RunView(run)
        ended = run.state not in ("starting", "running")
        if not ended and time.monotonic() < self._next:
            return
        bundle = {"text/plain": self._view.title, "text/html": self._view.html()}
        self._next = time.monotonic() + len(bundle["text/html"]) / _BYTES
        if self._handle is None:
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _show_in_terminal(run: Any) -> None:
    if not sys.stderr.isatty():
        return
    ended = run.state not in ("starting", "running")
    line = "" if ended else f"{run.flow}: {run.progress_line()}"
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()
