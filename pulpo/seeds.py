"""Keeps libraries from drawing the user's random numbers: ``random.seed(1)`` shall mean something.

Prefect names runs by ``coolname``, which draws from Python's `random` when it is imported and for
each run; ``rich`` does so once, ``websockets`` for each ping, and Prefect itself for each retry. In
a notebook that would move the numbers of the user's cells, at a moment that nobody can tell, as
Prefect is imported in the background.
"""

from __future__ import annotations

import builtins
import importlib.util
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

__all__ = ["apart_from_the_users"]

#: The modules that draw; they get a generator of their own.
_DRAW = frozenset(
    [
        "coolname",
        "prefect.utilities.math",
        "rich.style",
        "websockets.asyncio.connection",
        "websockets.client",
    ]
)


@contextmanager
def apart_from_the_users() -> Iterator[None]:
    """Give modules that draw numbers a generator of their own, when they are imported meanwhile."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        # Another list: a cell that imports meanwhile goes through this one.
        sys.meta_path = [one for one in sys.meta_path if one is not finder]


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is that draws; all others are found as ever."""
        spec = PathFinder.find_spec(name, path, target) if name in _DRAW else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        return importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=_Loader(name, spec.loader.path),
            submodule_search_locations=spec.submodule_search_locations,
        )


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Run the module, to which ``import random`` gives another one."""
        own = _own_random()

        def import_(name: str, *args: Any, **options: Any) -> Any:
            return own if name == "random" else builtins.__import__(name, *args, **options)

        vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_}
        super().exec_module(module)


def _own_random() -> ModuleType:
    """Return `random`, with functions that draw from a generator of their own."""
    own, generator = ModuleType("random"), random.Random()
    vars(own).update(vars(random))
    for name, value in vars(random).items():
        if getattr(value, "__self__", None) is random._inst:
            setattr(own, name, getattr(generator, name))
    return own
