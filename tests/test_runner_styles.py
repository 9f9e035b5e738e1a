"""Random sessions on real workers: threads, processes, Dask and Ray; one server for the file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import on_prefect
import pytest

from pulpo.prefect_server import PrivateServer

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

#: Sessions with maps, with an operation that can fail, and in which most of the rest occurs.
SESSIONS = (10_000, 10_018)
RAY_SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
#: Starts a cluster, says where it is, and stops it when its input ends.
RAY_CLUSTER = """
import sys, ray
here = ray.init(num_cpus=2, include_dashboard=False)
print(here.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = PrivateServer()
    yield made.url()
    made.stop()


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster for the file, to which the flows' `RayTaskRunner()` connects.

    Ray's daemon waits 15 s for its agent to import, which no setting changes
    (`WaitForPersistedPort` in src/ray/util/port_persistence.h), and then calls itself broken; on
    a busy machine that is too short. So a start is tried again; a run of a flow is not.
    """
    for _ in range(4):
        with (
            tempfile.TemporaryDirectory(prefix="ray-") as folder,  # a short path: Ray's sockets
            Path(folder, "err").open("w+") as complained,
            subprocess.Popen(
                [sys.executable, "-c", RAY_CLUSTER],
                env={**os.environ, **RAY_SETTINGS, "HOME": folder, "RAY_TMPDIR": folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complained,
                text=True,
                start_new_session=True,
            ) as cluster,
        ):
            assert cluster.stdin
            assert cluster.stdout
            try:
                if address := cluster.stdout.readline().strip():
                    yield address
                    return
            finally:
                cluster.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    cluster.wait(30)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(cluster.pid, signal.SIGKILL)
            complained.seek(0)
            why = complained.read()
    pytest.fail(f"Ray did not start:\n{why}")


@pytest.mark.parametrize("seed", SESSIONS)
@pytest.mark.parametrize("style", ["threads", "process", "dask", "ray"])
def test_a_session_does_on_workers_what_it_means(
    style: str,
    seed: int,
    server: str,
    private_env: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    environment = {
        **private_env,
        "PREFECT_API_URL": server,
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PYTHONPATH": str(Path(on_prefect.__file__).parent),
        **RAY_SETTINGS,
    }
    if style == "ray":
        environment["RAY_ADDRESS"] = request.getfixturevalue("ray_address")
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
