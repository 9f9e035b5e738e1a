"""A notebook without a kernel: cells run in a namespace, the recorder watches."""

from __future__ import annotations
import __future__

import ast
import contextlib
import linecache
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pulpo.carry import Carried, Recorder, carry
from pulpo.loading import cells_of_export
from pulpo.plan import Node


class Notebook:
    """Cells are numbered from 1 in the order in which they run."""

    def __init__(self, *cells: str) -> None:
        # A kernel's namespace is that of the module __main__, where pydantic looks names up;
        # conftest.py puts the real one back.
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        self.names: dict[str, Any] = vars(module)
        self.names["__pulpo_operation__"] = lambda line: None
        self.recorder = Recorder(self.names)
        self.count = 0
        self._flags = 0
        for cell in cells:
            self.run(cell)

    def run(self, source: str, *, fails: bool = False, identity: str = "") -> None:
        """Run a cell as IPython does: statement by statement, the future import sticks."""
        self.count += 1
        file = f"<cell {self.count}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        failed_line = None
        try:
            for node in ast.parse(source).body:
                failed_line = node.lineno
                code = compile(
                    ast.Module(body=[node], type_ignores=[]),
                    file,
                    "exec",
                    flags=self._flags,
                    dont_inherit=True,
                )
                self._flags |= code.co_flags & __future__.annotations.compiler_flag
                exec(code, self.names)
            failed_line = None
        except Exception:
            if not fails:
                raise
        self.recorder.record(source, cell=self.count, failed_line=failed_line, identity=identity)

    def carry(self, *functions: str, root: Path | None = None, also: Iterable[str] = ()) -> Carried:
        """Carry functions; each is named after itself."""
        carried = carry(
            self.recorder, {name: self.names[name] for name in functions}, root=root, also=also
        )
        self._comes_back(carried, root, also)
        return carried

    def _comes_back(self, carried: Carried, root: Path | None, also: Iterable[str]) -> None:
        """Check that the text, loaded as cells and carried again, is the same text."""
        table = "".join(f"    {name!r}: {of},\n" for name, of in carried.identifiers.items())
        operations = [Node(name=name, function=name) for name in carried.identifiers]
        text = f"{carried.text}\n\nOPERATIONS = {{\n{table}}}\n"
        with _own_main(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # accessors are registered once more
            try:
                exec(carried.text, vars(sys.modules["__main__"]))
            except Exception:
                return  # of random sessions only: an export tries the text too, and is not written
        with _own_main(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells = [cell.text for cell in cells_of_export(text, operations, "there").cells]
            book = Notebook(*(cell for cell in map(_body, cells) if cell))
            functions = {name: eval(of, book.names) for name, of in carried.identifiers.items()}
            again = carry(book.recorder, functions, root=root, also=also)
        assert again.text == carried.text

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


@contextlib.contextmanager
def _own_main() -> Iterator[None]:
    before = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _body(cell: str) -> str:
    """Return a cell without its magic, or nothing where it only declares."""
    declares = cell.startswith(("pulpo.operation(", "import pulpo"))
    return "" if declares else re.sub(r"^%%operation .*\n(    .*\n)*", "", cell)


def run_elsewhere(carried: Carried, expression: str, folder: Path) -> str:
    """Return what an expression prints in a fresh process, in another folder."""
    (folder / "elsewhere").mkdir(exist_ok=True)
    file = folder / "elsewhere" / "carried.py"
    file.write_text(f"{carried.text}\n\nprint(repr({expression}))\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder / "elsewhere",
    )
    assert done.returncode == 0, f"{carried.text}\n{done.stderr}"
    return done.stdout.rstrip("\n")


def run_here(carried: Carried, expression: str) -> str:
    """Return the same from a namespace of its own in this process, which is quicker."""
    module = types.ModuleType("carried")
    sys.modules["carried"] = module  # dataclasses and pydantic look their module up
    try:
        code = compile(carried.text, "<carried>", "exec", dont_inherit=True)
        try:
            exec(code, vars(module))
        except Exception as error:
            raise ImportError(f"{error!r}\n{carried.text}") from error
        return repr(eval(expression, vars(module)))
    finally:
        del sys.modules["carried"]
