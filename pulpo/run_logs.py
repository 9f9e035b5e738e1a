"""Keeps what operations log and print in the run that they belong to, and out of the cell."""

from __future__ import annotations

import contextvars
import functools
import inspect
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO, cast

from .runs import Run

__all__ = [
    "Report",
    "Reporter",
    "Reports",
    "Speaker",
    "busy_threads",
    "in_an_operation",
    "kept_logs",
]

_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("run", default=None)
_speaker: contextvars.ContextVar[Speaker | None] = contextvars.ContextVar("speaker", default=None)
_STREAMS = ("stdout", "stderr")
_LOGGERS = ("prefect", "prefect._internal", "distributed")


class _ToRun(logging.Handler):
    """Puts Prefect's log lines into the run they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.before: list[tuple[logging.Logger, list[logging.Handler], bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        run = _current.get()
        if run is None and self.runs:  # a run without results yet is falsy
            run = self.runs[-1]
        text = record.getMessage()
        # Of our hooks; and where Prefect's page is, which a private server has none of (`Run.url`).
        idle = "hook 'pulpo_" in text.lower() or text.startswith("View at http")
        if run is None or idle or _is_of_dask(record):
            return
        about = getattr(record, "task_name", None) or getattr(record, "flow_name", None)
        run.keep_line(about or record.name, text, level=record.levelname)


def _is_of_dask(record: logging.LogRecord) -> bool:
    """Return whether a record tells how Dask's own parts come and go: some forty lines a run."""
    return record.name.startswith("distributed") and record.levelno < logging.WARNING


class Speaker:
    """Takes what is printed while it is entered, here and in threads that have this context.

    It stands for one call of an operation, and keeps the lines as that one's.
    """

    def __init__(self, run: Run, operation: str) -> None:
        self._run = run
        self._operation = operation
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
            self._keep(line.rpartition("\r")[2])

    def _keep(self, line: str) -> None:
        self._run.keep_line(self._operation, line)


class _Output:
    """Stands for a standard stream during runs: what an operation prints goes to its run.

    In a terminal it is shown as well; a cell it would flood.
    """

    def __init__(self, stream: TextIO, *, shows: bool) -> None:
        self._stream = stream
        self._shows = shows

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
            _take_streams()
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
                _give_streams_back()


def _take_streams() -> None:
    """Stand between ``print``, warnings and loggers, and what they write to."""
    for name in _STREAMS:
        stream = getattr(sys, name)
        if isinstance(stream, _Output):  # a cell that ran during another run gave it back late
            continue
        shows = not type(stream).__module__.startswith("ipykernel")
        taken = _Output(stream, shows=shows)
        setattr(sys, name, taken)
        for handler in logging.getLogger().handlers:  # a cell's basicConfig made it
            if getattr(handler, "stream", None) is stream:
                cast("logging.StreamHandler[Any]", handler).setStream(taken)


def _give_streams_back() -> None:
    for name in _STREAMS:
        taken = getattr(sys, name)
        if isinstance(taken, _Output):  # else somebody else put a stream there
            setattr(sys, name, taken._stream)
    for handler in logging.getLogger().handlers:
        stream = getattr(handler, "stream", None)
        if isinstance(stream, _Output):
            cast("logging.StreamHandler[Any]", handler).setStream(stream._stream)


def in_an_operation() -> str:
    """Return the name of the operation that this is called in; "" outside of any."""
    speaker = _speaker.get()
    return speaker._operation if speaker is not None else ""


# --- From workers ---------------------------------------------------------------------------------


class Report(NamedTuple):
    """What a call of an operation told: that it began, that it ended, or a line of text.

    ``at`` is in seconds since the epoch; ``level`` is that of what a logger said.
    """

    operation: str
    what: Literal["began", "ended", "line"]
    at: float
    text: str = ""
    level: str = ""


#: Threads of this process in which sync operations run now, on workers.
busy_threads: set[int] = set()


class Reporter:
    """An operation's function that writes down what it prints and logs, wherever it runs.

    It goes to other processes of this machine with its function. Where the folder is not, it is
    the function and nothing else.
    """

    def __init__(self, function: Callable[..., Any], operation: str, folder: Path) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._operation = operation
        self._folder = folder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        if not self._folder.is_dir():
            return self._function(*args, **kwargs)
        if inspect.iscoroutinefunction(self._function):
            return self._awaited(*args, **kwargs)
        with self._reporting():
            busy_threads.add(threading.get_ident())
            try:
                return self._function(*args, **kwargs)
            finally:
                busy_threads.discard(threading.get_ident())

    def __reduce__(self) -> tuple[Any, ...]:
        return Reporter, (self._function, self._operation, self._folder)

    async def _awaited(self, *args: Any, **kwargs: Any) -> Any:
        with self._reporting():
            return await self._function(*args, **kwargs)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        _listen_here(self._folder)
        self._tell("began")
        try:
            with _Writer(self._folder, self._operation):
                yield
        finally:
            self._tell("ended")

    def _tell(self, what: Literal["began", "ended"]) -> None:
        _write(self._folder, Report(self._operation, what, time.time()))


class _Writer(Speaker):
    """Takes what is printed on a worker, and writes it down."""

    def __init__(self, folder: Path, operation: str) -> None:
        self._folder = folder
        self._operation = operation
        self._begun = ""

    def _keep(self, line: str) -> None:
        _write(self._folder, Report(self._operation, "line", time.time(), line))


def _write(folder: Path, report: Report) -> None:
    # One file for each process, and one write for each line: what is read is whole lines.
    with suppress(OSError), (folder / str(os.getpid())).open("ab", buffering=0) as file:
        file.write(json.dumps(report).encode() + b"\n")


class _ToFolder(logging.Handler):
    """Writes down, on a worker, what Prefect and an operation's loggers say.

    When the run has ended, and its folder with it, the handlers that were there before have a
    worker's records again: it may be of a cluster that others use too.
    """

    def __init__(self, before: Sequence[logging.Handler]) -> None:
        super().__init__()
        self.before = before
        self.folder = Path()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.folder.is_dir():
            for handler in self.before:
                handler.handle(record)
            return
        if _is_of_dask(record):
            return
        about = str(getattr(record, "task_name", "") or record.name)
        text, level = record.getMessage(), record.levelname
        _write(self.folder, Report(about, "line", record.created, text, level))


def _listen_here(folder: Path) -> None:
    """Have all that is printed and logged on a worker pass through here; once in a process."""
    with _lock:
        if _to_run.runs:  # the process of the run itself, as with threads
            return
        for name in _STREAMS:
            if not isinstance(getattr(sys, name), _Output):
                setattr(sys, name, _Output(getattr(sys, name), shows=False))
        for logger in map(logging.getLogger, _LOGGERS):
            if not any(isinstance(handler, _ToFolder) for handler in logger.handlers):
                logger.handlers[:] = [_ToFolder(tuple(logger.handlers))]
                logger.propagate = False
            for handler in logger.handlers:
                if isinstance(handler, _ToFolder):
                    handler.folder = folder


class Reports:
    """What the calls of a run told, as it comes in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._read: dict[Path, int] = {}

    def new(self) -> list[Report]:
        """Return what came in since the last time."""
        with self._lock:
            paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
            return [Report(*json.loads(line)) for path in paths for line in self._lines(path)]

    def _lines(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            told = file.read()
        whole = told[: told.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        return whole.splitlines()
