"""What runs a flow, by the words that people use; loaded with the extension, so nothing else."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["ENGINES", "RUNNERS", "Engine", "Runner"]

#: What runs a flow: Prefect, or pulpo alone.
Engine = Literal["prefect", "local"]
Runner = Literal["async", "threads", "process", "dask", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)
#: Where operations may run.
RUNNERS: tuple[str, ...] = get_args(Runner)
