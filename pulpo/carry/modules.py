"""Which modules an export can import: the standard library, installed ones, those beside it."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

__all__ = ["Modules", "installed", "is_type_checking"]


@dataclass(slots=True)
class Modules:
    """Answers for one export, which stands below ``root``."""

    root: Path | None
    _known: dict[str, str] = field(default_factory=dict)

    def unreachable_file(self, name: str) -> str:
        """Return the file of a module that the export could not import, or ``""``."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def beside(self, name: str) -> str:
        """Return what stands beside the export for a top-level module, ``""`` for others."""
        if name in sys.stdlib_module_names or not name:
            return ""
        file = _file_of(name)
        if file is None or self._is_installed(file) or not self._is_beside(name, file):
            return ""
        return f"{name}.py" if file.name == f"{name}.py" else f"{name}/"

    def reached(self, text: str) -> dict[str, str]:
        """Return the modules that a text imports, and what those beside it import in turn.

        Returns
        -------
        dict
            Modules with their dots, each with the module that imports it, ``""`` for the text. Of
            what the others import, that is left out which is not there: nothing that ran can have
            needed it.
        """
        found = dict.fromkeys(sorted(set(self._imports(ast.parse(text), ""))), "")
        waiting = [*found]
        for name in waiting:
            for other in self._imported_by(name) if self.beside(name.partition(".")[0]) else ():
                if other not in found and (self._path(other) or _is_there(other)):
                    found[other] = name
                    waiting.append(other)
        return found

    def way_in(self, name: str) -> str:
        """Return what to do so that the export can import an unreachable module."""
        if Modules(Path.cwd()).beside(name.partition(".")[0]):
            return "Export to a folder that stands beside it, or install it."
        return "Move it beside the notebook, or install it."

    def is_third_party(self, name: str) -> bool:
        """Tell whether a top-level module has to be installed."""
        if name in sys.stdlib_module_names or name in sys.builtin_module_names:
            return False
        file = _file_of(name)
        return file is None or not self._is_beside(name, file)

    def _imported_by(self, name: str) -> Iterator[str]:
        yield from (name.rsplit(".", up)[0] for up in range(1, name.count(".") + 1))
        file = self._path(name)
        if file is None:
            return
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        with suppress(SyntaxError, ValueError, OSError):  # then nothing has imported it
            yield from self._imports(ast.parse(file.read_bytes()), package)

    def _imports(self, tree: ast.Module, package: str) -> Iterator[str]:
        """Give the modules that the imports in a module of a package name."""
        for node in _import_statements(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            inside = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (inside, node.module) if part)
            yield module
            inner = (f"{module}.{alias.name}" for alias in node.names)
            yield from (each for each in inner if self._path(each))

    def _path(self, name: str) -> Path | None:
        """Return the file that a module has beside the export."""
        if self.root is None:
            return None
        place = self.root.resolve().joinpath(*name.split("."))
        files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
        return next((file for file in files if file.is_file()), None)

    def _look(self, name: str) -> str:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            return ""
        file = _file_of(name)
        if file is None or self._is_installed(file) or self._is_beside(name, file):
            return ""
        # Installed in editable mode, perhaps: ask a Python that knows nothing of this session.
        return "" if _file_elsewhere(top) == _file_of(top) else str(file)

    def _is_installed(self, file: Path) -> bool:
        return str(file).startswith(installed())

    def _is_beside(self, name: str, file: Path) -> bool:
        if self.root is None:
            return False
        place = self.root.resolve().joinpath(*name.split("."))
        return file in (place.with_name(f"{place.name}.py"), place / "__init__.py", place)


def is_type_checking(node: ast.stmt) -> bool:
    """Tell whether a statement is ``if TYPE_CHECKING``, which never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from _import_statements(ast.Module([other], []))
        elif not isinstance(child, ast.expr):
            yield from _import_statements(child)


@functools.cache
def installed() -> tuple[str, ...]:
    """Return how the files of installed modules, the standard library and pulpo begin."""
    paths = sysconfig.get_paths()
    named = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])]
    return tuple(f"{Path(folder).resolve()}{os.sep}" for folder in named)


def _is_there(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.modules or _file_of(top) is not None


def _file_of(name: str) -> Path | None:
    """Return a module's file (a namespace package's folder), None when it has none."""
    module: ModuleType | None = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if file is None and spec is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
    if file is None and spec is not None:
        file = spec.origin if spec.has_location else None
        if file is None and spec.submodule_search_locations:
            file = next(iter(spec.submodule_search_locations), None)
    return Path(file).resolve() if file else None


def _file_elsewhere(name: str) -> Path | None:
    code = f"import importlib.util as u; print(getattr(u.find_spec({name!r}), 'origin', ''))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return Path(done.stdout.strip()).resolve() if done.stdout.strip() else None
