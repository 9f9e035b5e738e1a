"""Files and folders that carried text looks for in the folder that an export is run in."""

from __future__ import annotations

import ast
import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.purity import Purity

__all__ = ["pickles", "relative_paths"]

# A text without one of these names no file.
_MAY_NAME_ONE = re.compile(r"['\"]|cwd|listdir|scandir|walk|Path|glob|open|join|read_")
# In a call of these, a word is a folder's name.
_MAKES_A_PATH = frozenset(("Path", "PurePath", "join", "glob", "listdir", "scandir", "chdir"))
# A file's name may be put together for these.
_OPENS = re.compile(
    r"open|read_\w+|scan_\w+|load\w*|Path|PurePath|join|exists|is_?file|is_?dir|i?glob|listdir"
    r"|scandir|walk|connect|stat|getsize|getmtime"
)
# A parameter of such a name takes a path.
_TAKES_A_PATH = re.compile(r"(?i).*(?:path|file|folder|dir|directory|root|base|src|source)s?")


def relative_paths(pieces: Iterable[Piece], purity: Purity, folder: Path) -> Iterator[str]:
    """Yield a warning for what names a file below ``folder``, or asks which folder it runs in."""
    for piece in pieces:
        if piece.kind is Kind.IMPORT or not _MAY_NAME_ONE.search(piece.text):
            continue
        looks = _Looks(piece, purity, folder)
        for node in ast.walk(piece.node):
            if type(node) not in (ast.Constant, ast.Call, ast.arguments):
                continue
            for text in looks.names(node):
                yield (
                    f"{text} (in {piece.label!r}) is looked for in the folder that the export is "
                    "run in, not beside the notebook"
                )
            for text in looks.asks(node):
                yield (
                    f"{text} (in {piece.label!r}) means the folder that the export is run in, not "
                    "that of the notebook"
                )


_LOADS = re.compile(r"pickle|joblib|dill|load")
#: How much of a file is looked through.
_LOOKED_AT = 10_000_000


def pickles(pieces: Iterable[Piece], folder: Path) -> Iterator[str]:
    """Yield a warning for each pickle of what the notebook defines that carried text names."""
    pieces = [piece for piece in pieces if piece.kind is not Kind.IMPORT]
    if not any(_LOADS.search(piece.text) for piece in pieces):
        return
    for piece in pieces:
        for node in ast.walk(piece.node):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and 1 < len(text) < 200 and _is_of_main(folder, text):
                yield (
                    f"{text!r} (in {piece.label!r}) is a pickle of what the notebook defines, and "
                    "in the export that is in another module: it cannot be read there. Write it as "
                    "data, or define its class in a module beside the notebook"
                )


def _is_of_main(folder: Path, text: str) -> bool:
    try:
        with (folder / text).open("rb") as file:
            return file.read(1) == b"\x80" and b"__main__" in file.read(_LOOKED_AT)
    except (OSError, ValueError):
        return False


class _Looks:
    """What one piece of text looks for in a folder."""

    def __init__(self, piece: Piece, purity: Purity, folder: Path) -> None:
        self._folder = folder
        self._purity = purity
        self._globals = frozenset((*piece.names.now, *piece.names.later))
        self._defines = isinstance(
            piece.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        )

    def names(self, node: ast.AST) -> Iterator[str]:
        """Yield, as they are written, the names of files that are there."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if self._is_there(node.value, file=True):
                yield repr(node.value)
        elif isinstance(node, ast.Call) and node.args:
            yield from self._named(node, node.args[0])
        elif isinstance(node, ast.arguments):
            yield from (repr(text) for text in _defaults(node) if self._is_there(text, file=False))

    def _named(self, node: ast.Call, first: ast.expr) -> Iterator[str]:
        called = _called(node)
        text = self._text(first)
        if called in _MAKES_A_PATH and text is not None and self._is_there(text, file=False):
            yield repr(text)
        elif isinstance(first, ast.JoinedStr) and _OPENS.fullmatch(called):
            if self._matches(self._pattern(first)):
                yield ast.unparse(first)
        elif text is not None and self._globs(node) and self._matches(text):
            yield repr(text)

    def asks(self, node: ast.AST) -> Iterator[str]:
        """Yield, as they are written, what stands for the folder itself."""
        if isinstance(node, ast.arguments):
            yield from (repr(text) for text in _defaults(node) if _is_here(text))
        if not isinstance(node, ast.Call):
            return
        called = _called(node)
        text = self._text(node.args[0]) if node.args else None
        here = text is not None and _is_here(text)
        if called in ("getcwd", "getcwdb", "cwd"):
            function = self._purity.value_of(node.func)
            asks = any(function is one for one in (os.getcwd, os.getcwdb))
            if self._defines and (asks or self._is_path_class(node.func, "cwd")):
                yield ast.unparse(node)
        elif here or not node.args:
            always = here or called in ("listdir", "scandir")
            if self._is_path_class(node.func) or (always and self._is_of_os(node.func)):
                yield ast.unparse(node)

    def _value(self, node: ast.AST) -> object:
        if isinstance(node, ast.Name) and node.id in self._globals:
            return self._purity.value_of(node)
        return None

    def _text(self, node: ast.AST) -> str | None:
        """Return a text, also that which a name of the session holds."""
        value = node.value if isinstance(node, ast.Constant) else self._value(node)
        return value if isinstance(value, str) else None

    def _is_path_class(self, node: ast.AST, method: str = "") -> bool:
        if method:
            if not isinstance(node, ast.Attribute):
                return False
            node = node.value
        value = self._purity.value_of(node)
        return isinstance(value, type) and issubclass(value, PurePath)

    def _is_of_os(self, node: ast.AST) -> bool:
        value = self._purity.value_of(node)
        return getattr(value, "__module__", "") in (os.name, "os", os.path.__name__, "genericpath")

    def _globs(self, node: ast.Call) -> bool:
        value = self._purity.value_of(node.func)
        elsewhere = any(one.arg == "root_dir" for one in node.keywords)
        return any(value is one for one in (glob.glob, glob.iglob)) and not elsewhere

    def _pattern(self, node: ast.JoinedStr) -> str:
        """Return what a text that is put together matches; ``""`` when its start is not known."""
        found = ""
        for part in node.values:
            text = self._text(part.value if isinstance(part, ast.FormattedValue) else part)
            if text is None and not found:
                return ""
            found += "*" if text is None else glob.escape(text)
        return re.sub(r"\*+", "*", found)

    def _matches(self, pattern: str) -> bool:
        if not pattern or "://" in pattern or os.path.isabs(pattern) or pattern[0] == "~":
            return False
        try:
            return next(glob.iglob(pattern, root_dir=self._folder), None) is not None
        except (OSError, ValueError):
            return False

    def _is_there(self, text: str, *, file: bool) -> bool:
        if not 0 < len(text) < 200 or "\n" in text or "\0" in text or _is_here(text):
            return False
        path = Path(text)
        if path.is_absolute() or (file and not path.suffix and len(path.parts) < 2):
            return False  # a word is no path, though a file may be called like it
        try:
            place = self._folder / path
            return place.is_file() if file else place.is_dir()
        except OSError:
            return False


def _called(node: ast.Call) -> str:
    name: str = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
    return name


def _is_here(text: str) -> bool:
    """Tell whether a text is ``"."``, ``".."`` or ``"./"``."""
    return text.strip("./") == "" and text[:1] == "."


def _defaults(node: ast.arguments) -> Iterator[str]:
    """Yield the texts that are defaults of parameters which take a path."""
    positional = [*node.posonlyargs, *node.args][-len(node.defaults) :] if node.defaults else []
    pairs = [
        *zip(positional, node.defaults, strict=True),
        *zip(node.kwonlyargs, node.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        text = default.value if isinstance(default, ast.Constant) else None
        if isinstance(text, str) and _TAKES_A_PATH.fullmatch(argument.arg):
            yield text
