"""What generated flows cost, against the same flows written by hand in Prefect, in one run.

python benchmarks/run.py            # about ten minutes; writes its part of RESULTS.md
python benchmarks/run.py --quick    # a minute or two, few rounds; writes nothing
python benchmarks/run.py --only unbalanced
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import _engines
import _flows
from _flows import Built, Shape
from _measure import Timed, interleaved, median, ms, quarters, ratio, table
from _report import circumstances, write_part

from pulpo import runner
from pulpo.prefect_server import shared
from pulpo.run_logs import kept_logs
from pulpo.runs import Run

Flow = Callable[[], Awaitable[Any]]

SIZES = (10, 100, 500)
#: Seconds for one row of a table: its rounds go on until they are used up.
SECONDS = {10: 10.0, 100: 22.0, 500: 45.0}
LEAST, MOST = 3, 25

HAND, EXPORT, SESSION = "by hand", "export", "session"


def main() -> None:
    parser = argparse.ArgumentParser(description="what generated flows cost on Prefect")
    parser.add_argument("--quick", action="store_true", help="few rounds; writes nothing")
    parser.add_argument("--only", choices=PARTS, help="one part; writes nothing")
    arguments = parser.parse_args()
    parts = []
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder,
        asyncio.Runner() as loop,
    ):
        _own_environment(folder)
        bench = Bench(loop, Path(folder), quick=arguments.quick)
        for name, part in PARTS.items():
            if arguments.only in (None, name):
                parts.append(part(bench))
                print(f"\n{parts[-1]}", flush=True)
        bench.end()
    if not arguments.quick and not arguments.only:
        versions = {label: name for label, (name, *_) in _engines.ENGINES.items() if name}
        about = circumstances("run.py", {"pulpo": "pulpo", "Prefect": "prefect", **versions})
        write_part("Running: run.py", [f"{about}\n{_HOW}", *parts])


def _own_environment(home: str) -> None:
    """Take over no configuration of Prefect, and send nothing anywhere."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "PULPO_"))]:
        del os.environ[name]
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_HOME": home, "PULPO_STATE_DIR": home}


_HOW = (
    "Times are by the clock on the wall, in one process, on one event loop, on one private server "
    "(in memory, on the same machine). In each round every way of running has its turn, in an "
    "order that rotates; times are medians. A ratio is the median of the ratios of the rounds, in "
    "brackets the middle half of them; *CPU* is the same ratio of the processor time of this "
    "process, without the server's, on which the rest of the machine has less influence."
)


class Bench:
    """The loop, the server and the folder that all parts share."""

    def __init__(self, loop: asyncio.Runner, folder: Path, *, quick: bool) -> None:
        self.loop = loop
        self.quick = quick
        self.folder = folder
        self.contexts = ExitStack()
        self._built: dict[str, Built] = {}
        _flows.put_on_path(folder)

    def built(self, shape: Shape) -> Built:
        name = f"{shape.name}_{len(shape)}"
        if name not in self._built:
            self._built[name] = _flows.build(shape, self.folder)
        return self._built[name]

    def times(
        self,
        calls: Mapping[str, Callable[[], Any]],
        seconds: float,
        *,
        least: int = LEAST,
        most: int = MOST,
    ) -> dict[str, Timed]:
        if self.quick:
            seconds, least, most = seconds / 6, 2, 5
        for call in calls.values():
            call()  # imports and caches
        return interleaved(calls, seconds=seconds, least=least, most=most)

    def flow(self, flow: Flow, *, keeps_logs: bool = True, **changes: Any) -> Callable[[], Any]:
        """Return a call of a flow of Prefect as a run in the kernel has it, but for ``changes``."""
        context = contextvars.copy_context()
        settings = _in_kernel(changes)  # stays entered: making it anew is no part of the flow
        context.run(settings.__enter__)
        self.contexts.callback(context.run, settings.__exit__, None, None, None)

        async def run() -> Any:
            with kept_logs(Run("by hand", [])) if keeps_logs else nullcontext():
                return await flow()

        return lambda: self.loop.run(run(), context=context)

    def session(self, built: Built) -> Callable[[], Run]:
        """Return ``%pulpo run``: the code is made and loaded, and the run is watched."""

        def run() -> Run:
            done = self.loop.run(built.session.arun("main_flow"))
            done.raise_for_failure()
            return done

        return run

    def end(self) -> None:
        self.contexts.close()
        shared().stop()


@contextmanager
def _in_kernel(changes: Mapping[str, Any]) -> Iterator[None]:
    """Have the settings that `pulpo.runner` has for a private server, and some others."""
    runner._import_prefect()
    import prefect.settings

    url, home = shared().url(), shared().home
    assert home is not None
    others = {getattr(prefect.settings, name): value for name, value in changes.items()}
    with (
        runner._settings(url, home / "results", home),
        prefect.settings.temporary_settings(others),
    ):
        yield


# --- Generated against written by hand ------------------------------------------------------------


def by_hand(bench: Bench) -> str:
    """Return what generated flows take against those written by hand."""
    rows = []
    for size in SIZES:
        for shape in (_flows.wide(size), _flows.deep(size), _flows.nested(size)):
            rows.append(_against_hand(bench, shape, f"{size} {shape.name}", SECONDS[size]))
    head = ["operations", "rounds", HAND, EXPORT, SESSION]
    head += ["export : hand", "CPU", "session : hand", "CPU"]
    return (
        "## Generated flows against the same flows written by hand\n"
        f"{_WAYS}Asked for: at most 1.02 × in wall time.\n\n"
        f"{table(head, rows)}"
    )


_WAYS = (
    "Async operations that do nothing. *wide*: all at once; *deep*: a chain; *nested*: groups, as "
    "subflows, side by side (2 of 5, 10 of 10, 10 of 50), each of which fetches, works on it side "
    "by side and joins, and a report of all groups.\n\n"
    "- *by hand*: async flows with `asyncio.gather`, `@task(cache_policy=NO_CACHE)` with the "
    "operation's body in it, `@flow` called by `@flow`.\n"
    "- *export*: the files that `%pulpo export` writes, imported and awaited; the same settings, "
    "and the same handler of Prefect's logs, as *by hand*.\n"
    "- *session*: `%pulpo run`, from the session on: the code made and loaded anew, Prefect's "
    "server asked whether it is there, states, values, logs and prints kept, the same settings.\n\n"
)


def _against_hand(bench: Bench, shape: Shape, label: str, seconds: float) -> list[str]:
    built = bench.built(shape)
    times = bench.times(
        {
            HAND: bench.flow(built.by_hand),
            EXPORT: bench.flow(built.exported),
            SESSION: bench.session(built),
        },
        seconds,
    )
    rounds = str(len(times[HAND].wall))
    cells = [ms(median(times[name].wall)) for name in (HAND, EXPORT, SESSION)]
    ratios = [cell for name in (EXPORT, SESSION) for cell in _ratios(times[name], times[HAND])]
    return [label, rounds, *cells, *ratios]


def _ratios(timed: Timed, yard: Timed) -> list[str]:
    return [
        quarters(timed.against(yard)),
        ratio(median([a / b for a, b in zip(timed.cpu, yard.cpu, strict=True)])),
    ]


def sync(bench: Bench) -> str:
    """Return the same for sync operations, which run in threads."""
    size = 100
    threads = bench.built(_flows.wide(size, is_async=False, hand="thread"))
    submit = bench.built(_flows.wide(size, is_async=False, hand="submit"))
    ways = {
        "by hand: `asyncio.to_thread` in an async task": bench.flow(threads.by_hand),
        "by hand: a sync task, `.submit()`": bench.flow(submit.by_hand),
        EXPORT: bench.flow(threads.exported),
        SESSION: bench.session(threads),
    }
    times = bench.times(ways, 1.5 * SECONDS[size])
    yard = next(iter(times.values()))
    rows = [[way, ms(median(each.wall)), *_ratios(each, yard)] for way, each in times.items()]
    return (
        f"## {size} sync operations, side by side\n"
        "The first way by hand does what generated code does: no operation blocks the event loop, "
        f"and each runs in a thread. {len(yard.wall)} rounds.\n\n"
        f"{table(['way', 'ms', 'against the first', 'CPU'], rows)}"
    )


# --- Unbalanced ----------------------------------------------------------------------------------


def unbalanced(bench: Bench) -> str:
    """Return what flows that would lose by barriers take, against their critical paths."""
    rows = [_against_path(bench, shape) for shape in (_flows.crossing(), _flows.random_layers())]
    head = ["flow", "path", "no-ops", "together", "export", "session"]
    head += ["export : together", "session : together", "by hand, in stages"]
    return (
        "## Unbalanced flows against their critical paths\n"
        "Operations that sleep: a → c beside b → d, of 0.2, 0.7, 0.7 and 0.2 s, and a random DAG "
        "of 36 in six layers, fan-in 2, of 0.05 to 0.5 s. *path* are the sleeps on the longest "
        "path; *no-ops* is a generated chain of as many operations that do nothing as stand on "
        "that path, measured in the same rounds: the start of a flow and what each task costs. "
        "Asked for: within 5 % of both *together*. By hand in stages, with `asyncio.gather`, is "
        f"what most people write. Milliseconds.\n\n{table(head, rows)}"
    )


def _against_path(bench: Bench, shape: Shape) -> list[str]:
    path, length = shape.critical
    built, no_ops = bench.built(shape), bench.built(_flows.deep(length))
    times = bench.times(
        {
            "no-ops": bench.flow(no_ops.exported),
            EXPORT: bench.flow(built.exported),
            SESSION: bench.session(built),
            HAND: bench.flow(built.by_hand),
        },
        25.0,
        most=10,
    )
    own = median(times["no-ops"].wall)
    together = path + own
    walls = {name: median(times[name].wall) for name in (EXPORT, SESSION, HAND)}
    return [
        {"crossing": "a → c, b → d"}.get(shape.name, f"random, {len(shape)}"),
        *(ms(each) for each in (path, own, together, walls[EXPORT], walls[SESSION])),
        ratio(walls[EXPORT] / together),
        ratio(walls[SESSION] / together),
        f"{ms(walls[HAND])} ({ratio(walls[HAND] / together)})",
    ]


# --- Settings ------------------------------------------------------------------------------------

#: What each setting of a run in the kernel is, if one leaves it at Prefect's own default.
DEFAULTS: dict[str, dict[str, Any]] = {
    "logs sent to the server, too": {"PREFECT_LOGGING_TO_API_ENABLED": True},
    "a heartbeat": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": 180},
    "all root certificates read": {"PREFECT_API_SSL_CERT_FILE": None},
    "logs on a console, not in the run": {"keeps_logs": False},
    "results kept in files": {"PREFECT_RESULTS_PERSIST_BY_DEFAULT": True},
}


def settings(bench: Bench) -> str:
    """Return what the settings of a run in the kernel give, one by one."""
    size = 100
    shape = _flows.wide(size)
    built = bench.built(shape)
    as_it_is = "as a run in the kernel"
    calls = {as_it_is: bench.flow(built.exported)}
    calls |= {name: bench.flow(built.exported, **change) for name, change in DEFAULTS.items()}
    calls["Prefect's own cache policy on each task"] = bench.flow(_cached(bench, shape))
    everything = {name: value for each in DEFAULTS.values() for name, value in each.items()}
    calls["all of these"] = bench.flow(_cached(bench, shape), **everything)
    with _errors_to_nowhere():
        times = bench.times(calls, 3 * SECONDS[size])
    yard = times[as_it_is]
    rows = [[way, ms(median(each.wall)), *_ratios(each, yard)] for way, each in times.items()]
    return (
        f"## Settings of runs in the kernel, {size} operations side by side\n"
        f"An export, with one thing at a time as Prefect has it. {len(yard.wall)} rounds.\n\n"
        f"{table(['setting', 'ms', 'against the first', 'CPU'], rows)}"
    )


def _cached(bench: Bench, shape: Shape) -> Flow:
    """Return the exported flow with the cache policy that Prefect gives a task by itself."""
    import importlib.util

    name = f"exported_{shape.name}_{len(shape)}.orchestration"
    folder = bench.folder.joinpath(*name.split("."))
    text = (folder / "main_flow.py").read_text("utf-8").replace(", cache_policy=NO_CACHE", "")
    (folder / "cached_flow.py").write_text(text, "utf-8")
    importlib.invalidate_caches()
    flow: Flow = importlib.import_module(f"{name}.cached_flow").main_flow
    return flow


@contextmanager
def _errors_to_nowhere() -> Iterator[None]:
    """Let what Prefect logs on its console go nowhere: a terminal would be what is measured."""
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# --- Without Prefect -----------------------------------------------------------------------------


def engines(bench: Bench) -> str:
    """Return what a no-op costs without Prefect."""
    return _engines.no_ops()


PARTS: dict[str, Callable[[Bench], str]] = {
    "engines": engines,
    "by-hand": by_hand,
    "sync": sync,
    "unbalanced": unbalanced,
    "settings": settings,
}


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"\n{time.monotonic() - start:,.0f} seconds in all.")
