"""A run of a flow without Prefect: what becomes of its operations is written down in a `Run`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from types import CoroutineType
from typing import Any

from .backends import local
from .plan import Orchestration
from .run_logs import kept_logs, speaking
from .runs import OperationState, Run

__all__ = ["run_locally"]


async def run_locally(
    run: Run,
    orchestration: Orchestration,
    functions: Mapping[str, Callable[..., Any]],
    parameters: Mapping[str, Any],
) -> Any:
    """Run the flow of ``run`` on the running loop, and return what it gives.

    Raises
    ------
    Exception
        That of the first operation that failed.
    """
    spoken = _Spoken(run, functions)
    with kept_logs(run):
        return await local.run_flow(
            orchestration, run.flow, spoken, parameters, watcher=_Notes(run)
        )


class _Spoken(Mapping[str, Callable[..., Any]]):
    """The operations, with what they print kept in the run."""

    def __init__(self, run: Run, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._run = run
        self._functions = functions

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return functools.partial(_call, self._run, name, self._functions[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def _call(run: Run, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with speaking(run, name):
        given = function(*args, **kwargs)
    return _later(run, name, given) if type(given) is CoroutineType else given


async def _later(run: Run, name: str, given: CoroutineType[Any, Any, Any]) -> Any:
    with speaking(run, name):
        return await given


class _Notes(local.Watcher):
    """Writes down in a run what it is told, until the run has ended, or was interrupted."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def called(self, operation: str, given: Mapping[str, Any]) -> None:
        if self._run.state != "running":
            return
        noted = self._run.operations[operation]
        noted.attempts += 1
        if noted.elements is None:
            noted._inputs = given
            self._note(operation, "running")

    def done(self, operation: str, value: Any) -> None:
        if self._run.state == "running":
            noted = self._run.operations[operation]
            noted._value, noted.error = value, None
            self._note(operation, "done")

    def failed(self, operation: str, error: Exception, *, timed_out: bool) -> None:
        if self._run.state == "running":
            self._run.operations[operation].error = error
            self._note(operation, "timed out" if timed_out else "failed")

    def retrying(self, operation: str, error: Exception) -> None:
        if self._run.state == "running" and self._run.operations[operation].elements is None:
            self._run.operations[operation].error = error
            self._note(operation, "retrying")

    def many(self, operation: str, count: int) -> None:
        if self._run.state == "running":
            self._run.operations[operation].elements = count
            self._note(operation, "running")

    def element(
        self, operation: str, given: Mapping[str, Any], error: Exception | None, *, skipped: bool
    ) -> None:
        if self._run.state != "running":
            return
        noted = self._run.operations[operation]
        noted.ended += 1
        noted.skipped += error is not None
        if error is not None:
            noted._inputs = noted._inputs or given
        if skipped and error is not None:
            where = error.__notes__[-1]
            self._run.keep_line(operation, f"Skipped: {where}: {error!r}", level="WARNING")

    def _note(self, operation: str, state: OperationState) -> None:
        noted = self._run.operations[operation]
        now = time.perf_counter() - self._run._began
        if noted.start is None:
            noted.start = now
        noted.state = state
        noted.seconds = now - noted.start
