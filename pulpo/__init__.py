"""Turn notebook cells into orchestrated Prefect flows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from .plan import FlowDefinition, Orchestration
    from .registry import OperationRegistry, operation
    from .reports import Exported, Preview, Report
    from .runs import Run

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
    "export",
    "graph",
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


def compile(*, flat: bool = False) -> Report:
    """Return what flows come out of the session, what is wrong and how to mend it.

    Parameters
    ----------
    flat
        One flow without nesting.
    """
    from .session import current

    return current().compile(flat=flat)


def check() -> Report:
    """Return the problems of the session, with hints."""
    from .session import current

    return current().check()


def graph(view: str = "both", *, flow: str | None = None) -> Picture:
    """Return the picture of the session: ``"both"``, ``"dataflow"`` or ``"hierarchy"``.

    Raises
    ------
    UnknownNameError
        When there is no such flow or group.
    """
    from .session import current

    return current().graph(view, flow=flow)


def preview(flow: str | None = None, *, flat: bool = False) -> Preview:
    """Return the generated Prefect code of a flow or group, or of all flows.

    Raises
    ------
    BlockedFlowError
        When an error blocks the flow.
    """
    from .session import current

    return current().preview(flow, flat=flat)


def run(flow: str | None = None, /, *, flat: bool = False, **parameters: Any) -> Run:
    """Run a flow or group on Prefect in this process; everything when ``flow`` is left out.

    Parameters
    ----------
    **parameters
        Values of the flow's parameters.

    Raises
    ------
    OperationFailedError
        When an operation raised; the results of the others stay in the session's last run.
    MissingInputError, UsageError, BlockedFlowError, ServerError
        Before anything ran.
    """
    from .session import current

    result = current().run(flow, parameters, flat=flat)
    result.raise_for_failure()
    return result


def export(
    folder: str | Path | None = None, *, flow: str | None = None, force: bool = False
) -> Exported:
    """Write the flows where they run without the notebook; ``run_cache/`` by default.

    Raises
    ------
    CarryError, EditedFileError, ExportError, BlockedFlowError
        The export that was there before is as it was then.
    """
    from .session import current

    return current().export(folder, flow=flow, force=force)


def panel() -> Any:
    """Return the panel: the picture, the code of each flow, and "Export flows"."""
    from .session import current
    from .widgets.panel import Panel

    return Panel(current())
