"""Carries source out of a notebook: exactly what its operations need, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .record import Recorder

if TYPE_CHECKING:
    from .requirements import python_version, requirements_of
    from .write import Carried, carry, refusals, verify

__all__ = [
    "Carried",
    "Recorder",
    "carry",
    "python_version",
    "refusals",
    "requirements_of",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Every session records; only those that export need the rest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import requirements, write

    return getattr(write if hasattr(write, name) else requirements, name)
