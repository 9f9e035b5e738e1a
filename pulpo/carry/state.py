"""What calls left behind in functions and generators of numbers; an export starts without it."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pulpo.carry.pieces import Piece
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.values import DIGEST

__all__ = ["KEPT", "Kept", "kept_by", "late_future", "stale_caches"]

#: Defines ``kept``, here and in a fresh process: the digests of plain data that a function, or an
#: object of a class of the module called ``home``, holds from one call to the next.
KEPT = f"""{DIGEST}
def plain(value, depth=20):
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return True
    if depth == 0:
        return False
    if type(value) in (list, tuple, set):
        return all(plain(one, depth - 1) for one in list(value))
    return type(value) is dict and all(
        plain(one, depth - 1) for pair in list(value.items()) for one in pair
    )

def kept(value, home):
    import types

    if isinstance(value, types.ModuleType):  # of random numbers
        import pickle

        state = value.getstate() if hasattr(value, "getstate") else value.get_state()
        return {{"": digest(pickle.dumps(state))}}
    found, seen = {{}}, []

    def look(one, path):
        if len(seen) > 100 or any(one is other for other in seen):
            return
        seen.append(one)
        own = True
        if isinstance(one, types.FunctionType):
            own = one.__globals__.get("__name__") == home  # a library's wrapper counts for itself
            inside = dict(vars(one))
            for name, cell in zip(one.__code__.co_freevars, one.__closure__ or ()):
                try:
                    inside[name] = cell.cell_contents
                except ValueError:  # not set yet
                    pass
        elif type(one).__module__ == home:
            inside = dict(getattr(one, "__dict__", {{}}))
        else:
            return
        for name, held in inside.items():
            told = path if name == "__wrapped__" else f"{{path}}.{{name}}" if path else str(name)
            if not plain(held):
                look(held, told)
            elif not own:
                continue
            elif isinstance(held, (list, tuple, set, dict, str, bytes)) and len(held) > 10000:
                found[told] = f"much: {{len(held)}}"
            else:
                found[told] = digest(held)

    look(value, "")
    return found
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What something keeps, here and now.

    Parameters
    ----------
    cell
        The cell that defined it.
    digests
        By what the function calls it; see `KEPT`.
    """

    cell: int | str
    digests: Mapping[str, str]

    def warnings(self, name: str, there: Mapping[str, str]) -> Iterator[str]:
        """Say what differs from what a fresh process has."""
        other = [key for key, digest in self.digests.items() if there.get(key) != digest]
        if "" in other:
            yield (
                f"numbers were drawn from {name!r} since cell {self.cell} seeded it, and the "
                "export starts right after the seed: seed it inside the operation for equal "
                "numbers everywhere"
            )
        elif other:
            what = " and ".join(map(repr, other[:3]))
            yield (
                f"{name!r} keeps {what}, which calls or cells have changed: the export starts with "
                f"what the text gives; run cell {self.cell} again to see that here"
            )


def kept_by(recorder: Recorder, pieces: Iterable[Piece]) -> dict[str, Kept]:
    """Return what the functions and seeded generators in carried text keep, by their names."""
    found: dict[str, Kept] = {}
    scope = _scope()
    home = recorder.namespace.get("__name__", "__main__")
    for piece in pieces:
        for name, value in _holders(piece, recorder):
            try:
                digests = scope["kept"](value, home)
            except Exception:  # a user's object that fails when it is looked at
                continue
            if digests:
                found[name] = Kept(cell=piece.statement.cell, digests=digests)
    return found


@functools.cache
def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(KEPT, scope)
    return scope


def _holders(piece: Piece, recorder: Recorder) -> Iterator[tuple[str, object]]:
    statement = piece.statement
    if isinstance(statement.node, ast.Expr):
        yield from _seeded(statement.node.value, recorder)
    if piece.renamed:
        return
    defines = isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef)
    for name in statement.binds:
        value = statement.bound[name].kept() if name in statement.bound else None
        if (defines or isinstance(value, types.FunctionType)) and value is not None:
            yield name, value


def _seeded(node: ast.expr, recorder: Recorder) -> Iterator[tuple[str, object]]:
    """Yield the module in ``np.random.seed(…)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        chain = ast.unparse(node.func.value)
        root, *rest = chain.split(".")
        value = recorder.namespace.get(root)
        for part in rest:
            value = getattr(value, part, None)
        modules = ("random", "numpy.random")
        if node.func.attr == "seed" and getattr(value, "__name__", "") in modules:
            yield chain, value


def stale_caches(recorder: Recorder, pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield a warning for each ``lru_cache`` with results from before something was redefined."""
    for piece in pieces:
        for name in piece.statement.binds:
            function: Any = recorder.namespace.get(name)
            if not callable(getattr(function, "cache_info", None)):
                continue
            other = _newer(piece, recorder)
            size = getattr(function.cache_info(), "currsize", 0)
            if other is not None and size:
                yield (
                    f"{name!r} may remember results from before {other.binds[0]!r} was defined "
                    f"again (cell {other.cell}), which the export does not: {name}.cache_clear() "
                    "shows the same here"
                )


def _newer(piece: Piece, recorder: Recorder) -> Statement | None:
    """Return what a piece needs, directly or not, that had another text when it was defined."""
    waiting, seen = [piece], {piece}
    for one in waiting:
        statement = one.statement
        for name in statement.binds:
            history = recorder.by_name.get(name, [])
            before = [each for each in history if each.index < piece.statement.index]
            newer = statement.index > piece.statement.index
            if newer and before and before[-1].text != statement.text:
                return statement
        more = [each for each in (*one.later, *one.now) if each not in seen]
        seen.update(more)
        waiting += more
    return None


def late_future(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield a warning for annotations that were values here and are texts in the export."""
    pieces = list(pieces)
    future = [piece for piece in pieces if piece.statement.future]
    if not future:
        return
    before = [
        piece.label
        for piece in pieces
        if not piece.statement.future and any(map(_is_annotated, ast.walk(piece.node)))
    ]
    if before:
        names = ", ".join(map(repr, before[:5]))
        yield (
            f"'from __future__ import annotations' holds for a whole file, and here it came after "
            f"{names}: their annotations are texts in the export. Run its cell first, and theirs "
            "again"
        )


def _is_annotated(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.returns is not None
    return isinstance(node, ast.AnnAssign) or (
        isinstance(node, ast.arg) and node.annotation is not None
    )
