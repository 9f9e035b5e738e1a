"""Random sessions on real workers: threads, processes, Dask and Ray; one server for the file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import on_prefect
import pytest

from pulpo.prefect_server import PrivateServer

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

#: Sessions with maps, with an operation that can fail, and in which most of the rest occurs.
SESSIONS = (10_000, 10_018)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = PrivateServer()
    yield made.url()
    made.stop()


@pytest.mark.parametrize("seed", SESSIONS)
@pytest.mark.parametrize("style", ["threads", "process", "dask", "ray"])
def test_a_session_does_on_workers_what_it_means(
    style: str, seed: int, server: str, private_env: dict[str, str], tmp_path: Path
) -> None:
    environment = {
        **private_env,
        "PREFECT_API_URL": server,
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PYTHONPATH": str(Path(on_prefect.__file__).parent),
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as told, err.open("w") as complained:
        child = subprocess.Popen(
            [sys.executable, on_prefect.__file__, style, str(tmp_path), str(seed)],
            env=environment,
            stdout=told,
            stderr=complained,
            start_new_session=True,
        )
    try:
        assert child.wait(300) == 0, err.read_text()[-20_000:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # workers that outlive it
    seen = json.loads(out.read_text().splitlines()[-1])
    assert (seen[style], seen["flows run"], seen["failures"]) == (1, 1, 1)
    assert seen["maps"], "choose another session"
