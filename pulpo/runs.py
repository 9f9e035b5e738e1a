"""What a run gave: each operation's state, seconds and value, and how they are shown."""

from __future__ import annotations

import html
import inspect
import sys
import sysconfig
import threading
import time
import traceback
import types
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from . import errors
from .errors import MissingProgramError, PulpoError, RunError, UnknownNameError, did_you_mean
from .reuse import Call, Calls, FromStorage, Reuse

if TYPE_CHECKING:
    from pandas import DataFrame

    from .backends.render import Picture
    from .backends.timeline import Timeline
    from .plan import FlowDefinition, Orchestration

__all__ = [
    "OperationFailedError",
    "OperationRun",
    "OperationState",
    "Run",
    "RunInterrupted",
    "one_line",
]

OperationState = Literal[
    "pending", "running", "retrying", "done", "cached", "failed", "timed out", "cancelled",
    "not reached",
]  # fmt: skip
RunState = Literal["starting", "running", "done", "failed", "cancelled"]

_NOTHING: Final = object()
_ENDED = frozenset({"done", "cached", "failed", "timed out", "cancelled", "not reached"})
_FAILED = frozenset({"failed", "timed out"})
_MARKS = {
    "done": "✓",
    "cached": "✓",
    "failed": "✗",
    "timed out": "✗",
    "running": "▸",
    "retrying": "▸",
}

#: How many lines of a run are kept, the last ones.
_LINES = 20_000
#: A table shows at most this many operations.
_ROWS = 60


@dataclass(slots=True, kw_only=True)
class OperationRun:
    """One operation in a run.

    Parameters
    ----------
    start
        When its first attempt started, in seconds from the start of the run; None when none did.
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
        ... how many had failed and were left out, and ...
    reused
        ... for how many the result of an earlier run was taken.
    calls
        The calls that it finished, for a run that goes on from here; none of a run that is done.
    call
        The one call that it finished, when it runs once, on Prefect and in this process.
    """

    name: str
    state: OperationState = "pending"
    start: float | None = None
    seconds: float | None = None
    error: BaseException | None = None
    attempts: int = 0
    elements: int | None = None
    ended: int = 0
    skipped: int = 0
    reused: int = 0
    _value: Any = field(default=_NOTHING, repr=False)
    _inputs: Mapping[str, Any] | None = field(default=None, repr=False)
    calls: Calls = field(default_factory=Calls, repr=False)
    call: Call | None = field(default=None, repr=False)

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
                return f"failed with {one_line(self.error)}"
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
            few = self.reused if self.reused < (self.elements or 0) else 0
            told = [(self.skipped, "skipped"), (few, "cached")]
            notes = [f"{count} of {self.elements} {what}" for count, what in told if count]
            return _describe(self._value) + (f" ({', '.join(notes)})" if notes else "")
        return one_line(self.error) if self.state in _FAILED else ""


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
        Where the operations ran: ``"async"``, in this process; ``"local"``, in it too, but without
        Prefect; or a task runner.
    notes
        What a person should know of it, such as which inputs came from an earlier run.
    misfits
        What operations gave instead of the models in their annotations, in words, by operation.
    server
        Which Prefect server it used: ``"configured"`` (by PREFECT_API_URL), ``"kept"`` (by ``pulpo
        prefect start``) or ``"private"``; ``""`` before it was looked for.
    url
        Prefect's own page of the run; None when the server has no pages, or none was made yet.
    """

    def __init__(self, flow: str, operations: Iterable[str]) -> None:
        self.flow = flow
        self.state: RunState = "starting"
        self.seconds = 0.0
        self.operations = {name: OperationRun(name=name) for name in operations}
        self.error: BaseException | None = None
        self._lines: deque[tuple[str, str]] = deque(maxlen=_LINES)
        self._printed: Counter[str] = Counter()
        self._began = 0.0
        self._plan: tuple[Orchestration, FlowDefinition] | None = None
        self._draw: Callable[..., Picture] | None = None
        self.runner = "async"
        self.notes: tuple[str, ...] = ()
        self.server: Literal["", "configured", "kept", "private"] = ""
        self.url: str | None = None
        self._result: Any = _NOTHING
        self._functions: tuple[Callable[..., Any], ...] = ()
        self._reuse: Reuse | None = None
        self._storage: FromStorage | None = None
        #: What operations gave that is not what their annotations say.
        self.misfits: dict[str, str] = {}
        self._has_to_end = False
        self._over = threading.Event()
        self._over.set()  # unless somebody drives it

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

    @property
    def is_resumable(self) -> bool:
        """True when another run can go on from here, with what finished."""
        of_session = self._draw is not None
        return of_session and self.runner == "async" and self.state in ("failed", "cancelled")

    def cancel(self) -> None:
        """Ask the run to end, as an interrupt does, from any thread; what finished is kept.

        It returns at once, and a moment later the run is ``"cancelled"``: see `wait`. Who waits in
        ``run`` or ``arun`` gets `RunInterrupted`. A run that has ended stays what it is.
        """
        self._has_to_end = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, so many seconds at most; return whether it has.

        On the event loop that the run itself is on, it would wait for ever.
        """
        return self._over.wait(timeout)

    def graph(self, view: str = "both") -> Picture:
        """Return the picture of the flow with the state that each operation has now.

        Parameters
        ----------
        view
            ``"both"`` (the dataflow, with groups as frames), ``"dataflow"`` or ``"hierarchy"``.

        Raises
        ------
        UsageError
            When there is no such view.
        RunError
            When nobody knows the plan: a run that no session made.
        """
        return self.picture(self.states, view)

    def picture(self, states: Mapping[str, str], view: str = "both", **part: Any) -> Picture:
        """Return the picture of the flow with these states; see `graph`.

        ``part`` says how much of it, and how, as for `pulpo.backends.render.draw`.
        """
        if self._draw is None:
            raise RunError(f"this run of {self.flow} is of no session, which would draw it.")
        return self._draw(view=view, states=states, **part)

    def timeline(self) -> Timeline:
        """Return when each operation ran, as bars, with the critical path marked.

        Raises
        ------
        RunError
            When nobody knows the plan: a run that was made by hand.
        """
        from .backends.timeline import Bar, Timeline, critical_path

        if self._plan is None:
            raise RunError(f"this run of {self.flow} has no plan, which would tell what waits.")
        bars = tuple(
            Bar(
                each.name,
                each.start,
                each.seconds or 0.0,
                each.state,
                "" if each.elements is None else f"{each.ended} of {each.elements}",
            )
            for each in self.operations.values()
            if each.start is not None
        )
        return Timeline(
            flow=self.flow,
            bars=bars,
            critical=critical_path(*self._plan, bars),
            seconds=self.seconds or self.elapsed(),
        )

    def elapsed(self) -> float:
        """Return the seconds since the flow started; 0 before."""
        return time.perf_counter() - self._began if self._began else 0.0

    def inputs(self, operation: str) -> dict[str, Any]:
        """Return what an operation was called with, by parameter: the very objects.

        ``clean(**run.inputs("parsing.clean"))`` is the same call, in a cell. Of an operation that
        runs for each of many it is the first call that failed.

        Raises
        ------
        UnknownNameError
            When the run has no such operation.
        RunError
            When it was not called, or, for each of many, no call failed.
        """
        found = self._operation(operation)
        if found._inputs is None:
            why = "it was not called"
            if found.elements is not None:
                why = f"it ran for {found.elements} elements, and none failed"
            elif not found.attempts and found.has_value:
                why = "its result came from a cache"
            raise RunError(f"{operation!r} has no inputs in this run: {why}.")
        return {name: _resolved(value) for name, value in found._inputs.items()}

    def logs(self, operation: str = "") -> list[str]:
        """Return what was logged and printed, a line each; of one operation, or of all.

        What a logger said begins with its level. Of very many lines the last ones are kept.

        Raises
        ------
        UnknownNameError
            When the run has no such operation.
        """
        if operation:
            self._operation(operation)
        return [text for about, text in self._lines if operation in ("", about)]

    def traceback(self, operation: str) -> list[str]:
        """Return how an operation failed, as Python would tell it, in the user's own lines alone.

        Empty when it did not fail.

        Raises
        ------
        UnknownNameError
            When the run has no such operation.
        """
        found = self._operation(operation)
        return _own_traceback(found.error, self._functions) if found.state in _FAILED else []

    def keep_line(self, about: str, text: str, *, level: str = "") -> None:
        """Keep a line that an operation, or a flow, logged at a level, or printed."""
        if not level:
            self._printed[about] += 1
        self._lines.append((about, f"{level} {about}: {text}".lstrip()))

    def to_frame(self) -> DataFrame:
        """Return a pandas DataFrame with a row for each operation, in registration order.

        Its columns are ``state``, ``start`` and ``seconds`` (floats), ``attempts``, ``elements``,
        ``skipped``, ``value`` (in a few words) and ``error`` (its exception).

        Raises
        ------
        MissingProgramError
            When pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingProgramError(
                "run.to_frame() makes a pandas DataFrame, and pandas is not installed: "
                "pip install pandas."
            ) from None
        rows = [
            {
                "operation": each.name,
                "state": each.state,
                "start": each.start,
                "seconds": each.seconds,
                "attempts": each.attempts,
                "elements": each.elements,
                "skipped": each.skipped,
                "value": each.summary() if each.has_value else "",
                "error": each.error,
            }
            for each in self.operations.values()
        ]
        frame = pandas.DataFrame(rows).set_index("operation")
        floats = {"start": "float64", "seconds": "float64", "elements": "Int64"}
        return frame.astype(floats)

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
            f"{self.flow} failed outside its operations: {one_line(self.error)}."
        ) from self.error

    def progress_line(self) -> str:
        """Return one line such as ``"running 3/5: scraping.merge"``."""
        if self.state == "starting" and self.runner == "local":
            return "starting"
        if self.state == "starting":
            return "starting Prefect (the first run of a session takes up to half a minute)"
        ended = sum(state in _ENDED for state in self.states.values())
        if self.state == "running":
            busy = [o for o in self.operations.values() if o.state in ("running", "retrying")]
            names = [
                o.name if o.elements is None else f"{o.name} {o.ended}/{o.elements}" for o in busy
            ]
        else:
            ended -= sum(state in ("not reached", "cancelled") for state in self.states.values())
            names = self.failed
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{self.state} {ended}/{len(self.operations)}" + (f": {shown}" if shown else "")

    # --- How it is shown --------------------------------------------------------------------------

    def _rows(self) -> tuple[list[OperationRun], int]:
        every = list(self.operations.values())
        if len(every) <= _ROWS:
            return every, 0
        # Python sorts stably: what did not finish first, each part in registration order.
        kept = sorted(every, key=lambda each: each.state in ("done", "cached"))[:_ROWS]
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
        return "\n".join([f"{self.flow}: {self.state}", *lines, *self._shown_notes()])

    def all_notes(self) -> list[str]:
        """Return all that a person should know of the run: `misfits`, `notes`, what was reused."""
        wrong = [f"{name} gave {what}" for name, what in self.misfits.items()]
        return [*wrong, *self.notes, *(self._reuse.notes if self._reuse else ())]

    def _shown_notes(self) -> list[str]:
        notes = self.all_notes()
        if self._printed:
            names = [name for name in self.operations if name in self._printed]
            lines = sum(self._printed.values())
            notes.append(
                f"{_enumerate(names)} printed {lines:,} line{'s' * (lines != 1)}: "
                f"run.logs({names[0]!r})"
            )
        return notes

    def __repr__(self) -> str:
        return f"<Run of {self.flow}: {self.progress_line()}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        rows, more = self._rows()
        head = "".join(f"<th {_LEFT}>{name}</th>" for name in ("operation", "state", "value", ""))
        body = "".join(_html_row(row) for row in rows)
        notes = [f"… and {more} more"] if more else []
        note = "".join(f"<div>{html.escape(text)}</div>" for text in (*notes, *self._shown_notes()))
        return (
            f'<div class="pulpo-run"><div><b>{html.escape(self.flow)}</b>: {self.state} '
            f"{_html_seconds(self.seconds)}{_html_link(self.url)}</div>"
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
        super().__init__(f"{self._title}. {one_line(first.error)}", operation=first.name)
        self._error = first.error

    def _render_traceback_(self) -> list[str]:
        title = f"OperationFailedError: {self._title}"
        if self.run.operations[self.operation].state == "timed out":
            return [title]  # the exception is Prefect's, and was raised in Prefect
        if self.run.operations[self.operation]._inputs is not None:
            title += f"\nWhat it was called with: pulpo.last_run().inputs({self.operation!r})"
        for name, what in self.run.misfits.items():
            title += f"\n{name} gave {what}."
        if self.run.is_resumable:
            title += "\nAfter the fix, '%pulpo run --resume' goes on from there."
        return [*title.split("\n"), *_own_traceback(self._error, self.run._functions)]


class RunInterrupted(CancelledError, KeyboardInterrupt):
    """The run was cancelled, by an interrupt or by its task; ``run`` keeps what had finished.

    It is a CancelledError, so that asyncio treats a cancelled task as one, and a
    KeyboardInterrupt, which is what a person who pressed Ctrl-C expects to catch.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        kept = f"{len(run) or 'None'} of {len(run.operations)} operations had finished"
        kept += "; their results are kept" if run else ""
        more = ", and '%pulpo run --resume' goes on from there" if run.is_resumable else ""
        super().__init__(f"the run of {run.flow} was interrupted. {kept}{more}.")

    def _render_traceback_(self) -> list[str]:
        return [f"RunInterrupted: {self}"]


# --- The user's own traceback --------------------------------------------------------------------


def _own_traceback(
    error: BaseException | None, functions: Sequence[Callable[..., Any]]
) -> list[str]:
    """Return the lines of ``error``'s traceback without the frames of any machinery."""
    if error is None:
        return []
    codes = [code for function in functions if (code := _code_of(inspect.unwrap(function)))]
    files = frozenset(code.co_filename for code in codes)
    shown = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    seen: set[int] = set()
    chain: list[traceback.TracebackException | None] = [shown]
    while chain:
        part = chain.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = _own_frames(_at_home(part.stack, functions), files)
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


def _at_home(
    stack: traceback.StackSummary, functions: Sequence[Callable[..., Any]]
) -> traceback.StackSummary:
    """Name the cells of frames from a worker, where cloudpickle leaves functions without files."""
    frames = []
    for frame in stack:
        code = _found(frame, functions) if frame.filename == _ELSEWHERE else None
        if code is not None:
            frame = traceback.FrameSummary(
                code.co_filename,
                frame.lineno,
                frame.name,
                end_lineno=frame.end_lineno,
                colno=frame.colno,
                end_colno=frame.end_colno,
            )
        if frame.filename != _ELSEWHERE:
            frames.append(frame)
    return traceback.StackSummary.from_list(frames)


def _found(
    frame: traceback.FrameSummary, functions: Sequence[Callable[..., Any]]
) -> types.CodeType | None:
    """Return the code that a frame without a file ran: an operation's, or of what it calls."""
    for function in functions:
        own = inspect.unwrap(function)
        helper = getattr(own, "__globals__", {}).get(frame.name)
        for code in filter(None, map(_code_of, (own, helper))):
            lines = [line for _, _, line in code.co_lines() if line]
            if code.co_name == frame.name and frame.lineno in lines:
                return code
    return None


def _code_of(function: Any) -> types.CodeType | None:
    code = getattr(function, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


_ELSEWHERE = "<dynamic-code>"
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


def _html_link(url: str | None) -> str:
    # Likewise taken out: a run's page has an id of its own.
    if not url:
        return ""
    link = f'<a href="{html.escape(url)}" target="_blank" rel="noopener">in Prefect</a>'
    return f'<span class="pulpo-link"> · {link}</span>'


def _element(operation: OperationRun) -> str:
    """Say at which of its elements an operation failed: the export's helper leaves a note of it."""
    lead = f"{operation.name} was"
    notes = [str(note) for note in getattr(operation.error, "__notes__", ())]
    return next((note.removeprefix(lead) for note in notes if note.startswith(lead)), "")


def one_line(error: BaseException | None) -> str:
    """Return an exception in one line of at most 120 characters: its class, and how it begins."""
    if error is None:
        return "an error"
    try:
        first = next(iter(str(error).strip().splitlines()), "")
    except Exception:  # a user's exception may do anything in there
        first = "its text cannot be made"
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= 120 else text[:119] + "…"


def _enumerate(names: Sequence[str], most: int = 6) -> str:
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


def _resolved(value: Any) -> Any:
    """Return what a Prefect future came to, and of a list of them each; other values as such."""
    if isinstance(value, list):
        return [_resolved(each) for each in value]
    futures, annotations = map(
        sys.modules.get, ("prefect.futures", "prefect.utilities.annotations")
    )
    if annotations and isinstance(value, annotations.BaseAnnotation):
        value = value.unwrap()
    return value.result() if futures and isinstance(value, futures.PrefectFuture) else value


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
