"""What the README says holds: its cells run in a real kernel, its export without the notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def cells() -> list[str]:
    """Return the code of "Ten minutes", a cell each."""
    part = README.partition("## Ten minutes")[2].partition("| type |")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


def test_every_subcommand_is_in_the_readme() -> None:
    from pulpo.magics.commands import COMMANDS

    missing = [name for name in COMMANDS if name not in README]
    assert missing == []


def test_every_command_is_in_the_readme() -> None:
    from pulpo.cli import app

    names = [command.name or "" for command in app.registered_commands]
    names += [group.name or "" for group in app.registered_groups]
    assert [name for name in names if f"pulpo {name}" not in README and name != "version"] == []


@pytest.mark.slow
@pytest.mark.prefect
def test_the_cells_of_the_readme_run_and_their_export_runs_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = [
        *cells(),
        "run = %pulpo run --param query=python\nprint(run['scraping.merge'].titles)",
        "%pulpo export",
    ]
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in code]
    NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in book.cells for output in cell.outputs)
    assert "['Data engineer', 'python analyst', 'python developer']" in printed
    script = tmp_path / "run_cache/orchestration/main_flow.py"
    result = subprocess.run(
        [sys.executable, "-I", str(script), "--query", "python"],
        cwd=home,
        env={**os.environ, "PREFECT_HOME": str(home / "prefect"), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert '"Python Developer"' in result.stdout
