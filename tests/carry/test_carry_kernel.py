"""The case table as people meet it: a real kernel, an export, a fresh process in another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from kernels import SECONDS, Kernel

from .test_carry_cases import CASES

pytestmark = pytest.mark.slow

#: What is refused here, since these functions are operations, and why.
REFUSED = {"an import for type checkers": "it is imported for type checkers only"}
#: The table has a stand-in for IPython, where a kernel has the real one.
INSTEAD = {
    "magics beside it": [
        "%time x = 1\ndef f(): return x\n!echo done",
        "%%operation x --retries 2\ndef op(): return f()",
    ]
}
#: A cell has a running event loop, and some cases start one.
LIVE = """
import concurrent.futures as _futures
print(_futures.ThreadPoolExecutor().submit(lambda: repr({call})).result())
"""
ELSEWHERE = """
import sys
sys.path.insert(0, ".")
from jobs import operations
print(repr(eval({call!r}, vars(operations))))
"""


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    folder = str(tmp_path_factory.mktemp("kernel"))
    private = {"IPYTHONDIR": folder, "HOME": folder, "PULPO_NO_WARMUP": "1"}
    manager = KernelManager()
    manager.start_kernel(cwd=folder, env={**os.environ, **private})
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


@pytest.fixture
def kernel(manager: KernelManager) -> Iterator[Kernel]:
    manager.restart_kernel(now=True)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()


@pytest.mark.parametrize("name", CASES)
def test_what_a_kernel_exports_gives_elsewhere_what_it_gives_there(
    name: str, kernel: Kernel, tmp_path: Path
) -> None:
    case = CASES[name]
    cells = INSTEAD.get(name, case.cells)
    declare = "import pulpo\npulpo.operation(name='table.op')(op);"
    said = [kernel.text(cell) for cell in ["%load_ext pulpo", *cells, declare]]
    live = kernel.text(LIVE.format(call=case.call))
    said.append(kernel.text(f"%pulpo export --to {tmp_path}/jobs"))
    if name in REFUSED:
        assert REFUSED[name] in said[-1]
        assert not (tmp_path / "jobs").exists()
        return
    assert "exported to" in said[-1], said
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "jobs", elsewhere / "jobs")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE.format(call=case.call)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=elsewhere,
    )
    assert done.stdout.strip() == live, (said, done.stderr)


def test_what_a_class_made_before_its_cell_ran_again_is_told(
    kernel: Kernel, tmp_path: Path
) -> None:
    cell = "class Part: ...\nclass Whole:\n    pass"
    kernel.run(f"%load_ext pulpo\nimport enum\n{cell}\nE = enum.Enum('E', 'A B')")
    kernel.run("part, many, kind = Part(), {'whole': Whole()}, E.A")
    kernel.run("%%operation a.op\ndef op() -> bool:\n    return isinstance(part, Part), many, kind")
    quiet = kernel.text(f"%pulpo export --to {tmp_path / 'quiet'}")
    assert "before its cell ran again" not in quiet
    kernel.run(cell)
    said = kernel.text(f"%pulpo export --to {tmp_path / 'said'}")
    for name in ("part", "many"):
        assert f"'{name}' holds what a class made before its cell ran again" in said
    assert "run cell 2 again" in said
    kernel.run("part, many, kind = Part(), {'whole': Whole()}, E.A")
    again = kernel.text(f"%pulpo export --to {tmp_path / 'again'}")
    assert "before its cell ran again" not in again
