"""What pulpo costs in a notebook: its import, a cell with ``%%operation``, an export."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _measure import median, ms, ratio, table

OPERATIONS = 1_000
_IMPORTS = {
    "import pydantic": "import pydantic",
    "import pulpo, %load_ext pulpo": "import pulpo; shell.run_line_magic('load_ext', 'pulpo')",
}
_TIMED = """\
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
start = time.process_time()
{code}
print(time.process_time() - start)
"""


def imports(rounds: int = 15) -> str:
    """Return what the import takes in a fresh process that has a shell already."""
    times: dict[str, list[float]] = {label: [] for label in _IMPORTS}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds + 1):
            for label, code in _IMPORTS.items():
                out = _python("-c", _TIMED.format(code=code), home=home)
                times[label].append(float(out.splitlines()[-1]))
    middle = {label: median(each[1:]) for label, each in times.items()}  # the first wrote the .pyc
    yard, own = middle.values()
    rows = [[label, ms(each), ratio(each / yard)] for label, each in middle.items()]
    asked = f"Asked for: at most 1.5 ×; measured: {ratio(own / yard)}"
    return (
        "## Import\n"
        f"The median of {rounds} fresh processes each, in turn, which had an IPython shell. "
        f"{asked}.\n\n{table(['statement', 'ms', 'against pydantic'], rows)}"
    )


def cells() -> str:
    """Return what ``%%operation`` adds to running a cell, and what an export takes."""
    with tempfile.TemporaryDirectory() as home:
        runs = [_session(kind, home) for _ in range(3) for kind in ("plain", "pulpo")]
    plain = min(run["cell"] for run in runs[::2])
    own = min(run["cell"] for run in runs[1::2])
    export = min(run["export"] for run in runs[1::2])
    rows = [
        ["a cell, run plainly without pulpo", ms(plain), ""],
        ["the same with %%operation", ms(own), ""],
        ["what %%operation adds", ms(own - plain), "3"],
        [f"export of {OPERATIONS:,} operations from as many cells", ms(export), "1,000"],
    ]
    return (
        f"## A session of {OPERATIONS:,} cells\n"
        "A real IPython shell, a process with pulpo and one without, in turn, three times; of "
        "each the least of the medians of 50 cells that are run again.\n\n"
        f"{table(['what', 'ms', 'asked for, at most'], rows)}"
    )


def _session(kind: str, home: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(_python(__file__, kind, home=home).splitlines()[-1])
    return found


def _python(*arguments: str, home: str) -> str:
    # Prefect is imported in the background when it will be needed; here, that is never.
    environment = {**os.environ, "IPYTHONDIR": home, "PULPO_NO_WARMUP": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process would compile anew
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=home,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


# --- in the process that is timed ---------------------------------------------------------------


def _measure_session(kind: str) -> dict[str, float]:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_cell("from typing import NewType", store_history=True)
    own = kind == "pulpo"
    if own:
        shell.extension_manager.load_extension("pulpo")
    with contextlib.redirect_stdout(io.StringIO()):
        for place in range(OPERATIONS):
            _run(shell, place, own=own)
        again = [_run(shell, place, own=own) for place in range(0, OPERATIONS, OPERATIONS // 50)]
    found = {"cell": median(again)}
    if own:
        found["export"] = _export()
    return found


def _run(shell: Any, place: int, *, own: bool) -> float:
    magic = f"%%operation phase{place // 100}.step_{place}\n" if own else ""
    sources = [s for s in (place - 100, place - 99) if s >= 0] if place >= 100 else []
    ports = ", ".join(f"p{source}: M{source}" for source in sources)
    cell = (
        f"{magic}M{place} = NewType('M{place}', int)\n\n"
        f"def step_{place}({ports}) -> M{place}:\n    return M{place}({place})\n"
    )
    start = time.process_time()
    result = shell.run_cell(cell, store_history=True, cell_id=f"cell-{place}")
    taken = time.process_time() - start
    result.raise_error()
    return taken


def _export() -> float:
    # Imported by the first export of a session only, so no part of what grows with its cells.
    import pulpo.backends.prefect
    import pulpo.compiler
    import pulpo.exports
    import pulpo.settings  # noqa: F401
    from pulpo.session import current

    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        exported = current().export(Path(folder) / "run_cache")
        taken = time.process_time() - start
    if len(exported.flows) < OPERATIONS // 100:
        raise SystemExit(f"the export has only {len(exported.flows)} flows")
    return taken


if __name__ == "__main__":
    print(json.dumps(_measure_session(sys.argv[1])))
