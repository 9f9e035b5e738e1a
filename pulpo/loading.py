"""Reads what is not in the session: modules and exports, which become ``%%operation`` cells."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import re
import shlex
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .backends.document import Part, declaration
from .carry.closure import stood_in_for
from .carry.names import names_of
from .carry.text import join, rename_function, split, strip_decorators
from .errors import ExportError, PulpoError, UnknownNameError, UsageError, did_you_mean
from .exports import MANIFEST, read_export, read_manifest
from .operations import Operation
from .plan import Node, TaskOptions
from .registry import OperationRegistry

__all__ = [
    "Cell",
    "Cells",
    "cells_of_export",
    "cells_of_module",
    "flag_line",
    "import_source",
    "load",
    "near",
    "notebook",
]

_WIDTH = 100
_RELATIVE = re.compile(r"^from\s+\.[.\s]*((?!import\b)\w[\w.]*)?\s*")
_OURS = ("OPERATIONS", "_no_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell, and what it binds and declares."""

    text: str
    binds: tuple[str, ...] = ()
    operation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What was loaded.

    Parameters
    ----------
    title
        What the whole is, in one line.
    cells
        In the order in which they have to run.
    notes
        What is not as it was there.
    flags
        What an export needs, besides, to be the same again.
    doc
        What a module says of itself.
    by_code
        Operations that the module's own code declares when its cells run.
    """

    title: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    doc: str = ""
    by_code: tuple[str, ...] = ()

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that the cells declare, those of `by_code` last."""
        own = [cell.operation for cell in self.cells if cell.operation]
        return tuple(dict.fromkeys([*own, *self.by_code]))


@dataclass(slots=True)
class _Part:
    """A statement with the comments around it."""

    node: ast.stmt
    text: str

    @property
    def function(self) -> str:
        """The name of the function that it defines, if that is what it does."""
        is_one = isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef)
        return getattr(self.node, "name", "") if is_one else ""

    @property
    def binds(self) -> tuple[str, ...]:
        node = self.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return (node.name,)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return ()
        if isinstance(node, ast.Import | ast.ImportFrom):
            return tuple(a.asname or a.name.partition(".")[0] for a in node.names)
        return names_of(node).binds


def load(source: str | Path | None, folder: Path, registry: OperationRegistry) -> Cells:
    """Return an export, or a module with operations, as cells.

    Parameters
    ----------
    source
        The folder of an export; or a module, by its path or its dotted name. It is executed, which
        declares its operations, but it is neither imported nor are they kept.
    folder
        The export folder when no source is given.
    registry
        Where the operations of a module are declared, until it is read.

    Raises
    ------
    ExportError, UnknownNameError, UsageError
        When there is no such thing, or it cannot be read.
    """
    path = Path(source) if source else folder
    if path.suffix == ".ipynb":
        raise UsageError(f"{path} is a notebook: its cells are what would be loaded.")
    if path.is_dir() or not source:
        return _load_export(path)
    return _load_module(str(source), registry)


def _load_export(path: Path) -> Cells:
    existing = read_export(path)
    if existing is None:
        also = " To load the operations of a package, name one of its modules." * path.is_dir()
        raise UnknownNameError(
            f"there is no export in {path}/: it has no {MANIFEST}.{near(path)}{also}"
        )
    manifest = read_manifest(existing.manifest, path.name)
    if "operations.py" not in existing.texts:
        raise ExportError(f"{path}/ has no operations.py. Export again.")
    operations = [declaration(operation) for operation in manifest.plan.operations]
    cells = cells_of_export(existing.texts["operations.py"], operations, str(path))
    notes = list(cells.notes)
    if "operations.py" in existing.edited:
        notes.insert(0, "operations.py was edited by hand after the export: loaded as it is now")
    parts = list(manifest.parts.values())
    if any(part != parts[0] for part in parts):
        notes.append("its flows were exported one by one; manifest.json says how, under 'parts'")
    flags = [word for part in parts[:1] for word in _part_flags(part)]
    flags += [word for name in manifest.freeze for word in ("--freeze", name)]
    return replace(cells, notes=tuple(notes), flags=tuple(flags))


def _part_flags(part: Part) -> list[str]:
    """Return the flags of ``export`` that ask for a part."""
    named = (("--upto", part.upto), ("--from", part.from_), ("--only", part.only))
    flags = [word for flag, names in named for name in names for word in (flag, name)]
    flags += ["--flat"] if part.flat else []
    return [*flags, "--runner", part.runner] if part.runner != "async" else flags


def cells_of_export(text: str, operations: Sequence[Node], title: str) -> Cells:
    """Return the cells of an export's ``operations.py``.

    Parameters
    ----------
    text
        The file, as it is now.
    operations
        The operations as its manifest has them, in order.

    Raises
    ------
    ExportError
        When the file is no Python, or does not hold what the manifest tells of.
    """
    parts = _read(text, title)
    table = _table(parts, title)
    notes = []
    kept = []
    for node in operations:
        if node.name not in table:
            raise ExportError(
                f"{title} has no operation {node.name!r} in its operations.py, though its manifest "
                "tells of it. Export again."
            )
        if isinstance(table[node.name], ast.Call):
            notes.append(f"operation {node.name!r} was exported without its source: left out")
        else:
            kept.append(node)
    functions = {node.name: ast.unparse(table[node.name]) for node in kept}
    own = [part for part in parts if not _is_of_the_export(part)]
    bound = {name for part in own for name in part.binds}
    for name, function in functions.items():
        if _root(function) not in bound:
            raise ExportError(
                f"the operations.py of {title} names {function!r} as the function of operation "
                f"{name!r}, and does not define it. Give it that name again."
            )
    cells = _Writer(kept, functions).write(_as_before(own))
    return Cells(title=title, cells=cells, notes=tuple(notes))


def _load_module(source: str, registry: OperationRegistry) -> Cells:
    name = _module_of(source)
    found = _spec(name, source)
    if found.submodule_search_locations or not (found.origin or "").endswith(".py"):
        raise UsageError(f"{source} is no single module: name one, such as {name}.jobs.")
    with _told(source):
        text = importlib.util.decode_source(Path(found.origin or "").read_bytes())
    before = registry.list_all()
    try:
        module = _executed(found, source)
        declared = [o for o in registry if isinstance(o, Operation)]
    finally:
        known = {operation.name for operation in before}
        others = [o for o in registry if getattr(o.function, "__module__", "") != name]
        registry.restore([*before, *(o for o in others if o.name not in known)])
    return cells_of_module(module, text, declared)


def cells_of_module(module: types.ModuleType, text: str, operations: Iterable[Operation]) -> Cells:
    """Return the cells of a module: what ``@operation`` decorates becomes ``%%operation`` cells.

    Parameters
    ----------
    module
        The executed module.
    text
        Its source.
    operations
        What was declared; those whose functions stand in the module are its own.

    Raises
    ------
    ExportError, UsageError
        When the text is no Python; when it declares no operation.
    """
    name = module.__name__
    own: dict[str, Node] = {}
    for operation in operations:
        function = operation.function
        own_name = getattr(function, "__qualname__", "")
        if function is not None and getattr(module, own_name, None) is function:
            own[own_name] = operation.node
    kept: list[_Part] = []
    decorated: list[Node] = []
    notes = []
    for part in _read(text, name):
        if _is_main(part.node):
            notes.append("'if __name__ == \"__main__\":' is left out: in a notebook it would run")
            continue
        mine = {ast.unparse(d) for d in _decorators(part.node) if _declares(d, module)}
        if mine and part.function in own:
            bare = strip_decorators(part.text, lambda one, mine=mine: ast.unparse(one) in mine)  # type: ignore[misc]
            part = _Part(ast.parse(bare).body[0], bare)
            decorated.append(own[part.function])
        kept.append(_absolute(part, module.__package__ or ""))
    by_code = tuple(
        each.name
        for each in operations
        if getattr(each.function, "__module__", "") == name and each.node not in decorated
    )
    if not decorated and not by_code:
        raise UsageError(f"{name} declares no operation: there is nothing to load.")
    if by_code:
        told = ", ".join(map(repr, by_code))
        notes.append(f"declared by the module's own code, which is as it was: {told}")
    notes += _left_behind(text, module.__package__ or "")
    used = {n.id for part in kept for n in ast.walk(part.node) if isinstance(n, ast.Name)}
    kept = [part for part in kept if not _is_unused_pulpo(part.node, used)]
    cells = _Writer(decorated, {node.name: node.function for node in decorated}).write(kept)
    doc = ast.get_docstring(ast.parse(text)) or ""
    return Cells(
        title=name, cells=cells, notes=tuple(dict.fromkeys(notes)), doc=doc, by_code=by_code
    )


def _left_behind(text: str, package: str) -> Iterator[str]:
    """Yield what a module has where it stands, and a notebook has not."""
    for number, line in enumerate(text.split("\n"), start=1):
        if "__file__" in line:
            yield f"line {number} uses '__file__', which a notebook does not have: write the path"
    nodes = ast.walk(ast.parse(text))
    if any(isinstance(node, ast.ImportFrom) and node.level for node in nodes):
        root = package.partition(".")[0]
        yield f"it imports from its package: run it where {root!r} can be imported"


def notebook(cells: Cells) -> str:
    """Return a notebook of the cells, as the text of an ``.ipynb`` file."""
    import nbformat

    new = nbformat.v4
    made = new.new_notebook(  # type: ignore[no-untyped-call]
        cells=[
            *([new.new_markdown_cell(cells.doc)] if cells.doc else []),  # type: ignore[no-untyped-call]
            new.new_code_cell("%load_ext pulpo"),  # type: ignore[no-untyped-call]
            *(new.new_code_cell(cell.text) for cell in cells.cells),  # type: ignore[no-untyped-call]
        ],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
    )
    for number, cell in enumerate(made.cells, start=1):
        cell.id = f"cell-{number}"  # else the same export would give another file each time
    return nbformat.writes(made) + "\n"  # type: ignore[no-untyped-call,no-any-return]


# --- Sources --------------------------------------------------------------------------------------


def import_source(source: str) -> None:
    """Import a module or package by its path or its dotted name, and every module in it.

    Raises
    ------
    UnknownNameError, UsageError
        When there is none, or it cannot be imported.
    PulpoError
        What a declaration in it raises.
    """
    name = _module_of(source)
    with _told(source):
        module = importlib.import_module(name)
        for _, inner, _ in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
            importlib.import_module(inner)


def _module_of(source: str) -> str:
    """Return a module's dotted name, and let its folder be found."""
    path = Path(source)
    if path.suffix == ".py" or path.is_dir() or "/" in source or os.sep in source:
        if not path.exists():
            raise UnknownNameError(f"there is no file or folder {source!r}.{near(path)}")
        folder = path.absolute().parent
        name = path.stem
        while (folder / "__init__.py").exists():
            name, folder = f"{folder.name}.{name}", folder.parent
    else:
        name, folder = source, Path.cwd()
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{source!r} cannot be imported: {name!r} is no module name. Rename it.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return name


@contextlib.contextmanager
def _told(source: str) -> Iterator[None]:
    """Let an error of a module be told in one line."""
    try:
        yield
    except PulpoError:
        raise
    except Exception as error:
        raise UsageError(
            f"{source!r} cannot be imported: {type(error).__name__}: {error}{_line_of(error)}"
        ) from error


def _spec(name: str, source: str) -> importlib.machinery.ModuleSpec:
    with _told(source):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
    if found is None:
        raise UnknownNameError(f"there is no export and no module {source!r}.{near(Path(source))}")
    return found


def _executed(spec: importlib.machinery.ModuleSpec, source: str) -> types.ModuleType:
    """Execute a module of its own: the one that others may have imported stays as it is."""
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # as dataclasses look for it
    try:
        with _told(source):
            assert spec.loader is not None
            spec.loader.exec_module(module)
    finally:
        if before is None:
            sys.modules.pop(spec.name, None)
        else:
            sys.modules[spec.name] = before
    return module


def near(path: Path) -> str:
    """Return the question whether another file of the folder was meant."""
    with contextlib.suppress(OSError):
        return did_you_mean(path.name, [each.name for each in path.parent.iterdir()])
    return ""


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # it says its own place
    traceback, place = error.__traceback__, ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__:
            place = f" ({Path(file).name}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return place


# --- Reading --------------------------------------------------------------------------------------


def _read(text: str, title: str) -> list[_Part]:
    try:
        parts = [_Part(node, part) for node, part in split(text)]
    except SyntaxError as error:
        raise ExportError(
            f"the source of {title} cannot be read: {error.msg} (line {error.lineno})."
        ) from error
    if parts and ast.get_docstring(ast.parse(text), clean=False) is not None:
        del parts[0]
    return parts


def _table(parts: Iterable[_Part], title: str) -> dict[str, ast.expr]:
    """Return the function of each operation, as ``OPERATIONS`` has it."""
    for part in parts:
        node = part.node
        if part.binds != ("OPERATIONS",) or not isinstance(node, ast.Assign):
            continue
        if isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {str(k.value): v for k, v in pairs if isinstance(k, ast.Constant)}
    raise ExportError(
        f"the operations.py of {title} has no table OPERATIONS, which tells what the operations "
        "are. Export again."
    )


def _is_of_the_export(part: _Part) -> bool:
    return part.binds in [(name,) for name in _OURS] or part.text == "display = print"


def _as_before(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Yield the statements with pulpo's own names where the export has stand-ins for them."""
    for part in parts:
        line = stood_in_for(part.text)
        yield _Part(ast.parse(line).body[0], line) if line else part


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__ == '__main__'")


def _decorators(node: ast.stmt) -> list[ast.expr]:
    return list(getattr(node, "decorator_list", ()))


def _declares(decorator: ast.expr, module: types.ModuleType) -> bool:
    """Tell whether a decorator is pulpo's ``operation``, by whatever name the module has it."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    found: Any = module
    for name in ast.unparse(node).split("."):
        found = getattr(found, name, None)
    return getattr(found, "__module__", "") == "pulpo.registry"


def _is_unused_pulpo(node: ast.stmt, used: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom):
        ours = (node.module or "").partition(".")[0] == "pulpo"
    else:
        ours = isinstance(node, ast.Import) and all(
            alias.name.partition(".")[0] == "pulpo" for alias in node.names
        )
    return ours and used.isdisjoint(_Part(node, "").binds)


def _absolute(part: _Part, package: str) -> _Part:
    """Return the statement with ``from .models import`` spelled out: a notebook has no package."""
    imports = [n for n in ast.walk(part.node) if isinstance(n, ast.ImportFrom) and n.level]
    if not imports:
        return part
    text = part.text
    # The statement's own line in its text: comments may stand above it.
    above = ast.parse(text).body[0].lineno - part.node.lineno
    lines = text.split("\n")
    for node in imports:
        name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        row, column = node.lineno + above - 1, node.col_offset
        raw = lines[row].encode()
        rest = _RELATIVE.sub(f"from {name} ", raw[column:].decode(), count=1)
        lines[row] = raw[:column].decode() + rest
    text = "\n".join(lines)
    return _Part(ast.parse(text).body[0], text)


# --- Writing --------------------------------------------------------------------------------------


class _Writer:
    """Writes cells so that the operations are declared in their order.

    ``%%operation`` declares a function where it stands. Where that is too early, where it is no
    ``def``, or has flags that the magic cannot spell, ``pulpo.operation`` declares it.

    Parameters
    ----------
    operations
        What is to be declared, in order.
    functions
        The expression that is the function of each.
    """

    def __init__(self, operations: Sequence[Node], functions: Mapping[str, str]) -> None:
        self._left = deque(operations)
        self._functions = functions
        self._cells: list[Cell] = []
        self._bound: set[str] = set()
        #: Names that functions have back, which had others in the export.
        self._renamed: set[str] = set()
        #: The cells of what kept its name there.
        self._kept: dict[str, Cell] = {}

    def write(self, parts: Iterable[_Part]) -> tuple[Cell, ...]:
        """Return the cells of these statements."""
        parts = list(parts)
        last = {name: part for part in parts for name in part.binds}
        loose: list[_Part] = []
        for part, following in zip_longest(parts, parts[1:]):
            alone = isinstance(part.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            again = [each for each in loose if not set(part.binds).isdisjoint(each.binds)]
            # What reads the first of two values stays in one cell with both, as it was written.
            together = not alone and (not again or _only_assigns([part, *again]))
            if loose and (not together or _is_import(part) != _is_import(loose[-1])):
                self._add_plain(loose)
                loose = []
            if not alone:
                loose.append(part)
            elif last[part.binds[0]] is not part or not self._add_operation(part):
                self._add_plain([part])
            self._bound.update(name for name in part.binds if last[name] is part)
            in_imports = _is_import(part) and following is not None and _is_import(following)
            if not in_imports and self._is_ready():
                self._add_plain(loose)
                loose = []
                self._declare()
        self._add_plain(loose)
        self._declare(always=True)
        for name in self._renamed:  # the newest of a name has to be the one that had it there
            latest = next(cell for cell in reversed(self._cells) if name in cell.binds)
            if latest is not self._kept.get(name, latest):
                self._cells.append(self._kept[name])
        if any(cell.text.startswith("pulpo.operation(") for cell in self._cells):
            self._cells.insert(0, Cell(text="import pulpo", binds=("pulpo",)))
        return tuple(self._cells)

    def _add_plain(self, parts: Sequence[_Part]) -> None:
        if parts:
            text = join(part.text for part in parts).rstrip("\n")
            self._add(Cell(text=text, binds=tuple(name for part in parts for name in part.binds)))

    def _add(self, cell: Cell) -> None:
        self._cells.append(cell)
        self._kept.update(dict.fromkeys(cell.binds, cell))

    def _add_operation(self, part: _Part) -> bool:
        """Add the ``%%operation`` cell of a function, when it is its turn."""
        if not self._left or self._functions[self._left[0].name] != part.function:
            return False
        node = self._left[0]
        line = flag_line(node)
        if line is None:
            return False
        self._left.popleft()
        if node.function == part.function:
            head = f"%%operation {line}\n"
            self._add(Cell(text=head + part.text, binds=part.binds, operation=node.name))
        else:
            self._renamed.add(node.function)
            text = f"%%operation {line}\n{rename_function(part.text, node.function)}"
            self._cells.append(Cell(text=text, binds=(node.function,), operation=node.name))
        return True

    def _is_ready(self) -> bool:
        """Tell whether the next function is there, though not in a cell of its own."""
        return bool(self._left) and _root(self._functions[self._left[0].name]) in self._bound

    def _declare(self, *, always: bool = False) -> None:
        while self._is_ready() or (always and self._left):
            node = self._left.popleft()
            text = _call(node, self._functions[node.name])
            self._cells.append(Cell(text=text, operation=node.name))


def _only_assigns(parts: Iterable[_Part]) -> bool:
    return all(isinstance(part.node, ast.Assign | ast.AnnAssign) for part in parts)


def _root(expression: str) -> str:
    return expression.partition(".")[0]


def _is_import(part: _Part) -> bool:
    return isinstance(part.node, ast.Import | ast.ImportFrom)


# --- Flags ----------------------------------------------------------------------------------------


def flag_line(node: Node) -> str | None:
    """Return what stands after ``%%operation``; None when flags cannot say it.

    Lines longer than 100 characters are continued by a backslash.
    """
    declared = dict(node.declared)
    if not all(declared.values()):  # 'outputs=[]'
        return None
    given: list[tuple[str, str]] = []
    for flag, value in _given(node):
        if isinstance(value, tuple) and flag != "bind":
            if any("," in one or one != one.strip() or not one for one in value):
                return None
            given += [(flag, one) for one in value]
        elif isinstance(value, tuple):
            given += [(flag, f"{port}={operation}") for port, operation in value]
        else:
            given.append((flag, f"{value:g}" if isinstance(value, float) else str(value)))
    if any("\n" in value or "\r" in value for _, value in given):
        return None
    words = [node.name, *(_flag(flag.replace("_", "-"), value) for flag, value in given)]
    lines, most = [""], _WIDTH - len("%%operation " + " \\")
    for word in words:
        if lines[-1] and len(f"{lines[-1]} {word}") > most:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)


def _flag(flag: str, value: str) -> str:
    # A value that begins with a hyphen would be taken for a flag.
    return f"--{flag}={_quoted(value)}" if value.startswith("-") else f"--{flag} {_quoted(value)}"


def _quoted(word: str) -> str:
    quoted = shlex.quote(word)
    if quoted != word and "'" in word and not set(word) & set('"\\'):
        return f'"{word}"'
    return quoted


def _given(node: Node) -> Iterator[tuple[str, Any]]:
    """Yield the flags that were given, by the names that `pulpo.operation` has for them."""
    yield from node.declared
    for each in fields(TaskOptions):
        value = getattr(node.options, each.name)
        if value != each.default:
            yield each.name, value


def _call(node: Node, function: str) -> str:
    words: list[tuple[str, Any]] = [("name", node.name)]
    for flag, value in _given(node):
        plain = [*value] if isinstance(value, tuple) and flag != "bind" else value
        words.append((flag, dict(plain) if flag == "bind" else plain))
    inner = ", ".join(f"{flag}={value!r}" for flag, value in words)
    if len(inner) + len(function) > _WIDTH - 22:
        inner = "".join(f"\n    {flag}={value!r}," for flag, value in words) + "\n"
    return f"pulpo.operation({inner})({function});"
