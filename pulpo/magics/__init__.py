"""The IPython extension: ``%load_ext pulpo`` brings ``%%operation`` and ``%pulpo``."""

from __future__ import annotations

from typing import Any

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics with an IPython shell; a second time changes nothing."""
    from .extension import Extension

    Extension.of(shell).load()


def unload_ipython_extension(shell: Any) -> None:
    """Take everything back out of the shell; what the session holds stays."""
    from .extension import Extension

    Extension.of(shell).unload()
