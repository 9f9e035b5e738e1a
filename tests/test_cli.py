"""The pulpo command, over real modules and a real notebook in a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from pulpo.cli import app

MODULE = """
from dataclasses import dataclass

from pulpo import operation


@dataclass
class Raw:
    number: int


@dataclass
class Clean:
    number: int


@operation(name="load.raw", retries=1)
def raw(number: int = 3) -> Raw:
    return Raw(number)


@operation(name="clean")
def clean(data: Raw) -> Clean:
    return Clean(data.number * 2)
"""

Pulpo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pulpo(tmp_path: Path) -> Pulpo:
    """Run the installed command in a folder of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulpo.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PULPO_NO_WARMUP": "1", **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )

    (tmp_path / "jobs.py").write_text(MODULE)
    return run


def notebook(path: Path, *cells: str) -> None:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(book, path)


def fails(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("pulpo: ")
    for word in words:
        assert word in result.stderr


def test_every_command_has_help() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert (command.callback.__doc__ or "").strip().endswith(".")


def test_version_is_for_people_and_machines(pulpo: Pulpo) -> None:
    assert pulpo("version").stdout.startswith("pulpo ")
    assert set(json.loads(pulpo("version", "--json").stdout)) == {"pulpo", "prefect", "python"}


def test_a_module_is_compiled_to_files_that_import_it(pulpo: Pulpo, tmp_path: Path) -> None:
    result = pulpo("compile", "jobs.py")
    assert result.returncode == 0, result.stderr
    assert "runs load_flow → clean" in result.stdout
    assert "run_cache/orchestration/main_flow.py" in result.stdout
    assert str(tmp_path) not in result.stdout
    assert "from jobs import" in (tmp_path / "run_cache/operations.py").read_text()


def test_a_dry_run_writes_nothing(pulpo: Pulpo, tmp_path: Path) -> None:
    result = pulpo("compile", "jobs.py", "--dry-run")
    assert result.returncode == 0
    assert "main_flow(number: int = 3)" in result.stdout
    assert not (tmp_path / "run_cache").exists()


def test_the_export_folder_comes_from_the_environment(pulpo: Pulpo, tmp_path: Path) -> None:
    assert pulpo("compile", "jobs.py", PULPO_CACHE_DIR="flows").returncode == 0
    text = (tmp_path / "flows/orchestration/main_flow.py").read_text()
    assert "from flows.operations import" in text


def test_sources_come_from_pyproject(pulpo: Pulpo, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.pulpo]\nsources = ["jobs.py"]\n')
    assert "load.raw -[Raw]-> clean" in pulpo("graph").stdout


def test_the_graph_goes_to_a_file(pulpo: Pulpo, tmp_path: Path) -> None:
    assert pulpo("graph", "jobs.py", "--output", "graph.svg").stdout == "written to graph.svg\n"
    assert "<svg" in (tmp_path / "graph.svg").read_text()


def test_clean_removes_the_export(pulpo: Pulpo, tmp_path: Path) -> None:
    pulpo("compile", "jobs.py")
    (tmp_path / "run_cache/mine.txt").write_text("mine")
    assert "files removed" in pulpo("clean").stdout
    left = [path.name for path in (tmp_path / "run_cache").iterdir()]
    assert left == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compile"], ["nothing to read", "sources"]),
        (["compile", "jbs.py"], ["no file or folder 'jbs.py'", "Did you mean 'jobs.py'?"]),
        (["compile", "nope.ipynb"], ["no notebook 'nope.ipynb'"]),
        (["compile", "broken.py"], ["cannot be imported", "ZeroDivisionError", "line 1"]),
        (["compile", "jobs.py", "--to", "my-flows"], ["cannot be imported", "'my_flows'"]),
        (["graph", "jobs.py", "--view", "tree"], ["no view is called 'tree'"]),
        (["graph", "jobs.py", "--output", "graph.doc"], [".svg"]),
        (["compile", "jobs.py", "--flow", "lod"], ["no flow or group 'lod'", "'load'"]),
        (["run", "jobs.py", "--param", "number"], ["--param takes NAME=VALUE"]),
        (["run", "jobs.py", "--param", "numbr=1"], ["Did you mean 'number'?"]),
    ],
)
def test_bad_input_is_one_line_that_says_how_to_mend_it(
    pulpo: Pulpo, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    before = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    fails(pulpo(*arguments), *words)
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert after == before


@pytest.mark.slow
def test_a_notebook_is_compiled_without_running_its_flows(pulpo: Pulpo, tmp_path: Path) -> None:
    notebook(
        tmp_path / "book.ipynb",
        "%load_ext pulpo",
        "from typing import NewType\nNumber = NewType('Number', int)",
        "%%operation load\ndef load(start: int = 1) -> Number:\n    return Number(start)",
        "%%operation double\ndef double(number: Number) -> int:\n    return 2 * number",
        "run = %pulpo run",
        "run['double'] + 1",
        "%pulpo export",
    )
    result = pulpo("compile", "book.ipynb")
    assert result.returncode == 0, result.stderr
    assert "from 2 operations" in result.stdout
    assert "cell 6 failed, since nothing runs" in result.stderr
    assert (tmp_path / "run_cache/orchestration/main_flow.py").exists()


@pytest.mark.slow
def test_a_notebook_whose_cell_fails_of_itself_is_refused(pulpo: Pulpo, tmp_path: Path) -> None:
    notebook(tmp_path / "book.ipynb", "%load_ext pulpo", "undefined_name")
    fails(pulpo("compile", "book.ipynb"), "cell 2", "undefined_name")
    assert not (tmp_path / "run_cache").exists()


@pytest.mark.slow
@pytest.mark.prefect
def test_a_module_runs_on_prefect(pulpo: Pulpo) -> None:
    result = pulpo("run", "jobs.py", "--param", "number=5")
    assert result.returncode == 0, result.stderr
    assert "load.raw" in result.stdout
    assert "done" in result.stdout
