"""Which expressions give the same value wherever and whenever they are evaluated."""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pulpo.carry.names import MUTATORS
from pulpo.carry.record import Recorder
from pulpo.carry.values import attribute, live_kind

__all__ = ["Purity", "Verdict", "call_text", "reads_the_clock"]

_BUILTINS = frozenset(
    [
        "abs",
        "all",
        "any",
        "ascii",
        "bin",
        "bool",
        "bytearray",
        "bytes",
        "callable",
        "chr",
        "classmethod",
        "complex",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "format",
        "frozenset",
        "getattr",
        "hasattr",
        "hash",
        "hex",
        "int",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "list",
        "map",
        "max",
        "min",
        "object",
        "oct",
        "ord",
        "pow",
        "property",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "slice",
        "sorted",
        "staticmethod",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "zip",
    ]
)

# Module by module, what may be called; "*" is everything in it.
_PURE = {
    "asyncio": "Lock Semaphore BoundedSemaphore Event Condition Queue",
    "base64": "*",
    "collections": "*",
    "collections.abc": "*",
    "contextvars": "ContextVar",
    "copy": "copy deepcopy replace",
    "dataclasses": "field make_dataclass replace asdict astuple",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal Context",
    "enum": "*",
    "fractions": "*",
    "functools": "*",
    "html": "*",
    "httpx": "Timeout Limits Headers URL QueryParams",
    "ipaddress": "*",
    "itertools": "*",
    "json": "loads dumps",
    "logging": "getLogger",
    "math": "*",
    # What makes small arrays and tables of what is written; not what draws or reads.
    "numpy": (
        "array asarray arange linspace logspace geomspace zeros ones full eye identity dtype bool_ "
        "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
        "complex128 str_ datetime64 timedelta64"
    ),
    "operator": "*",
    "os": "fspath",
    "os.path": "join basename dirname splitext normpath split",
    "pandas": (
        "Timestamp Timedelta DateOffset CategoricalDtype Interval DataFrame Series Index "
        "RangeIndex Categorical"
    ),
    "pathlib": "Path PurePath PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "pydantic": "*",
    "pydantic.types": "*",
    "re": "compile escape sub split findall",
    "statistics": "*",
    "string": "*",
    "struct": "Struct calcsize",
    "textwrap": "*",
    "threading": "Lock RLock Semaphore BoundedSemaphore Event Condition Barrier local",
    "types": "SimpleNamespace MappingProxyType new_class",
    "typing": "*",
    "typing_extensions": "*",
    "unicodedata": "*",
    "urllib.parse": "*",
    "uuid": "UUID uuid3 uuid5",
    "weakref": "WeakKeyDictionary WeakValueDictionary WeakSet",
    "zoneinfo": "ZoneInfo",
}
# What pulpo's own names in annotations become is no business of this table: see closure.py.
_PURE_ROOTS = {"pulpo": "Model"}

# Methods of data that read it; whatever else has a method of such a name is taken to read too.
_METHODS = frozenset(
    [
        "as_posix",
        "capitalize",
        "casefold",
        "center",
        "copy",
        "count",
        "date",
        "decode",
        "difference",
        "encode",
        "endswith",
        "find",
        "format",
        "format_map",
        "get",
        "index",
        "intersection",
        "isalnum",
        "isalpha",
        "isdigit",
        "islower",
        "isoformat",
        "isspace",
        "issubset",
        "issuperset",
        "isupper",
        "items",
        "join",
        "joinpath",
        "keys",
        "ljust",
        "lower",
        "lstrip",
        "model_copy",
        "model_dump",
        "model_dump_json",
        "most_common",
        "partition",
        "relative_to",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "search",
        "match",
        "fullmatch",
        "findall",
        "sub",
        "split",
        "splitlines",
        "startswith",
        "strftime",
        "strip",
        "swapcase",
        "symmetric_difference",
        "time",
        "title",
        "total_seconds",
        "translate",
        "union",
        "upper",
        "values",
        "with_name",
        "with_stem",
        "with_suffix",
        "zfill",
        "astimezone",
        "group",
        "groups",
        "groupdict",
        "as_integer_ratio",
        "quantize",
        "hex",
        "bit_length",
    ]
)
_CONSTRUCTORS = frozenset(
    [
        "combine",
        "from_bytes",
        "from_decimal",
        "from_float",
        "from_iterable",
        "fromhex",
        "fromisocalendar",
        "fromisoformat",
        "fromkeys",
        "fromordinal",
        "maketrans",
        "model_construct",
        "model_validate",
        "model_validate_json",
        "strptime",
    ]
)
# They depend on where the export runs, which is what their user means.
_OF_THE_PLACE = frozenset(["absolute", "cwd", "expanduser", "home", "resolve"])
_BUILDERS = frozenset(
    ["__init__", "__new__", "__post_init__", "__init_subclass__", "model_post_init", "__set_name__"]
)
_VALIDATORS = frozenset(
    ["validator", "root_validator", "field_validator", "model_validator", "computed_field"]
)
_PLAIN_NODES = (
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Slice,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.Starred,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.comprehension,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
    ast.NamedExpr,
)
_TAKES_A_TIME = frozenset(("Timestamp", "Period", "DatetimeIndex", "to_datetime", "datetime64"))
_UNKNOWN = object()


@dataclass(slots=True)
class Verdict:
    """What was found: the first impure part, and what the value depends on outside the text."""

    impure: ast.AST | None = None
    variables: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    @property
    def depends(self) -> bool:
        """Whether the value may differ elsewhere, rightly."""
        return bool(self.variables or self.places)


def call_text(node: ast.AST | None) -> str:
    """Return ``"sqlite3.connect(…)"`` for a call, the text of another expression."""
    if isinstance(node, ast.Await):
        return f"await {call_text(node.value)}"
    if isinstance(node, ast.Call):
        return f"{ast.unparse(node.func)}(…)" if node.args or node.keywords else ast.unparse(node)
    text = ast.unparse(node) if node is not None else ""
    return text if len(text) <= 60 else f"{text[:57]}…"


def reads_the_clock(function: object, call: ast.Call) -> bool:
    """Tell whether a call is ``pd.Timestamp("now")`` or its like."""
    if str(attribute(function, "__name__", "")) not in _TAKES_A_TIME:
        return False
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [one.value for one in given if isinstance(one, ast.Constant)]
    return any(isinstance(text, str) and text.casefold() in ("now", "today") for text in texts)


class Purity:
    """Judges expressions against the live namespace."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._namespace = recorder.namespace
        self._table = _callables()
        self._bodies: dict[int, bool] = {}

    def judge(self, node: ast.AST, *, defining: bool = False) -> Verdict:
        """Judge an expression.

        Parameters
        ----------
        node
            The expression.
        defining
            Whether its value is a function or class, so that calls of the user's functions and of
            libraries in it are decorators and factories.
        """
        verdict = Verdict()
        verdict.impure = self._impure(node, frozenset(), verdict, defining)
        return verdict

    def variable(self, node: ast.AST) -> str | None:
        """Return the environment variable that an expression reads, None if it reads none."""
        return self._variable(node, frozenset())

    def value_of(self, node: ast.AST, own: Iterable[str] = ()) -> object:
        """Return the live object that a name or a chain such as ``os.path.join`` stands for."""
        if isinstance(node, ast.Name):
            if node.id in own:
                return _UNKNOWN
            if node.id in self._namespace:
                return self._namespace[node.id]
            return getattr(builtins, node.id, _UNKNOWN)
        if isinstance(node, ast.Attribute):
            base = self.value_of(node.value, own)
            if isinstance(base, types.ModuleType | type):
                return attribute(base, node.attr, _UNKNOWN)
        match node:
            case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=str(name))]):
                if name in sys.stdlib_module_names:  # as frozen values have it
                    return sys.modules.get(name, _UNKNOWN)
        return _UNKNOWN

    def _impure(
        self, node: ast.AST, own: frozenset[str], verdict: Verdict, defining: bool
    ) -> ast.AST | None:
        """Return the first part that is not pure; ``own`` are local names."""
        if isinstance(node, ast.Name):
            # Reading on would use up what the session holds.
            value = self._namespace.get(node.id)
            return node if node.id not in own and live_kind(value) else None
        if isinstance(node, ast.Lambda | ast.Constant):
            return None
        if isinstance(node, ast.Subscript):
            variable = self._variable(node, own)
            if variable:
                verdict.variables.append(variable)
                return None
            return self._first([node.value, node.slice], own, verdict, defining)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, own, verdict, defining)
        if isinstance(node, ast.Call):
            return self._call(node, own, verdict, defining)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            own |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _is_store(n)}
        if isinstance(node, _PLAIN_NODES):
            return self._first(ast.iter_child_nodes(node), own, verdict, defining)
        return node

    def _first(
        self, nodes: Iterable[ast.AST], own: frozenset[str], verdict: Verdict, defining: bool
    ) -> ast.AST | None:
        for node in nodes:
            found = self._impure(node, own, verdict, defining)
            if found is not None:
                return found
        return None

    def _attribute(
        self, node: ast.Attribute, own: frozenset[str], verdict: Verdict, defining: bool
    ) -> ast.AST | None:
        base = self.value_of(node.value, own)
        if isinstance(base, types.ModuleType):
            value = attribute(base, node.attr)
            fixed = isinstance(
                value,
                bool | int | float | str | bytes | tuple | type | types.ModuleType | enum.Enum,
            )
            return None if fixed or value is None or callable(value) or _is_hint(value) else node
        if base is _UNKNOWN and isinstance(node.value, ast.Name) and node.value.id not in own:
            base = self._namespace.get(node.value.id, _UNKNOWN)
        if _runs_code(base, node.attr):
            return node
        return self._impure(node.value, own, verdict, defining)

    def _call(
        self, node: ast.Call, own: frozenset[str], verdict: Verdict, defining: bool
    ) -> ast.AST | None:
        variable = self._variable(node, own)
        if variable:
            verdict.variables.append(variable)
            return self._first(node.args[1:], own, verdict, defining)
        if reads_the_clock(self.value_of(node.func, own), node):
            return node
        if not self._callable(node.func, own, verdict, defining):
            return node
        # `defining` says nothing of the arguments: make(connect()) makes a function too.
        return self._first([*node.args, *node.keywords], own, verdict, False)

    def _callable(
        self, node: ast.expr, own: frozenset[str], verdict: Verdict, defining: bool
    ) -> bool:
        value = self.value_of(node, own)
        if value is not _UNKNOWN:
            return self._known(value, node, own, verdict, defining)
        if isinstance(node, ast.Call):  # make(1)(2)
            return defining and self._impure(node, own, verdict, defining) is None
        if isinstance(node, ast.Attribute):
            if self._impure(node.value, own, verdict, defining) is not None:
                return False
            if node.attr in _OF_THE_PLACE:
                verdict.places.append(ast.unparse(node))
                return True
            return node.attr in _METHODS or self._own_method(node, own)
        return False

    def _known(
        self, value: object, node: ast.expr, own: frozenset[str], verdict: Verdict, defining: bool
    ) -> bool:
        name = str(attribute(value, "__name__", ""))
        if getattr(builtins, name, None) is value:
            return name in _BUILTINS or (isinstance(value, type) and name in vars(builtins))
        try:
            if value in self._table:
                return True
        except Exception:  # not hashable, or by the user's own way
            return False
        root = str(attribute(value, "__module__", "")).split(".")[0]
        if _PURE_ROOTS.get(root) == name:
            return True
        if isinstance(node, ast.Attribute):
            owner = self.value_of(node.value, own)
            if isinstance(owner, type):
                if node.attr in _OF_THE_PLACE and owner in self._table:
                    verdict.places.append(ast.unparse(node))
                    return True
                if node.attr in _CONSTRUCTORS | _METHODS:
                    return self._known(owner, node.value, own, verdict, defining)
        if isinstance(value, type):
            return self._builds_purely(value)
        return self._runs_purely(value) or (defining and callable(value))

    def _own_method(self, node: ast.Attribute, own: frozenset[str]) -> bool:
        """Tell whether a method changes nothing but a local variable."""
        return node.attr in MUTATORS and isinstance(node.value, ast.Name) and node.value.id in own

    def _variable(self, node: ast.AST, own: frozenset[str]) -> str | None:
        """Return the environment variable that ``os.environ["X"]`` and its like read."""
        if isinstance(node, ast.Subscript):
            owner, key = self.value_of(node.value, own), node.slice
            ours = owner is os.environ
        elif isinstance(node, ast.Call) and node.args:
            key = node.args[0]
            owner = self.value_of(node.func, own)
            method = node.func if isinstance(node.func, ast.Attribute) else None
            ours = owner is os.getenv or (
                method is not None
                and method.attr == "get"
                and self.value_of(method.value, own) is os.environ
            )
        else:
            return None
        if ours and isinstance(key, ast.Constant) and isinstance(key.value, str):
            return key.value
        return None

    # -- the user's own functions and classes

    def _runs_purely(self, value: object) -> bool:
        statement = self._recorder.by_object.get(id(value))
        node = statement.node if statement is not None else None
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            return self._body(node.value)
        if not isinstance(node, ast.FunctionDef):
            return False
        return all(self._is_harmless(one) for one in node.decorator_list) and self._body(node)

    def _is_harmless(self, decorator: ast.expr) -> bool:
        node = decorator.func if isinstance(decorator, ast.Call) else decorator
        value = self.value_of(node)
        return attribute(value, "__module__", "") in ("functools", "contextlib") or (
            str(attribute(value, "__module__", "")).split(".")[0] == "pulpo"
        )

    def _builds_purely(self, kind: type) -> bool:
        """Tell whether making an instance runs nothing of the user's that is not pure."""
        if issubclass(kind, BaseException) and kind.__module__ == "builtins":
            return True
        for one in kind.__mro__:
            root = one.__module__.split(".")[0]
            if one is object or one in self._table or root in _LIBRARY_BASES:
                continue
            statement = self._recorder.by_object.get(id(one))
            if statement is not None and isinstance(statement.node, ast.Assign):
                continue  # namedtuple("R", "a b"), create_model(…): nothing of the user's runs
            if statement is None or not isinstance(statement.node, ast.ClassDef):
                return False
            if not all(self._body(part) for part in _builders(statement.node)):
                return False
        return True

    def _body(self, node: ast.FunctionDef | ast.Lambda) -> bool:
        known = self._bodies.get(id(node))
        if known is None:
            self._bodies[id(node)] = True  # what calls itself is as pure as the rest of it
            known = self._bodies[id(node)] = self._judge_body(node)
        return known

    def _judge_body(self, node: ast.FunctionDef | ast.Lambda) -> bool:
        own = _locals(node)
        if isinstance(node, ast.Lambda):
            return self._impure(node.body, own, Verdict(), False) is None
        for statement in node.body:
            for part in ast.walk(statement):
                if isinstance(part, _IMPURE_NODES):
                    return False
                if isinstance(part, ast.Attribute | ast.Subscript) and _is_store(part):
                    name = part.value.id if isinstance(part.value, ast.Name) else ""
                    if name not in own or name in ("cls", "mcs"):
                        return False
                if isinstance(part, ast.Call) and not self._calls_purely(part, own):
                    return False
        return True

    def _calls_purely(self, node: ast.Call, own: frozenset[str]) -> bool:
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
            inner = node.func.value.func
            if isinstance(inner, ast.Name) and inner.id == "super":
                return True
        if reads_the_clock(self.value_of(node.func, own), node):
            return False
        verdict = Verdict()
        if isinstance(node.func, ast.Attribute) and self.value_of(node.func, own) is _UNKNOWN:
            # Its owner is judged by itself: the walk meets every call.
            if node.func.attr in _METHODS or self._own_method(node.func, own):
                return True
            root = node.func.value
            return node.func.attr in MUTATORS and _is_within(root, own)
        return self._callable(node.func, own, verdict, False) and not verdict.depends


_IMPURE_NODES = (
    ast.Global,
    ast.With,
    ast.AsyncWith,
    ast.AsyncFor,
    ast.Await,
    ast.Import,
    ast.ImportFrom,
    ast.Delete,
)
_LIBRARY_BASES = frozenset(
    [
        "abc",
        "builtins",
        "collections",
        "enum",
        "pydantic",
        "typing",
        "typing_extensions",
        "dataclasses",
    ]
)


def _runs_code(value: object, attribute: str) -> bool:
    """Tell whether reading an attribute runs a property of the user's own."""
    if value is _UNKNOWN or type(value).__module__ != "__main__":
        return False
    found = inspect.getattr_static(type(value), attribute, None)
    return isinstance(found, property | functools.cached_property)


def _is_within(node: ast.AST, own: frozenset[str]) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id in own and node.id not in ("cls", "mcs")


def _is_store(node: ast.Name | ast.Attribute | ast.Subscript) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _is_hint(value: object) -> bool:
    return type(value).__module__.split(".")[0] in ("typing", "typing_extensions", "types")


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _locals(node: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """Return the names that are local wherever a function, or one inside of it, uses them."""
    bound, free = set[str](), set[str]()
    _bind(node, frozenset(), bound, free)
    return frozenset(bound - free)


def _bind(scope: ast.AST, around: frozenset[str], bound: set[str], free: set[str]) -> None:
    """Collect what a scope and those inside bind, and what none of them binds where it is read."""
    own, read, inner = set[str](), set[str](), list[ast.AST]()
    todo: list[ast.AST] = [scope.args] if isinstance(scope, _Function) else []
    if isinstance(scope, _COMPREHENSIONS):  # its first iterable is read outside of it
        first = scope.generators[0]
        todo += [one for one in ast.iter_child_nodes(scope) if one is not first]
        todo += [first.target, *first.ifs]
    else:
        todo += scope.body if isinstance(scope.body, list) else [scope.body]  # type: ignore[attr-defined]
    for part in todo:
        if isinstance(part, ast.arg):
            own.add(part.arg)
        elif isinstance(part, ast.Name):
            (own if _is_store(part) else read).add(part.id)
        if isinstance(part, _Function):
            own.add(getattr(part, "name", "<lambda>"))
            todo += [*part.args.defaults, *(one for one in part.args.kw_defaults if one)]
            inner.append(part)
        elif isinstance(part, _COMPREHENSIONS):
            todo.append(part.generators[0].iter)
            inner.append(part)
        else:
            todo += ast.iter_child_nodes(part)
    bound |= own
    free |= read - own - around
    for part in inner:
        _bind(part, around | own, bound, free)


def _builders(node: ast.ClassDef) -> list[ast.FunctionDef]:
    found = []
    for part in node.body:
        if isinstance(part, ast.FunctionDef):
            decorators = {
                ast.unparse(one).split("(")[0].split(".")[-1] for one in part.decorator_list
            }
            if part.name in _BUILDERS or decorators & _VALIDATORS:
                found.append(part)
    return found


def _callables() -> set[Any]:
    """Return the objects of the table; modules that nobody imported cannot have been used."""
    found: set[Any] = set()
    for module_name, words in _PURE.items():
        module = sys.modules.get(module_name)
        if module is None:
            continue
        public = getattr(module, "__all__", None) or list(vars(module))
        for name in public if words == "*" else words.split():
            # Some packages load a name only when it is asked for; "*" takes what is there.
            value = vars(module).get(name) if words == "*" else getattr(module, name, None)
            if callable(value):
                try:
                    found.add(value)
                except TypeError:
                    continue
    return found
