"""The record kept by a real IPython shell, and what is carried out of the two notebooks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell

from pulpo.carry import Recorder, carry, verify
from pulpo.errors import CarryError

from .notebook import run_here

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


class Shell:
    """A shell with the hook and the input transformer that the magics install."""

    def __init__(self) -> None:
        self.ip = InteractiveShell.instance()
        self.ip.reset()
        self.ip.user_ns["__pulpo_operation__"] = lambda line: None
        self.recorder = Recorder(self.ip.user_ns)
        self.ip.input_transformers_cleanup.insert(0, _swap)
        self.ip.events.register("post_run_cell", self._record)

    def _record(self, result: Any) -> None:
        info: ExecutionInfo = result.info
        failed = result.error_in_exec or result.error_before_exec
        line = None
        frame = failed.__traceback__ if failed is not None else None
        while frame is not None:
            if frame.tb_frame.f_globals is self.ip.user_ns and line is None:
                line = frame.tb_lineno
            frame = frame.tb_next
        source = info.transformed_cell if info.transformed_cell is not None else ""
        self.recorder.record(source, cell=self.ip.execution_count, failed_line=line)

    def run(self, *cells: str, fails: bool = False) -> None:
        for cell in cells:
            result = self.ip.run_cell(cell, store_history=True)
            assert fails or result.success, result.error_in_exec or result.error_before_exec

    def carry(self, *names: str, root: Path | None = None) -> Any:
        functions = {name: self.ip.user_ns[name] for name in names}
        return carry(self.recorder, functions, root=root)

    def close(self) -> None:
        self.ip.events.unregister("post_run_cell", self._record)
        self.ip.input_transformers_cleanup.remove(_swap)
        self.ip.reset()
        self.ip.history_manager.end_session()
        self.ip.restore_sys_module_state()
        InteractiveShell.clear_instance()


def _swap(lines: list[str]) -> list[str]:
    match = re.match(r"%%?operation\s+(.*)", lines[0]) if lines else None
    return [f"__pulpo_operation__({match[1].strip()!r})\n", *lines[1:]] if match else lines


@pytest.fixture
def shell(private_home: Path) -> Iterator[Shell]:
    hook = sys.displayhook
    made = Shell()
    yield made
    made.close()
    sys.displayhook = hook


def test_a_cell_with_the_magic_is_carried_without_it(shell: Shell) -> None:
    shell.run(
        "%load_ext autoreload\nimport json",
        "%%operation scraping.merge --retries 2\n# merge\ndef merge(x=1):\n    return json.dumps(x)"
        "  # text",
    )
    carried = shell.carry("merge")
    assert carried.text == (
        "import json\n\n\n# merge\ndef merge(x=1):\n    return json.dumps(x)  # text\n"
    )


def test_cells_with_await_magics_and_shell_lines_are_recorded_around_them(shell: Shell) -> None:
    shell.run(
        "import asyncio\nLIMIT = 3\nfiles = !echo a\nvalue = await asyncio.sleep(0, 5)",
        "%time\ndef f(): return LIMIT",
        "%pwd\ndef op(): return f()\nop()",
        "def reads(): return files\ndef waits(): return value\ndef last(): return _",
    )
    assert run_here(shell.carry("op"), "op()") == "3"
    with pytest.raises(CarryError, match=r"cannot carry 'files'.*by a magic or shell command"):
        shell.carry("reads")
    with pytest.raises(CarryError, match=r"cannot carry 'value'.*by await asyncio\.sleep"):
        shell.carry("waits")
    with pytest.raises(CarryError, match=r"cannot carry '_'.*IPython's history"):
        shell.carry("last")


def test_the_first_statements_of_a_failed_cell_are_carried(shell: Shell) -> None:
    shell.run("def f(): return 1")
    shell.run("def f(): return 2\ndef op(): return f()\n1 / 0\ndef f(): return 3", fails=True)
    assert run_here(shell.carry("op"), "op()") == "2"


def test_the_future_import_sticks_to_later_cells(shell: Shell) -> None:
    shell.run("from __future__ import annotations", "def op(x: Nowhere = 1): return x")
    carried = shell.carry("op")
    assert carried.text.startswith("from __future__ import annotations\n")
    assert run_here(carried, "op.__annotations__") == "{'x': 'Nowhere'}"


def test_a_magic_in_an_operation_is_refused(shell: Shell) -> None:
    shell.run("def op():\n    !ls\n    return 1")
    with pytest.raises(CarryError, match=r"cannot carry 'get_ipython' .*a % or ! line"):
        shell.carry("op")


def test_open_in_a_shell_is_the_builtin(shell: Shell) -> None:
    shell.run("import os\ndef op():\n    with open(os.devnull) as f: return f.read()")
    assert run_here(shell.carry("op"), "op()") == "''"


def test_models_are_carried_with_their_references(shell: Shell) -> None:
    shell.run(
        "from pydantic import BaseModel",
        "class Tree(BaseModel):\n    leaves: list['Leaf'] = []",
        "class Leaf(BaseModel):\n    n: int = 1",
        "def op() -> Tree: return Tree(leaves=[Leaf()])",
    )
    live = repr(shell.ip.user_ns["op"]())
    assert run_here(shell.carry("op"), "op()") == live


def test_what_run_defines_is_refused(shell: Shell, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("rate = 3\ndef from_script(): return 1\n")
    shell.run(f"%run {script}", "def op(): return rate")
    with pytest.raises(CarryError, match="no recorded cell made"):
        shell.carry("op")


OPERATIONS = re.compile(r"^%%operation[^\n]*\n.*?^(?:async )?def (\w+)", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["01_job_scraping.ipynb", "02_two_cities.ipynb"])
def test_the_operations_of_a_notebook_run_in_a_fresh_process(
    shell: Shell, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    # What uses pulpo, the server or a result is not needed to define the operations.
    starts = ("import", "from", "%%operation", "class", "def", "Temps")
    definitions = [one for one in sources if one.startswith(starts) and "JobServer" not in one]
    definitions = [one for one in definitions if "main_flow" not in one]
    shell.run(*definitions)
    operations = [match[1] for one in definitions if (match := OPERATIONS.search(one))]
    assert len(operations) >= 6
    carried = shell.carry(*operations, root=NOTEBOOKS)
    assert carried.warnings == ()
    verify(carried.text, NOTEBOOKS)
    for source in definitions:
        for line in source.split("\n"):
            if "  # " in line:
                assert line in carried.text
