"""What cells did to modules, loggers and the process, and an export does not do again."""

from __future__ import annotations

import ast
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping

from pulpo.carry.attach import OF_THE_PROCESS, package_of
from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.process import settings
from pulpo.carry.purity import call_text
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.secrets import is_secret_name
from pulpo.carry.values import attribute, keeps_to_itself

__all__ = ["effects", "packages_told", "submodules", "variable_set"]

# What changes a setting, as libraries call it.
_SETS = re.compile(
    r"set\w*|(?:add|(?:un)?register|enable|disable|install|configure|patch)(?:[A-Z_]\w*)?"
    r"|(?:(?:de)?activate|reset)(?:[A-Z_]\w*)?|captureWarnings"
    r"|(?:basic|dict|file)Config|rc|tzset|chdir|umask|putenv|unsetenv|field_size_limit"
    r"|ion|ioff|signal|(?:bind)?textdomain"
)
# These do so to the process only; elsewhere they are what dicts and lists have.
_CHANGES = frozenset(("update", "pop", "clear", "append", "insert", "remove", "add"))
# Which modules an export can import is looked at by itself.
_NO_MATTER = frozenset(("sys.path", "sys.modules", "sys.stdout", "sys.stderr", "sys.argv"))
# Libraries look at these too, whatever the operations import.
_ALWAYS = frozenset(("os", "sys", "codecs", "locale", "socket", "warnings"))
_IN_PYTHON = "to have it there, write os.environ[…] = …  # pulpo: carry"
_MARK_IT = "to have it there, add the comment '# pulpo: carry' to that line"


def effects(recorder: Recorder, pieces: Iterable[Piece], modules: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each line that changed what carried text uses, and is not carried.

    Parameters
    ----------
    pieces
        What is carried.
    modules
        What is imported inside of functions, besides.
    """
    pieces = list(pieces)
    carried = {piece.statement.index for piece in pieces}
    packages = {*_ALWAYS, *(module.split(".")[0] for module in modules)}
    names: set[str] = set()
    for piece in pieces:
        for name in piece.needed:
            value = recorder.namespace.get(name)
            if piece.kind is Kind.IMPORT:
                packages.add(package_of(value, piece.statement))
            elif keeps_to_itself(value):
                names.add(name)
    for statement in recorder.statements:
        decorators = getattr(statement.node, "decorator_list", ())
        if decorators and statement.index not in carried and _is_newest(statement, recorder):
            for decorator in decorators:
                if _puts(decorator, recorder, packages, carried):
                    name = call_text(decorator).partition("(")[0]
                    yield (
                        f"cell {statement.cell} ran @{name} for {statement.binds[0]!r}, and the "
                        "export does not: to have it there, add the comment '# pulpo: carry' to "
                        "the line of its def or class"
                    )
    newest = {one.text: one for one in recorder.statements if not _defines(one)}
    done: dict[str, int] = {}  # by what the export does, too
    for statement in (one for one in newest.values() if one.index in carried):
        for told in _all_told(statement, recorder, packages, names):
            done[_what_it_sets(told)] = statement.index
    for statement in (one for one in newest.values() if one.index not in carried):
        for told in _all_told(statement, recorder, packages, names):
            if done.get(_what_it_sets(told), -1) < statement.index:
                fix = _IN_PYTHON if told.startswith("%") else _MARK_IT
                variable = _what_it_sets(told).partition("environ ")[2]
                if is_secret_name(variable):  # which an export may not hold
                    fix = f"set {variable} where the export runs"
                yield f"cell {statement.cell} ran {told}, and the export does not: {fix}"


def _all_told(
    statement: Statement, recorder: Recorder, packages: set[str], names: set[str]
) -> Iterator[str]:
    then = recorder.started.environment
    for node in _lines(statement.node):
        told = _told(node, recorder, packages, names)
        variable = variable_set(node) if told else None
        undone = variable is not None and not (variable in os.environ or variable in then)
        if told and not undone:
            yield told


def variable_set(node: ast.stmt) -> str | None:
    """Return the variable that ``os.environ["X"] = …`` or ``os.environ.pop("X")`` is about."""
    match node:
        case ast.Assign(targets=[ast.Subscript(value=owner, slice=ast.Constant(value=str(name)))]):
            pass
        case ast.Delete(targets=[ast.Subscript(value=owner, slice=ast.Constant(value=str(name)))]):
            pass
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=owner), args=[ast.Constant(value=str(name)), *_]
            )
        ):
            pass
        case _:
            return None
    return name if ast.unparse(owner).rpartition(".")[2] == "environ" else None


def _what_it_sets(told: str) -> str:
    """Return the variable of the environment that something sets, else the words themselves."""
    found = re.fullmatch(r"%\w+ (\w+)|(?:os\.)?environ\[['\"](\w+)['\"]\] = …", told)
    return f"environ {found[1] or found[2]}" if found else told


def packages_told(texts: Iterable[str], recorder: Recorder) -> set[str]:
    """Return the packages that warnings of `effects` are about."""
    found: set[str] = set()
    for text in texts:
        if match := re.match(r"cell .+? ran (\w+)", text):
            names = (match[1], *_changes_inside(match[1], recorder))
            found.update(_package_of(name, recorder) for name in names)
            if keeps_to_itself(recorder.namespace.get(match[1])):
                found.add(type(recorder.namespace[match[1]]).__module__.split(".")[0])
    return found - {""}


def submodules(pieces: Iterable[Piece], namespace: Mapping[str, object]) -> Iterator[str]:
    """Yield the chains ``email.mime.text`` in carried text whose every part is a module here.

    Something else may have imported the inner ones.
    """
    modules = {
        name
        for piece in pieces
        if isinstance(piece.node, ast.Import)
        for name in piece.needed
        if isinstance(namespace.get(name), types.ModuleType)
    }
    for piece in pieces:
        used = not modules.isdisjoint((*piece.names.now, *piece.names.later))
        for node in ast.walk(piece.node) if used and piece.kind is not Kind.IMPORT else ():
            chain: list[str] = []
            part: ast.AST = node
            while isinstance(part, ast.Attribute):
                chain.insert(0, part.attr)
                part = part.value
            if chain and isinstance(part, ast.Name) and part.id in modules:
                yield from _module_chain(part.id, chain, namespace[part.id])


def _module_chain(name: str, chain: list[str], value: object) -> Iterator[str]:
    for name_there in chain:
        value = attribute(value, name_there)
        if not isinstance(value, types.ModuleType):
            return
        name = f"{name}.{name_there}"
        yield name


def _defines(statement: Statement) -> bool:
    return isinstance(
        statement.node,
        ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom,
    )


def _lines(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield a statement, or those inside of a block that has run."""
    todo: list[ast.AST] = [node]
    while todo:
        part = todo.pop(0)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            continue
        if isinstance(part, ast.Expr | ast.Assign | ast.AugAssign):
            yield part
            continue
        todo += ast.iter_child_nodes(part)


# Decorators of libraries that put what they decorate somewhere.
_PUTS = re.compile(
    r"(?:listens?|register|subscribe|connect|route|command|callback|hook|receiver)(?:_\w+)?"
    r"|(?:on|add|before|after)_\w+|\w+_?handler"
)


def _is_newest(statement: Statement, recorder: Recorder) -> bool:
    return recorder.by_name[statement.binds[0]][-1] is statement


def _puts(decorator: ast.expr, recorder: Recorder, packages: set[str], carried: set[int]) -> bool:
    """Tell whether a decorator registers with something that carried text has."""
    root = _root(decorator)
    history = recorder.by_name.get(root, [])
    if not history:
        return False
    if _package_of(root, recorder):
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        called = node.attr if isinstance(node, ast.Attribute) else root
        return _package_of(root, recorder) in packages and bool(_PUTS.fullmatch(called))
    value = recorder.namespace.get(root)
    if isinstance(value, types.FunctionType):
        return any(
            _package_of(one, recorder) in packages for one in _changes_inside(root, recorder)
        )
    return isinstance(decorator, ast.Call | ast.Attribute) and history[-1].index in carried


def _told(
    node: ast.stmt,
    recorder: Recorder,
    packages: set[str],
    names: set[str],
    inside: frozenset[str] = frozenset(),
) -> str:
    """Return what a statement did to one of these, in a few words; nothing of its values.

    ``inside`` are the functions that it stands in.
    """
    value = getattr(node, "value", None)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        magic = _magic(value)
        if magic is not None:
            return magic
        root, called = _root(value.func), value.func.attr
        if root in names and _SETS.fullmatch(called):
            return call_text(value)
        process = _package_of(root, recorder) in OF_THE_PROCESS
        changes = _SETS.fullmatch(called) or (process and called in _CHANGES)
        if changes and _is_of(root, recorder, packages, value.func):
            return call_text(value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        changed = _changes_inside(value.func.id, recorder)
        if any(_package_of(one, recorder) in packages for one in changed):
            return call_text(value)
        own = value.func.id
        body = [] if own in inside else list(_body(own, recorder))
        # Settings that are compared are told by that.
        others = packages - {*settings(())} if body else set()
        if any(_told(part, recorder, others, set(), inside | {own}) for part in body):
            return call_text(value)
    if isinstance(node, ast.Assign | ast.AugAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute | ast.Subscript):
                root = _root(target)
                if root in names or _is_of(root, recorder, packages, target):
                    return f"{ast.unparse(target)} = …"
    return ""


def _changes_inside(function: str, recorder: Recorder) -> Iterator[str]:
    """Yield the names that a function of the session changes in place."""
    for statement in recorder.by_name.get(function, [])[-1:]:
        if isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from recorder.names(statement).mutates


def _body(function: str, recorder: Recorder) -> Iterator[ast.stmt]:
    """Yield the lines that a call of a function of the session runs."""
    for statement in recorder.by_name.get(function, [])[-1:]:
        if isinstance(statement.node, ast.FunctionDef):
            for part in statement.node.body:
                yield from _lines(part)


def _magic(call: ast.Call) -> str | None:
    """Return ``%env NAME`` for what IPython made of it, ``""`` for another magic; else None."""
    if "get_ipython" not in ast.unparse(call.func):
        return None
    words = [one.value for one in call.args if isinstance(one, ast.Constant)]
    if len(words) == 2 and words[0] in ("env", "set_env") and str(words[1]).strip():
        return f"%{words[0]} {re.split('[= ]', str(words[1]))[0]}"
    return ""


def _root(node: ast.AST) -> str:
    """Return the name at the start of a chain, calls included: ``getcontext().prec``."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        else:
            return ""
    return node.id


def _is_of(root: str, recorder: Recorder, packages: set[str], node: ast.expr) -> bool:
    package = _package_of(root, recorder)
    if not package or package not in packages:
        return False
    chain = ast.unparse(node)
    return not any(chain == one or chain.startswith((f"{one}.", f"{one}[")) for one in _NO_MATTER)


def _package_of(root: str, recorder: Recorder) -> str:
    """Return the package that an imported name comes from, ``""`` for other names."""
    history = recorder.by_name.get(root, [])
    if not history or not isinstance(history[-1].node, ast.Import | ast.ImportFrom):
        return ""
    return package_of(recorder.namespace.get(root), history[-1])
