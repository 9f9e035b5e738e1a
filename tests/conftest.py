"""What tests of several rooms share."""

from __future__ import annotations

import gc
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Nothing here is timed. A run in CI tries the same examples each time, so that it tells of the
# change and not of its luck; at home they are new ones every time.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")


#: Files of minutes, which would keep one worker busy alone at the end.
LONG = (
    "test_runner_styles.py",
    "test_law.py",
    "test_runner_prefect.py",
    "test_services.py",
    "test_runs_kernel.py",
    "test_reuse_prefect.py",
    "test_background_runs_prefect.py",
    "test_prefect_flows.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first (see ``--no-loadscope-reorder`` in the Makefile)."""
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.name) in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of every later collection of garbage.

    IPython collects when a shell ends, and a shell ends with each of many tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def prefects_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect the sockets that Prefect's client leaves open in the file that expects them.

    Left to the next file, they would fail whatever test of it collects garbage.
    """
    yield
    if request.node.get_closest_marker("prefect"):
        gc.collect()


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def private_env(tmp_path: Path) -> dict[str, str]:
    """The environment for a child process that must not see, or touch, the user's own folders."""
    homes = {
        "HOME": tmp_path / "home",
        "PREFECT_HOME": tmp_path / "home/.prefect",
        "IPYTHONDIR": tmp_path / "home/.ipython",
        "JUPYTER_CONFIG_DIR": tmp_path / "home/.jupyter",
        "JUPYTER_DATA_DIR": tmp_path / "home/.local/share/jupyter",
        "JUPYTER_RUNTIME_DIR": tmp_path / "home/.local/share/jupyter/runtime",
    }
    for folder in homes.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        **{name: str(folder) for name, folder in homes.items()},
        # The server that an export starts for itself needs more than the usual 20 seconds here.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


@pytest.fixture
def private_home(private_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for this process: HOME and its kin are folders below tmp_path."""
    for name, value in private_env.items():
        monkeypatch.setenv(name, value)
    return Path(private_env["HOME"])


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, for playwright's ``executable_path``."""
    if os.environ.get("PULPO_NO_BROWSER") == "1":
        pytest.skip("PULPO_NO_BROWSER=1")
    named = os.environ.get("PULPO_CHROMIUM")
    found = [shutil.which(name) for name in ((named,) if named else BROWSERS)]
    path = next((path for path in found if path), None)
    if path is None:
        pytest.fail(
            "no Chromium: install one, name it in PULPO_CHROMIUM, or set PULPO_NO_BROWSER=1"
        )
    return path
