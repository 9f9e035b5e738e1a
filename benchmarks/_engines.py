"""What running no-op operations costs, engine by engine: ``python benchmarks/_engines.py``.

Each gets a graph that it has built before, so that the run alone is timed: microseconds of wall
time per operation, the least of several rounds in which every engine has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from _graphs import Graph, chain, named_functions, typed_functions
from _measure import quickest, table
from _peers import installed

from pulpo import runner
from pulpo.backends import local
from pulpo.compiler import compile_plan
from pulpo.operations import make_operation

SIZES = (10, 100, 1_000)
ROUNDS = 15


def wide(count: int) -> Graph:
    """Return operations that need nothing."""
    return Graph(sources=((),) * count, layers=(0,) * count)


def engine(graph: Graph) -> Callable[[], Any]:
    """Return a run of the bare engine: of the plan, on a loop that is there."""
    plan, functions = _planned(graph)
    loop = asyncio.Runner()
    return lambda: loop.run(local.run_flow(plan, "main_flow", functions, {}))


def whole(graph: Graph) -> Callable[[], Any]:
    """Return a run as a session makes it: checked, with states, times, inputs and logs."""
    plan, functions = _planned(graph)

    def run() -> Any:
        done = runner.run_flow_blocking(
            plan, "main_flow", functions, {}, {}, modules={}, engine="local"
        )
        assert len(done) == len(graph)
        return done

    return run


def _planned(graph: Graph) -> tuple[Any, dict[str, Callable[..., Any]]]:
    named = zip(typed_functions(graph), graph.names("one group"), strict=True)
    operations = [make_operation(function, name=name) for function, name in named]
    return compile_plan(operations), {each.name: each.function for each in operations}


def hamilton(graph: Graph) -> Callable[[], Any]:
    from hamilton import ad_hoc_utils, base, driver

    functions = named_functions(graph)
    module = ad_hoc_utils.create_temporary_module(*functions, module_name=f"run_{id(functions)}")
    built = driver.Builder().with_modules(module).with_adapters(base.DictResult()).build()
    wanted = [f"op_{place}" for place in range(len(graph))]
    return lambda: built.execute(wanted)


def sciline(graph: Graph) -> Callable[[], Any]:
    import sciline as library
    from sciline.scheduler import NaiveScheduler

    functions = typed_functions(graph)
    models = functions[0].__globals__
    wanted = tuple(models[f"M{place}"] for place in range(len(graph)))
    built = library.Pipeline(functions).get(wanted, scheduler=NaiveScheduler())
    return built.compute


def pipefunc(graph: Graph) -> Callable[[], Any]:
    from pipefunc import PipeFunc, Pipeline

    made = [PipeFunc(each, output_name=each.__name__) for each in named_functions(graph)]
    built = Pipeline(made)
    ends = [f"op_{place}" for place in graph.ends]
    return lambda: [built.run(end, kwargs={}) for end in ends]


#: Label: the distribution that has to be there, how it runs, and the largest graph that it gets:
#: pipefunc takes minutes to build a thousand, whatever they cost to run.
ENGINES: dict[str, tuple[str, Callable[[Graph], Callable[[], Any]], int]] = {
    "pulpo's engine": ("", engine, 1_000),
    "pulpo, whole run": ("", whole, 1_000),
    "Hamilton": ("sf-hamilton", hamilton, 1_000),
    "Sciline": ("sciline", sciline, 1_000),
    "pipefunc": ("pipefunc", pipefunc, 100),
}


def no_ops() -> str:
    """Return what each engine takes for a no-op, in chains and side by side."""
    rows = [
        [f"{size:,} {name}", *_row(shape(size))]
        for size in SIZES
        for name, shape in {"in a chain": chain, "side by side": wide}.items()
    ]
    return (
        "## Engines, no-op operations\n"
        "Microseconds of wall time per sync operation that does nothing, of a graph built before. "
        "Asked for: at most 10 for 1,000.\n\n"
        f"{table(['operations', *ENGINES], rows)}"
    )


def _row(graph: Graph) -> list[str]:
    calls: dict[str, Callable[[], Any]] = {}
    told: dict[str, str] = {}
    for label, (distribution, prepare, most) in ENGINES.items():
        if distribution and not installed(distribution):
            told[label] = "not installed"
            continue
        if len(graph) > most:
            told[label] = "left out"
            continue
        try:
            calls[label] = prepare(graph)
            calls[label]()
        except RecursionError:
            told[label] = "too deep"
            del calls[label]
    times = quickest(calls, ROUNDS)
    told |= {label: f"{each / len(graph) * 1e6:,.1f}" for label, each in times.items()}
    return [told[label] for label in ENGINES]


if __name__ == "__main__":
    print(no_ops())
