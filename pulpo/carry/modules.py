"""Which modules an export can import: the standard library, installed ones, those beside it."""

from __future__ import annotations

import importlib.util
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

__all__ = ["Modules"]


@dataclass(slots=True)
class Modules:
    """Answers for one export, which stands below ``root``."""

    root: Path | None
    _known: dict[str, str] = field(default_factory=dict)
    _folders: list[Path] = field(default_factory=list)

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

    def is_third_party(self, name: str) -> bool:
        """Tell whether a top-level module has to be installed."""
        if name in sys.stdlib_module_names or name in sys.builtin_module_names:
            return False
        file = _file_of(name)
        return file is None or not self._is_beside(name, file)

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
        if not self._folders:
            paths = sysconfig.get_paths()
            named = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
            named += [*site.getsitepackages(), site.getusersitepackages()]
            self._folders = [Path(folder).resolve() for folder in named]
        return any(file.is_relative_to(folder) for folder in self._folders)

    def _is_beside(self, name: str, file: Path) -> bool:
        if self.root is None:
            return False
        place = self.root.resolve().joinpath(*name.split("."))
        return file in (place.with_name(f"{place.name}.py"), place / "__init__.py", place)


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
