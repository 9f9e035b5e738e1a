"""The peers: how each builds and validates a graph from its plain functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from _graphs import Graph, named_functions, typed_functions

# Nothing of this is sent anywhere.
os.environ.update(DO_NOT_TRACK="1", HAMILTON_TELEMETRY_ENABLED="false", KEDRO_DISABLE_TELEMETRY="1")

Build = Callable[[], Any]


def hamilton(graph: Graph) -> Build:
    from hamilton import ad_hoc_utils, driver

    # A name of its own, which Hamilton asks for.
    module = ad_hoc_utils.create_temporary_module(
        *named_functions(graph), module_name=f"operations_{len(graph)}"
    )
    ends = [f"op_{place}" for place in graph.ends]

    def build() -> Any:
        built = driver.Builder().with_modules(module).build()
        built.validate_execution(ends)
        return built

    return build


def sciline(graph: Graph) -> Build:
    import sciline as library

    functions = typed_functions(graph)
    models = functions[0].__globals__
    ends = tuple(models[f"M{place}"] for place in graph.ends)
    return lambda: library.Pipeline(functions).get(ends)


def kedro(graph: Graph) -> Build:
    from kedro.pipeline import Pipeline, node

    given = [
        (function, [f"op_{source}" for source in sources], function.__name__)
        for function, sources in zip(named_functions(graph), graph.sources, strict=True)
    ]

    def build() -> Any:
        nodes = [
            node(function, inputs=inputs or None, outputs=name, name=name)
            for function, inputs, name in given
        ]
        return Pipeline(nodes)

    return build


#: Label: the distribution, how it builds, and the largest graph that it gets without --all.
PEERS: dict[str, tuple[str, Callable[[Graph], Build], int]] = {
    "Hamilton": ("sf-hamilton", hamilton, 1_000),
    "Sciline": ("sciline", sciline, 1_000),
    "Kedro": ("kedro", kedro, 10_000),
}


def installed(distribution: str) -> str:
    """Return the version, or "" when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
