"""The graphs that are compiled: layered random DAGs and chains, as plain functions."""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: How operations are named, which decides how flows nest.
SHAPES = {
    "nested": "phase.layer.operation, phases of ten layers",
    "one group": "all operations in one flow",
    "standalone": "no groups",
    "tangled": "97 groups that all need each other, so that none can be a subflow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """``sources[i]`` are the operations that operation ``i`` takes from; each gives a model."""

    sources: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def ends(self) -> list[int]:
        """The operations that nobody takes from."""
        taken = {source for sources in self.sources for source in sources}
        return [place for place in range(len(self)) if place not in taken]

    def names(self, shape: str = "nested") -> list[str]:
        make: dict[str, Callable[[int, int], str]] = {
            "nested": lambda place, layer: f"phase{layer // 10}.layer{layer}.op_{place}",
            "one group": lambda place, layer: f"work.op_{place}",
            "standalone": lambda place, layer: f"op_{place}",
            "tangled": lambda place, layer: f"group{place % 97}.op_{place}",
        }
        return [make[shape](place, layer) for place, layer in enumerate(self.layers)]

    def edges(self, shape: str = "nested") -> dict[str, list[str]]:
        """The edges as `graphlib` takes them."""
        names = self.names(shape)
        return {
            name: [names[source] for source in sources]
            for name, sources in zip(names, self.sources, strict=True)
        }


def layered(count: int, seed: int = 0) -> Graph:
    """Return a DAG as deep as it is wide; each operation takes two results of the layer before."""
    chance = random.Random(seed)
    width = round(count**0.5)
    layers = [place // width for place in range(count)]
    sources = [
        tuple(chance.sample(range((layer - 1) * width, layer * width), 2)) if layer else ()
        for layer in layers
    ]
    return Graph(sources=tuple(sources), layers=tuple(layers))


def chain(count: int) -> Graph:
    """Return operations that each take the result of the one before."""
    sources = [(), *((place,) for place in range(count - 1))]
    return Graph(sources=tuple(sources), layers=tuple(range(count)))


def typed_functions(graph: Graph) -> list[Callable[..., Any]]:
    """Return ``def op_7(a: M3, b: M5) -> M7``, as pulpo and Sciline take them."""
    namespace: dict[str, Any] = {}
    exec("from typing import NewType", namespace)
    return [
        _define(
            f"M{place} = NewType('M{place}', int)\n"
            f"def op_{place}({_typed(sources)}) -> M{place}:\n    return 1\n",
            f"op_{place}",
            namespace,
        )
        for place, sources in enumerate(graph.sources)
    ]


def named_functions(graph: Graph) -> list[Callable[..., Any]]:
    """Return ``def op_7(op_3: int, op_5: int) -> int``, as Hamilton and Kedro take them."""
    namespace: dict[str, Any] = {}
    found = []
    for place, sources in enumerate(graph.sources):
        parameters = ", ".join(f"op_{source}: int" for source in sources)
        source = f"def op_{place}({parameters}) -> int:\n    return 1\n"
        found.append(_define(source, f"op_{place}", namespace))
    return found


def _typed(sources: tuple[int, ...]) -> str:
    return ", ".join(f"{name}: M{source}" for name, source in zip("ab", sources, strict=False))


def _define(source: str, name: str, namespace: dict[str, Any]) -> Callable[..., Any]:
    """Run a cell of its own, whose source can be read as in a notebook."""
    file = f"<cell {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function
