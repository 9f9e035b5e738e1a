"""Compile time for 100, 1,000 and 10,000 operations, against graphlib and the peers, in one run.

python benchmarks/compile.py            # a minute or two; writes its part of RESULTS.md
python benchmarks/compile.py --all      # slow peers get the largest graph too
python benchmarks/compile.py --quick    # pulpo and graphlib only; writes nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from graphlib import TopologicalSorter
from typing import Any

import _notebook
from _graphs import SHAPES, Graph, chain, layered, typed_functions
from _measure import best, mib, ms, peak, ratio, table
from _peers import PEERS, installed
from _report import circumstances, write_part

from pulpo.backends import dot
from pulpo.backends.look import look
from pulpo.backends.prefect import PrefectCodeGenerator
from pulpo.compiler import compile_graph, compile_plan
from pulpo.dataflow import build_graph
from pulpo.operations import Operation, make_operation

SIZES = (100, 1_000, 10_000)
ROUNDS = {100: 30, 1_000: 15, 10_000: 5}
YARD = "graphlib"


def main() -> None:
    parser = argparse.ArgumentParser(description="pulpo's compile time, held against its peers")
    parser.add_argument("--all", action="store_true", help="slow peers get 10,000 operations too")
    parser.add_argument("--quick", action="store_true", help="pulpo and graphlib only")
    arguments = parser.parse_args()
    parts = []
    makers: list[Callable[[], str]] = [stages, shapes, lambda: memory(quick=arguments.quick)]
    if not arguments.quick:
        makers += [lambda: peers(everything=arguments.all), _notebook.imports, _notebook.cells]
    for make in makers:
        parts.append(make())
        print(f"\n{parts[-1]}", flush=True)
    if not arguments.quick:
        write_part("Compiling: compile.py", [_circumstances(), *parts])


def _circumstances() -> str:
    versions = {"pulpo": "pulpo", **{label: name for label, (name, _, _) in PEERS.items()}}
    return (
        f"{circumstances('compile.py', versions)}\n"
        "Times are milliseconds of processor time, the least of several rounds in which every call "
        "has its turn; what a ratio compares was measured in the same rounds, with the garbage "
        "collector off for all."
    )


# --- pulpo against graphlib ---------------------------------------------------------------------


def stages() -> str:
    """Return what each pass takes, operations given, with nested groups."""
    rows, totals = [], {}
    for size in SIZES:
        times = _passes(layered(size), "nested", rounds=ROUNDS[size])
        totals[size] = times
        rows.append(_row(f"{size:,}", times))
    times = _passes(chain(SIZES[-1]), "one group", rounds=ROUNDS[SIZES[-1]])
    rows.append(_row(f"chain of {SIZES[-1]:,}", times))
    large, small = totals[SIZES[-1]], totals[SIZES[-2]]
    growth = ", ".join(
        f"{name} {ratio(large[name] / small[name])}" for name in (YARD, "graph", "compile")
    )
    head = ["operations", YARD, "graph", "compile", "DOT", "code", "graph : yard", "compile : yard"]
    return (
        "## Passes, operations given\n"
        "A layered random DAG, fan-in 2. *graph* is the dependency graph, *compile* the whole plan "
        "with it, *DOT* and *code* come on top. The yardstick is `graphlib` building and sorting "
        "the same edges. Asked for: graph at most 3 ×, compile at most 5 × at 10,000.\n\n"
        f"{table(head, rows)}\n\n"
        f"Growth from 1,000 to 10,000 (asked for: at most 12 ×): {growth}."
    )


def shapes() -> str:
    """Return what the names of 10,000 operations do to the compile time."""
    size = SIZES[-1]
    rows = []
    for shape, meaning in SHAPES.items():
        times = _passes(layered(size), shape, rounds=ROUNDS[size], texts=False)
        cells = [ms(times[name]) for name in (YARD, "graph", "compile")]
        rows.append([f"{shape}: {meaning}", *cells, *_ratios(times)])
    head = ["names", YARD, "graph", "compile", "graph : yard", "compile : yard"]
    return f"## {size:,} operations in other groups\n{table(head, rows)}"


def _passes(graph: Graph, shape: str, *, rounds: int, texts: bool = True) -> dict[str, float]:
    operations = _operations(graph, shape)
    edges = graph.edges(shape)
    times = best(
        {
            YARD: lambda: tuple(TopologicalSorter(edges).static_order()),
            "graph": lambda: build_graph(operations),
            "compile": lambda: compile_plan(operations),
        },
        rounds,
    )
    if texts:
        plan = compile_graph(build_graph(operations))
        generator = PrefectCodeGenerator()
        outputs = {
            "DOT": lambda: dot.both(look(plan)),
            "code": lambda: generator.generate_all_flows(plan),
        }
        times |= best(outputs, max(2, rounds // 3))
    return times


def _operations(graph: Graph, shape: str) -> list[Operation]:
    named = zip(_declared(graph), graph.names(shape), strict=True)
    return [replace(operation, name=name) for operation, name in named]


@cache
def _declared(graph: Graph) -> list[Operation]:
    functions = typed_functions(graph)
    return [make_operation(function, name=function.__name__) for function in functions]


def _row(label: str, times: dict[str, float]) -> list[str]:
    return [label, *(ms(each) for each in times.values()), *_ratios(times)]


def _ratios(times: dict[str, float]) -> list[str]:
    return [ratio(times["graph"] / times[YARD]), ratio(times["compile"] / times[YARD])]


# --- memory -------------------------------------------------------------------------------------


def memory(*, quick: bool) -> str:
    """Return the peak memory of each pass and of the peers."""
    size = SIZES[-1]
    graph = layered(size)
    operations, edges = _operations(graph, "nested"), graph.edges("nested")
    peaks = {
        YARD: peak(lambda: tuple(TopologicalSorter(edges).static_order())),
        "graph": peak(lambda: build_graph(operations)),
        "compile": peak(lambda: compile_plan(operations)),
    }
    if not quick:
        peaks["pulpo, from functions"] = peak(_from_functions(graph))
        for label, (distribution, prepare, most) in PEERS.items():
            if installed(distribution) and size <= most:
                peaks[f"{label}, from functions"] = peak(prepare(graph))
    rows = [[what, mib(most), ratio(most / peaks[YARD])] for what, most in peaks.items()]
    return (
        f"## Memory for {size:,} operations\n"
        "The peak of what a call allocates, its result included, on top of what it is given, as "
        f"`tracemalloc` counts it.\n\n{table(['what', 'MiB', 'against graphlib'], rows)}"
    )


# --- pulpo against its peers --------------------------------------------------------------------


def peers(*, everything: bool) -> str:
    """Return what building and validating takes from plain functions on."""
    rows = []
    for size in SIZES:
        graph = layered(size)
        calls = {"pulpo": _from_functions(graph)}
        why = {}
        for label, (distribution, prepare, most) in PEERS.items():
            if not installed(distribution):
                why[label] = "not installed"
            elif size > most and not everything:
                why[label] = "with --all"
            else:
                calls[label] = prepare(graph)
        times = best(calls, 2 if size == SIZES[-1] else 5)
        rows.append([f"{size:,}", ms(times["pulpo"])])
        for label in PEERS:
            cell = why.get(label) or f"{ms(times[label])} ({ratio(times[label] / times['pulpo'])})"
            rows[-1].append(cell)
    return (
        "## Peers, from plain functions\n"
        "The same DAG, built and validated by each tool from typed functions; in brackets, against "
        "pulpo, which reads annotations and source, binds, and makes the whole plan.\n\n"
        f"{table(['operations', 'pulpo', *PEERS], rows)}"
    )


def _from_functions(graph: Graph) -> Callable[[], Any]:
    functions, names = typed_functions(graph), graph.names()

    def build() -> Any:
        named = zip(functions, names, strict=True)
        return compile_plan([make_operation(function, name=name) for function, name in named])

    return build


if __name__ == "__main__":
    main()
