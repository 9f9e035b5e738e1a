"""The line that tells how a run gets on, updated in place."""

from __future__ import annotations

import html
import sys
from typing import Any

from IPython.display import display

__all__ = ["ProgressLine", "show"]

show: Any = display  # IPython gives it no types


class ProgressLine:
    """Shows a run; call it with the run whenever something changed.

    A strict notebook test compares what was displayed first with the last update that the notebook
    keeps. So the text never changes, and what does stands in the span that ``nbval.cfg`` takes out.
    """

    def __init__(self, *, in_a_kernel: bool) -> None:
        self._in_a_kernel = in_a_kernel
        self._handle: Any = None

    def __call__(self, run: Any) -> None:
        """Show the run as it is now."""
        if not self._in_a_kernel:
            _show_in_terminal(run)
        elif self._handle is None:
            self._handle = show(_bundle(run), raw=True, display_id=True)
        else:
            self._handle.update(_bundle(run), raw=True)


def _bundle(run: Any) -> dict[str, str]:
    count = len(run.operations)
    title = f"{run.flow}: {count} operation{'s' * (count != 1)}"
    now = run.progress_line() + (f" · {run.seconds:.1f} s" if run.seconds else "")
    return {
        "text/plain": title,
        "text/html": (
            f'<div class="pulpo-progress">{html.escape(title)} '
            f'<span class="pulpo-seconds">{html.escape(now)}</span></div>'
        ),
    }


def _show_in_terminal(run: Any) -> None:
    if not sys.stderr.isatty():
        return
    ended = run.state not in ("starting", "running")
    line = "" if ended else f"{run.flow}: {run.progress_line()}"
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()
