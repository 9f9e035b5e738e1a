"""How a ``%%operation`` cell becomes plain Python that declares what it defines.

The cell itself is compiled and run by IPython, so line numbers, ``await``, ``%debug``, nested
magics and the displayed last value are its own. Two steps make it so. The text step puts, on the
line of ``%%operation``, a call that checks the line before anything else runs; the tree step tells
that call what the cell defines, and declares the function after its last binding::

    %%operation scraping.merge        __pulpo_operation__('scraping.merge', functions=…)
    def merge(a: Raw) -> Raw:         def merge(a: Raw) -> Raw:
        return a                          return a
                                      __pulpo_declare__('scraping.merge', merge)
    merge(Raw())                      merge(Raw())
"""

from __future__ import annotations

import argparse
import ast
import keyword
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import PulpoError, UsageError, did_you_mean
from .arguments import parse_operation, ports_of, takes_help

__all__ = ["BEGIN", "DECLARE", "CellText", "CellTree", "Content", "choose_function", "walk_level"]

BEGIN = "__pulpo_operation__"
DECLARE = "__pulpo_declare__"

_MAGIC = re.compile(r"%%?operation(?:[ \t]+(?P<line>.*))?$")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")  # what Python calls a line; str.splitlines knows more
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a cell holds, as the check at its top needs it.

    Parameters
    ----------
    functions
        The functions that the cell defines, in order.
    names
        Every name that it binds.
    summary
        What stands in it, in words, for a cell without a function.
    wrapped
        True when ``--in`` and ``--out`` made the cell a function.
    helpers
        Those of the functions that another one uses.
    """

    functions: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    summary: str = ""
    wrapped: bool = False
    helpers: tuple[str, ...] = ()


# --- The text step ------------------------------------------------------------------------------


class CellText:
    """The input transformer: replaces the line of ``%%operation``, and wraps a bare cell body."""

    # IPython calls such a transformer to run a cell, never to guess whether a cell is complete.
    has_side_effects = True

    def __init__(self, transform_body: Callable[[list[str]], list[str]]) -> None:
        self._transform_body = transform_body

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines of the cell with its ``%%operation`` line replaced."""
        first = next((i for i, line in enumerate(lines) if _is_code(line)), None)
        match = _MAGIC.match(lines[first].rstrip()) if first is not None else None
        if first is None or match is None:
            return lines
        line, after = _continued(match["line"] or "", lines, first)
        if takes_help(line):
            return ["get_ipython().run_line_magic('operation', '--help')\n"]
        begin = f"{BEGIN}({line!r})\n"
        blank = ["\n"] * (after - first - 1)
        wrapped = self._wrap(line, lines[after:])
        if wrapped is None:
            return [*lines[:first], begin, *blank, *lines[after:]]
        head, body = wrapped
        return [*lines[:first], head, *blank, *body, begin]

    def _wrap(self, line: str, lines: list[str]) -> tuple[str, list[str]] | None:
        # None leaves the cell as it is: the check at its top says what is wrong, or Python does.
        try:
            arguments = parse_operation(line)
            if not (arguments.ins or arguments.outs):
                return None
            body = _LINES.findall("".join(self._transform_body(lines)))
            tree = ast.parse("".join(body))
            _refuse_wrapping(arguments, _content(tree.body))
            head = _signature(arguments, is_async=_awaits(tree.body))
        except (PulpoError, SyntaxError):
            return None
        results = ", ".join(name for name, _, _ in ports_of(arguments.outs))
        ending = [f"    return {results}\n"] if results else []
        indented = [*_indent(body, tree), *ending]
        return (head, indented) if _says_the_same(head, indented, tree) else None


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _continued(line: str, lines: list[str], first: int) -> tuple[str, int]:
    """Join lines that end in a backslash; return the text and the index of the next line."""
    after = first + 1
    while line.endswith("\\") and after < len(lines):
        line = f"{line[:-1].rstrip()} {lines[after].strip()}"
        after += 1
    return line.strip(), after


def _signature(arguments: argparse.Namespace, *, is_async: bool = False) -> str:
    name = arguments.name.rpartition(".")[2]
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"%%operation: {name!r} cannot name a function.")
    parameters = ", ".join(
        port + (f": {annotation}" if annotation else "") + (f" = {default}" if default else "")
        for port, annotation, default in ports_of(arguments.ins)
    )
    models = [annotation for _, annotation, _ in ports_of(arguments.outs)]
    returns = models[0] if len(models) == 1 else f"tuple[{', '.join(models)}]" if models else ""
    arrow = f" -> {returns}" if returns else ""
    text = f"{'async ' * is_async}def {name}({parameters}){arrow}:\n"
    try:
        compile(f"{text}    pass\n", "<%%operation>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", "") or str(error)
        raise UsageError(
            f"%%operation: --in and --out do not make a function ({reason}): {text.strip()!r}."
        ) from None
    return text


def _refuse_wrapping(arguments: argparse.Namespace, content: Content) -> None:
    """Raise what stands against making this cell's body a function."""
    ports_of(arguments.ins)
    outs = ports_of(arguments.outs)
    if any(default for _, _, default in outs):
        raise UsageError("%%operation: --out takes a name and a model, no default.")
    if len(outs) > 1 and not all(annotation for _, annotation, _ in outs):
        raise UsageError("%%operation: each of several --out needs a model: 'cleaned:CleanedJobs'.")
    if content.summary == "nothing":
        raise UsageError("%%operation: the cell is empty, so --in and --out have nothing to wrap.")
    known = {*content.names, *(name for name, _, _ in ports_of(arguments.ins))}
    for name, _, _ in outs:
        if name not in known:
            hint = did_you_mean(name, content.names)
            raise UsageError(f"%%operation: the cell never sets {name!r}, which --out gives.{hint}")
    _signature(arguments)


def _indent(body: list[str], tree: ast.Module) -> list[str]:
    # A line inside a string keeps its place: indenting it would change what the string says.
    inside: set[int] = set()
    for start, end in _strings(tree):
        inside.update(range(start + 1, end + 1))
    return [
        line if number in inside or not line.strip() else f"    {_without_form_feed(line)}"
        for number, line in enumerate(_ended(body), start=1)
    ]


def _without_form_feed(line: str) -> str:
    # To Python a form feed starts the indentation anew, which would undo ours.
    blank = line[: len(line) - len(line.lstrip())]
    return line[blank.rfind("\f") + 1 :]


def _strings(tree: ast.AST) -> Iterator[tuple[int, int]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
        ):
            yield node.lineno, node.end_lineno or node.lineno
        else:  # inside an f-string, Python 3.11 gives the parts lines of their own
            waiting.extend(ast.iter_child_nodes(node))


def _says_the_same(head: str, indented: list[str], tree: ast.Module) -> bool:
    match ast.parse(head + "".join(indented)).body:
        case [ast.FunctionDef(body=inner) | ast.AsyncFunctionDef(body=inner)]:
            before = [ast.dump(statement) for statement in tree.body]
            return [ast.dump(statement) for statement in inner[: len(before)]] == before
    return False


def _ended(body: list[str]) -> list[str]:
    return [line if line.endswith("\n") else f"{line}\n" for line in body]


# --- The tree step ------------------------------------------------------------------------------


class CellTree(ast.NodeTransformer):
    """The AST transformer: tells the check what the cell holds, and declares the function."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Return the cell with its declaration added; any other cell unchanged."""
        body = node.body
        line, wrapped = _begin_of(body[0]), False
        if line is None and isinstance(body[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
            line, wrapped = _begin_of(body[-1]), True
        if line is None:
            return node
        begin = body.pop() if wrapped else body.pop(0)
        content = _content(body, wrapped=wrapped)
        try:
            name = choose_function(parse_operation(line), content)
        except PulpoError:
            name = None  # the check at the top raises it again
        if name is not None:
            last = max(i for i, statement in enumerate(body) if name in _bound(statement))
            body.insert(last + 1, _call(body[last], DECLARE, ast.Constant(line), _load(name)))
        at = body[0] if wrapped else begin
        held = [(n, getattr(content, n)) for n in Content.__slots__]
        check = _call(at, BEGIN, ast.Constant(line), **{n: ast.Constant(v) for n, v in held})
        body.insert(0, check)
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        """Look at modules only: what is inside a cell's statements is not ours."""
        return self.visit_Module(node) if isinstance(node, ast.Module) and node.body else node


def choose_function(arguments: argparse.Namespace, content: Content) -> str:
    """Return which function of the cell the operation is.

    Raises
    ------
    UsageError
        When there is none, or several and nothing says which; it lists them.
    """
    functions = content.functions
    if content.wrapped:
        return functions[0]
    if arguments.ins or arguments.outs:
        _refuse_wrapping(arguments, content)
        raise UsageError(
            "%%operation: this cell cannot be wrapped by --in and --out. Put it in a function."
        )
    if arguments.function:
        if arguments.function in functions:
            return str(arguments.function)
        has = f"defines {', '.join(functions)}" if functions else f"has only {content.summary}"
        hint = did_you_mean(arguments.function, functions)
        raise UsageError(
            f"%%operation: the cell has no function {arguments.function!r}, it {has}.{hint}"
        )
    public = [name for name in functions if not name.startswith("_")]
    alone = [name for name in public if name not in content.helpers]
    for candidates in (functions, public, alone):
        if len(candidates) == 1:
            return candidates[0]
    if not functions:
        empty = content.summary == "nothing"
        has = "is empty" if empty else f"has no function, only {content.summary}"
        raise UsageError(
            f"%%operation {arguments.name}: the cell {has}. "
            "Put a def below the line, or wrap the cell with --in port:Model --out name:Model."
        )
    raise UsageError(
        f"%%operation {arguments.name}: the cell has several functions "
        f"({', '.join(public or functions)}). "
        f"Pick one with --function {(alone or public or functions)[-1]}."
    )


def _begin_of(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(
            value=ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as line)])
        ) if name == BEGIN:
            return line
    return None


def _call(at: ast.stmt, name: str, *args: ast.expr, **keywords: ast.expr) -> ast.stmt:
    call = ast.Call(_load(name), list(args), [ast.keyword(k, v) for k, v in keywords.items()])
    statement = ast.Expr(call)
    for node in ast.walk(statement):  # an error in it points at the first line of the function
        ast.copy_location(node, at)
    return statement


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _content(body: Sequence[ast.stmt], *, wrapped: bool = False) -> Content:
    functions = [
        node.name
        for statement in body
        for node in walk_level(statement)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    names = [name for statement in body for name in _bound(statement)]
    return Content(
        functions=tuple(dict.fromkeys(functions)),
        names=tuple(dict.fromkeys(names)),
        summary=_summary(body),
        wrapped=wrapped,
        helpers=tuple(_used_by_others(body, set(functions))),
    )


def _used_by_others(body: Sequence[ast.stmt], functions: set[str]) -> Iterator[str]:
    """Yield the functions that another function of the cell names in its body or decorators."""
    for statement in body:
        for node in walk_level(statement):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Name) and inner.id in functions - {node.name}:
                        yield inner.id


_KINDS: tuple[tuple[tuple[type[ast.stmt], ...], str, str], ...] = (
    ((ast.Import, ast.ImportFrom), "an import", "imports"),
    ((ast.Assign, ast.AnnAssign, ast.AugAssign), "an assignment", "assignments"),
    ((ast.ClassDef,), "a class", "classes"),
    ((ast.FunctionDef, ast.AsyncFunctionDef), "a function", "functions"),
    ((ast.Expr,), "an expression", "expressions"),
    ((ast.stmt,), "a statement", "statements"),
)


def _summary(body: Sequence[ast.stmt]) -> str:
    kinds = Counter(
        next(i for i, (types, _, _) in enumerate(_KINDS) if isinstance(statement, types))
        for statement in body
    )
    words = [
        _KINDS[kind][1] if count == 1 else f"{count} {_KINDS[kind][2]}"
        for kind, count in kinds.items()
    ]
    return (
        " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing"
    )


def walk_level(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and what runs with it: nothing from inside a function, class or lambda."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _bound(statement: ast.stmt) -> Iterator[str]:
    for node in walk_level(statement):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.alias():
                yield node.asname or node.name.partition(".")[0]
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                yield node.name


def _awaits(body: Sequence[ast.stmt]) -> bool:
    for statement in body:
        for node in walk_level(statement):
            if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
                return True
            if isinstance(node, _COMPREHENSIONS) and any(map(_is_async, ast.walk(node))):
                return True
    return False


def _is_async(node: ast.AST) -> bool:
    return isinstance(node, ast.Await) or bool(getattr(node, "is_async", False))
