"""Proves the law of sessions by the thousand: ``python tests/prove.py --sessions 50000``.

Each is run nested, flat, in part and as both kinds of task runners take it, on the stand-in for
Prefect, and written again under two other hash seeds. What was met comes out as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from law import STYLES, TWINS, Style, call, prove, some_selection, write
from sessions import Sketch, operations_of, written

from pulpo.dataflow import build_graph
from pulpo.errors import PulpoError
from pulpo.operations import Operation

#: Under which texts are written again, by processes of their own.
HASH_SEEDS = ("1", "2")


class Case(NamedTuple):
    """One session of many, by its number."""

    seed: int
    sketches: list[Sketch]
    styles: Sequence[Style]

    @classmethod
    def of(cls, seed: int, *, every_style: bool = False) -> Case:
        """Return a session, one in twenty with its errors; in two styles, unless in every one."""
        nested, flat, threads, process, dask, ray = STYLES
        others = flat, (threads, process)[seed % 2], (dask, ray)[seed % 2]
        styles = (nested, *others) if every_style else (nested, others[seed // 2 % 3])
        return cls(seed, written(seed, mend=seed % 20 != 0), styles)

    def operations(self) -> list[Operation]:
        return operations_of(self.sketches, call)

    def prove(self, seen: Counter[str]) -> str:
        """Check it; an error is told with the least that still breaks the law."""
        try:
            return prove(self.operations(), seen, random=Random(self.seed), styles=self.styles)
        except Exception as error:
            told = [f"session {self.seed}:", *lines(self.sketches)]
            if self.breaks(self.sketches):
                told += ["as small as it gets:", *lines(smaller(self.sketches, self.breaks))]
            error.add_note("\n".join(told))
            raise

    def breaks(self, sketches: list[Sketch]) -> bool:
        """Return whether other operations break the law as well."""
        try:
            operations = operations_of(sketches, call)
            for seed in range(3 if operations else 0):
                prove(operations, Counter(), random=Random(seed), styles=self.styles)
        except PulpoError:
            return False
        except Exception:
            return True
        return False

    def texts(self) -> str:
        """Return what `prove` does, without running anything."""
        operations, texts = self.operations(), sha256()
        graph, part = build_graph(operations), some_selection(operations, Random(self.seed))
        for style in (*self.styles, Style(selection=part)):
            write(graph, style, texts)
            if twin := TWINS.get(style.runner):
                write(graph, style._replace(runner=twin), texts)
        return texts.hexdigest()

    def as_json(self) -> Any:
        sketches = [list(asdict(sketch).values()) for sketch in self.sketches]
        return self.seed, sketches, [STYLES.index(style) for style in self.styles]


def from_json(given: Any) -> Case:
    seed, sketches, styles = given
    made = [Sketch(n, f, tuple(ports), r, tuple(flags)) for n, f, ports, r, flags in sketches]
    return Case(seed, made, [STYLES[place] for place in styles])


def lines(sketches: Iterable[Sketch]) -> list[str]:
    return [sketch.line() for sketch in sketches]


# --- Making it smaller ----------------------------------------------------------------------------


def smaller(sketches: list[Sketch], breaks: Callable[[list[Sketch]], bool]) -> list[Sketch]:
    """Take away operations, then parameters and flags, as long as the law is still broken."""
    while True:
        for less in (*without_one(sketches), *with_less(sketches)):
            if breaks(less):
                sketches = less
                break
        else:
            return sketches


def without_one(sketches: list[Sketch]) -> Iterator[list[Sketch]]:
    for place in range(len(sketches)):
        yield [*sketches[:place], *sketches[place + 1 :]]


def with_less(sketches: list[Sketch]) -> Iterator[list[Sketch]]:
    for place, sketch in enumerate(sketches):
        for less in sketch.with_less():
            yield [*sketches[:place], less, *sketches[place + 1 :]]


# --- In several processes -------------------------------------------------------------------------


def prove_all(cases: Sequence[Case], seen: Counter[str]) -> None:
    """Check many sessions, and that their texts are the same under other hash seeds too."""
    given = json.dumps([case.as_json() for case in cases])
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(child, "--texts", given=given, hash_seed=s) for s in HASH_SEEDS]
        found = [case.prove(seen) for case in cases]
        for other in others:
            assert other.result() == found


def child(*arguments: str, given: str = "", hash_seed: str = "random") -> Any:
    """Return what this file, run with other arguments, prints."""
    command = [sys.executable, "-W", "error", str(Path(__file__).resolve()), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--sessions", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--texts", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.sessions)
    if options.texts:
        print(json.dumps([from_json(case).texts() for case in json.load(sys.stdin)]))
    elif options.alone:
        seen: Counter[str] = Counter()
        prove_all([Case.of(number, every_style=True) for number in numbers], seen)
        print(json.dumps(seen))
    else:
        print(json.dumps(in_parts(numbers, options.processes), indent=2))


def in_parts(numbers: range, processes: int, size: int = 250) -> dict[str, int]:
    """Prove sessions in processes that each take a part; return what was met."""
    seen: Counter[str] = Counter()
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    with ThreadPoolExecutor(processes) as pool:
        for part, found in zip(parts, pool.map(prove_part, parts), strict=True):
            seen.update(found)
            print(f"{part.stop - numbers.start:,} sessions", file=sys.stderr, flush=True)
    return dict(seen)


def prove_part(part: range) -> Any:
    return child("--alone", f"--first={part.start}", f"--sessions={len(part)}", hash_seed="0")


if __name__ == "__main__":
    main()
