"""Carries source out of a notebook: exactly what its operations need, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .record import Recorder

if TYPE_CHECKING:
    from .write import Carried, carry, refusals, verify

__all__ = ["Carried", "Recorder", "carry", "refusals", "verify"]


def __getattr__(name: str) -> Any:
    # Every session records; only those that export need the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import write

    return getattr(write, name)
