"""How a run is shown: its picture while it runs and at its end, and its timeline."""

from __future__ import annotations

import html
import threading
from contextlib import suppress

from .backends.live import Moment, Stage, progress_bar
from .backends.render import in_page
from .backends.timeline import duration
from .backends.view import SIGNS
from .runs import OperationRun, Run

__all__ = ["RunView", "moments"]

#: With more operations, groups are drawn as one node each: a picture is sent at every change.
_MANY = 80
#: Seconds to wait for the picture at the end of a run that was quicker than Graphviz.
_PATIENCE = 15.0
_NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"></svg>'


def moments(run: Run) -> dict[str, Moment]:
    """Return how each operation of a run stands now."""
    return {name: _moment(each, run) for name, each in run.operations.items()}


class RunView:
    """Shows a run as HTML.

    A strict notebook test compares what was shown first with what was shown last. So nothing
    changes but what ``nbval.cfg`` takes out: the pictures, and a span.

    Parameters
    ----------
    draws
        False where somebody else draws the picture.
    """

    def __init__(self, run: Run, *, draws: bool = True) -> None:
        self._run = run
        self._stage: Stage | None = None
        self._drawing = threading.Thread(target=self._draw, name="pulpo-picture", daemon=True)
        if draws:
            self._drawing.start()

    @property
    def title(self) -> str:
        """The run in one line, which does not change while it runs."""
        count = len(self._run.operations)
        return f"{self._run.flow}: {count} operation{'s' * (count != 1)}"

    def html(self) -> str:
        """Return the run as it is now; once it has ended, with its timeline."""
        run = self._run
        ended = run.state not in ("starting", "running")
        if ended:
            self._drawing.join(_PATIENCE)
        picture = self._picture(alone=ended)
        timeline = run.timeline() if ended else None
        alone, inline = (timeline.svg, timeline.inline) if timeline else (_NOTHING, _NOTHING)
        bars = in_page(alone, inline, alt=f"Timeline of {self.title}")
        return (
            f'<div class="pulpo-progress"><div>{html.escape(self.title)} {self.line()}</div>'
            f"{picture}{bars}</div>"
        )

    def line(self) -> str:
        """Return how far the run is: in words, and as a bar."""
        run = self._run
        now = run.progress_line() + (f" · {run.seconds:.1f} s" if run.seconds else "")
        return f'<span class="pulpo-seconds">{html.escape(now)}</span> {self._bar()}'

    def _draw(self) -> None:
        run = self._run
        with suppress(Exception):  # without Graphviz there is no picture
            depth = 1 if len(run.operations) > _MANY else None
            self._stage = Stage(run.picture(Stage.states(list(run.operations)), depth=depth))

    def _picture(self, *, alone: bool) -> str:
        image = inline = _NOTHING
        if self._stage is not None:
            now = moments(self._run)
            inline = self._stage.at(now)
            image = self._stage.at(now, alone=True) if alone else _NOTHING
        return in_page(image, inline, alt=f"Graph of {self.title}")

    def _bar(self) -> str:
        every = list(self._run.operations.values())
        failed = sum(each.state in ("failed", "timed out") for each in every)
        return progress_bar(sum(map(_done, every)) / len(every), failed / len(every))


def _done(operation: OperationRun) -> float:
    if operation.state in ("done", "cached"):
        return 1.0
    running = operation.state == "running" and operation.elements
    return operation.ended / operation.elements if running and operation.elements else 0.0


def _moment(operation: OperationRun, run: Run) -> Moment:
    state = operation.state
    words = [SIGNS.get(state, "·")]
    if operation.elements is not None and state == "running":
        words.append(f"{operation.ended}/{operation.elements} ·")
    if state == "retrying":
        words.append(f"attempt {operation.attempts} ·")
    if state in ("running", "retrying") and operation.start is not None:
        words.append(duration(max(0.0, run.elapsed() - operation.start)))
    elif state == "done" and operation.seconds is not None:
        words.append(duration(operation.seconds))
    else:
        words.append(state)
    return Moment(state, " ".join(words))
