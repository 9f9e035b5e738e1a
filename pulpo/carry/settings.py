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

__all__ = [
    "Settings",
    "carried_lines",
    "command_line",
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
        (statement, call)
        for statement in {one.text: one for one in recorder.statements}.values()
        for call in _seeding(statement, recorder)
    ]
    drawn = {kind for piece in pieces for kind in _draws(piece, purity)} if calls else set()
    for cell, text, own, goes_along in dict.fromkeys(
        (one.cell, call_text(call), _seeds_python(call, purity), one.index in carried)
        for one, call in calls
    ):
        if own and "random" in drawn:
            yield (
                f"cell {cell} ran {text}, and in the export Prefect draws from these numbers, too: "
                "seed inside the operation, or make a random.Random(…) there"
            )
        elif drawn and not goes_along:
            yield (
                f"cell {cell} ran {text}, which seeds random numbers, and the export does not: add "
                "the comment '# pulpo: carry' to that line, or seed inside the operation"
            )


def _seeds_python(call: ast.Call, purity: Purity) -> bool:
    return purity.value_of(call.func) is getattr(sys.modules.get("random"), "seed", call)


def _seeding(statement: Statement, recorder: Recorder) -> Iterator[ast.Call]:
    """Yield the calls in a statement that seed, or call a function of the session that does."""
    node = statement.node
    definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    if definition or isinstance(node, ast.Import | ast.ImportFrom) or "(" not in statement.text:
        return
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = call_text(call.func).split(".")[-1]
        made = recorder.by_name.get(name, [])[-1:] if isinstance(call.func, ast.Name) else []
        bodies = [one for one in made if isinstance(one.node, ast.FunctionDef | ast.Assign)]
        if _SEED.fullmatch(name.lower()) or any(
            _SEED.fullmatch(call_text(inner.func).split(".")[-1].lower())
            for one in bodies
            if "seed" in one.text
            for inner in ast.walk(one.node)
            if isinstance(inner, ast.Call)
        ):
            yield call


def _draws(piece: Piece, purity: Purity) -> Iterator[str]:
    """Yield whose numbers, shared by all, a statement draws from: Python's or numpy's."""
    numpys = getattr(sys.modules.get("numpy.random"), "mtrand", None)
    pythons = getattr(sys.modules.get("random"), "_inst", None)
    shared = {"random": pythons, "numpy": getattr(numpys, "_rand", None)}
    for node in ast.walk(piece.node) if piece.kind is not Kind.IMPORT else ():
        if isinstance(node, ast.Attribute | ast.Name):
            value = purity.value_of(node)
            owner = getattr(value, "__self__", None)
            if owner is not None and getattr(value, "__name__", "") != "seed":
                yield from (kind for kind, one in shared.items() if owner is one)
