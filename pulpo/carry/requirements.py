"""From top-level modules to what has to be installed, and at which version, to import them."""

from __future__ import annotations

import csv
import functools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata

__all__ = ["python_version", "requirements_of"]


def requirements_of(modules: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return requirements as ``name==version``, sorted, and warnings.

    Parameters
    ----------
    modules
        Top-level modules that come from installed distributions; others are left out.

    Returns
    -------
    tuple
        The requirements, as PEP 508 spells them; and a warning for what is of no distribution, or
        of one in a folder of this machine, which no index has. It is no requirement: somebody else
        may have taken its name.
    """
    found: dict[str, str] = {}
    warnings: dict[str, None] = {}
    for module in dict.fromkeys(modules):
        with _fields_of_any_size():
            distributions = _distributions(module)
        if not distributions:
            warnings[
                f"{module!r} is of no installed distribution, so the export does not list it as a "
                "requirement: see that it can be imported where the export runs"
            ] = None
        for distribution in distributions:
            name = distribution.metadata["Name"]
            if _is_local(distribution):
                warnings[
                    f"{name!r} is installed from a folder of this machine, so the export does not "
                    "list it as a requirement: install it where the export runs"
                ] = None
            else:
                # A local version, as in 2.13.0+cpu, is known to this machine's index only.
                found[name.lower()] = f"{name}=={distribution.version.partition('+')[0]}"
    return tuple(found[name] for name in sorted(found)), tuple(warnings)


def python_version() -> str:
    """Return the requirement for Python: this version's features may have been used."""
    return f">={sys.version_info.major}.{sys.version_info.minor}"


@contextmanager
def _fields_of_any_size() -> Iterator[None]:
    """Read the lists of installed files, which are CSV, whatever limit a cell has set."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _distributions(module: str) -> list[metadata.Distribution]:
    try:
        named = metadata.distribution(module)
        holds = any(file.parts[0] in (module, f"{module}.py") for file in named.files or ())
        if holds or _is_local(named):  # which lists no files when it is editable
            return [named]  # nearly all are called as what they hold
    except metadata.PackageNotFoundError:
        pass
    names = _by_module().get(module, ())
    if not names:  # installed since the last look
        _by_module.cache_clear()
        names = _by_module().get(module, ())
    return [metadata.distribution(name) for name in dict.fromkeys(names)]


@functools.cache
def _by_module() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _is_local(distribution: metadata.Distribution) -> bool:
    told = distribution.read_text("direct_url.json")
    return bool(told) and str(json.loads(told or "{}").get("url", "")).startswith("file:")
