"""Turn notebook cells into orchestrated Prefect flows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .backends.prefect import PrefectCodeGenerator
    from .backends.render import Picture
    from .cli import CLI
    from .compiler import OrchestrationCompiler
    from .dataflow import DataFlowAnalyzer, DataFlowGraph
    from .errors import Problem, PulpoError
    from .models import Model
    from .names import HierarchyParser
    from .operations import Operation, SyncAsyncDetector
    from .plan import Engine, FlowDefinition, Orchestration, Runner
    from .registry import OperationRegistry, operation
    from .reports import Diff, Exported, Preview, Report
    from .runs import Run

    Names = str | Iterable[str]

__all__ = [
    "CLI",
    "DataFlowAnalyzer",
    "DataFlowGraph",
    "FlowDefinition",
    "HierarchyParser",
    "Model",
    "Operation",
    "OperationRegistry",
    "Orchestration",
    "OrchestrationCompiler",
    "PrefectCodeGenerator",
    "Problem",
    "PulpoError",
    "Run",
    "SyncAsyncDetector",
    "check",
    "compile",
    "diff",
    "export",
    "graph",
    "last_run",
    "load_ipython_extension",
    "operation",
    "panel",
    "preview",
    "run",
    "unload_ipython_extension",
]

#: Where each public name lives; it is imported when somebody asks for it.
_HOMES = {
    "CLI": "cli",
    "DataFlowAnalyzer": "dataflow",
    "DataFlowGraph": "dataflow",
    "FlowDefinition": "plan",
    "HierarchyParser": "names",
    "Model": "models",
    "Operation": "operations",
    "OperationRegistry": "registry",
    "Orchestration": "plan",
    "OrchestrationCompiler": "compiler",
    "PrefectCodeGenerator": "backends.prefect",
    "Problem": "errors",
    "PulpoError": "errors",
    "Run": "runs",
    "SyncAsyncDetector": "operations",
    "load_ipython_extension": "magics",
    "operation": "registry",
    "unload_ipython_extension": "magics",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pulpo")
    if name not in _HOMES:
        raise AttributeError(f"module 'pulpo' has no attribute {name!r}")
    found = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def compile(
    *,
    upto: Names = (),
    from_: Names = (),
    only: Names = (),
    flat: bool = False,
    runner: Runner = "async",
) -> Report:
    """Return what flows come out of the session, what is wrong and how to mend it.

    Parameters
    ----------
    upto, from_, only
        Names of operations: these and all that they need; these and all that need them; these
        alone. ``upto`` with ``from_`` is what lies between. Everything when left out.
    flat
        One flow without nesting.
    runner
        Where the operations run: ``"async"``, on the flow's own event loop, or the task runner
        ``"threads"``, ``"process"``, ``"dask"`` or ``"ray"``.

    Raises
    ------
    UnknownNameError, UsageError
        When the selection names what does not exist, or leaves nothing.
    """
    from .session import current

    return current().compile(upto=upto, from_=from_, only=only, flat=flat, runner=runner)


def check(*, export: bool = False) -> Report:
    """Return the problems of the session, with hints.

    With ``export``: also everything that an export would refuse, or do differently.
    """
    from .session import current

    return current().check(export=export)


def graph(
    view: str = "both",
    *,
    flow: str | None = None,
    depth: int | None = None,
    around: str | None = None,
    hops: int | None = None,
    upto: Names = (),
    from_: Names = (),
    only: Names = (),
) -> Picture:
    """Return the picture of the session: ``"both"``, ``"dataflow"`` or ``"hierarchy"``.

    What was cut off by ``flow``, or by ``upto``, ``from_`` and ``only`` (see `compile`), is drawn
    pale where it is next to what was not. ``depth`` draws so many levels of groups, ``around`` one
    operation with what is ``hops`` edges away from it.

    Raises
    ------
    UnknownNameError, UsageError
        When there is no such flow, group or operation, or nothing of it.
    """
    from .session import current

    return current().graph(
        view,
        flow=flow,
        depth=depth,
        around=around,
        hops=hops,
        upto=upto,
        from_=from_,
        only=only,
    )


def preview(
    flow: str | None = None,
    *,
    upto: Names = (),
    from_: Names = (),
    only: Names = (),
    flat: bool = False,
    runner: Runner = "async",
) -> Preview:
    """Return the generated Prefect code of a flow or group, or of all flows.

    The parameters are those of `compile`.

    Raises
    ------
    BlockedFlowError
        When an error blocks the flow.
    UnknownNameError, UsageError
        When there is no such flow, group or operation, or nothing of it.
    """
    from .session import current

    return current().preview(flow, upto=upto, from_=from_, only=only, flat=flat, runner=runner)


def run(
    flow: str | None = None,
    /,
    *,
    upto: Names = (),
    from_: Names = (),
    only: Names = (),
    flat: bool = False,
    runner: Runner = "async",
    engine: Engine = "prefect",
    resume: bool = False,
    changed: bool = False,
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> Run:
    """Run a flow or group in this process; everything when ``flow`` is left out.

    What it takes from operations outside of it comes from a parameter, else from an earlier run
    unless that is stale; ``Run.notes`` tells.

    Parameters
    ----------
    upto, from_, only, flat, runner
        As in `compile`.
    engine
        ``"prefect"``, or ``"local"``: the same results without Prefect, for quick looks.
    resume
        Go on with the last run, which failed or was interrupted: the same flow and parameters, and
        what it finished is taken from it.
    changed
        Keep all results in Prefect's result storage, and run only what has other code, parameters
        or inputs than when its result was kept, in this kernel or an earlier one.
    parameters, **more
        Values of the flow's parameters; in ``parameters`` those whose names mean something here.

    Raises
    ------
    OperationFailedError
        When an operation raised; the results of the others stay in `last_run`.
    MissingInputError, UnknownNameError, UsageError, BlockedFlowError, ServerError
        Before anything ran.
    """
    from .session import current

    result = current().run(
        flow,
        {**(parameters or {}), **more},
        upto=upto,
        from_=from_,
        only=only,
        flat=flat,
        runner=runner,
        engine=engine,
        resume=resume,
        changed=changed,
    )
    result.raise_for_failure()
    return result


def last_run() -> Run:
    """Return the session's last run, whatever became of it.

    Raises
    ------
    RunError
        When nothing ran yet.
    """
    from .errors import RunError
    from .session import current

    run = current().last_run
    if run is None:
        raise RunError("nothing has run in this session yet: see pulpo.run.")
    return run


def export(
    folder: str | Path | None = None,
    *,
    flow: str | None = None,
    force: bool = False,
    freeze: Names = (),
    lock: bool = False,
    upto: Names = (),
    from_: Names = (),
    only: Names = (),
    flat: bool = False,
    runner: Runner = "async",
) -> Exported:
    """Write the flows where they run without the notebook; ``run_cache/`` by default.

    Of one flow, or with ``upto``, ``from_`` and ``only`` (see `compile`), an export leaves the
    folder's other flows as whole as they are. What was cut off is a parameter of the flow.
    ``freeze`` names variables whose values of now are written as literals; ``lock`` writes a lock
    of all packages beside each flow, for ``uv run``.

    Raises
    ------
    CarryError, EditedFileError, ExportError, BlockedFlowError, UnknownNameError, UsageError,
    MissingProgramError
        The export that was there before is as it was then.
    """
    from .session import current

    return current().export(
        folder,
        flow=flow,
        force=force,
        freeze=freeze,
        lock=lock,
        upto=upto,
        from_=from_,
        only=only,
        flat=flat,
        runner=runner,
    )


def diff(folder: str | Path | None = None) -> Diff:
    """Return what changed since the last export to ``folder``: operations, edges, flows, code.

    Parameters
    ----------
    folder
        ``run_cache/``, or what the settings say, by default.

    Raises
    ------
    ExportError
        When the folder's manifest cannot be read.
    """
    from .session import current

    return current().diff(folder)


def panel() -> Any:
    """Return the panel: pictures, code, runs, and "Export flows".

    A cell that is run again closes the panels that it made before.
    """
    from .session import current
    from .widgets.panel import open_panel

    return open_panel(current())
