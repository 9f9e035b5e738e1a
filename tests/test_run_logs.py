"""What workers tell of operations, in a process of its own: it takes over streams and loggers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WORKER = """
import logging, shutil, sys
from pathlib import Path
from pulpo.run_logs import Reporter, Reports

folder = Path(sys.argv[1])
heard = []
before = logging.Handler()
before.emit = lambda record: heard.append(record.getMessage())
logger = logging.getLogger("prefect")
logger.handlers[:] = [before]

def work(number):
    print("at", number)
    logger.warning("low")
    return number + 1

for run in ("one", "two"):
    (folder / run).mkdir()
    assert Reporter(work, "a.work", folder / run)(1) == 2
    told = Reports(folder / run).new()
    assert [report.what for report in told] == ["began", "line", "line", "ended"], told
    assert [report.text for report in told if report.what == "line"] == ["at 1", "low"]
assert heard == []
shutil.rmtree(folder / "two")
logger.warning("of somebody else")
assert heard == ["of somebody else"], heard
assert Reporter(work, "a.work", folder / "gone")(1) == 2
"""


def test_a_worker_tells_the_run_that_calls_it_and_is_its_own_again_afterwards(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "at 1\n"), done.stderr
