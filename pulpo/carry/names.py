"""Which global names a statement uses, and when: as it runs, when it is called, in annotations."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "MUTATORS",
    "Names",
    "names_in_conditions",
    "names_in_queries",
    "names_of",
    "root_name",
]

# Methods that change what they are called on; the rest are taken to read.
MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "appendleft",
        "extendleft",
        "popleft",
        "rotate",
        "subtract",
        "move_to_end",
        "intersection_update",
        "difference_update",
        "symmetric_difference_update",
    ]
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The global names of one top-level statement, in the order in which they are met.

    ``now`` are read when the statement runs (decorators, defaults, bases, class bodies), ``later``
    when a function that it defines is called, ``hints`` when somebody evaluates its annotations.
    ``rebinds`` are assigned through ``global`` in a function, ``mutates`` are changed in place in
    a function, ``touches`` are changed in place by the statement itself. ``modules`` are imported
    inside functions.
    """

    now: tuple[str, ...]
    later: tuple[str, ...]
    hints: tuple[str, ...]
    binds: tuple[str, ...]
    rebinds: tuple[str, ...]
    mutates: tuple[str, ...]
    touches: tuple[str, ...]
    modules: tuple[str, ...]


def names_of(node: ast.stmt, *, lazy_annotations: bool = False) -> Names:
    """Return the global names of a top-level statement.

    Parameters
    ----------
    node
        The statement.
    lazy_annotations
        Whether it ran under ``from __future__ import annotations``.
    """
    reader = _Reader(lazy=lazy_annotations)
    scope = _Scope("module")
    reader.visit(node, scope)
    return Names(
        now=tuple(scope.now),
        later=tuple(scope.later),
        hints=tuple(scope.hints),
        binds=tuple(scope.stores),
        rebinds=tuple(scope.rebinds),
        mutates=tuple(scope.inner_mutates),
        touches=tuple(scope.mutates),
        modules=tuple(reader.modules),
    )


def root_name(node: ast.AST) -> str | None:
    """Return ``"a"`` for ``a.b[c].d``, None when the chain starts with something else."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def names_in_queries(node: ast.AST) -> list[str]:
    """Return the names in ``frame.query("x > @LIMIT")``, which pandas finds among the globals."""
    return [
        name
        for part in ast.walk(node)
        if isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr in ("query", "eval")
        for text in ast.walk(part)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        # pd.eval needs no mark: there are no columns.
        for name in re.findall(
            r"([^\W\d]\w*)" if _is_of_pandas(part.func) else r"@([^\W\d]\w*)", text.value
        )
    ]


def _is_of_pandas(function: ast.Attribute) -> bool:
    return isinstance(function.value, ast.Name) and function.value.id in ("pd", "pandas")


def names_in_conditions(node: ast.AST) -> list[str]:
    """Return the names in texts such as ``"x > @LIMIT"``, which something may ask a frame later."""
    own = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    own |= {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }
    return [
        name
        for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        for name in re.findall(r"(?<![\w.@])@([^\W\d]\w*)", text.value)
        if name not in own
    ]


# Dicts stand in for ordered sets: the order of a set of strings differs from run to run.
_Ordered = dict[str, None]


class _Scope:
    """What one scope reads and binds; ``module`` and ``class`` scopes run from top to bottom."""

    __slots__ = (
        "globals",
        "hints",
        "inner_mutates",
        "kind",
        "later",
        "mutates",
        "now",
        "outer",
        "rebinds",
        "stores",
    )

    def __init__(
        self,
        kind: Literal["module", "class", "function", "comprehension"],
        outer: _Scope | None = None,
    ) -> None:
        self.kind = kind
        self.outer = outer
        self.now: _Ordered = {}
        self.later: _Ordered = {}
        self.hints: _Ordered = {}
        self.stores: _Ordered = {}
        self.globals: set[str] = set()
        self.rebinds: _Ordered = {}
        self.mutates: _Ordered = {}
        self.inner_mutates: _Ordered = {}

    def load(self, name: str) -> None:
        # `date: date = date(2000, 1, 1)` in a class body reads the global before it binds its own.
        if self.kind in ("module", "class") and name in self.stores and name not in self.globals:
            return
        self.now[name] = None

    def store(self, name: str) -> None:
        self.stores[name] = None

    def close(self, into: _Scope) -> None:
        """Hand what this function or comprehension does not bind itself to the scope around it."""
        own = self.stores.keys() - self.globals
        lazily = self.kind == "function"
        target = into.later if lazily else into.now
        skip = own if lazily or into.kind != "module" else own | into.stores.keys()
        _add(target, self.now, skip)
        _add(into.later, self.later, own)
        _add(into.hints, self.hints, own)
        _add(into.inner_mutates, self.inner_mutates, own)
        _add(into.inner_mutates if lazily else into.mutates, self.mutates, own)
        _add(into.rebinds, self.rebinds)
        _add(into.rebinds, (name for name in self.stores if name in self.globals))


def _add(target: _Ordered, names: Iterable[str], skip: Iterable[str] = ()) -> None:
    for name in names:
        if name not in skip:
            target[name] = None


class _Reader:
    def __init__(self, *, lazy: bool) -> None:
        self.lazy = lazy
        self.modules: _Ordered = {}

    def visit(self, node: ast.AST, scope: _Scope) -> None:
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            handler(self, node, scope)
        else:
            self.children(node, scope)

    def children(self, node: ast.AST, scope: _Scope) -> None:
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                for child in value:
                    if isinstance(child, ast.AST):
                        self.visit(child, scope)
            elif isinstance(value, ast.AST):
                self.visit(value, scope)

    def all(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node, scope)

    # -- reading, binding, changing in place

    def name(self, node: ast.Name, scope: _Scope) -> None:
        if isinstance(node.ctx, ast.Load):
            scope.load(node.id)
        elif isinstance(node.ctx, ast.Store) or scope.kind == "function":
            scope.store(node.id)

    def place(self, node: ast.Attribute | ast.Subscript, scope: _Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.mutated(node, scope)
        self.children(node, scope)

    def mutated(self, node: ast.AST, scope: _Scope) -> None:
        name = root_name(node)
        if name is not None:
            scope.mutates[name] = None

    def call(self, node: ast.Call, scope: _Scope) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in MUTATORS:
            self.mutated(function.value, scope)
        called = function.attr if isinstance(function, ast.Attribute) else root_name(function)
        if called in ("setattr", "delattr") and node.args:
            self.mutated(node.args[0], scope)
        for keyword in node.keywords:
            if keyword.arg == "out":  # np.add(a, b, out=a)
                self.mutated(keyword.value, scope)
        if called in ("import_module", "__import__") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                self.modules[first.value] = None
        self.children(node, scope)

    def assign(self, node: ast.Assign, scope: _Scope) -> None:
        self.visit(node.value, scope)
        self.all(node.targets, scope)

    def augmented(self, node: ast.AugAssign, scope: _Scope) -> None:
        self.visit(node.value, scope)
        if isinstance(node.target, ast.Name):
            scope.load(node.target.id)
            scope.mutates[node.target.id] = None
        self.visit(node.target, scope)

    def annotated(self, node: ast.AnnAssign, scope: _Scope) -> None:
        if node.value is not None:
            self.visit(node.value, scope)
        # Python never evaluates the annotation of a local variable.
        self.hint(node.annotation, scope, lazy=self.lazy or scope.kind == "function")
        if node.value is not None or scope.kind == "function":
            self.visit(node.target, scope)

    def walrus(self, node: ast.NamedExpr, scope: _Scope) -> None:
        self.visit(node.value, scope)
        while scope.kind == "comprehension" and scope.outer is not None:
            scope.store(node.target.id)
            scope = scope.outer
        scope.store(node.target.id)

    def loop(self, node: ast.For | ast.AsyncFor, scope: _Scope) -> None:
        self.all([node.iter, node.target, *node.body, *node.orelse], scope)

    def handler(self, node: ast.ExceptHandler, scope: _Scope) -> None:
        if node.type is not None:
            self.visit(node.type, scope)
        # A module-level `except … as error` unbinds its name again.
        if node.name and scope.kind == "function":
            scope.store(node.name)
        elif node.name:
            bound_before = node.name in scope.stores
            scope.store(node.name)
            self.all(node.body, scope)
            if not bound_before:
                scope.stores.pop(node.name, None)
            return
        self.all(node.body, scope)

    def capture(self, node: Any, scope: _Scope) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            scope.store(name)
        self.children(node, scope)

    def imported(self, node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
        for alias in node.names:
            if alias.name != "*":
                plain = alias.name.split(".")[0] if isinstance(node, ast.Import) else alias.name
                scope.store(alias.asname or plain)
            if scope.kind == "function":
                whole = alias.name if isinstance(node, ast.Import) else node.module
                if whole:
                    self.modules[whole] = None

    def declared(self, node: ast.Global, scope: _Scope) -> None:
        scope.globals.update(node.names)

    def skipped(self, node: ast.AST, scope: _Scope) -> None:
        """Leave out what uses no name of the module."""

    # -- scopes

    def function(self, node: Function, scope: _Scope) -> None:
        self.all(node.decorator_list, scope)
        self.all([*node.args.defaults, *node.args.kw_defaults], scope)
        outside = self.typed(node, scope)
        for argument in _arguments(node.args):
            if argument.annotation is not None:
                self.hint(argument.annotation, outside, lazy=self.lazy)
        if node.returns is not None:
            self.hint(node.returns, outside, lazy=self.lazy)
        self.body(node.args, node.body, outside)
        if outside is not scope:
            outside.close(scope)
        scope.store(node.name)

    def lambda_(self, node: ast.Lambda, scope: _Scope) -> None:
        self.all([*node.args.defaults, *node.args.kw_defaults], scope)
        self.body(node.args, [node.body], scope)

    def body(self, args: ast.arguments, body: Iterable[ast.AST], scope: _Scope) -> None:
        inner = _Scope("function", scope)
        for argument in _arguments(args):
            inner.store(argument.arg)
        for node in body:
            if isinstance(node, ast.Nonlocal):
                continue
            self.visit(node, inner)
        for name in _nonlocals(body):
            if inner.stores.pop(name, "") is None:
                inner.now[name] = None
        inner.store("__class__")  # Python fills it in, in methods
        inner.close(scope)

    def class_(self, node: ast.ClassDef, scope: _Scope) -> None:
        self.all(node.decorator_list, scope)
        outside = self.typed(node, scope)
        self.all([*node.bases, *node.keywords], outside)
        inner = _Scope("class", outside)
        self.all(node.body, inner)
        # Names of a class body are invisible in its methods, so only the body itself skips them.
        for name in inner.now:
            outside.load(name)
        _add(outside.later, inner.later)
        _add(outside.hints, inner.hints)
        _add(outside.mutates, inner.mutates, inner.stores)
        _add(outside.inner_mutates, inner.inner_mutates)
        _add(outside.rebinds, inner.rebinds)
        if outside is not scope:
            outside.close(scope)
        scope.store(node.name)

    def typed(self, node: Any, scope: _Scope) -> _Scope:
        """Return a scope that holds ``T`` of ``def f[T]``, or the scope itself."""
        parameters = getattr(node, "type_params", None)
        if not parameters:
            return scope
        inner = _Scope("comprehension", scope)
        for parameter in parameters:
            inner.store(parameter.name)
        for parameter in parameters:
            for field in ("bound", "default_value"):
                value = getattr(parameter, field, None)
                if value is not None:
                    self.hint(value, inner, lazy=True)
        return inner

    def alias(self, node: Any, scope: _Scope) -> None:  # type X = …, from Python 3.12
        outside = self.typed(node, scope)
        self.hint(node.value, outside, lazy=True)
        if outside is not scope:
            outside.close(scope)
        scope.store(node.name.id)

    def comprehension(self, node: Any, scope: _Scope) -> None:
        first, *others = node.generators
        self.visit(first.iter, scope)
        inner = _Scope("comprehension", scope)
        self.all([first.target, *first.ifs], inner)
        for generator in others:
            self.all([generator.iter, generator.target, *generator.ifs], inner)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.all(parts, inner)
        inner.close(scope)

    # -- annotations

    def hint(self, node: ast.AST, scope: _Scope, *, lazy: bool) -> None:
        """Collect the names of an annotation; strings in it are annotations too."""
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.text_hint(node.value, scope)
        elif isinstance(node, ast.Subscript):
            self.hint(node.value, scope, lazy=lazy)
            kind = _last_part(node.value)
            if kind == "Literal":  # its texts are no names
                self.plain_hint(node.slice, scope, lazy=lazy)
                return
            if kind == "Annotated" and isinstance(node.slice, ast.Tuple) and node.slice.elts:
                self.hint(node.slice.elts[0], scope, lazy=lazy)
                for metadata in node.slice.elts[1:]:
                    self.plain_hint(metadata, scope, lazy=lazy)
            else:
                self.hint(node.slice, scope, lazy=lazy)
        elif isinstance(node, ast.Call | ast.Name):
            self.plain_hint(node, scope, lazy=lazy)
        else:
            for child in ast.iter_child_nodes(node):
                self.hint(child, scope, lazy=lazy)

    def plain_hint(self, node: ast.AST, scope: _Scope, *, lazy: bool) -> None:
        if not lazy:
            self.visit(node, scope)
            return
        aside = _Scope("function", scope)
        self.visit(node, aside)
        _add(scope.hints, [*aside.now, *aside.later])

    def text_hint(self, text: str, scope: _Scope) -> None:
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            return
        self.hint(node, scope, lazy=True)


def _arguments(args: ast.arguments) -> list[ast.arg]:
    stars = [star for star in (args.vararg, args.kwarg) if star is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *stars]


def _nonlocals(body: Iterable[ast.AST]) -> list[str]:
    return [name for node in body if isinstance(node, ast.Nonlocal) for name in node.names]


def _last_part(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


_HANDLERS: dict[type[ast.AST], Callable[[_Reader, Any, _Scope], None]] = {
    ast.Constant: _Reader.skipped,
    ast.Load: _Reader.skipped,
    ast.Store: _Reader.skipped,
    ast.Name: _Reader.name,
    ast.Attribute: _Reader.place,
    ast.Subscript: _Reader.place,
    ast.Call: _Reader.call,
    ast.Assign: _Reader.assign,
    ast.AugAssign: _Reader.augmented,
    ast.AnnAssign: _Reader.annotated,
    ast.NamedExpr: _Reader.walrus,
    ast.For: _Reader.loop,
    ast.AsyncFor: _Reader.loop,
    ast.ExceptHandler: _Reader.handler,
    ast.MatchAs: _Reader.capture,
    ast.MatchStar: _Reader.capture,
    ast.MatchMapping: _Reader.capture,
    ast.Import: _Reader.imported,
    ast.ImportFrom: _Reader.imported,
    ast.Global: _Reader.declared,
    ast.Nonlocal: _Reader.skipped,
    ast.FunctionDef: _Reader.function,
    ast.AsyncFunctionDef: _Reader.function,
    ast.Lambda: _Reader.lambda_,
    ast.ClassDef: _Reader.class_,
    ast.ListComp: _Reader.comprehension,
    ast.SetComp: _Reader.comprehension,
    ast.DictComp: _Reader.comprehension,
    ast.GeneratorExp: _Reader.comprehension,
}
if hasattr(ast, "TypeAlias"):
    _HANDLERS[ast.TypeAlias] = _Reader.alias
