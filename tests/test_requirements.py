"""What an export needs to be installed stands in it, and `uv run` installs just that."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from recorded import MODELS, Notebook

from pulpo import exports
from pulpo.carry import requirements_of
from pulpo.errors import ExportError, MissingProgramError

#: As PEP 723 gives it.
BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


@pytest.fixture
def book() -> Notebook:
    book = Notebook()
    book.cell(f"{MODELS}\nimport bs4\nimport httpx\n")
    book.operation("load.raw", "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n")
    book.operation("clean", "def clean(data: Raw) -> Clean:\n    return Clean(data.number * 2)\n")
    return book


def metadata(path: Path) -> Any:
    [block] = BLOCK.finditer(path.read_text("utf-8"))
    assert block["type"] == "script"
    lines = block["content"].splitlines()
    return tomllib.loads(
        "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    )


def test_each_flow_says_what_it_needs(book: Notebook, tmp_path: Path) -> None:
    book.operation("soup", "def soup(x: Clean) -> str:\n    return bs4.__version__ + str(x)\n")
    folder = book.session.export(tmp_path / "flows").folder
    needs = [f"{name}=={version(name)}" for name in ("beautifulsoup4", "fastapi", "prefect")]
    python = f">={sys.version_info.major}.{sys.version_info.minor}"
    for name in ("main_flow", "load_flow", "standalones_flow"):
        told = metadata(folder / f"orchestration/{name}.py")
        assert told == {"requires-python": python, "dependencies": needs}
    for name in ("operations.py", "orchestration/__init__.py", "orchestration/registry.py"):
        assert "# ///" not in (folder / name).read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["requirements"] == needs
    assert not book.session.diff(tmp_path / "flows").differs


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_task_runner_is_needed_too(book: Notebook, tmp_path: Path, runner: Any) -> None:
    folder = book.session.export(tmp_path / "flows", runner=runner).folder
    needs = metadata(folder / "orchestration/main_flow.py")["dependencies"]
    assert f"prefect-{runner}=={version(f'prefect-{runner}')}" in needs


def test_the_task_runner_of_another_part_is_needed_too(book: Notebook, tmp_path: Path) -> None:
    book.session.export(tmp_path / "flows", flow="load", runner="dask")
    folder = book.session.export(tmp_path / "flows", flow="standalones_flow").folder
    needs = metadata(folder / "orchestration/load_flow.py")["dependencies"]
    assert f"prefect-dask=={version('prefect-dask')}" in needs
    assert not book.session.diff(tmp_path / "flows").differs


def test_distributions_are_found_by_what_they_hold() -> None:
    found, warnings = requirements_of(["yaml", "bs4", "PIL", "yaml"])
    assert found == tuple(
        f"{name}=={version(name)}" for name in ("beautifulsoup4", "pillow", "PyYAML")
    )
    assert warnings == ()


def test_what_stands_in_a_folder_here_is_no_requirement() -> None:
    found, [warning] = requirements_of(["pulpo", "pulpo"])
    assert found == ()
    assert "'pulpo' is installed from a folder of this machine" in warning
    found, [warning] = requirements_of(["no_such_module"])
    assert found == ()
    assert "'no_such_module' is of no installed distribution" in warning


def test_the_check_says_what_the_export_will(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_it.py").write_text("import pulpo\ndef rate():\n    return 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    book.cell("import beside_it")
    book.operation("rate", "def rate(x: Clean) -> int:\n    return x.number * beside_it.rate()\n")
    checked = [each.message for each in book.session.check(export=True).problems]
    exported = book.session.export(tmp_path / "run_cache").warnings
    assert [f"export: {warning}." for warning in exported] == [
        message for message in checked if message.startswith("export: ")
    ]
    assert "take beside_it.py along" in exported[0]
    assert "'pulpo' is installed from a folder of this machine" in exported[1]
    monkeypatch.delitem(sys.modules, "beside_it")


# --- Locks ----------------------------------------------------------------------------------------


def test_a_lock_stays_as_long_as_it_fits(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = book.session.export(tmp_path / "flows", lock=True)
    lock = exported.folder / "orchestration/main_flow.py.lock"
    packages = {
        each["name"]: each["version"] for each in tomllib.loads(lock.read_text())["package"]
    }
    assert packages["prefect"] == version("prefect")
    assert (exported.folder / "orchestration/load_flow.py.lock").read_text() == lock.read_text()
    before = lock.read_bytes()
    monkeypatch.setattr(exports, "_lock", None)  # nothing resolves again
    again = book.session.export(tmp_path / "flows")
    assert lock.read_bytes() == before
    assert not again.warnings
    assert not again.removed
    book.operation("soup", "def soup(x: Clean) -> str:\n    return bs4.__version__ + str(x)\n")
    other = book.session.export(tmp_path / "flows")
    assert not lock.exists()
    assert "make a new one with --lock" in str(other)


def test_an_impossible_lock_leaves_the_export_as_it_was(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    monkeypatch.setattr("pulpo.session._installable", _needing("prefect==0.0.0.1"))
    with pytest.raises(ExportError, match=r"uv finds no set .*prefect.*without --lock"):
        book.session.export(tmp_path / "flows", lock=True)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def _needing(what: str) -> Any:
    return lambda files, plan, carried: (
        exports.headed(files, ["main_flow", "load_flow"], [what], ">=3.11"),
        (what,),
        (),
    )


def test_without_uv_there_is_no_lock(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named uv' >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(exports.shutil, "which", lambda name: None)
    monkeypatch.setattr(exports.sys, "executable", str(python))
    with pytest.raises(MissingProgramError, match="pip install uv"):
        exports.locks({"orchestration/a.py": "# ///\n"}, ["a"], None, wanted=True)


@pytest.mark.slow
@pytest.mark.prefect
def test_uv_run_needs_nothing_installed(
    book: Notebook, tmp_path: Path, private_env: dict[str, str]
) -> None:
    folder = book.session.export(tmp_path / "flows", lock=True).folder
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    outside = tmp_path / "outside"
    outside.mkdir()
    environment = {k: v for k, v in private_env.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-m", "uv", "run", folder / "orchestration/main_flow.py", "--start", "4"],
        env=environment,
        cwd=outside,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-5_000:]
    assert done.stdout == "Clean(number=8)\n"
    pyc = {path for path in folder.rglob("*.*") if "__pycache__" in path.parts}
    assert {p: p.read_bytes() for p in folder.rglob("*.*") if p not in pyc} == before


def test_a_limit_that_a_cell_has_set_for_csv_is_no_limit_for_the_lists_of_installed_files() -> None:
    before = csv.field_size_limit(7)
    try:
        assert requirements_of(["httpx"])[0] == (f"httpx=={version('httpx')}",)
        assert csv.field_size_limit() == 7
    finally:
        csv.field_size_limit(before)
