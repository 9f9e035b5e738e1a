"""A notebook without a shell: cells in one namespace, recorded as the magics do it."""

from __future__ import annotations

import linecache
import types
from typing import Any

from pulpo.registry import OperationRegistry
from pulpo.session import Session

MODELS = """
from dataclasses import dataclass

@dataclass
class Raw:
    number: int

@dataclass
class Clean:
    number: int
"""


class Notebook:
    """Cells that run in one namespace, recorded as the magics do it."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.session = Session(OperationRegistry(), self.namespace)
        self.number = 0

    def cell(self, source: str) -> None:
        self.number += 1
        name = f"<cell {self.number} of {id(self)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.namespace)
        self.session.recorder.record(source, cell=self.number)

    def operation(self, name: str, source: str, *, identity: str = "", **flags: Any) -> str:
        self.cell(source)
        function = [
            value
            for value in self.namespace.values()
            if isinstance(value, types.FunctionType)
            and value.__code__.co_filename == f"<cell {self.number} of {id(self)}>"
        ][-1]
        declared = self.session.declare(
            function, name=name, cell=f"cell {self.number}", identity=identity, flags=flags
        )
        return str(declared)
