"""Proves the law of sessions on Prefect itself, and from files on a task runner's own workers.

``python tests/on_prefect.py dask FOLDER 7`` exports session 7 to FOLDER and runs it on Dask.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import law
from law import Proof, Style, World
from sessions import WORLD, Sketch, operations_of, written

from pulpo import runner
from pulpo.backends.prefect import generate_modules
from pulpo.plan import FlowDefinition, Orchestration, Runner


class OnPrefect(Proof):
    """Runs the main flow of a session on Prefect, in this process."""

    def load(self, plan: Orchestration, texts: Any, functions: dict[str, Any]) -> dict[str, Any]:
        return dict(runner.load_flows(generate_modules(plan), functions, WORLD))

    def can_run(self, definition: FlowDefinition) -> bool:
        return definition.name == "main_flow" and super().can_run(definition)

    def run(self, flow: Any, given: dict[str, Any]) -> Any:
        return asyncio.run(flow(**given))


# --- From files, in whatever process --------------------------------------------------------------

OPERATIONS = """\
import on_prefect, sessions

globals().update(sessions.WORLD)
_world = on_prefect.WorldOfFiles({folder!r})
{functions}
OPERATIONS = {{{table}}}
"""


class WorldOfFiles:
    """What operations do, where each may run in another process: what they get is in a file.

    Parameters
    ----------
    folder
        Holds the session's number, which operation fails, and the calls.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.world: World | None = None

    def begin(self, seed: int, world: World) -> None:
        told = [seed, world.fails, sorted(world.mapped)]
        (self.folder / "world.json").write_text(json.dumps(told))
        (self.folder / "calls").write_text("")

    def call(self, name: str, given: dict[str, Any]) -> Any:
        seed, fails, mapped = json.loads((self.folder / "world.json").read_text())
        if self.world is None:
            self.world = World(operations_of(written(seed), law.call))
        mine = World(self.world.operations.values(), fails)
        mine.mapped = set(mapped)
        try:
            return mine.call(name, given)
        finally:
            line = json.dumps(mine.calls[0]).encode() + b"\n"
            # The system keeps lines whole, and in their order, that several processes append.
            calls = os.open(self.folder / "calls", os.O_WRONLY | os.O_APPEND)
            os.write(calls, line)
            os.close(calls)

    def calls(self) -> list[tuple[str, str]]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [cast("tuple[str, str]", tuple(json.loads(line))) for line in lines]


class OnWorkers(OnPrefect):
    """Runs the main flow of a session from an export, whose functions any process can import."""

    def __init__(self, seed: int, folder: Path, seen: Counter[str]) -> None:
        self.seed, self.folder, self.sketches = seed, folder, written(seed)
        self.world = WorldOfFiles(str(folder))
        super().__init__(operations_of(self.sketches, law.call), seen)

    def load(self, plan: Orchestration, texts: Any, functions: dict[str, Any]) -> dict[str, Any]:
        package = f"export_{self.seed}"
        (self.folder / package / "orchestration").mkdir(parents=True)
        made = generate_modules(plan, package)
        made[f"{package}.operations"] = self.operations_module()
        for module, text in made.items():
            file = self.folder.joinpath(*module.split("."))
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            file.write_text(text, encoding="utf-8")
        sys.path.insert(0, str(self.folder))
        main = importlib.import_module(f"{package}.orchestration.main_flow")
        return {"main_flow": main.main_flow}

    def operations_module(self) -> str:
        names = [f"operation_{place}" for place in range(len(self.sketches))]
        functions = map(written_out, self.sketches, names)
        table = ", ".join(f"{s.name!r}: {n}" for s, n in zip(self.sketches, names, strict=True))
        return OPERATIONS.format(
            folder=str(self.folder), functions="\n".join(functions), table=table
        )

    def run(self, flow: Any, given: dict[str, Any]) -> Any:
        self.world.begin(self.seed, law.NOW)
        try:
            return super().run(flow, given)
        finally:
            law.NOW.calls += self.world.calls()


def written_out(sketch: Sketch, function: str) -> str:
    bare = ", ".join(re.sub(r":[^=]*", "", text) for text in sketch.ports)
    prefix = "async " if "async" in sketch.flags else ""
    return f"{prefix}def {function}({bare}): return _world.call({sketch.name!r}, {{**locals()}})"


def main(style: str, folder: str, seed: str) -> None:
    seen: Counter[str] = Counter()
    # A worker imports this file by its name, and what it holds here is `__main__`'s.
    from on_prefect import OnWorkers

    OnWorkers(int(seed), Path(folder), seen).holds_for(Style(cast("Runner", style)))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
