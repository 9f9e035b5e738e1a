"""What carried text finds set otherwise in a fresh process: settings, the environment, seeds.

Lines that set something are told by `pulpo.carry.effects`; what functions, loops, aliases and
modules did is found by comparing the settings themselves.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.process import settings
from pulpo.carry.purity import Purity, call_text
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.text import is_marked
from pulpo.carry.values import attribute

__all__ = [
    "Settings",
    "carried_lines",
    "command_line",
    "drawn_from",
    "environment",
    "is_named",
    "seeds",
    "settings_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What settings are here that were others when the record began.

    Parameters
    ----------
    changed
        By package and how they are read.
    loggers
        The names of the loggers that the text names.
    imports
        Modules that functions import, and whose settings a fresh process has to tell.
    """

    changed: Mapping[str, Mapping[str, str]]
    loggers: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    def warnings(self, there: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        """Say what is another setting in a fresh process."""
        for package, here in self.changed.items():
            known = there.get(package)
            if known is None:  # nothing there uses it
                continue
            other = sorted(key for key, value in here.items() if known.get(key) != value)
            if other:
                more = f" (nor are {len(other) - 3} more)" if len(other) > 3 else ""
                # A line that sets it by another name, ctx.prec = 4, is refused.
                full = f" in full, {other[0]} = …" if package in _BY_ATTRIBUTE else ""
                yield (
                    f"{' and '.join(other[:3])} {'is' if len(other) == 1 else 'are'} not in the "
                    f"export what this session has set{more}: to have it there, add the comment "
                    f"'# pulpo: carry' to the line that sets it{full}, or set it inside the "
                    "operation"
                )


# Libraries look at these too, whatever the text imports.
_ALWAYS = ("sys", "socket", "locale", "warnings")
# What a setting is called here is how it is set.
_BY_ATTRIBUTE = ("decimal", "pandas", "matplotlib")
# Who has imported these uses them.
_HEAVY = ("numpy", "pandas", "matplotlib")
_OPTIONS = re.compile(r"option|rcParams|\brc\b|style|seterr|printoptions|theme|\brun\b")
_FILTERS = re.compile(r"\b(?:filterwarnings|simplefilter|resetwarnings|captureWarnings)\b")


def settings_of(
    recorder: Recorder, pieces: Iterable[Piece], packages: Collection[str], told: Collection[str]
) -> Settings:
    """Return the settings that are not what they were when the record began.

    Parameters
    ----------
    packages
        What the text imports.
    told
        Packages of which a line was told already.
    """
    loggers = _loggers(pieces) if "logging" in packages else ()
    here, then = settings(loggers), recorder.started.settings
    changed: dict[str, dict[str, str]] = {}
    for package, values in here.items():
        used = package in (*_ALWAYS, *_HEAVY) or package in packages
        if not used or package in told:
            continue
        old = then.get(package, {})
        found = {key: value for key, value in values.items() if old.get(key) != value}
        if package == "warnings" and not any(_FILTERS.search(s.text) for s in recorder.statements):
            found = {}  # libraries add theirs when they are imported
        if found:
            changed[package] = found
    inside = {name.split(".")[0] for piece in pieces for name in piece.names.modules}
    if not any(_OPTIONS.search(one.text) for one in recorder.statements):
        inside -= {*_HEAVY}  # which take long to import
    return Settings(
        changed=changed,
        loggers=tuple(loggers),
        imports=tuple(sorted(inside.intersection(changed))),
    )


def _loggers(pieces: Iterable[Piece]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for piece in pieces:
        for node in ast.walk(piece.node) if "getLogger" in piece.text else ():
            if isinstance(node, ast.Call) and call_text(node.func).endswith("getLogger"):
                texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                found.update((one, None) for one in texts if isinstance(one, str))
    # An export runs in Prefect, which sets up its own.
    return tuple(name for name in found if name.split(".")[0] != "prefect")


# --- The environment ------------------------------------------------------------------------------


def environment(
    recorder: Recorder, pieces: Iterable[Piece], purity: Purity, told: Iterable[str]
) -> Iterator[str]:
    """Yield a warning for each variable that operations read and that this session has set."""
    then = recorder.started.environment
    changed = {name for name, value in os.environ.items() if then.get(name) != value}
    if not changed:
        return
    pieces = [piece for piece in pieces if "env" in piece.text]
    known = "\n".join((*told, carried_lines(recorder))) + "\n".join(
        p.text for p in pieces if isinstance(p.node, ast.Assign | ast.Expr)
    )
    for piece in pieces:
        for node in ast.walk(piece.node) if piece.kind is not Kind.IMPORT else ():
            reads = isinstance(node, ast.Call) or (
                isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
            )
            name = purity.variable(node) if reads else None
            if name in changed and not is_named(name, known):
                changed.discard(name)
                yield (
                    f"{piece.label!r} reads the environment variable {name}, which this session "
                    "has set: set it where the export runs too"
                )


_PARSES = ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args")


def command_line(pieces: Iterable[Piece], purity: Purity) -> Iterator[str]:
    """Yield a warning for each piece that reads ``sys.argv``, itself or by a parser."""
    for piece in pieces:
        if piece.kind is Kind.IMPORT or not ("argv" in piece.text or "parse_" in piece.text):
            continue
        if any(_reads_argv(node, purity) for node in ast.walk(piece.node)):
            yield (
                f"{piece.label!r} reads sys.argv, and in the export that is its own command line: "
                "give it what it needs as a parameter, or a list, parse_args([…])"
            )


def _reads_argv(node: ast.AST, purity: Purity) -> bool:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", "")
        return name in _PARSES and not node.args and all(one.arg != "args" for one in node.keywords)
    is_read = isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load)
    return is_read and purity.value_of(node) is sys.argv


def carried_lines(recorder: Recorder) -> str:
    """Return the lines that are marked to be carried, with the functions that they call."""
    marked = [one for one in recorder.statements if is_marked(one.text)]
    called = [
        history[-1]
        for one in marked
        for name in recorder.names(one).now
        if (history := recorder.by_name.get(name))
    ]
    return "\n".join(one.text for one in (*marked, *called))


def is_named(variable: str, text: str) -> bool:
    """Tell whether a text names a variable of the environment."""
    return re.search(rf"\b{re.escape(variable)}\b", text) is not None


# --- Seeds ----------------------------------------------------------------------------------------


_SEED = re.compile(r"(?!get_)(?:\w+_)?seeds?(?:_\w+)?")


def seeds(recorder: Recorder, pieces: Iterable[Piece], purity: Purity) -> Iterator[str]:
    """Yield a warning for each call that seeded what the text draws from, and is not carried.

    Python's own numbers are told even so: in an export Prefect draws from them, too.
    """
    if not any("seed" in statement.text for statement in recorder.statements):
        return
    pieces = list(pieces)
    carried = {piece.statement.index for piece in pieces}
    calls = [
        (statement, call, parts)
        for statement in {one.text: one for one in recorder.statements}.values()
        for call, parts in _seeding(statement, recorder)
    ]
    drawn = drawn_from(recorder, pieces, purity) if calls else set()
    newest = {call_text(call): one.index in carried for one, call, _ in calls}
    for cell, text, own in dict.fromkeys(
        (one.cell, call_text(call), any(_seeds_python(part, purity) for part in parts))
        for one, call, parts in calls
    ):
        if own and "random" in drawn:
            yield (
                f"cell {cell} ran {text}, and in the export Prefect draws from these numbers, too: "
                "seed inside the operation, or make a random.Random(…) there"
            )
        elif drawn and not newest[text]:
            yield (
                f"cell {cell} ran {text}, which seeds random numbers, and the export does not: add "
                "the comment '# pulpo: carry' to that line, or seed inside the operation"
            )


def drawn_from(recorder: Recorder, pieces: Iterable[Piece], purity: Purity) -> set[str]:
    """Return whose shared numbers, ``"random"``'s or ``"numpy"``'s, operations draw from unseeded.

    What an operation calls draws for it, and may seed for it. Where no cell seeds, none matter.
    """
    found: set[str] = set()
    if not any("seed" in statement.text for statement in recorder.statements):
        return found
    for operation in (piece for piece in pieces if piece.kind is Kind.OPERATION):
        needed, todo = {operation}, [operation]  # directly or not
        for piece in todo:
            fresh = [one for one in (*piece.now, *piece.later) if one not in needed]
            needed.update(fresh)
            todo += fresh
        drawn = {kind for piece in needed for kind in _draws(piece, purity)}
        found |= drawn - {kind for piece in needed for kind in _seeds_inside(piece, purity)}
    return found


_SEEDS_ALL = frozenset(("seed", "seed_all", "seed_everything", "set_seed"))


def _seeds_inside(piece: Piece, purity: Purity) -> Iterator[str]:
    """Yield whose numbers a function seeds when it is called."""
    if not isinstance(piece.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for part in ast.walk(piece.node) if "seed" in piece.text else ():
        if isinstance(part, ast.Call) and call_text(part.func).split(".")[-1] in _SEEDS_ALL:
            function = purity.value_of(part.func)
            of_numpy = str(attribute(function, "__module__", "")).startswith("numpy")
            of_python = attribute(function, "__self__") is _shared()["random"] is not None
            yield from ("numpy",) if of_numpy else ("random",) if of_python else _shared()


def _shared() -> dict[str, object]:
    """Return the generators of numbers that all share."""
    numpys = getattr(sys.modules.get("numpy.random"), "mtrand", None)
    pythons = getattr(sys.modules.get("random"), "_inst", None)
    return {"random": pythons, "numpy": getattr(numpys, "_rand", None)}


def _is_seed(call: ast.Call) -> bool:
    return bool(_SEED.fullmatch(call_text(call.func).split(".")[-1].lower()))


def _seeds_python(call: ast.Call, purity: Purity) -> bool:
    return purity.value_of(call.func) is getattr(sys.modules.get("random"), "seed", call)


def _seeding(statement: Statement, recorder: Recorder) -> Iterator[tuple[ast.Call, list[ast.Call]]]:
    """Yield the calls in a statement that seed, each with the calls of seeds that it leads to.

    A call of a function of the session leads to those in its body.
    """
    node = statement.node
    definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if definition or isinstance(node, ast.Import | ast.ImportFrom) or "(" not in statement.text:
        return
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        bodies = [
            one.node
            for one in recorder.by_name.get(name, [])[-1:]
            if isinstance(one.node, ast.FunctionDef | ast.Assign) and "seed" in one.text
        ]
        parts = [part for body in bodies for part in ast.walk(body) if isinstance(part, ast.Call)]
        seeds = [part for part in (call, *parts) if _is_seed(part)]
        if seeds:
            yield call, seeds


def _draws(piece: Piece, purity: Purity) -> Iterator[str]:
    """Yield whose numbers, shared by all, a statement draws from: Python's or numpy's."""
    shared = _shared()
    for node in ast.walk(piece.node) if piece.kind is not Kind.IMPORT else ():
        if isinstance(node, ast.Attribute | ast.Name):
            value = purity.value_of(node)
            owner = getattr(value, "__self__", None)
            if owner is not None and getattr(value, "__name__", "") != "seed":
                yield from (kind for kind, one in shared.items() if owner is one)
