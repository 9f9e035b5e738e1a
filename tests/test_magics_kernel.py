"""The magics in a real kernel, as a notebook's frontend drives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from kernels import SECONDS, Kernel, started
from nbclient import NotebookClient

NBVAL = Path(__file__).parent.parent / "pulpo/nbval.cfg"
MODELS = """
%load_ext pulpo
from typing import NewType
Raw = NewType("Raw", dict)
Clean = NewType("Clean", dict)
"""
FETCH = "%%operation load.fetch\ndef fetch(query: str) -> Raw:\n    return {'query': query}"
CLEAN = "%%operation load.clean\ndef clean(raw: Raw) -> Clean:\n    return {**raw, 'clean': True}"


@pytest.fixture
def kernel(private_env: dict[str, str], tmp_path: Path) -> Iterator[Kernel]:
    with started(private_env | {"PULPO_NO_WARMUP": "1"}, tmp_path) as made:
        made.run(MODELS)
        yield made


def test_cells_answer_fail_and_are_renamed(kernel: Kernel) -> None:
    signature = "f(raw: Raw) -> Clean"
    cell = "def f(raw: Raw) -> Clean:\n    return 1 / 0"
    (answer,) = kernel.run(f"%%operation a.f\n{cell}", identity="one")
    assert (answer["type"], answer["data"]) == (
        "display_data",
        {"text/plain": f"a.f: {signature}"},
    )

    renamed = kernel.text(f"%%operation a.g\n{cell}", identity="one")
    assert renamed.startswith(f"a.g: {signature}")
    assert "a.f" in renamed

    (error,) = kernel.run("f({})")
    assert error["ename"] == "ZeroDivisionError"
    assert "line 3" in "\n".join(error["traceback"])

    (error,) = kernel.run("%%operation ../x\ndef g(raw: Raw): ...")
    assert (error["type"], error["ename"]) == ("error", "InvalidNameError")
    assert len(error["traceback"]) == 1
    assert "\n" not in error["traceback"][0]

    request = kernel.send("%%operation a.f\nawait later")
    reply = kernel.client.get_shell_msg(timeout=SECONDS)
    while reply["parent_header"].get("msg_id") != request:
        reply = kernel.client.get_shell_msg(timeout=SECONDS)
    assert reply["content"]["status"] == "error"
    assert kernel.text(
        "'g' in dir(), [o.name for o in __import__('pulpo').OperationRegistry.list_all()]"
    ) == ("(False, ['a.g'])")


def test_a_module_that_fails_to_import_declares_nothing(kernel: Kernel, tmp_path: Path) -> None:
    text = "import pulpo\n@pulpo.operation\ndef load() -> int:\n    return 1\n"
    (tmp_path / "steps.py").write_text(f"{text}1 / 0\n")
    kernel.run(MODELS)
    kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True")
    kernel.run(FETCH)
    assert "ZeroDivisionError" in kernel.text("import steps")
    assert "load sync" not in kernel.text("%pulpo graph --text")
    # What other code made, of a module that nobody can import, is none of that cell's business.
    kernel.run(
        "import pulpo\nscope = {'__name__': 'made_up'}\n"
        "exec('def made() -> int: return 1', scope)\npulpo.operation(scope['made'])"
    )
    assert "ZeroDivisionError" in kernel.text("import steps")
    assert "made sync" in kernel.text("%pulpo graph --text")
    (tmp_path / "steps.py").write_text(text)
    assert kernel.text("import steps") == ""
    assert "load sync" in kernel.text("%pulpo graph --text")


def test_a_frontend_completes_through_the_kernel(kernel: Kernel) -> None:
    kernel.run(FETCH)
    request = kernel.client.complete("%pulpo show load.", 17)
    reply = kernel.client.get_shell_msg(timeout=SECONDS)
    while reply["parent_header"].get("msg_id") != request:
        reply = kernel.client.get_shell_msg(timeout=SECONDS)
    content = reply["content"]
    assert content["matches"] == ["load.fetch"]
    assert (content["cursor_start"], content["cursor_end"]) == (12, 17)


def test_the_debugger_finds_the_cell(kernel: Kernel) -> None:
    source = "%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return raw"
    kernel.run(source)
    same = kernel.text(
        "from ipykernel.compiler import get_file_name\n"
        f"f.__code__.co_filename == get_file_name({source!r})"
    )
    assert same == "True"


@pytest.mark.prefect
@pytest.mark.slow
def test_runs_are_awaited_and_fall_back_to_a_thread(kernel: Kernel) -> None:
    kernel.run(FETCH)
    kernel.run(CLEAN)
    outputs = kernel.run(
        """
        import asyncio
        home = asyncio.get_running_loop()
        run = %pulpo run load --param query=python
        run["load.clean"]
        """
    )
    assert outputs[-1]["data"]["text/plain"] == "{'query': 'python', 'clean': True}"
    shown = [output for output in outputs if "display" in output["type"]]
    assert {output["data"]["text/plain"] for output in shown} == {"load_flow: 2 operations"}
    assert len({output["transient"]["display_id"] for output in shown}) == 1
    assert "done 2/2" in shown[-1]["data"]["text/html"]
    assert [output["type"] for output in outputs if "display" in output["type"]].count(
        "display_data"
    ) == 1

    # What they print is kept, and not in the cell.
    kernel.run(CLEAN.replace("    return", "    print('cleaning')\n    return"))
    outputs = kernel.run("run = %pulpo run load --param query=python\nprint('mine')")
    assert [output["text"] for output in outputs if output["type"] == "stream"] == ["mine\n"]
    assert "load.clean printed 1 line: run.logs('load.clean')" in kernel.text("run")
    assert "load.clean: cleaning" in kernel.text("run.logs('load.clean')")
    tree = kernel.text("import pulpo\npulpo.last_run().graph()")
    assert "fetch sync (query: str) → Raw  ✓ done" in tree
    assert "-[Raw]-> load.clean" in tree
    kernel.run(CLEAN)

    # Its own loop runs the operations where that is possible, and another one elsewhere.
    kernel.run(
        """
        %%operation load.where
        async def where(raw: Raw):
            loops.append(asyncio.get_running_loop())
        """
    )
    kernel.run("loops = []")
    kernel.run("home = __import__('asyncio').get_event_loop()\n%pulpo run --param query=x")
    kernel.run(
        """
        def call():
            result = %pulpo run --param query=x
            return result
        kept = call()
        """
    )
    kernel.run("%%time\nkept = %pulpo run --param query=x")
    kernel.run("%autoawait off\n")
    kernel.run("%pulpo run --param query=x")
    kernel.run("%autoawait asyncio\n")
    assert kernel.text("[loop is home for loop in loops]") == "[True, False, False, False]"
    assert kernel.text("kept['load.fetch']") == "{'query': 'x'}"

    kernel.run("raw = {'live': 1}")
    kernel.run("%pulpo remove load.fetch")
    assert kernel.text("run = %pulpo run --param raw=@raw\nrun['load.clean']").endswith(
        "{'live': 1, 'clean': True}"
    )


@pytest.mark.prefect
@pytest.mark.slow
def test_a_failing_run_and_an_interrupted_run_leave_the_kernel_usable(kernel: Kernel) -> None:
    kernel.run("%%operation a.f\ndef f() -> Raw:\n    return 1 / 0")
    kernel.run("%%operation a.g\ndef g(raw: Raw) -> Clean: ...")
    outputs = kernel.run("%pulpo run")
    assert outputs[-1]["type"] == "error"
    assert outputs[-1]["ename"] == "OperationFailedError"
    traceback = "\n".join(outputs[-1]["traceback"])
    assert "return 1 / 0" in traceback
    assert "a.g" in traceback

    kernel.run("%%operation a.f\nasync def f() -> Raw:\n    await __import__('asyncio').sleep(600)")
    request = kernel.send("%pulpo run")
    until_shown(kernel, "running 0/2: a.f")
    kernel.manager.interrupt_kernel()
    outputs = kernel.outputs(request)
    assert outputs[-1]["type"] == "error"
    assert outputs[-1]["ename"] in ("RunInterrupted", "KeyboardInterrupt")
    assert kernel.text("1 + 1") == "2"


def test_a_run_without_prefect_is_awaited_interrupted_and_shown(kernel: Kernel) -> None:
    kernel.run("import asyncio, sys, time\nhome = asyncio.get_running_loop()\nloops = []")
    kernel.run(FETCH)
    kernel.run(CLEAN.replace("    return", "    print('cleaning')\n    return"))
    kernel.run(
        """
        %%operation load.where
        async def where(raw: Raw):
            loops.append(asyncio.get_running_loop())
        """
    )
    outputs = kernel.run("run = %pulpo run load --engine local --param query=python\nprint('mine')")
    assert [output["text"] for output in outputs if output["type"] == "stream"] == ["mine\n"]
    shown = [output for output in outputs if "display" in output["type"]]
    assert "done 3/3" in shown[-1]["data"]["text/html"]
    assert kernel.text("run['load.clean']") == "{'query': 'python', 'clean': True}"
    assert kernel.text("run.logs('load.clean')") == "['load.clean: cleaning']"
    kernel.run("%%time\nkept = %pulpo run --engine local --param query=x")
    kernel.run("import pulpo\nkept = pulpo.run(query='y', engine='local')")
    assert kernel.text("kept['load.fetch'], loops[0] is home, loops[-1] is home") == (
        "({'query': 'y'}, True, False)"
    )

    header = "%%operation load.fetch\n"
    for cell in (
        "async def fetch(query: str) -> Raw:\n    await asyncio.sleep(600)",
        "def fetch(query: str) -> Raw:\n    while True:\n        time.sleep(0.01)",
    ):
        kernel.run(header + cell)
        request = kernel.send("%pulpo run --engine local --param query=x")
        until_shown(kernel, "running 0/3: load.fetch")
        kernel.manager.interrupt_kernel()
        (*_, error) = kernel.outputs(request)
        assert error["ename"] in ("RunInterrupted", "KeyboardInterrupt")
        assert kernel.text("pulpo.last_run().states['load.fetch']") == "'cancelled'"
    assert kernel.text("[name for name in sys.modules if name == 'prefect']") == "[]"


def until_shown(kernel: Kernel, text: str) -> None:
    """Wait until a display tells of something."""
    while True:
        message = kernel.client.get_iopub_msg(timeout=SECONDS)
        if text in message["content"].get("data", {}).get("text/html", ""):
            return


# --- nbval --------------------------------------------------------------------------------------


def written(path: Path, cells: list[str], *, allow_errors: bool = False) -> Path:
    """Write a notebook with the outputs that running it gives."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    )
    NotebookClient(notebook, allow_errors=allow_errors, kernel_name="python3").execute()
    nbformat.write(notebook, path)
    return path


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
        timeout=300,
    )


@pytest.mark.prefect
@pytest.mark.slow
def test_strict_nbval_passes_a_notebook_that_runs(private_home: Path, tmp_path: Path) -> None:
    cells = [
        MODELS,
        FETCH,
        CLEAN,
        "%pulpo compile",
        "%pulpo list",
        "%pulpo graph --text",
        "%pulpo run --param query=python",
        "%pulpo help run",
    ]
    path = written(tmp_path / "runs.ipynb", cells)
    done = nbval(path, "--nbval", "--nbval-sanitize-with", str(NBVAL))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_nbval_fails_every_cell_whose_magic_failed(private_home: Path, tmp_path: Path) -> None:
    cells = [
        "%load_ext pulpo",
        "%%operation a.f --retires 2\ndef f(): ...",
        "%pulpo complie",
        "%pulpo show nothing",
    ]
    path = written(tmp_path / "fails.ipynb", cells, allow_errors=True)
    done = nbval(path, "--nbval-lax")
    assert done.returncode == 1, done.stdout
    assert "3 failed, 1 passed" in done.stdout
