"""What a run leaves alone: the user's random numbers, and Prefect's home."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pulpo.seeds import apart_from_the_users

_RUNS = """
import random

import pulpo

random.seed(1)
state = random.getstate()

@pulpo.operation(name="load.fetch", retries=1, retry_delay=0)
def fetch() -> int:
    random.Random(2).random()
    calls.append(1)
    if len(calls) == 1:
        raise OSError("once")
    return len(calls)

calls = []
pulpo.compile()
for changed in (False, True, False):
    run = pulpo.run(changed=changed)
    assert run.server == "private", run.server
    assert run.state == "done", run.state
assert calls == [1, 1, 1, 1]
import coolname

assert coolname.generate_slug(2) != coolname.generate_slug(2)
assert random.getstate() == state
random.seed(1)
assert random.getstate() == state
print("as it was")
"""


@pytest.mark.slow
@pytest.mark.prefect
def test_a_run_draws_none_of_the_users_numbers_and_starts_no_server_but_its_own(
    tmp_path: Path,
) -> None:
    file = tmp_path / "runs.py"
    file.write_text(_RUNS, "utf-8")
    home = tmp_path / "home"
    env = {name: value for name, value in os.environ.items() if name[:7] != "PREFECT"}
    done = subprocess.run(
        [sys.executable, str(file)],
        env={**env, "PREFECT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "as it was\n"
    assert "telemetry" not in done.stderr
    # Prefect's own server, which tells its maker that it runs, would have its database there.
    assert [path.name for path in home.rglob("*.db")] == []


def test_a_module_that_draws_gets_numbers_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import random\nfrom random import getrandbits, Random\ndef draw():\n"
    text += "    from random import random as again\n    return random.random(), again()\n"
    text += "first = getrandbits(8), draw()\n"
    for name in ("draws_a", "draws_b"):
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("pulpo.seeds._DRAW", frozenset(["draws_a"]))
    state = random.getstate()
    with apart_from_the_users():
        apart = __import__("draws_a")
        assert random.getstate() == state
        others: types.ModuleType = __import__("draws_b")
        assert random.getstate() != state
    assert sys.meta_path[0].__class__.__name__ != "_Finder"
    state = random.getstate()
    assert apart.draw() != apart.draw()
    assert random.getstate() == state
    assert apart.Random is others.Random is random.Random
    others.draw()
    assert random.getstate() != state
    for name in ("draws_a", "draws_b"):
        del sys.modules[name]
