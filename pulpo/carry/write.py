"""From a session's record and its functions to the text of one module."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import keyword
import os
import re
import subprocess
import symtable
import sys
import tempfile
import time
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pulpo.carry.caches import stale_caches
from pulpo.carry.closure import Closure, imported_in_blocks
from pulpo.carry.constants import WRITE_IT
from pulpo.carry.effects import effects, packages_told, submodules, variable_set
from pulpo.carry.modules import Modules
from pulpo.carry.older import old_imports, older
from pulpo.carry.paths import pickles, relative_paths
from pulpo.carry.pieces import Kind, Piece, ordered
from pulpo.carry.process import settings as settings_here
from pulpo.carry.record import Recorder
from pulpo.carry.secrets import find_secrets, is_secret_name
from pulpo.carry.settings import (
    Settings,
    command_line,
    drawn_from,
    environment,
    seeds,
    settings_of,
)
from pulpo.carry.sharing import SHARED, Shared, shared_by
from pulpo.carry.state import KEPT, Kept, kept_by, late_future, other_ways
from pulpo.carry.text import join, rename_function, trim_import
from pulpo.carry.values import digest
from pulpo.errors import CarryError, ExportError, SecretError

__all__ = ["Carried", "carry", "refusals", "verify"]

_FUTURE = "from __future__ import annotations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A module's text and what is in it.

    Parameters
    ----------
    text
        The module, without a table of operations.
    identifiers
        Operation name to the expression in ``text`` that is its function.
    warnings
        What the export does differently from the session.
    packages
        Top-level modules that the text imports and that have to be installed.
    frozen
        The names that were to be frozen and that something uses.
    modules
        Expressions in ``text`` for modules inside of others, ``email.mime.text``; see `verify`.
    beside
        The modules beside the export that the text imports, and those that these import.
    digests
        What constants with plain data are here, by name; see `verify`.
    kept
        What names hold here, by name; see `verify`.
    shared
        Which names lead to one object here; see `verify`.
    settings
        What settings of the process are here; see `verify`.
    twice
        Whether the text makes something of sets, whose order differs from process to process.
    """

    text: str
    identifiers: Mapping[str, str]
    warnings: tuple[str, ...]
    packages: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    shared: Shared | None = None
    settings: Settings | None = None
    twice: bool = False


def carry(
    recorder: Recorder,
    functions: Mapping[str, Callable[..., Any]],
    *,
    root: Path | None = None,
    also: Iterable[str] = (),
    freeze: Collection[str] = (),
) -> Carried:
    """Return the text of a module that holds what some functions need, and no more.

    Parameters
    ----------
    recorder
        The record of the session.
    functions
        Operation names with their live functions. Those of modules are imported, not copied.
    root
        The folder that will contain the export; modules below it can be imported.
    also
        Further names of the session that the text has to bind.
    freeze
        Names whose values of now are written as literals, however they came about.

    Raises
    ------
    CarryError
        If something cannot be carried; the message says what, where it is used, and the fix.
    NoSourceError
        If the source of a function cannot be reached.
    SecretError
        If the text would hold a credential.
    """
    modules = Modules(root)
    closure = Closure(recorder, modules, freeze=freeze)
    own, imported = _gather(closure, recorder, functions, modules, also)
    carried = _write(closure, own, imported, modules)
    order = {name: carried.identifiers[name] for name in functions}
    return replace(carried, identifiers=order)


def refusals(
    recorder: Recorder,
    functions: Mapping[str, Callable[..., Any]],
    *,
    root: Path | None = None,
    also: Iterable[str] = (),
    freeze: Collection[str] = (),
) -> list[CarryError]:
    """Return everything that `carry` would refuse, each once; its parameters are the same."""
    modules = Modules(root)
    refused: list[CarryError] = []
    closure = Closure(recorder, modules, freeze=freeze, refused=refused)
    own, imported = _gather(closure, recorder, functions, modules, also)
    refused += _secrets((piece, _text(piece)) for piece in closure.pieces.values())
    if not refused:
        try:
            _write(closure, own, imported, modules)
        except CarryError as error:
            refused.append(error)
    return list({str(error): error for error in refused}.values())


def _gather(
    closure: Closure,
    recorder: Recorder,
    functions: Mapping[str, Callable[..., Any]],
    modules: Modules,
    also: Iterable[str],
) -> tuple[dict[str, Piece], dict[str, tuple[str, str]]]:
    """Let a closure grow; return the operations of the session, and those of modules."""
    own: dict[str, Piece] = {}
    imported: dict[str, tuple[str, str]] = {}
    for place, (name, function) in enumerate(functions.items()):
        try:
            place_in_module = _module_place(name, function, recorder, modules)
            if place_in_module is not None:
                imported[name] = place_in_module
            else:
                own[name] = closure.add_operation(name, function, place)
        except CarryError as error:
            if closure.refused is None:
                raise
            closure.refused.append(error)
    for name in also:
        closure.add_name(name)
    closure.add_marked()
    closure.add_imports_for_effect()
    closure.settle()
    return own, imported


def verify(
    text: str,
    root: Path | None = None,
    *,
    modules: Iterable[str] = (),
    digests: Mapping[str, str] = types.MappingProxyType({}),
    kept: Mapping[str, Kept] = types.MappingProxyType({}),
    shared: Shared | None = None,
    settings: Settings | None = None,
    twice: bool = False,
    timeout: float = 120,
) -> tuple[str, ...]:
    """Import a text in a fresh process that knows nothing of this session.

    Parameters
    ----------
    text
        The module.
    root
        A folder from which it may import modules.
    modules
        Modules inside of others that have to be there then, as `Carried.modules`.
    digests
        What constants have to be then, as `Carried.digests`.
    kept
        What names hold here, as `Carried.kept`.
    shared
        What names share here, as `Carried.shared`.
    settings
        What settings of the process are here, as `Carried.settings`.
    twice
        Whether two processes with other hashes have to agree, as `Carried.twice`.
    timeout
        Seconds that the import may take.

    Returns
    -------
    tuple of str
        A warning for each name that does not hold there what it holds here.

    Raises
    ------
    CarryError
        With the line that failed and the last line of the traceback.
    ExportError
        If there is no room to try it.
    """
    modules = tuple(modules)
    code = "".join(f"\noperations.{module}" for module in modules)
    edited = [name[:-1] for name, one in kept.items() if one.how == "edited"]
    code += "".join(f"\nwith suppress(Exception): import {name}" for name in edited)
    code += _TELL.format(digests=dict(digests), kept=list(kept))
    if shared is not None:
        code += SHARED + _TELL_SHARED.format(names=list(shared.cells))
    if settings is not None and settings.changed:
        imports = "".join(
            f"with suppress(ImportError): import {name}\n" for name in settings.imports
        )
        code += f"{imports}{inspect.getsource(settings_here)}"
        code += f"say(answer | {{'settings': settings({settings.loggers!r})}})\n"
    asked = functools.partial(_asked, text, code, root, timeout, modules)
    seeds = [_seed(), _seed()]
    said = asked(seeds if twice else seeds[:1])
    others = sorted({name for one in said for name in one["other"]})
    differing = {name: found for name in kept if (found := _differing(kept[name], name, said))}
    of_process = () if settings is None else settings.warnings(said[0].get("settings", {}))
    if shared is not None and "shared" in said[0]:
        of_process = (*of_process, *shared.warnings(said[0]["shared"]))
    if not others and not differing:
        return tuple(of_process)
    if not twice:  # say why
        said += asked(seeds[1:])
    names = (*others, *differing)
    varying = [name for name in names if _part(name, said[0]) != _part(name, said[1])]
    [again] = asked(seeds[:1]) if varying else said[:1]
    of_hashes = {name for name in varying if _part(name, again) == _part(name, said[0])}
    for name in others:
        raise _refused(name, varies=name in varying, of_hashes=name in of_hashes)
    for name in differing:
        if name in of_hashes:
            keys = _varying_keys(*(one["kept"][name] or {} for one in said[:2]))
            why = f"{keys} something else in every process, as the order of a set is, and hash()"
            if not name.endswith(":"):
                fix = "Sort it where it is made: sorted(…)."
                raise CarryError(f"cannot carry {name!r}: {why}.", fix=fix)
            differing[name] = [f"of the module {name[:-1]!r} {why}"]
        elif name in varying and kept[name].how in ("called", "held"):
            keys = _varying_keys(*(one["kept"][name] or {} for one in said[:2]))
            differing[name] = [
                f"of {name!r} {keys} something else each time that it is made, as the time is: "
                "compute it inside the operation, or write its value"
            ]
    return (*(text for found in differing.values() for text in found), *of_process)


def _varying_keys(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    named = " and ".join(repr(key) for key in keys[:3] if key)
    if not named:
        return "it is"
    return f"its {named} {'is' if len(keys) == 1 else 'are'}"


def _differing(here: Kept, name: str, said: list[Any]) -> list[str]:
    for one in said:
        there = one["kept"][name]
        if there is not None and (found := list(here.warnings(name.rstrip(":=!"), there))):
            return found
    return []


def _part(name: str, said: Any) -> Any:
    """Return what a process said of one name."""
    return said["other"].get(name), (said["kept"].get(name) or {})


def _refused(name: str, *, varies: bool, of_hashes: bool) -> CarryError:
    fix = "Write its value as a literal, or sort it."
    if of_hashes:
        why = "gives something else in every process, as the order of a set does, and hash()"
    elif varies:
        why = "gives something else each time it runs"
        fix = WRITE_IT
    else:
        why = (
            "gives something else in a process that runs only the export, where __name__ is "
            "another, and what other cells did is not done"
        )
        fix = "Write the value that the export shall have as a literal."
    if not is_secret_name(name):
        fix += f" Or export its value of now, with --freeze {name}."
    return CarryError(f"cannot carry {name!r}: its line {why}.", fix=fix)


def _seed() -> int:
    """Return a seed for the hashes of texts; not from `random`, whose numbers are the user's."""
    return int.from_bytes(os.urandom(4), "little")


def _asked(
    text: str,
    code: str,
    root: Path | None,
    timeout: float,
    modules: tuple[str, ...],
    seeds: Iterable[int],
) -> list[Any]:
    """Import a text as ``operations`` in fresh processes at once, and return what they say.

    Each has its seed for the hashes of texts, by which the order of sets differs.
    """
    with (
        _told_without_room(),
        tempfile.TemporaryDirectory(prefix="pulpo-verify-") as folder,
        ExitStack() as open_files,
    ):
        file = Path(folder) / "operations.py"
        file.write_text(text, encoding="utf-8")
        paths = [folder, *([str(root)] if root is not None else [])]
        tries = []
        for number, seed in enumerate(seeds):
            answer = Path(folder) / f"_pulpo_said_{number}.txt"
            check = Path(folder) / f"_pulpo_verify_{number}.py"  # a command line holds too little
            start = _START.format(paths=paths, answer=str(answer))
            check.write_text(f"{start}{KEPT}\nimport operations{code}", encoding="utf-8")
            errors = open_files.enter_context((Path(folder) / f"_errors_{number}").open("w+b"))
            process = subprocess.Popen(
                # As -I is, but for the seed.
                [sys.executable, "-s", "-P", "-B", str(check)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=folder,
                env={
                    **{key: one for key, one in os.environ.items() if key[:6] != "PYTHON"},
                    "PYTHONHASHSEED": str(seed),
                },
            )
            tries.append((process, answer, errors))
        until = time.monotonic() + timeout
        try:
            for process, _, _ in tries:
                process.wait(timeout=max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CarryError(
                f"the carried text took more than {timeout:g} seconds to import. Move what takes "
                "that long into an operation."
            ) from None
        finally:
            for process, _, _ in tries:
                process.kill()
                process.wait()
        found = []
        for process, answer, errors in tries:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace")
            there = answer.read_text("utf-8") if answer.exists() else ""
            found.append(_said(process.returncode, there, said, modules))
        return found


@contextmanager
def _told_without_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot try the export in a fresh process: {error.strerror or error}. It needs a "
            f"little room in {tempfile.gettempdir()} (TMPDIR names another folder)."
        ) from error


#: What runs before the text does: whatever that changes in modules, the answer goes its way.
_START = """
from __future__ import annotations
import sys
from contextlib import suppress
from typing import Any
sys.path[:0] = {paths!r}

def say(said, repr=repr, open=open):
    with open({answer!r}, "w", encoding="utf-8") as file:
        file.write(repr(said))

"""
#: What a fresh process says of what it has.
_TELL = """

def in_it(chain):
    value = operations
    for part in chain.split("."):
        value = getattr(value, part, None)
    return value.fget if isinstance(value, property) else value

def kept_there(name):
    try:
        if name.endswith(":"):
            return kept_module(sys.modules[name[:-1]])
        if name.endswith("="):
            return constants_of(in_it(name[:-1]))
        if name.endswith("!"):
            library, kind, attr = name[:-1].split(".")
            return {{"": "there"}} if hasattr(getattr(sys.modules[library], kind), attr) else {{}}
        return kept(in_it(name), "operations")
    except Exception:  # an object that does not like to be looked at; a module that nobody imported
        return None

there = {{name: digest(in_it(name)) for name in {digests!r}}}
other = {{name: there[name] for name, here in {digests!r}.items() if there[name] != here}}
answer = {{"other": other, "kept": {{name: kept_there(name) for name in {kept!r}}}}}
say(answer)
"""
_TELL_SHARED = """
try:
    values = {{name: getattr(operations, name) for name in {names!r} if hasattr(operations, name)}}
    answer["shared"] = shared(values, "operations")
    say(answer)
except Exception:  # an object that does not like to be looked at
    pass
"""


def _said(status: int, answer: str, errors: str, modules: Iterable[str]) -> Any:
    """Return what a fresh process said; raise when it could not import the text."""
    if answer:
        return ast.literal_eval(answer)  # not JSON, which a cell may have patched
    if status == 0:
        raise CarryError(
            "the carried text ends the process that imports it.",
            fix="Leave out the line, or the import, that calls sys.exit() or os._exit().",
        )
    last = errors.strip().split("\n")[-1]
    lacking = re.fullmatch(r"AttributeError: module '(.+)' has no attribute '(.+)'", last)
    if lacking and any(lacking[2] in one.split(".") for one in modules):
        raise CarryError(
            f"the carried text uses the module {lacking[1]}.{lacking[2]}, which only something "
            "else in this session has imported.",
            fix=f"Add 'import {lacking[1]}.{lacking[2]}' to a cell.",
        )
    lines = re.findall(r'operations\.py", line \d+.*\n +(.+)', errors)
    where = f" at {lines[-1][:90]!r}" if lines else ""
    kind = last.partition(":")[0]
    raise CarryError(
        f"the carried text does not run in a fresh process{where}: {last.rstrip('.')}.",
        fix=_WAYS_OUT.get(kind, "Restart, and run the cells from the top, to see that here."),
    )


_WAYS_OUT = {
    "FileNotFoundError": "What is read while an export is imported would have to be there wherever "
    "it runs: read it inside an operation.",
    "ModuleNotFoundError": "Install it, or put it beside the notebook.",
}


def _module_place(
    name: str, function: Callable[..., Any], recorder: Recorder, modules: Modules
) -> tuple[str, str] | None:
    """Return the module and the qualified name of a function that can be imported."""
    if getattr(function, "__globals__", None) is recorder.namespace:
        return None
    module_name = getattr(function, "__module__", None)
    path = getattr(function, "__qualname__", "")
    module = sys.modules.get(module_name or "")
    if module is None or module_name in ("__main__", "builtins") or "<" in path or not path:
        return None
    if isinstance(function, types.BuiltinFunctionType | types.MethodType):
        return None
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is not function:
        return None
    file = modules.unreachable_file(module_name or "")
    if file:
        raise CarryError(
            f"operation {name!r}: its function is in {file}, which the export cannot import.",
            fix=modules.way_in(module_name or ""),
            operation=name,
        )
    return module_name or "", path


def _write(
    closure: Closure,
    own: Mapping[str, Piece],
    imported: Mapping[str, tuple[str, str]],
    modules: Modules,
) -> Carried:
    pieces = list(closure.pieces.values())
    identifiers = _identifiers(own, pieces)
    for piece in pieces:
        if "OPERATIONS" in piece.statement.binds:
            raise CarryError(
                f"operation {piece.operation!r}: cannot carry 'OPERATIONS': that is what the "
                "export calls its table of functions.",
                fix=f"Give yours another name in cell {piece.statement.cell}.",
                operation=piece.operation,
            )
    reads = {name: piece.names.now for piece in pieces for name in piece.statement.binds}
    for name, other in closure.frozen.broken(reads):
        raise CarryError(
            f"cannot carry {name!r}: it cannot be frozen: it shares an object with {other!r}, "
            "which the export needs too, and there they would be two.",
            fix="Freeze only the one that the other is made from, or none.",
        )
    _keep_versions_in_order(pieces)
    _keep_reads_above_changes(pieces)
    texts = [(piece, _text(piece)) for piece in ordered(pieces)]
    lines, imported_as = _import_lines(imported, _taken(pieces))
    heads = [text for piece, text in texts if piece.kind is Kind.IMPORT and text] + lines
    heads = list(dict.fromkeys(heads))
    rest = [text for piece, text in texts if piece.kind is not Kind.IMPORT and text]
    future = [_FUTURE] if any(piece.statement.future for piece in pieces) else []
    stand_ins = [closure.stand_ins[name] for name in sorted(closure.stand_ins)]
    text = join([*future, *heads, *stand_ins, *rest])
    for secret in _secrets(texts):
        raise secret
    bound = {name for piece in pieces for name in (*piece.statement.binds, piece.renamed)}
    _check(text, bound | closure.tolerated | closure.stand_ins.keys())
    tops = _top_modules(pieces, imported.values(), closure.modules_used)
    reached = modules.reached(text)
    _refuse_unreachable(reached, modules)
    brought = {name.partition(".")[0] for name, by in reached.items() if by} - {"__main__"}
    beside = [name for name in reached if modules.beside(name.partition(".")[0])]
    done = dict.fromkeys(effects(closure.recorder, pieces, closure.modules_used))
    warnings = (
        *closure.warnings,
        *done,
        *environment(closure.recorder, pieces, closure.purity, (*closure.warnings, *done)),
        *command_line(pieces, closure.purity),
        *seeds(closure.recorder, pieces, closure.purity),
        *dict.fromkeys(relative_paths(pieces, closure.purity, Path.cwd())),
        *dict.fromkeys(pickles(pieces, Path.cwd())),
        *stale_caches(closure.recorder, pieces, beside),
        *late_future(pieces),
        *other_ways(pieces),
    )
    held = [
        *older(closure.recorder, pieces, warnings),
        *old_imports(closure.recorder, pieces, beside),
    ]
    return Carried(
        text=text,
        identifiers={**identifiers, **imported_as},
        warnings=(
            *warnings,
            *(one.warning for one in held),
            *_to_take_along(tops | brought, modules),
        ),
        packages=tuple(sorted(filter(modules.is_third_party, tops | brought))),
        frozen=closure.frozen.used,
        modules=tuple(sorted(set(submodules(pieces, closure.recorder.namespace)))),
        beside=tuple(sorted(beside)),
        digests={
            name: found
            for name in sorted(closure.settled)
            if (found := digest(closure.recorder.namespace[name]))
        },
        kept={
            **kept_by(
                closure.recorder,
                pieces,
                beside,
                warnings,
                [one.holder for one in held],
                drawn_from(closure.recorder, pieces, closure.purity),
            ),
            **{f"{one.chain}!": Kept(cell="", digests={"": "there"}) for one in closure.outside},
        },
        shared=shared_by(closure.recorder, pieces, [one.holder for one in held]),
        settings=settings_of(
            closure.recorder, pieces, tops | brought, packages_told(done, closure.recorder)
        ),
        twice=any(_uses_sets(piece, closure.recorder.namespace) for piece in pieces),
    )


_MAKES_A_SET = re.compile(r"\{|\bset\b|\bfrozenset\b|\bhash\b")


def _uses_sets(piece: Piece, namespace: Mapping[str, object]) -> bool:
    """Tell whether a statement, when it runs, gives a set to what may read it in order."""
    if piece.kind is Kind.IMPORT:
        return False
    for name in piece.names.now:
        value = namespace.get(name)
        if type(value) in (set, frozenset) and len(value) > 1:  # type: ignore[arg-type]
            return True
    if not _MAKES_A_SET.search(piece.text):
        return False
    todo: list[tuple[ast.AST, bool]] = [(piece.node, False)]
    while todo:
        node, read = todo.pop()
        called = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        makes = isinstance(node, ast.Set | ast.SetComp) or called in ("set", "frozenset")
        if (read and makes) or called == "hash":
            return True
        read = not makes and (
            read or isinstance(node, ast.Call | ast.Starred | ast.comprehension | ast.For)
        )
        parts = ast.iter_child_nodes(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = iter([*node.decorator_list, node.args])
        elif isinstance(node, ast.Lambda):
            parts = iter([node.args])
        todo += [(part, read) for part in parts]
    return False


def _identifiers(own: Mapping[str, Piece], pieces: list[Piece]) -> dict[str, str]:
    """Give every operation's function a name of its own; the newest keeps the user's."""
    by_name: dict[str, list[Piece]] = {}
    for piece in pieces:
        for name in piece.statement.binds:
            by_name.setdefault(name, []).append(piece)
    taken = _taken(pieces)
    used_above = {need for piece in pieces for need in piece.now}
    for operation, piece in own.items():
        name = piece.statement.binds[0]
        newest = max(by_name[name], key=lambda one: one.statement.index)
        if newest is not piece and not piece.renamed:
            if piece in used_above or not _can_be_renamed(piece):
                raise CarryError(
                    f"operation {operation!r}: another definition is called {name!r} too.",
                    fix="Give its function a name of its own.",
                    operation=operation,
                )
            piece.renamed = _free_name(name, taken)
            taken.add(piece.renamed)
    return {
        operation: piece.renamed or piece.statement.binds[0] for operation, piece in own.items()
    }


def _can_be_renamed(piece: Piece) -> bool:
    """Tell whether the function's name means the function wherever it stands in its text."""
    node = piece.node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id == node.name:
            if not isinstance(part.ctx, ast.Load):
                return False
        elif part is not node and node.name in _bound_here(part):
            return False
    return True


def _bound_here(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    return [getattr(node, "arg", None) or "", getattr(node, "name", None) or ""]


def _taken(pieces: Iterable[Piece]) -> set[str]:
    taken = {*vars(builtins), *keyword.kwlist, "OPERATIONS"}
    for piece in pieces:
        # Of an import only what is needed is written.
        binds = piece.needed if piece.kind is Kind.IMPORT else piece.statement.binds
        taken.update(binds, piece.names.now, piece.names.later, piece.names.hints)
    return taken


def _free_name(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _keep_versions_in_order(pieces: list[Piece]) -> None:
    """Put an older definition, and what was made from it, above the newer one of that name."""
    by_name: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.kind is not Kind.IMPORT and not piece.renamed:
            for name in piece.statement.binds:
                by_name.setdefault(name, []).append(piece)
    users: dict[Piece, list[Piece]] | None = None
    for versions in by_name.values():
        if len(versions) < 2:
            continue
        if users is None:
            users = {}
            for piece in pieces:
                for need in piece.now:
                    users.setdefault(need, []).append(piece)
        versions.sort(key=lambda piece: piece.statement.index)
        for before, newer in pairwise(versions):
            newer.now[before] = None
            for user in users.get(before, []):
                if user is not newer and newer not in user.now:
                    newer.now[user] = None


def _keep_reads_above_changes(pieces: list[Piece]) -> None:
    """Put ``old = Model.check`` above the ``Model.check = …`` that came after it."""
    changes: dict[str, list[Piece]] = {}
    for piece in pieces:
        for target in getattr(piece.node, "targets", ()):
            if isinstance(target, ast.Attribute):
                changes.setdefault(ast.unparse(target), []).append(piece)
    for piece in pieces if changes else ():
        if isinstance(piece.node, ast.Assign | ast.AnnAssign) and piece.node.value is not None:
            for part in ast.walk(piece.node.value):
                for change in changes.get(ast.unparse(part), ()) if _is_read(part) else ():
                    if piece.statement.index < change.statement.index:
                        change.now[piece] = None


def _is_read(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)


def _text(piece: Piece) -> str:
    node = piece.node
    if piece.renamed:
        return rename_function(piece.text, piece.renamed)
    if isinstance(node, ast.Import | ast.ImportFrom):
        if _is_pulpos(node):
            return ""
        return trim_import(node, piece.text, piece.statement.binds, sorted(piece.needed))
    return piece.text


def _is_pulpos(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "pulpo"
    return all(alias.name.split(".")[0] == "pulpo" for alias in node.names)


def _import_lines(
    imported: Mapping[str, tuple[str, str]], taken: set[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the import lines for the functions of modules, and what each is called here."""
    lines: dict[str, None] = {}
    expressions: dict[str, str] = {}
    known: dict[tuple[str, str], str] = {}
    for operation, (module, path) in imported.items():
        first, _, rest = path.partition(".")
        alias = known.get((module, first))
        if alias is None:
            alias = first if first not in taken else _free_name(first, taken)
            taken.add(alias)
            known[module, first] = alias
            renamed = "" if alias == first else f" as {alias}"
            lines[f"from {module} import {first}{renamed}"] = None
        expressions[operation] = f"{alias}.{rest}" if rest else alias
    return list(lines), expressions


def _secrets(texts: Iterable[tuple[Piece, str]]) -> Iterator[SecretError]:
    for piece, text in texts:
        for finding in find_secrets(text):
            name = finding.name or piece.label
            who = f"operation {piece.operation!r}" if piece.operation else "the export"
            fix = (
                "Read it from the environment inside the operation: "
                f'os.environ["{_variable(name)}"].'
            )
            if variable := variable_set(piece.node):
                fix = f"Take the mark off that line, and set {variable} where the export runs."
            yield SecretError(
                f"{who}: {name!r} in cell {piece.statement.cell} looks like a credential "
                f"({finding.why}), and an export is a file that people share.",
                fix=fix,
                operation=piece.operation,
            )


def _variable(name: str) -> str:
    word = "".join(mark if mark.isalnum() else "_" for mark in name).strip("_").upper()
    return word or "API_KEY"


def _check(text: str, bound: set[str]) -> None:
    """Parse the text and look for names that nothing binds, by another way than the closure's."""
    try:
        table = symtable.symtable(text, "operations.py", "exec")
    except SyntaxError as error:
        raise CarryError(
            f"what was carried does not compile: {error.msg} (line {error.lineno}). This is a "
            "mistake of pulpo; please report it."
        ) from error
    known = bound | set(vars(builtins)) | {"__name__", "__doc__", "__file__"}
    todo = table.get_children()
    while todo:
        one = todo.pop()
        todo += one.get_children()
        for symbol in one.get_symbols():
            if _is_of_module(symbol) and symbol.is_referenced() and symbol.get_name() not in known:
                raise CarryError(
                    f"the carried text uses {symbol.get_name()!r}, which is the notebook's own. "
                    "Leave that out of what the operations need."
                    if symbol.get_name() in ("__annotations__", "__builtins__")
                    else f"the carried text uses {symbol.get_name()!r}, which nothing in it "
                    "defines. This is a mistake of pulpo; please report it."
                )


def _is_of_module(symbol: symtable.Symbol) -> bool:
    """Tell whether a symbol of an inner block is a name of the module.

    Python takes every block that is called ``top``, as its module blocks are, for a module: what
    ``def top`` binds is global and local at once there.
    """
    return symbol.is_declared_global() or (symbol.is_global() and not symbol.is_local())


def _refuse_unreachable(reached: Mapping[str, str], modules: Modules) -> None:
    for name, user in reached.items():
        file = modules.unreachable_file(name.partition(".")[0]) if user else ""
        if file:
            raise CarryError(
                f"cannot import {name!r} (used by {user}): it is a module in {file}, which the "
                "export cannot import.",
                fix=modules.way_in(name),
            )


def _to_take_along(names: Iterable[str], modules: Modules) -> Iterator[str]:
    for name in sorted(names):
        if beside := modules.beside(name):
            yield f"{name!r} is imported, not copied: take {beside} along with the export"


def _top_modules(
    pieces: Iterable[Piece], imported: Iterable[tuple[str, str]], used: Iterable[str]
) -> set[str]:
    """Return the top-level modules that a text imports."""
    names = {name.split(".")[0] for name in (*used, *(module for module, _ in imported))}
    for piece in pieces:
        own = {name.split(".")[0] for name in imported_in_blocks(piece.node)}
        for part in ast.walk(piece.node) if piece.kind is Kind.IMPORT else ():
            if isinstance(part, ast.Import):
                own |= {
                    alias.name.split(".")[0]
                    for alias in part.names
                    if not piece.needed.keys().isdisjoint(_bound_names(alias))
                    or part is not piece.node
                }
            elif isinstance(part, ast.ImportFrom):
                own.add((part.module or "").split(".")[0])
        if piece.kind is Kind.IMPORT and isinstance(piece.node, ast.Try):
            own &= sys.modules.keys()  # without what it fell back from
        names |= own
    # Something stands in for the one, and nothing can for the other.
    return names - {"pulpo", "__main__"}


def _bound_names(alias: ast.alias) -> tuple[str, ...]:
    return (alias.asname or alias.name.split(".")[0],)
