"""A run of a flow without Prefect: what becomes of its operations is written down in a `Run`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any

from .backends import local
from .plan import Orchestration
from .run_logs import Speaker, kept_logs
from .runs import OperationRun, OperationState, Run

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
    spoken = {name: functools.partial(_call, run, functions, name) for name in run.operations}
    with kept_logs(run):
        return await local.run_flow(
            orchestration, run.flow, spoken, parameters, watcher=_Notes(run)
        )


def _call(
    run: Run, functions: Mapping[str, Callable[..., Any]], name: str, /, *args: Any, **kwargs: Any
) -> Any:
    with Speaker(run, name):
        given = functions[name](*args, **kwargs)
    return _later(run, name, given) if type(given) is CoroutineType else given


async def _later(run: Run, name: str, given: CoroutineType[Any, Any, Any]) -> Any:
    with Speaker(run, name):
        return await given


class _Notes(local.Watcher):
    """Writes down in a run what it is told, until the run has ended, or was interrupted."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._operations = run.operations
        self._began = run._began

    def called(self, operation: str, given: Mapping[str, Any]) -> None:
        noted = self._operations[operation]
        if self._run.state == "running":
            noted.attempts += 1
            if noted.elements is None:
                noted._inputs = given
                self._note(noted, "running")

    def done(self, operation: str, value: Any) -> None:
        noted = self._operations[operation]
        if self._run.state == "running":
            noted._value, noted.error = value, None
            self._note(noted, "done")

    def failed(self, operation: str, error: Exception, *, timed_out: bool) -> None:
        noted = self._operations[operation]
        if self._run.state == "running":
            noted.error = error
            self._note(noted, "timed out" if timed_out else "failed")

    def retrying(self, operation: str, error: Exception) -> None:
        noted = self._operations[operation]
        if self._run.state == "running" and noted.elements is None:
            noted.error = error
            self._note(noted, "retrying")

    def many(self, operation: str, count: int) -> None:
        noted = self._operations[operation]
        if self._run.state == "running":
            noted.elements = count
            self._note(noted, "running")

    def element(
        self, operation: str, given: Mapping[str, Any], error: Exception | None, *, skipped: bool
    ) -> None:
        noted = self._operations[operation]
        if self._run.state != "running":
            return
        noted.ended += 1
        noted.skipped += error is not None
        if error is not None:
            noted._inputs = noted._inputs or given
            if skipped:
                where = error.__notes__[-1]
                self._run.keep_line(operation, f"Skipped: {where}: {error!r}", level="WARNING")

    def _note(self, noted: OperationRun, state: OperationState) -> None:
        now = time.perf_counter() - self._began
        if noted.start is None:
            noted.start = now
        noted.state = state
        noted.seconds = now - noted.start
