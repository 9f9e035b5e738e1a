"""Which cell is running, and the record of every cell that ran."""

from __future__ import annotations

import ast
import contextlib
import linecache
import threading
import warnings
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ..session import Session

__all__ = ["RunningCell", "RunningCells"]


@dataclass(slots=True)
class RunningCell:
    """A cell that IPython is running.

    Parameters
    ----------
    info
        What IPython knows of it; None for the cell that loads the extension.
    number
        The number in its prompt.
    identity
        The frontend's own id of the cell, which re-running and editing keep; empty without one.
    inner
        Sources that a magic such as ``%%time`` compiles itself, as it goes.
    before
        The operations that there were when it began.
    """

    info: Any
    number: int
    identity: str = ""
    inner: list[str] = field(default_factory=list)
    before: list[Any] = field(default_factory=list)


class RunningCells:
    """Follows IPython's cells through its events, and hands each to the session's recorder."""

    def __init__(self, shell: Any, session: Session) -> None:
        self._shell = shell
        self._session = session
        self._count = 0
        self._watched = 0
        self._thread = threading.local()  # ipykernel's subshells run cells side by side

    @property
    def _stack(self) -> list[RunningCell]:
        stack: list[RunningCell] = self._thread.__dict__.setdefault("stack", [])
        return stack

    @property
    def current(self) -> RunningCell | None:
        """The cell that a person ran, even while a magic runs another inside it."""
        return self._stack[0] if self._stack else None

    @property
    def identity(self) -> str:
        """The identity of the cell that a person ran; empty while a magic runs another in it."""
        return self._stack[0].identity if len(self._stack) == 1 else ""

    def is_inside_a_cell(self) -> bool:
        """Return whether what is transformed now is compiled by a cell that is running."""
        return bool(self._stack)

    def before(self, info: Any) -> None:
        """Note that a cell starts (``pre_run_cell``)."""
        if self._stack:
            outer = self._stack[0]
            self._stack.append(RunningCell(info, outer.number, outer.identity))
            return
        # IPython 9 has counted this cell by now, IPython 8 has not; neither has stored it. Where
        # cells are not stored, they all have one number, so they are counted here.
        stored = self._shell.history_manager.input_hist_parsed
        self._count = len(stored) if info.store_history else self._count + 1
        cell = RunningCell(info, self._count, _identity(self._shell, info))
        cell.before = self._session.registry.list_all()
        self._stack.append(cell)

    def after(self, result: Any) -> None:
        """Record a cell that ended (``post_run_cell``); raising would lose the cell."""
        try:
            self._finish(result)
        except Exception as error:
            warnings.warn(f"pulpo could not record this cell: {error!r}", stacklevel=2)

    def note_inner(self, lines: list[str]) -> list[str]:
        """Remember a source that a magic of the running cell compiles, as ``%%time`` does.

        It is an input transformer that changes nothing: no event tells of such a source.
        """
        if self._stack:
            self._stack[-1].inner.append("".join(lines))
        return lines

    def start(self) -> None:
        """Record what ran unwatched until now: before loading, or while unloaded."""
        sources = self._sources()
        unwatched = sources[self._watched :]
        if unwatched and "load_ext" in unwatched[-1] and "pulpo" in unwatched[-1]:
            unwatched.pop()  # it is running now; its own end records it
        for number, source in enumerate(unwatched, start=self._watched + 1):
            with contextlib.suppress(Exception):
                self._session.recorder.record(source, cell=number)
        self._count = len(sources)

    def stop(self) -> None:
        """Remember where watching ends."""
        self._watched = len(self._sources())
        self._stack.clear()

    def _sources(self) -> list[str]:
        """Return the source of each cell that ran, as Python."""
        stored = self._shell.history_manager.input_hist_parsed[1:]
        if stored:
            return list(stored)
        # A frontend that stores no history, as nbval, leaves what tracebacks need.
        cells = [name for name in linecache.cache if self._shell.compile.format_code_name(name)]
        return ["".join(linecache.getlines(name)) for name in cells]

    def _finish(self, result: Any) -> None:
        info = getattr(result, "info", None)
        cell = self._take(info)
        if info is None or result.error_before_exec is not None:
            return
        # The loading cell has no entry: it started before anyone watched.
        number = cell.number if cell else self._count
        source = getattr(info, "transformed_cell", None)
        if source is None:  # IPython 8
            source = self._shell.transform_cell(info.raw_cell or "")
        error = result.error_in_exec
        failed = _failed_line(error.__traceback__, self._shell.user_ns) if error else None
        identity = cell.identity if cell and not self._stack else ""
        self._session.recorder.record(source, cell=number, failed_line=failed, identity=identity)
        if cell and error and not self._stack:
            self._session.forget_failed_imports(cell.before)
        if self._stack:  # that cell was run by a magic, and is recorded now
            outer = self._stack[-1].inner
            outer[:] = [inner for inner in outer if inner != source]
        if cell and error is None:
            timed = _timed(source) if "timeit" in source else []
            for inner in cell.inner:
                if not any(inner.strip() in text for text in timed):
                    self._session.recorder.record(inner, cell=number)

    def _take(self, info: Any) -> RunningCell | None:
        # An empty cell ends without having begun; a cancelled one ends without its info.
        stack = self._stack
        for place in reversed(range(len(stack))):
            if info is None or stack[place].info is info:
                cell = stack[place]
                del stack[place:]
                return cell
        return None


def _identity(shell: Any, info: Any) -> str:
    if info.cell_id:
        return str(info.cell_id)
    header = getattr(shell, "parent_header", None) or {}
    return str(header.get("metadata", {}).get("cellId") or "")


def _timed(source: str) -> list[str]:
    """Return what a cell has ``%timeit`` measure: that runs in a function, and binds nothing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            magic = node.func.attr in ("run_cell_magic", "run_line_magic")
            found += texts[1:] if magic and texts[:1] == ["timeit"] else []
    return found


def _failed_line(traceback: TracebackType | None, namespace: dict[str, Any]) -> int | None:
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_locals is namespace:  # the cell's own level
            return traceback.tb_lineno
        traceback = traceback.tb_next
    return None
