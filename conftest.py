"""Gives every pytest process, notebooks' kernels included, its own Prefect and IPython folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_HOMES = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    homes = Path(tempfile.mkdtemp(prefix="pulpo-tests-"))
    config.stash[_HOMES] = homes
    os.environ["PREFECT_HOME"] = str(homes / "prefect")
    os.environ["IPYTHONDIR"] = str(homes / "ipython")
    # HOME stays: matplotlib keeps its font cache there, and building it takes many seconds.
    for name in ("CONFIG", "DATA", "RUNTIME"):
        os.environ[f"JUPYTER_{name}_DIR"] = str(homes / "jupyter" / name.lower())
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
        os.environ.pop(name, None)
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    for name in [name for name in os.environ if name.startswith("PULPO_")]:
        if name not in ("PULPO_NO_BROWSER", "PULPO_CHROMIUM"):
            del os.environ[name]
    # A server that somebody keeps is none of the tests' business.
    os.environ["PULPO_STATE_DIR"] = str(homes / "state")


def pytest_unconfigure(config: pytest.Config) -> None:
    homes = config.stash.get(_HOMES, None)
    if homes is not None:
        shutil.rmtree(homes, ignore_errors=True)
