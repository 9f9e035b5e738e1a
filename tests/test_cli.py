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

from pulpo.backends.document import PlanDocument
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
    groups = [group.typer_instance for group in app.registered_groups]
    assert groups
    for command in [each for group in (app, *groups) for each in group.registered_commands]:
        assert command.callback is not None
        assert (command.callback.__doc__ or "").strip().endswith(".")


def test_it_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pulpo", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pulpo ")


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


def test_a_part_of_the_graph_is_printed_and_goes_to_a_file(pulpo: Pulpo, tmp_path: Path) -> None:
    assert "load.* -[Raw]-> clean" in pulpo("graph", "jobs.py", "--depth", "1").stdout
    near = pulpo("graph", "jobs.py", "--around", "clean", "--hops", "0", "--mermaid").stdout
    assert near.startswith("flowchart TB\n")
    assert "… 1 more" in near
    assert pulpo("graph", "jobs.py", "-o", "graph.md").stdout == "written to graph.md\n"
    assert (tmp_path / "graph.md").read_text().startswith("```mermaid\nflowchart TB\n")


def test_the_graph_goes_to_a_file(pulpo: Pulpo, tmp_path: Path) -> None:
    assert pulpo("graph", "jobs.py", "--output", "graph.svg").stdout == "written to graph.svg\n"
    assert "<svg" in (tmp_path / "graph.svg").read_text()


def test_the_plan_is_json_on_its_own_and_the_rest_goes_elsewhere(
    pulpo: Pulpo, tmp_path: Path
) -> None:
    result = pulpo("compile", "jobs.py", "--json")
    assert result.returncode == 0, result.stderr
    document = PlanDocument.model_validate_json(result.stdout)
    assert [operation.name for operation in document.operations] == ["load.raw", "clean"]
    assert document.operations[0].cell == "jobs.py:17"
    assert "flows exported to run_cache/" in result.stderr
    manifest = json.loads((tmp_path / "run_cache/manifest.json").read_text())
    assert manifest["plan"]["edges"] == json.loads(result.stdout)["edges"]
    assert pulpo("compile", "jobs.py", "--json", "--dry-run").stdout == result.stdout


def test_a_blocked_plan_is_json_too_and_ends_with_1(pulpo: Pulpo, tmp_path: Path) -> None:
    more = '\n@operation(name="other")\ndef other() -> Raw:\n    return Raw(1)\n'
    (tmp_path / "jobs.py").write_text(MODULE + more)
    result = pulpo("compile", "jobs.py", "--json")
    fails(result, "--bind data=load.raw")
    assert json.loads(result.stdout)["problems"][0]["code"] == "ambiguous-port"
    assert not (tmp_path / "run_cache").exists()


def test_a_diff_ends_with_0_when_nothing_changed_and_with_1_when_something_did(
    pulpo: Pulpo, tmp_path: Path
) -> None:
    none = pulpo("diff", "jobs.py")
    assert (none.returncode, none.stderr) == (1, "")
    assert none.stdout.startswith("No export in run_cache/ yet")
    pulpo("compile", "jobs.py")
    same = pulpo("diff", "jobs.py")
    assert same.returncode == 0, same.stderr
    assert same.stdout == "Nothing has changed since the last export to run_cache/.\n"
    (tmp_path / "jobs.py").write_text(MODULE.replace("retries=1", "retries=2"))
    other = pulpo("diff", "jobs.py", "--json")
    assert (other.returncode, other.stderr) == (1, "")
    content = json.loads(other.stdout)
    assert content["operations"][0]["details"] == ["retries 1 → 2"]
    assert [file["name"] for file in content["files"]] == ["orchestration/load_flow.py"]


def test_the_exit_status_of_a_diff_is_in_its_help(pulpo: Pulpo) -> None:
    said = " ".join(pulpo("diff", "--help").stdout.split())
    assert "exit status is 0 when nothing did, and 1 when something did" in said


@pytest.mark.slow
def test_a_notebook_is_compared_with_its_export(pulpo: Pulpo, tmp_path: Path) -> None:
    cells = ["%load_ext pulpo", "%%operation a.f\ndef f(x: int = 1) -> int:\n    return x"]
    notebook(tmp_path / "book.ipynb", *cells)
    assert pulpo("compile", "book.ipynb").returncode == 0
    same = pulpo("diff", "book.ipynb")
    assert (same.returncode, same.stderr) == (0, "")
    notebook(tmp_path / "book.ipynb", *cells[:1], "1", cells[1].replace("= 1", "= 2"))
    other = pulpo("diff", "book.ipynb")
    assert (other.returncode, other.stderr) == (1, "")
    assert "~ a.f" in other.stdout
    assert "parameter x: default 1 → 2" in other.stdout


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
        (["graph", "jobs.py", "--around", "claen"], ["Did you mean 'clean'?"]),
        (["graph", "jobs.py", "--hops", "2"], ["--around OPERATION"]),
        (["graph", "jobs.py", "--mermaid", "-o", "graph.svg"], [".mmd or .md"]),
        (["compile", "jobs.py", "--flow", "lod"], ["no flow or group 'lod'", "'load'"]),
        (["run", "jobs.py", "--param", "number"], ["--param takes NAME=VALUE"]),
        (["run", "jobs.py", "--param", "numbr=1"], ["Did you mean 'number'?"]),
        (["run", "jobs.py", "--only", "clean"], ["needs raw (the result of load.raw)", "--upto"]),
        (["run", "jobs.py", "--engine", "lokal"], ["engine is one of", "'local'"]),
        (["run", "jobs.py", "--engine", "local", "--runner", "ray"], ["--runner ray", "leave one"]),
        (["run", "jobs.py", "--flow", "clean"], ["'clean' is an operation", "--only clean"]),
        (["compile", "jobs.py", "--upto", "claen"], ["no operation 'claen'", "'clean'"]),
        (["graph", "jobs.py", "--from", "load"], ["'load' is a group", "load.raw"]),
        (["compile", "jobs.py", "--runner", "threds"], ["runner is one of", "'threads'"]),
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


def test_a_selection_is_compiled_drawn_and_exported(pulpo: Pulpo, tmp_path: Path) -> None:
    result = pulpo("compile", "jobs.py", "--from", "clean", "--runner", "threads")
    assert result.returncode == 0, result.stderr
    assert "main_flow(raw: Raw)" in result.stdout
    assert "main_flow.py --raw FILE.json" in result.stdout
    assert "ThreadPool" in (tmp_path / "run_cache/orchestration/main_flow.py").read_text()
    assert not (tmp_path / "run_cache/orchestration/load_flow.py").exists()
    again = pulpo("compile", "jobs.py", "--flow", "load", "--upto", "load.raw,clean")
    assert (
        "1 flow exported to run_cache/, and made anew: main_flow, standalones_flow" in again.stdout
    )
    drawn = pulpo("graph", "jobs.py", "--only", "clean").stdout
    assert "load.raw -[Raw]-> clean" in drawn
    assert "load_flow" not in drawn


@pytest.mark.slow
def test_what_an_export_would_refuse_is_checked_and_frozen(pulpo: Pulpo, tmp_path: Path) -> None:
    cells = [
        "%load_ext pulpo",
        "import time\nnow = time.time()",
        "%%operation late\ndef late(x: int = 1) -> float:\n    return now",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, tmp_path / "late.ipynb")
    assert pulpo("check", "late.ipynb").returncode == 0
    checked = pulpo("check", "late.ipynb", "--export", "--json")
    assert checked.returncode == 1
    [problem] = json.loads(checked.stdout)["problems"]
    assert (problem["code"], problem["operation"]) == ("cannot-carry", "late")
    refused = pulpo("compile", "late.ipynb")
    assert refused.returncode == 1
    assert "--freeze now" in refused.stderr
    assert pulpo("compile", "late.ipynb", "--freeze", "now").returncode == 0
    assert "now = 1" in (tmp_path / "run_cache/operations.py").read_text()


def test_a_flat_compile_makes_one_flow(pulpo: Pulpo, tmp_path: Path) -> None:
    assert "1 flow from 2 operations" in pulpo("compile", "jobs.py", "--flat").stdout
    names = [path.name for path in (tmp_path / "run_cache/orchestration").glob("*_flow.py")]
    assert names == ["main_flow.py"]


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


def test_a_module_runs_without_prefect(pulpo: Pulpo) -> None:
    result = pulpo("run", "jobs.py", "--param", "number=5", "--engine", "local")
    assert result.returncode == 0, result.stderr
    assert "main_flow: done" in result.stdout
    assert result.stdout.rstrip().endswith("Clean(number=10)")


@pytest.mark.slow
@pytest.mark.prefect
def test_a_module_runs_on_prefect(pulpo: Pulpo) -> None:
    result = pulpo("run", "jobs.py", "--param", "number=5")
    assert result.returncode == 0, result.stderr
    assert "load.raw" in result.stdout
    assert "done" in result.stdout


@pytest.mark.slow
@pytest.mark.prefect
def test_a_part_of_a_module_runs_with_what_was_cut_as_json(pulpo: Pulpo) -> None:
    result = pulpo("run", "jobs.py", "--only", "clean", "--param", 'raw={"number": 21}')
    assert result.returncode == 0, result.stderr
    assert "Clean(number=42)" in result.stdout
    assert "load.raw" not in result.stdout


# --- check ------------------------------------------------------------------------------------

BROKEN = """
import time


@operation(name="load.more")
async def more() -> Raw:
    time.sleep(1)
    return Raw(4)
"""


def test_a_module_without_problems_passes_the_check(pulpo: Pulpo) -> None:
    result = pulpo("check", "jobs.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "No problems in 2 operations.\n"


def test_the_check_ends_with_status_1_when_a_problem_is_an_error(
    pulpo: Pulpo, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text(MODULE + BROKEN)
    result = pulpo("check", "jobs.py")
    fails(result, "the check found 1 error and 1 warning in 3 operations.")
    assert "jobs.py:22: operation 'clean': the port 'data' takes one Raw" in result.stdout
    assert "jobs.py:29: async operation 'load.more' calls time.sleep (line 31)" in result.stdout
    assert result.stdout.endswith("1 error and 1 warning in 3 operations.\n")


def test_warnings_alone_pass_the_check(pulpo: Pulpo, tmp_path: Path) -> None:
    slow = MODULE.replace("def raw", "async def raw").replace(
        "    return Raw", "    input()\n    return Raw"
    )
    (tmp_path / "jobs.py").write_text(slow)
    result = pulpo("check", "jobs.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 warning in 2 operations." in result.stdout


def test_the_check_is_for_machines_too(pulpo: Pulpo, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(MODULE + BROKEN)
    result = pulpo("check", "jobs.py", "--json")
    assert result.returncode == 1
    content = json.loads(result.stdout)
    assert (content["errors"], content["warnings"], content["notes"]) == (1, 1, 0)
    assert content["problems"][0]["code"] == "ambiguous-port"


@pytest.mark.slow
def test_a_notebook_is_checked_with_its_cells(pulpo: Pulpo, tmp_path: Path) -> None:
    notebook(
        tmp_path / "book.ipynb",
        "%load_ext pulpo",
        "from dataclasses import dataclass\n@dataclass\nclass Raw:\n    number: int",
        "%%operation load\ndef load() -> Raw:\n    return Raw(1)",
        "@dataclass\nclass Raw:\n    number: str",
        "run = %pulpo run",
    )
    result = pulpo("check", "book.ipynb")
    assert result.returncode == 0, result.stderr
    assert "cell 3: operation 'load' is stale: cell 4 changed Raw" in result.stdout
    assert "→ Run cell 3 again." in result.stdout
