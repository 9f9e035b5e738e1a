"""What other modules put on the classes of a library: ``import hvplot.pandas`` gives ``df.hvplot``.

No name in a text says that it needs such an import.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pulpo.carry.values import attribute

__all__ = ["Outside", "put_on_classes"]

#: Libraries whose classes others extend by attributes, and these classes.
_EXTENDED = {
    "pandas": ("DataFrame", "Series", "Index"),
    "polars": ("DataFrame", "LazyFrame", "Series", "Expr"),
    "xarray": ("Dataset", "DataArray"),
    "geopandas": ("GeoDataFrame", "GeoSeries"),
}


class Outside(NamedTuple):
    """An attribute of a library's class, ``pandas.DataFrame.hvplot``, and the package it is of."""

    chain: str
    package: str


def put_on_classes(nodes: Iterable[ast.AST]) -> Iterator[Outside]:
    """Yield the attributes in some texts that a class has from another package than its own."""
    wanted: dict[str, None] | None = None
    for library, classes in _EXTENDED.items():
        module = sys.modules.get(library)
        kinds = [(name, attribute(module, name)) for name in classes if module is not None]
        for name, kind in kinds:
            if wanted is None:
                parts = [part for node in nodes for part in ast.walk(node)]
                wanted = {one.attr: None for one in parts if isinstance(one, ast.Attribute)}
            for attr in wanted if isinstance(kind, type) else ():
                package = _package_of(inspect.getattr_static(kind, attr, None))
                if package not in ("", library, "numpy", "builtins", "__main__", "functools"):
                    yield Outside(f"{library}.{name}.{attr}", package)


def _package_of(value: Any) -> str:
    for inner in ("_accessor", "_ns"):  # pandas, xarray and polars make the object when it is asked
        value = attribute(value, inner, value)
    value = attribute(value, "fget", None) or value
    module = attribute(value, "__module__")
    return module.partition(".")[0] if isinstance(module, str) else ""
