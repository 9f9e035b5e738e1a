"""Keeps what operations log and print in the run that they belong to, and out of the cell."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .runs import Run

__all__ = ["Speaker", "kept_logs"]

_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("run", default=None)
_speaker: contextvars.ContextVar[Speaker | None] = contextvars.ContextVar("speaker", default=None)
_LOGGERS = ("prefect", "prefect._internal")


class _ToRun(logging.Handler):
    """Puts Prefect's log lines into the run they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.before: list[tuple[logging.Logger, list[logging.Handler], bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        run = _current.get() or (self.runs[-1] if self.runs else None)
        text = record.getMessage()
        ours = "hook 'pulpo_" in text.lower()
        if run is None or ours:
            return
        about = getattr(record, "task_name", None) or getattr(record, "flow_name", None)
        run.keep_line(about or record.name, text, level=record.levelname)


class Speaker:
    """Takes what is printed while it is entered, here and in threads that have this context.

    It stands for one call of an operation, and keeps the lines as that one's.
    """

    def __init__(self, run: Run, operation: str) -> None:
        self.run = run
        self.operation = operation
        self._begun = ""

    def __enter__(self) -> None:
        self._token = _speaker.set(self)

    def __exit__(self, *_error: object) -> None:
        _speaker.reset(self._token)
        if self._begun:
            self.write("\n")

    def write(self, text: str) -> None:
        """Keep the lines that are whole by now."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self.run.keep_line(self.operation, line.rpartition("\r")[2])


class _Output:
    """Stands for ``sys.stdout`` during runs: what an operation prints goes to its run.

    In a terminal it is shown as well; a cell it would flood.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shows = not type(stream).__module__.startswith("ipykernel")

    def write(self, text: str) -> int:
        speaker = _speaker.get()
        if speaker is not None:
            speaker.write(text)
            if not self._shows:
                return len(text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_to_run = _ToRun()
_lock = threading.Lock()


@contextmanager
def kept_logs(run: Run) -> Iterator[None]:
    """Keep what Prefect logs, and what operations print, while runs are under way."""
    with _lock:
        if not _to_run.runs:
            _to_run.before = [
                (logger, list(logger.handlers), logger.propagate)
                for logger in map(logging.getLogger, _LOGGERS)
            ]
            for logger, _, _ in _to_run.before:
                logger.handlers[:] = [_to_run]
                logger.propagate = False
            sys.stdout = _Output(sys.stdout)
        _to_run.runs.append(run)
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)
        with _lock:
            _to_run.runs.remove(run)
            if not _to_run.runs:
                for logger, handlers, propagate in _to_run.before:
                    logger.handlers[:] = handlers
                    logger.propagate = propagate
                if isinstance(sys.stdout, _Output):  # else somebody else put a stream there
                    sys.stdout = sys.stdout._stream
