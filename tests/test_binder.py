"""binder/ is what repo2docker accepts, and says what is meant by it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECIPE = ["binder", "pyproject.toml"]


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Dockerfile that repo2docker would build from, from a copy without .venv and caches."""
    repository = tmp_path_factory.mktemp("binder")
    for name in RECIPE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, repository / name)
        else:
            shutil.copy(source, repository / name)
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(repository)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_the_image_installs_pulpo_with_what_the_notebooks_import(dockerfile: str) -> None:
    assert 'pip install --no-cache-dir -r "binder/requirements.txt"' in dockerfile
    lines = (ROOT / "binder/requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [".[notebooks]"]


def test_the_source_is_there_before_pip_installs_it(dockerfile: str) -> None:
    assert dockerfile.index("COPY --chown=0:0 src/ ${REPO_DIR}/") < dockerfile.index(
        'pip install --no-cache-dir -r "binder/requirements.txt"'
    )


def test_the_image_has_graphviz(dockerfile: str) -> None:
    assert re.search(r"apt-get install --yes [^\n]*\bgraphviz\b", dockerfile)


def test_the_image_has_a_python_that_pulpo_supports(dockerfile: str) -> None:
    # repo2docker escapes the name of its lock file: "-2e" is a dot, "-2d" a dash.
    versions = re.findall(r"environment-2epy-2d3-2e(\d+)", dockerfile)
    assert versions, "repo2docker named no Python environment"
    assert all(int(minor) >= 11 for minor in versions)


def test_the_start_script_hands_over_to_what_binder_starts(dockerfile: str) -> None:
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile
    run = subprocess.run(
        [ROOT / "binder/start", "sh", "-c", 'echo "$PREFECT_SERVER_ANALYTICS_ENABLED $0"', "two"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.strip() == "false two"
