"""What a value is: alive, in memory, the same as another, or short enough to write down."""

from __future__ import annotations

import ast
import copy
import dataclasses
import enum
import functools
import io
import pprint
import re
import types
import typing
from collections import deque
from contextlib import suppress
from typing import Any

from pulpo.carry.record import made_by

__all__ = [
    "DIGEST",
    "attribute",
    "data_of",
    "digest",
    "error_of",
    "in_memory",
    "is_definition",
    "keeps_to_itself",
    "literal",
    "live_kind",
    "same",
    "same_code",
    "type_name",
]

_DATABASES = frozenset(
    [
        "sqlite3",
        "psycopg",
        "psycopg2",
        "asyncpg",
        "sqlalchemy",
        "pymysql",
        "MySQLdb",
        "mysql",
        "pymongo",
        "motor",
        "redis",
        "duckdb",
        "oracledb",
        "pyodbc",
        "aiosqlite",
        "neo4j",
        "elasticsearch",
        "cassandra",
        "snowflake",
        "clickhouse_connect",
    ]
)
_IN_MEMORY = frozenset(
    ["DataFrame", "Series", "Index", "ndarray", "Tensor", "Table", "LazyFrame", "DataArray"]
)
_CLIENT = re.compile(
    r"(Client|Session|Connection|Cursor|Engine|Socket|socket|Channel|Driver|Browser|Page|Pool"
    r"|Server|Producer|Consumer|Bucket|Resource)$"
)
_RUNNING = re.compile(r"(Thread|Process|Popen|Executor|Future|Task|EventLoop|Timer)$")
# A new one is as good as the old one.
_FRESH = frozenset(["threading", "_thread", "asyncio", "logging", "contextvars", "_contextvars"])
# Nothing can change these, and they cannot be compared: the text that made them says it all.
_OPAQUE = frozenset(["object", "Struct", "itemgetter", "attrgetter", "methodcaller", "KeyWrapper"])


def attribute(value: object, name: str, default: Any = None) -> Any:
    """Return an attribute of a user's object, whose ``__getattr__`` may raise anything.

    ``def __getattr__(self, key): return self[key]`` raises KeyError, which getattr lets through.
    """
    try:
        return getattr(value, name, default)
    except Exception:
        return default


def error_of(value: object) -> str:
    """Return the error that an object raises when its class is asked for, ``""`` if it does not."""
    try:
        isinstance(value, types.GeneratorType)
    except Exception as error:
        return type(error).__name__
    return ""


def keeps_to_itself(value: object) -> bool:
    """Tell whether a value has settings that no text shows and that nothing compares: a logger."""
    package = type(value).__module__.split(".")[0]
    return package in ("logging", "contextvars", "_contextvars", "threading", "_thread")


def type_name(value: object) -> str:
    """Return ``"sqlite3.Connection"``; builtins and the user's own go without a module."""
    kind = type(value)
    plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if plain else _full_name(kind)


def _full_name(kind: type) -> str:
    # Where the user met it: pandas.DataFrame, not pandas.core.frame.DataFrame.
    return f"{kind.__module__.split('.')[0].lstrip('_')}.{kind.__qualname__}"


def is_definition(value: object) -> bool:
    """Tell whether a value is a function, class or what stands for one."""
    return isinstance(
        value, type | types.FunctionType | types.BuiltinFunctionType | functools.partial
    ) or (callable(value) and attribute(value, "__wrapped__") is not None)


def in_memory(value: object) -> str | None:
    """Say what data a table or array holds, None for other values."""
    kind = type(value)
    if kind.__module__ == "builtins" or not _IN_MEMORY & {one.__name__ for one in kind.__mro__}:
        return None
    shape = attribute(value, "shape")
    size = f", {shape[0]:,} rows" if isinstance(shape, tuple) and shape else ""
    word = "a DataFrame" if "Frame" in kind.__name__ else "data"
    return f"{word} held in memory ({_full_name(kind)}{size})"


def live_kind(value: object) -> str | None:
    """Say what a live object is ("a live database connection"), None for what can be carried."""
    kind = type(value)
    if isinstance(value, type | types.FunctionType | types.ModuleType | str | bytes | tuple):
        return None
    if kind.__module__.split(".")[0] in _FRESH and not _RUNNING.search(kind.__name__):
        return None
    word = _live_word(value, kind)
    return f"{word} ({type_name(value)})" if word else None


def _live_word(value: object, kind: type) -> str | None:
    if isinstance(value, io.IOBase) or hasattr(kind, "_closer"):
        return "an open file"
    if isinstance(value, types.CoroutineType | types.AsyncGeneratorType):
        return "a coroutine or asynchronous iterator"
    if hasattr(kind, "__next__"):
        return "an iterator"
    for one in kind.__mro__:
        root = one.__module__.split(".")[0]
        if root in ("builtins", "__main__"):
            continue
        root = root.lstrip("_")
        if _CLIENT.search(one.__name__):
            return "a live database connection" if root in _DATABASES else "a live client"
        if _RUNNING.search(one.__name__):
            return "a running thread, process or task"
    return None


def literal(value: object, *, limit: int = 10_000) -> str | None:
    """Return Python text for plain data of at most ``limit`` characters, or None."""
    if not _is_plain(value, depth=20):
        return None
    text = repr(value)
    if len(text) > limit:
        return None
    if len(text) > 80 or isinstance(value, set | frozenset):
        text = pprint.pformat(value, width=96, sort_dicts=False)
    try:
        return text if same(ast.literal_eval(text), value) else None
    except (ValueError, SyntaxError):
        return None


#: Defines ``digest``, here and in a fresh process: what plain data is, with the order of dicts and
#: lists, and without that of sets.
DIGEST = """
def digest(value):
    import hashlib

    def told(one):
        if isinstance(one, (set, frozenset)):
            return "{" + ",".join(sorted(map(told, one))) + "}"
        if isinstance(one, (list, tuple)):
            return type(one).__name__ + "[" + ",".join(map(told, one)) + "]"
        if isinstance(one, dict):
            return "dict{" + ",".join(told(k) + ":" + told(v) for k, v in one.items()) + "}"
        return repr(one)

    return hashlib.sha256(told(value).encode("utf-8", "backslashreplace")).hexdigest()

def data_of(one):
    # What a small array or table holds, as plain data; None for other values and for much data.
    package, name = type(one).__module__.partition(".")[0], type(one).__name__
    if getattr(one, "size", None) is None or not 0 <= one.size <= 10000:
        return None
    if package == "numpy" and hasattr(one, "dtype"):
        flags = getattr(one, "flags", None)
        how = [] if flags is None or flags.writeable else ["read-only"]
        how += ["by columns"] if flags is not None and flags.fnc else []
        return [name, repr(one.dtype), list(one.shape), one.tolist(), *how]
    if package != "pandas":
        return None
    flags = getattr(one, "flags", None)
    how = [] if getattr(flags, "allows_duplicate_labels", True) else ["no duplicates"]
    how += [repr(one.attrs)] if getattr(one, "attrs", None) else []
    if name == "DataFrame":
        columns = [one.iloc[:, place] for place in range(one.shape[1])]
        return [name, data_of(one.columns), data_of(one.index), *map(data_of, columns), *how]
    if name == "Series":
        return [name, repr(one.dtype), repr(one.name), data_of(one.index), one.tolist(), *how]
    if name == "Categorical" or hasattr(one, "names"):
        return [name, repr(one.dtype), repr(list(getattr(one, "names", ()))), one.tolist()]
    return None
"""


def digest(value: object) -> str:
    """Return what `DIGEST` makes of plain data; ``""`` for other values and for much data."""
    if not _is_plain(value, depth=20) or len(repr(value)) > 100_000:
        return ""
    return str(_scope()["digest"](value))


@functools.cache
def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(DIGEST, scope)
    return scope


def data_of(value: object) -> list[Any] | None:
    """Return what a small array or table holds, None for other values and for much data."""
    try:
        found: list[Any] | None = _scope()["data_of"](value)
    except Exception:  # an object of that name that is something else
        return None
    return found


def _is_plain(value: object, *, depth: int) -> bool:
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return True
    if depth == 0:
        return False
    if type(value) in (list, tuple, set):
        return all(_is_plain(one, depth=depth - 1) for one in list(value))  # type: ignore[call-overload]
    if type(value) is dict:
        return all(_is_plain(one, depth=depth - 1) for pair in value.items() for one in pair)
    return False


def same(left: object, right: object, seen: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Tell whether two values are of one type and hold the same, as far as a program could see."""
    if left is right:
        return True
    pair = (id(left), id(right))
    if pair in seen:
        return True
    seen |= {pair}
    if type(left) is not type(right) and not _same_class(type(left), type(right), seen):
        return False
    for kinds, compare in _COMPARE:
        if isinstance(left, kinds):
            return bool(compare(left, right, seen))
    if (data := data_of(left)) is not None:
        return _same_plain(data, data_of(right), seen)
    if type(left).__name__ == "TypeAdapter":
        return same(attribute(left, "_type"), attribute(right, "_type"), seen)
    if type(left).__module__.split(".")[0] in _FRESH or type(left).__name__ in _OPAQUE:
        return True
    if type(left).__module__ == "__main__" and attribute(left, "__dict__") is not None:
        return _same_fields(left, right, seen)  # the user's __eq__ may look at one field only
    return _same_by_eq(left, right) or _same_fields(left, right, seen)


_Seen = frozenset[tuple[int, int]]


def _same_by_eq(left: Any, right: Any) -> bool:
    equal: Any = type(left).__eq__
    if equal is object.__eq__:
        return False
    try:
        return (left == right) is True
    except Exception:  # a user's __eq__ may raise anything; then the two are not known to be equal
        return False


def _same_plain(left: Any, right: Any, seen: _Seen) -> bool:
    return repr(left) == repr(right)  # also tells 0.0 from -0.0, and finds nan equal to nan


def _same_items(left: Any, right: Any, seen: _Seen) -> bool:
    if attribute(left, "maxlen") != attribute(right, "maxlen"):  # of a deque
        return False
    return len(left) == len(right) and all(
        same(one, other, seen) for one, other in zip(left, right, strict=True)
    )


def _same_mapping(left: Any, right: Any, seen: _Seen) -> bool:
    return _same_items(list(left.items()), list(right.items()), seen) and (
        attribute(left, "default_factory") is attribute(right, "default_factory")
    )


def _same_set(left: Any, right: Any, seen: _Seen) -> bool:
    return bool(left == right)


def _same_function(left: Any, right: Any, seen: _Seen) -> bool:
    return (
        same_code(left.__code__, right.__code__)
        and same(left.__defaults__, right.__defaults__, seen)
        and same(left.__kwdefaults__, right.__kwdefaults__, seen)
        and same(_cells(left), _cells(right), seen)
    )


def same_code(left: types.CodeType, right: types.CodeType) -> bool:
    """Tell whether two functions were compiled from the same text, wherever it stood."""
    if left == right:
        return True
    # The same text further down in a cell is the same code.
    return (
        (left.co_code, left.co_names, left.co_varnames, left.co_freevars)
        == (right.co_code, right.co_names, right.co_varnames, right.co_freevars)
    ) and all(
        same_code(one, other)
        if isinstance(one, types.CodeType) and isinstance(other, types.CodeType)
        else repr(one) == repr(other)
        for one, other in zip(left.co_consts, right.co_consts, strict=False)
    )


def _cells(function: Any) -> list[object]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            found.append(None)
    return found


def _same_partial(left: Any, right: Any, seen: _Seen) -> bool:
    return same(
        (left.func, left.args, left.keywords), (right.func, right.args, right.keywords), seen
    )


def _same_class(left: type, right: type, seen: _Seen) -> bool:
    """Tell whether two classes were made by the same text, run twice."""
    if left is right:
        return True
    seen |= {(id(left), id(right))}
    if (left.__qualname__, left.__name__) != (right.__qualname__, right.__name__):
        return False
    if [one.__qualname__ for one in left.__mro__] != [one.__qualname__ for one in right.__mro__]:
        return False
    if issubclass(left, enum.Enum) and issubclass(right, enum.Enum):
        values = [[(one.name, repr(one.value)) for one in kind] for kind in (left, right)]
        return values[0] == values[1]
    if repr(attribute(left, "__annotations__")) != repr(
        attribute(right, "__annotations__")
    ) or attribute(left, "_fields") != attribute(right, "_fields"):
        return False
    with suppress(TypeError):  # its metaclass compares without a hash
        nodes = [made_by.get(kind) for kind in (left, right)]
        if None not in nodes and len({_text_of(node) for node in nodes if node}) == 2:
            return False
    one, other = _methods(left), _methods(right)
    if one.keys() != other.keys() or not all(same(one[n], other[n], seen) for n in one):
        return False
    if _plain_attributes(left) != _plain_attributes(right):
        return False
    return same(_fields_told(left), _fields_told(right), seen)


#: Where pydantic, dataclasses, attrs and NamedTuple keep what they know of a class's fields: their
#: defaults and constraints are no attributes of the class.
_FIELDS = (
    "__pydantic_fields__",
    "__private_attributes__",
    "model_config",
    "__dataclass_fields__",
    "__attrs_attrs__",
    "_field_defaults",
)
# Types are compared as annotations.
_NOT_TOLD = frozenset(["annotation", "type", "name"])


def _fields_told(kind: type) -> list[object]:
    found: list[object] = []
    for where in _FIELDS:
        fields = vars(kind).get(where) or {}
        values = list(fields.items() if isinstance(fields, dict) else enumerate(fields))
        for name, value in values:
            parts = [n for n in _slots(type(value)) if n[0] != "_" and n not in _NOT_TOLD]
            told = {part: attribute(value, part) for part in parts}
            found.append((name, told if parts else value))
    return found


def _plain_attributes(kind: type) -> list[tuple[str, str]]:
    return [
        (name, repr(value))
        for name, value in vars(kind).items()
        if type(value) in (bool, int, float, str, bytes) and not name.startswith(("_", "model_"))
    ]


def _text_of(node: ast.stmt) -> str:
    """Return what a statement says but for the docstrings in it."""
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(part, kinds) and ast.get_docstring(part, clean=False) is not None:
            del part.body[0]
    return ast.dump(node)


def _methods(kind: type) -> dict[str, types.FunctionType]:
    """Return the functions that a class defines itself, in the order of its text."""
    found = {}
    for name, value in vars(kind).items():
        value = attribute(value, "fget") or attribute(value, "func", value)
        value = attribute(value, "__func__", value)
        if isinstance(value, types.FunctionType) and value.__module__ == kind.__module__:
            found[name] = value
    return found


def _same_new_type(left: Any, right: Any, seen: _Seen) -> bool:
    return bool(left.__name__ == right.__name__) and same(
        left.__supertype__, right.__supertype__, seen
    )


def _same_type_var(left: Any, right: Any, seen: _Seen) -> bool:
    parts = ("__name__", "__bound__", "__constraints__", "__covariant__", "__contravariant__")
    return all(same(getattr(left, part, None), getattr(right, part, None), seen) for part in parts)


def _same_enum(left: Any, right: Any, seen: _Seen) -> bool:
    return bool(left.name == right.name)


def _same_fields(left: Any, right: Any, seen: _Seen) -> bool:
    if dataclasses.is_dataclass(left):
        names = [field.name for field in dataclasses.fields(left)]
        return all(same(attribute(left, name), attribute(right, name), seen) for name in names)
    slots = [name for kind in type(left).__mro__ for name in _slots(kind)]
    if attribute(left, "__dict__") is None and not slots:
        return False
    return all(
        same(attribute(left, name), attribute(right, name), seen)
        for name in ("__dict__", *slots)
        if name != "__weakref__"
    )


def _slots(kind: type) -> list[str]:
    listed = vars(kind).get("__slots__", ())
    names = [listed] if isinstance(listed, str) else list(listed)
    private = [name.startswith("__") and not name.endswith("__") for name in names]
    owner = kind.__name__.lstrip("_")
    return [f"_{owner}{n}" if hidden else n for n, hidden in zip(names, private, strict=True)]


def _same_hint(left: Any, right: Any, seen: _Seen) -> bool:
    return (
        typing.get_origin(left) is typing.get_origin(right)
        and _same_items(typing.get_args(left), typing.get_args(right), seen)
        and same(getattr(left, "__metadata__", ()), getattr(right, "__metadata__", ()), seen)
    )


_COMPARE: list[tuple[Any, Any]] = [
    (enum.Enum, _same_enum),
    ((bool, int, float, complex, str, bytes, bytearray, range, type(None)), _same_plain),
    ((list, tuple, deque), _same_items),
    ((set, frozenset), _same_set),
    ((dict, types.MappingProxyType), _same_mapping),
    (types.FunctionType, _same_function),
    (functools.partial, _same_partial),
    (type, _same_class),
    ((types.GenericAlias, types.UnionType), _same_hint),
    # Their classes have no public names.
    ((type(typing.Literal[1]), type(typing.Annotated[int, 1])), _same_hint),
    (typing.NewType, _same_new_type),
    ((typing.TypeVar, typing.ParamSpec), _same_type_var),
]
