"""Calls that stop the event loop, in async operations and in what they call."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import sys
import textwrap
import types
import weakref
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..carry.values import attribute
from ..errors import Problem
from .reach import Part, Parts, Subject, numbered

__all__ = ["blocking"]

_THREAD = "await asyncio.to_thread({name})"
_HTTPX = "httpx.AsyncClient"
_DRIVER = "an async driver"
_PROCESS = "await asyncio.create_subprocess_exec(…)"
_VERBS = ("get", "post", "put", "patch", "delete", "head", "options", "request")

#: What blocks, by the name under which it is imported, with what to use instead.
BLOCKING: Mapping[str, str] = {
    "time.sleep": "await asyncio.sleep(…)",
    **{f"requests.{name}": _HTTPX for name in (*_VERBS, "Session", "session")},
    **{f"httpx.{name}": _HTTPX for name in (*_VERBS, "stream", "Client")},
    "urllib.request.urlopen": _HTTPX,
    "urllib.request.urlretrieve": _HTTPX,
    "urllib3.request": _HTTPX,
    "urllib3.PoolManager": _HTTPX,
    "http.client.HTTPConnection": _HTTPX,
    "http.client.HTTPSConnection": _HTTPX,
    **{f"subprocess.{name}": _PROCESS for name in ("run", "call", "check_call", "check_output")},
    "subprocess.getoutput": "await asyncio.create_subprocess_shell(…)",
    "subprocess.getstatusoutput": "await asyncio.create_subprocess_shell(…)",
    "os.system": "await asyncio.create_subprocess_shell(…)",
    "builtins.input": "a parameter of the operation",
    "getpass.getpass": "a parameter of the operation",
    **{
        f"{module}.connect": _DRIVER
        for module in ("sqlite3", "psycopg", "psycopg2", "pymysql", "MySQLdb", "pyodbc", "duckdb")
    },
    "pymongo.MongoClient": _DRIVER,
    "redis.Redis": _DRIVER,
    "socket.create_connection": "await asyncio.open_connection(…)",
    "smtplib.SMTP": _THREAD,
    "ftplib.FTP": _THREAD,
    "boto3.client": _THREAD,
    "boto3.resource": _THREAD,
    **{f"pandas.{name}": _THREAD for name in ("read_sql", "read_sql_query", "read_sql_table")},
    "asyncio.run": "await in its place",
}
_BLOCKS = "Nothing else runs until that returns."
WHY = {"asyncio.run": "That raises where an event loop runs already."}
#: Classes whose objects block, whoever made them.
CLIENTS: Mapping[str, str] = {
    "requests.Session": _HTTPX,
    "httpx.Client": _HTTPX,
    "sqlite3.Connection": _DRIVER,
    "sqlite3.Cursor": _DRIVER,
    "pymongo.MongoClient": _DRIVER,
    "redis.Redis": _DRIVER,
}
#: A reader of pandas blocks for long when it reads from the net.
_REMOTE = ("http://", "https://", "ftp://", "s3://", "gs://")
_QUICK = ("close", "cursor", "commit", "mount")


def blocking(subject: Subject, parts: Parts) -> list[Problem]:
    """Find blocking calls that run on the event loop of an async operation.

    A call counts where it is made: in the function itself, in its inner async functions, in inner
    functions that it calls, and in the notebook's functions that it calls. Handing a function over
    (``asyncio.to_thread(time.sleep, 1)``) is no call.
    """
    table = _Table()
    sites: dict[tuple[int, str], tuple[Part, _Call, list[str]]] = {}
    for operation in subject.operations:
        start = parts.of_operations.get(operation.name)
        if start is None or not operation.is_async or not _is_async(start.value):
            continue
        for part, call in _calls_behind(start, parts, table):
            site = sites.setdefault((id(part), call.name), (part, call, []))
            if operation.name not in site[2]:
                site[2].append(operation.name)
    starts = parts.of_operations
    return [
        _problem(part, call, [starts[name] for name in users])
        for part, call, users in sites.values()
    ]


def _problem(part: Part, call: _Call, starts: list[Part]) -> Problem:
    users = [start.operation for start in starts]
    several = len(users) > 1
    name = call.name.removeprefix("builtins.")
    what = f"calls {name} (line {call.line})"
    if part.operation not in users:
        what = f"call{'' if several else 's'} {part.name!r}, which {what}"
    handed = f"{name}, …" if call.name in BLOCKING else "…"
    fix = f"Use {call.instead.format(name=handed)}"
    if not any(map(_awaits, starts)):
        one = "each operation" if several else "the operation"
        fix += f"; or make {one} a plain def, which runs in a thread"
    elif call.instead in (_HTTPX, _DRIVER):
        fix += f"; or {_THREAD.format(name=handed)}"
    return Problem(
        code="blocking-call",
        severity="warning",
        message=f"async {numbered(users)} {what}. {WHY.get(call.name, _BLOCKS)}",
        fix=f"{fix}.",
        operation=users[0],
        cell=part.place or starts[0].place,
    )


def _awaits(part: Part) -> bool:
    tree = _tree(part)
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    return tree is not None and any(isinstance(node, kinds) for node in ast.walk(tree))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _calls_behind(start: Part, parts: Parts, table: _Table) -> Iterator[tuple[Part, _Call]]:
    seen, todo = {id(start)}, [start]
    while todo:
        part = todo.pop(0)
        for call in _calls(part, table):
            if call.name:
                yield part, call
            helper = parts.find(call.function) if call.function is not None else None
            if helper is not None and id(helper) not in seen and _runs(call.function, helper):
                seen.add(id(helper))
                todo.append(helper)


def _runs(called: Any, helper: Part) -> bool:
    """Return whether calling runs the helper's own code here, not in a thread of a decorator's."""
    if not isinstance(helper.value, types.FunctionType):
        return False
    return _is_async(called) == _is_async(helper.value) or called is helper.value


# --- The calls of one function --------------------------------------------------------------------


class _Site(NamedTuple):
    """A call as it is written: ``root.attribute.attribute(argument)``.

    ``imported`` is what an import inside of the function binds the root to.
    """

    line: int
    root: str
    imported: str
    attributes: tuple[str, ...]
    argument: ast.expr | None


class _Call(NamedTuple):
    """A call on the event loop: of what blocks (``name``), or of a function to look into."""

    line: int
    name: str = ""
    instead: str = ""
    function: Any = None


class _Dotted(str):
    """The name of what is not there to be looked at, such as of a module not imported yet."""

    __slots__ = ()


_trees: weakref.WeakKeyDictionary[types.CodeType, ast.Module] = weakref.WeakKeyDictionary()
_sites: weakref.WeakKeyDictionary[types.CodeType, list[_Site]] = weakref.WeakKeyDictionary()
#: What a function binds: the dotted name of an import, an inner function, or None for all else.
Scope = Mapping[str, "str | ast.FunctionDef | None"]


def _calls(part: Part, table: _Table) -> Iterator[_Call]:
    """Yield the calls that a function makes where it runs."""
    function, code = part.value, part.value.__code__
    if code not in _sites:
        tree = _tree(part)
        reader = _Reader()
        if tree is not None:
            reader.run(tree, {})
        _sites[code] = reader.found
    outside = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # not filled yet
            outside[name] = cell.cell_contents
    known = ChainMap(outside, function.__globals__)
    for site in _sites[code]:
        with contextlib.suppress(Exception):  # an object that does not let itself be looked at
            yield from _resolved(site, known, table)


def _resolved(site: _Site, known: Mapping[str, Any], table: _Table) -> Iterator[_Call]:
    target: Any = _import(site.imported) if site.imported else None
    if not site.imported:
        target = known[site.root] if site.root in known else _Dotted(f"builtins.{site.root}")
    for name in site.attributes:
        target = _attribute(target, name)
    if type(target) is functools.partial:
        target = target.func
    name, instead = table.look_up(target, _text(site.argument, known))
    if name:
        yield _Call(site.line, name, instead)
    elif not isinstance(target, _Dotted | tuple):
        yield _Call(site.line, function=target)


def _attribute(base: Any, name: str) -> Any:
    """Return an attribute without running any code: an object, a dotted name, (class, name)."""
    if type(base) is tuple or base is None:
        return None
    if type(base) is _Dotted:
        return _Dotted(f"{base}.{name}")
    if issubclass(type(base), types.ModuleType):
        found = vars(base).get(name)
        return _Dotted(f"{base.__name__}.{name}") if found is None else found
    if issubclass(type(base), type):
        found = inspect.getattr_static(base, name, None)
        return getattr(found, "__func__", found)
    return type(base), name


def _text(node: ast.expr | None, known: Mapping[str, Any]) -> str:
    """Return the text that an argument is, or starts with; empty for all else."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return _text(node.values[0], known)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known)
    value = known.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
    return value if type(value) is str else ""


def _tree(part: Part) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the syntax of a function, with the lines that its file or cell has; None if lost."""
    code = part.value.__code__
    recorded = getattr(part.statement, "node", None)  # which is there already
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(recorded, kinds) and recorded.name == code.co_name:
        return recorded
    if code not in _trees:
        try:
            lines, first = inspect.getsourcelines(code)
            _trees[code] = ast.parse(textwrap.dedent("".join(lines)))
            ast.increment_lineno(_trees[code], first - 1)
        except (OSError, TypeError, SyntaxError, IndexError):
            _trees[code] = ast.Module([], [])
    body = _trees[code].body
    node = body[0] if body else None
    return node if isinstance(node, kinds) else None


class _Reader:
    """Collects the calls of a function, and of the inner functions that it calls."""

    def __init__(self) -> None:
        self.found: list[_Site] = []
        self._ran: set[int] = set()

    def run(self, function: ast.FunctionDef | ast.AsyncFunctionDef, outer: Scope) -> None:
        """Walk the body of a function that is called."""
        if id(function) in self._ran:
            return
        self._ran.add(id(function))
        scope = {**outer, **_local_names(function)}
        for statement in function.body:
            self.visit(statement, scope)

    def visit(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.AsyncFunctionDef):
            self.run(node, scope)  # whoever awaits it, it runs on the loop
            return
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            return  # until it is called
        if isinstance(node, ast.Call):
            self.call(node, scope)
        for child in ast.iter_child_nodes(node):
            self.visit(child, scope)

    def call(self, node: ast.Call, scope: Scope) -> None:
        attributes: list[str] = []
        root = node.func
        while isinstance(root, ast.Attribute):
            attributes.insert(0, root.attr)
            root = root.value
        if not isinstance(root, ast.Name):
            return
        local = scope.get(root.id)
        if isinstance(local, ast.FunctionDef):
            if not attributes:
                self.run(local, scope)
        elif root.id not in scope or local is not None:
            first = node.args[0] if node.args else None
            site = _Site(node.lineno, root.id, local or "", tuple(attributes), first)
            self.found.append(site)


def _local_names(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
) -> dict[str, str | ast.FunctionDef | None]:
    """Return what a function binds: its imports as dotted names, its functions, None for others."""
    arguments = function.args
    several = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    stars = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    found: dict[str, Any] = {argument.arg: None for argument in (*several, *stars)}
    shared: set[str] = set()
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop(0)
        bound: dict[str, Any] = {}
        if isinstance(node, ast.Global | ast.Nonlocal):
            shared.update(node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                bound[alias.asname or top] = top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            bound = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            plain = isinstance(node, ast.FunctionDef) and not node.decorator_list
            bound = {node.name: node if plain else None}
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound = {node.id: None}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound = {node.name: None}
        for name, what in bound.items():  # what is bound in two ways could be either
            found[name] = what if found.get(name, what) == what else None
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        if not isinstance(node, scopes):
            todo += ast.iter_child_nodes(node)
    return {name: what for name, what in found.items() if name not in shared}


# --- What blocks ----------------------------------------------------------------------------------


class _Table:
    """What blocks, as the objects that the imported modules hold now."""

    def __init__(self) -> None:
        loaded = {name: _loaded(name) for name in BLOCKING}
        self.names = {id(known): name for name, known in loaded.items() if known is not None}
        self.classes = {name: known for name, known in loaded.items() if isinstance(known, type)}
        clients = {name: _loaded(name) for name in CLIENTS}
        self.clients = {name: known for name, known in clients.items() if isinstance(known, type)}

    def look_up(self, target: Any, text: str) -> tuple[str, str]:
        """Return the name of what is called, and what to use instead; empty if it does not block.

        Parameters
        ----------
        target
            An object, a dotted name, or a class with the name of a method.
        text
            The text that the first argument is or starts with.
        """
        if type(target) is tuple:
            return self._method(*target)
        name = str(target) if type(target) is _Dotted else self._name(target)
        if name in BLOCKING:
            return name, BLOCKING[name]
        name = name or _reader(target)
        remote = name.startswith("pandas.read_") and text.startswith(_REMOTE)
        return (name, _THREAD) if remote else ("", "")

    def _name(self, target: Any) -> str:
        if id(target) in self.names:
            return self.names[id(target)]
        above = target.__mro__ if isinstance(target, type) else ()
        return next((name for name, known in self.classes.items() if known in above), "")

    def _method(self, class_: type, attribute: str) -> tuple[str, str]:
        for name, client in self.clients.items():
            if issubclass(class_, client) and attribute not in _QUICK:
                return f"{name}.{attribute}", CLIENTS[name]
        return "", ""


def _reader(target: Any) -> str:
    module, name = attribute(target, "__module__", ""), attribute(target, "__name__", "")
    return f"pandas.{name}" if str(module).partition(".")[0] == "pandas" else ""


def _loaded(dotted: str) -> Any:
    """Return the object of a dotted name, if its module has been imported."""
    module, _, name = dotted.rpartition(".")
    found = sys.modules.get(module)
    return vars(found).get(name) if found is not None else None


def _import(dotted: str) -> Any:
    """Return what an import inside of a function brings, without importing anything."""
    found = sys.modules.get(dotted) or _loaded(dotted)
    return _Dotted(dotted) if found is None else found
