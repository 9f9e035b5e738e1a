"""What a run gave: each operation's state, seconds and value, and how they are shown."""

from __future__ import annotations

import html
import sys
import sysconfig
import traceback
from asyncio import CancelledError
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from . import errors
from .errors import PulpoError, RunError, UnknownNameError, did_you_mean

__all__ = ["OperationFailedError", "OperationRun", "OperationState", "Run", "RunInterrupted"]

OperationState = Literal[
    "pending", "running", "retrying", "done", "failed", "timed out", "cancelled", "not reached"
]
RunState = Literal["starting", "running", "done", "failed", "cancelled"]

_NOTHING: Final = object()
_ENDED = frozenset({"done", "failed", "timed out", "cancelled", "not reached"})
_FAILED = frozenset({"failed", "timed out"})
_MARKS = {"done": "✓", "failed": "✗", "timed out": "✗", "running": "▸", "retrying": "▸"}

#: A table shows at most this many operations.
_ROWS = 60


@dataclass(slots=True, kw_only=True)
class OperationRun:
    """One operation in a run.

    Parameters
    ----------
    seconds
        From the start of its first attempt to the end of its last; None when it never started.
    error
        The exception of its last attempt, the user's own.
    attempts
        How often it was called; 0 also for a result that came from a cache.
    elements
        How many elements it runs for, one by one; None when it runs once.
    ended
        How many of the elements have ended, and of these ...
    skipped
        ... how many had failed and were left out.
    """

    name: str
    state: OperationState = "pending"
    seconds: float | None = None
    error: BaseException | None = None
    attempts: int = 0
    elements: int | None = None
    ended: int = 0
    skipped: int = 0
    _value: Any = field(default=_NOTHING, repr=False)

    @property
    def has_value(self) -> bool:
        """True when the operation finished."""
        return self._value is not _NOTHING

    @property
    def value(self) -> Any:
        """What the operation returned, the very object; `RunError` when it did not finish."""
        if self._value is _NOTHING:
            raise RunError(f"{self.name!r} has no value: it {self._because()}.")
        return self._value

    def _because(self) -> str:
        match self.state:
            case "failed":
                return f"failed with {_one_line(self.error)}"
            case "timed out":
                return "timed out"
            case "cancelled":
                return "was cancelled"
            case "not reached":
                return "was not reached"
        return "has not finished yet"

    def summary(self) -> str:
        """Return the kind and size of the value, or what went wrong, in a few words."""
        if self.has_value:
            skipped = f" ({self.skipped} of {self.elements} skipped)" if self.skipped else ""
            return _describe(self._value) + skipped
        return _one_line(self.error) if self.state in _FAILED else ""


class Run:
    """A run of a flow in this process; ``run["scraping.merge"]`` is what that operation returned.

    Attributes
    ----------
    flow
        The flow's name.
    state
        ``"starting"``, ``"running"``, ``"done"``, ``"failed"`` or ``"cancelled"``.
    seconds
        How long the flow ran, without what it took to start a server.
    operations
        An `OperationRun` per operation, by name, in registration order.
    error
        The exception that made the run fail, the user's own where an operation raised.
    runner
        Where the operations ran: ``"async"``, in this process, or a task runner.
    logs
        What Prefect and ``get_run_logger()`` logged meanwhile, a line each.
    notes
        What a person should know of it, such as which inputs came from an earlier run.
    """

    def __init__(self, flow: str, operations: Iterable[str]) -> None:
        self.flow = flow
        self.state: RunState = "starting"
        self.seconds = 0.0
        self.operations = {name: OperationRun(name=name) for name in operations}
        self.error: BaseException | None = None
        self.logs: list[str] = []
        self.runner = "async"
        self.notes: tuple[str, ...] = ()
        self._result: Any = _NOTHING
        self._files: frozenset[str] = frozenset()

    def __getitem__(self, operation: str) -> Any:
        return self._operation(operation).value

    def __iter__(self) -> Iterator[str]:
        return (name for name, operation in self.operations.items() if operation.has_value)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, operation: object) -> bool:
        found = self.operations.get(operation) if isinstance(operation, str) else None
        return found is not None and found.has_value

    def keys(self) -> list[str]:
        """Return the names of the operations that finished, so that ``dict(run)`` works."""
        return list(self)

    def _operation(self, name: str) -> OperationRun:
        found = self.operations.get(name)
        if found is None:
            raise UnknownNameError(
                f"no operation {name!r} in this run of {self.flow}."
                f"{did_you_mean(name, self.operations)}",
                candidates=tuple(self.operations),
            )
        return found

    @property
    def result(self) -> Any:
        """What the flow itself returned; `RunError` when it did not finish."""
        if self._result is _NOTHING:
            raise RunError(f"{self.flow} has no result: its run is {self.state}.")
        return self._result

    @property
    def states(self) -> dict[str, OperationState]:
        """The state of each operation."""
        return {name: operation.state for name, operation in self.operations.items()}

    @property
    def failed(self) -> list[str]:
        """The operations that raised or timed out."""
        return [name for name, state in self.states.items() if state in _FAILED]

    @property
    def not_reached(self) -> list[str]:
        """The operations that were not started, since the run ended before."""
        return [name for name, state in self.states.items() if state == "not reached"]

    def raise_for_failure(self) -> None:
        """Raise when the run failed: `OperationFailedError`, from the user's own exception.

        Raises
        ------
        OperationFailedError
            When an operation raised or timed out.
        RunError
            When the run failed outside its operations.
        """
        if self.state != "failed":
            return
        if self.failed:
            raise OperationFailedError(self) from self.error
        if isinstance(self.error, PulpoError):
            raise self.error
        raise RunError(
            f"{self.flow} failed outside its operations: {_one_line(self.error)}."
        ) from self.error

    def progress_line(self) -> str:
        """Return one line such as ``"running 3/5: scraping.merge"``."""
        if self.state == "starting":
            return "starting Prefect (the first run of a session takes up to half a minute)"
        ended = sum(state in _ENDED for state in self.states.values())
        if self.state == "running":
            busy = [o for o in self.operations.values() if o.state in ("running", "retrying")]
            names = [
                o.name if o.elements is None else f"{o.name} {o.ended}/{o.elements}" for o in busy
            ]
        else:
            ended -= len(self.not_reached)
            names = self.failed
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{self.state} {ended}/{len(self.operations)}" + (f": {shown}" if shown else "")

    # --- How it is shown --------------------------------------------------------------------------

    def _rows(self) -> tuple[list[OperationRun], int]:
        every = list(self.operations.values())
        if len(every) <= _ROWS:
            return every, 0
        # Python sorts stably: what did not finish first, each part in registration order.
        kept = sorted(every, key=lambda operation: operation.state == "done")[:_ROWS]
        names = {operation.name for operation in kept}
        return [operation for operation in every if operation.name in names], len(every) - _ROWS

    def __str__(self) -> str:
        rows, more = self._rows()
        table = [("operation", "state", "value")]
        table += [(row.name, row.state, row.summary()) for row in rows]
        name, state = (max(len(line[column]) for line in table) for column in (0, 1))
        lines = [f"{line[0]:<{name}}  {line[1]:<{state}}  {line[2]}".rstrip() for line in table]
        if more:
            lines.append(f"… and {more} more")
        return "\n".join([f"{self.flow}: {self.state}", *lines, *self.notes])

    def __repr__(self) -> str:
        return f"<Run of {self.flow}: {self.progress_line()}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        rows, more = self._rows()
        head = "".join(f"<th {_LEFT}>{name}</th>" for name in ("operation", "state", "value", ""))
        body = "".join(_html_row(row) for row in rows)
        notes = [f"… and {more} more"] if more else []
        note = "".join(f"<div>{html.escape(text)}</div>" for text in (*notes, *self.notes))
        return (
            f'<div class="pulpo-run"><div><b>{html.escape(self.flow)}</b>: {self.state} '
            f"{_html_seconds(self.seconds)}</div>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>"
        )


class OperationFailedError(errors.OperationFailedError):
    """Shows which operations failed and were not reached, then the user's own traceback."""

    def __init__(self, run: Run) -> None:
        self.run = run
        first = run.operations[run.failed[0]]
        self._title = f"{_enumerate(run.failed)} failed"
        if first.state == "timed out" and len(run.failed) == 1:
            self._title = f"{first.name} took longer than its timeout"
        if first.elements is not None and len(run.failed) == 1:
            self._title += _element(first)
        if run.not_reached:
            self._title += f"; not reached: {_enumerate(run.not_reached)}"
        super().__init__(f"{self._title}. {_one_line(first.error)}", operation=first.name)
        self._error = first.error

    def _render_traceback_(self) -> list[str]:
        title = f"OperationFailedError: {self._title}"
        if self.run.operations[self.operation].state == "timed out":
            return [title]  # the exception is Prefect's, and was raised in Prefect
        return [title, *_own_traceback(self._error, self.run._files)]


class RunInterrupted(CancelledError, KeyboardInterrupt):
    """The run was cancelled, by an interrupt or by its task; ``run`` keeps what had finished.

    It is a CancelledError, so that asyncio treats a cancelled task as one, and a
    KeyboardInterrupt, which is what a person who pressed Ctrl-C expects to catch.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        kept = (
            f"{len(run)} of {len(run.operations)} operations had finished; their results are kept"
        )
        super().__init__(f"the run of {run.flow} was interrupted. {kept}.")

    def _render_traceback_(self) -> list[str]:
        return [f"RunInterrupted: {self}"]


# --- The user's own traceback --------------------------------------------------------------------


def _own_traceback(error: BaseException | None, files: frozenset[str]) -> list[str]:
    """Return the lines of ``error``'s traceback without the frames of any machinery."""
    if error is None:
        return []
    shown = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    seen: set[int] = set()
    chain: list[traceback.TracebackException | None] = [shown]
    while chain:
        part = chain.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = _own_frames(part.stack, files)
        if part.__context__ is not None and not _own_frames(part.__context__.stack, files):
            part.__context__ = None  # an error that the machinery was handling meanwhile
        chain += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(shown.format()).rstrip("\n").split("\n")


def _own_frames(stack: traceback.StackSummary, files: frozenset[str]) -> traceback.StackSummary:
    # The last generated frame is the one that called the operation.
    calls = [place for place, frame in enumerate(stack) if frame.filename.startswith("<pulpo ")]
    after = stack[calls[-1] + 1 :] if calls else stack
    own = [frame for frame in after if frame.filename in files or _is_own(frame.filename)]
    for frame in own:
        frame.filename = _cell(frame.filename)
    return traceback.StackSummary.from_list(own)


_FOREIGN = tuple(
    str(Path(folder)) + "/"
    for folder in {*map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))}
    if folder
)


def _is_own(filename: str) -> bool:
    return not filename.startswith((*_FOREIGN, "<frozen ", str(Path(__file__).parent)))


def _cell(filename: str) -> str:
    """Name a cell's file as IPython does, ``Cell In[3]``; any other file as it is."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    named = getattr(getattr(shell, "compile", None), "format_code_name", None)
    found = named(filename) if named is not None else None
    return " ".join(found) if found else filename


# --- Text ----------------------------------------------------------------------------------------

_LEFT = 'style="text-align:left"'


def _html_row(row: OperationRun) -> str:
    mark = _MARKS.get(row.state, "·")
    seconds = _html_seconds(row.seconds) if row.seconds is not None else ""
    cells = (html.escape(row.name), f"{mark} {row.state}", html.escape(row.summary()), seconds)
    return "<tr>" + "".join(f"<td {_LEFT}>{cell}</td>" for cell in cells) + "</tr>"


def _html_seconds(seconds: float) -> str:
    # pulpo/nbval.cfg takes exactly this span out of what strict notebook tests compare.
    return f'<span class="pulpo-seconds">{seconds:.1f} s</span>'


def _element(operation: OperationRun) -> str:
    """Say at which of its elements an operation failed: the export's helper leaves a note of it."""
    lead = f"{operation.name} was"
    notes = [str(note) for note in getattr(operation.error, "__notes__", ())]
    return next((note.removeprefix(lead) for note in notes if note.startswith(lead)), "")


def _one_line(error: BaseException | None) -> str:
    if error is None:
        return "an error"
    first = next(iter(str(error).strip().splitlines()), "")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= 120 else text[:119] + "…"


def _enumerate(names: Sequence[str], most: int = 6) -> str:
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


def _describe(value: Any) -> str:
    """Return the kind and size of ``value``, never its content, which may differ run by run."""
    kind = type(value).__name__
    if value is None:
        return ""
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape and all(isinstance(size, int) for size in shape):
            return f"{kind} {' × '.join(map(str, shape))}"
        if isinstance(value, list | tuple | set | frozenset | Mapping):
            return f"{kind} of {len(value)}"
    except Exception:  # a user's class may do anything in these
        return kind
    return kind
