"""What an operation is made of: the functions, classes and values of the notebook it reaches."""

from __future__ import annotations

import ast
import dataclasses
import dis
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType, get_args, get_origin

from ..carry import Recorder
from ..carry.values import attribute
from ..models import is_model
from ..operations import Operation
from ..plan import Orchestration

__all__ = [
    "Part",
    "Parts",
    "Subject",
    "and_list",
    "cell_of",
    "numbered",
    "plain_function",
    "version",
]

#: How many items of a container are looked at: tables of functions are short, data is not.
_ITEMS = 50
_CONTAINERS = (list, tuple, set, frozenset, dict)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), types.ModuleType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is checked.

    Parameters
    ----------
    operations, plan
        The operations, and what came of them.
    recorder
        The namespace, with the record of what ran in it.
    operation_of
        Gives the name of the operation that a function is, or was before its cell ran again.
    """

    operations: tuple[Operation, ...]
    plan: Orchestration
    recorder: Recorder
    operation_of: Callable[[object], str] = lambda function: ""


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """A function, class or value that an operation reaches, or the operation's own function.

    Parameters
    ----------
    name
        What the notebook calls it.
    statement
        What bound it; None for what no cell defined.
    place
        Where it stands, for messages: ``"cell 4"`` or ``"jobs.py:12"``.
    operation
        The operation whose function it is; empty for everything else.
    reads
        The global names that it looks up each time it runs.
    holds
        The objects that it took in when it was defined: types, defaults, bases, items.
    """

    name: str
    value: Any
    statement: Any = None
    place: str = ""
    operation: str = ""
    reads: tuple[str, ...] = ()
    holds: tuple[Any, ...] = ()
    globals: Mapping[str, Any] = field(default_factory=dict)


class Parts:
    """The parts of operations, each looked at once.

    Parameters
    ----------
    operations
        Whose parts.
    recorder
        Where the parts come from. The modules that declare operations are looked into as well.
    """

    def __init__(self, operations: Iterable[Operation], recorder: Recorder) -> None:
        self.recorder = recorder
        self.namespace = recorder.namespace
        self._known: dict[int, Part | None] = {}
        self._kept: list[Any] = []  # what has a known id has to stay alive
        self._after: dict[int, tuple[tuple[Part, ...], tuple[Part, ...]]] = {}
        self._names = {
            id(value): name
            for name, value in list(self.namespace.items())
            # pydantic puts what it makes of Page[Item] there, under that name.
            if not issubclass(type(value), _PLAIN) and name[0] != "_" and name.isidentifier()
        }
        self.of_operations: dict[str, Part] = {}
        owners = [plain_function(o.function) for o in operations if o.function is not None]
        spaces = [self.namespace, *(f.__globals__ for f in owners if f is not None)]
        self._spaces = {id(space): space for space in spaces}
        self._modules = {str(space.get("__name__", "")): space for space in self._spaces.values()}
        for operation in operations:
            if operation.function is not None:
                self.of_operations[operation.name] = self._of_operation(operation)

    def after(self, part: Part) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Return the parts that one looks up as it runs, and those that it has taken in."""
        known = self._after.get(id(part))
        if known is None:
            read = [self.find(part.globals[n], n) for n in part.reads if n in part.globals]
            held = [self.find(value) for value in part.holds]
            known = (
                tuple(each for each in read if each is not None and each is not part),
                tuple(each for each in held if each is not None and each is not part),
            )
            self._after[id(part)] = known
        return known

    def reached(self, part: Part) -> list[Part]:
        """Return a part and all that it reaches, in the order in which they are met."""
        found, todo = {id(part): part}, [part]
        while todo:
            for each in (each for side in self.after(todo.pop(0)) for each in side):
                if id(each) not in found:
                    found[id(each)] = each
                    todo.append(each)
        return list(found.values())

    def users(self) -> dict[int, tuple[Part, list[str]]]:
        """Return every part with the names of the operations that reach it, by id."""
        found: dict[int, tuple[Part, list[str]]] = {}
        for name, start in self.of_operations.items():
            for part in self.reached(start):
                found.setdefault(id(part), (part, []))[1].append(name)
        return found

    def is_own(self, value: object) -> bool:
        """Return whether a function or class stands in the notebook, or beside an operation."""
        if isinstance(value, types.FunctionType):
            return id(value.__globals__) in self._spaces
        return getattr(value, "__module__", None) in self._modules

    def current(self, type_: Any) -> Any:
        """Return what bears a class's (or NewType's) qualified name now; None if nothing does."""
        if any(True for _ in _items(type_)):
            return None
        module = getattr(type_, "__module__", "")
        space = self._modules.get(module)
        found: Any = (
            space if space is not None else getattr(sys.modules.get(module), "__dict__", {})
        )
        for name in str(getattr(type_, "__qualname__", "")).split("."):
            found = found.get(name) if isinstance(found, Mapping) else vars(found).get(name)
            if found is None or not hasattr(found, "__dict__"):
                return None
        same = getattr(found, "__qualname__", None) == type_.__qualname__
        return found if same and getattr(found, "__module__", None) == module else None

    def find(self, value: Any, name: str = "") -> Part | None:
        """Return the part that a value is, or None for what no check has to look into.

        Of an older version of a model that is the newest: what runs again takes that.
        """
        if issubclass(type(value), _PLAIN):
            return None
        try:
            newest = self.current(value) if known_model(value) else None
            value = value if newest is None else newest
            if id(value) not in self._known:
                self._kept.append(value)
                self._known[id(value)] = None  # for what holds itself
                self._known[id(value)] = self._make(value, name)
            return self._known[id(value)]
        except Exception:  # an object that does not let itself be looked at
            return None

    def _of_operation(self, operation: Operation) -> Part:
        made = self.find(operation.function)
        types_ = [port.type for port in operation.ports if port.type is not inspect.Parameter.empty]
        if made is None:  # what pulpo cannot look into still has a signature
            made = Part(name=operation.function_name, value=operation.function)
        part = dataclasses.replace(
            made,
            name=operation.function_name,
            operation=operation.name,
            place=operation.cell or made.place,
            holds=(*made.holds, *self._flat(types_)),
        )
        self._known[id(operation.function)] = self._known[id(made.value)] = part
        return part

    def _make(self, value: Any, name: str) -> Part | None:
        inner = list(_items(value))
        if isinstance(value, type | NewType) and not inner:
            return self._class(value) if self.is_own(value) or known_model(value) else None
        name = name or self._names.get(id(value), "")
        function = plain_function(value) if not inner and callable(value) else None
        if function is not None and not self.is_own(function):
            function = plain_function(attribute(function, "__wrapped__"))
        if function is not None and self.is_own(function):
            return self._function(value, function)
        inner = self._pieces(value)
        if not inner or not name:
            return None  # what has no name of its own is looked at as a piece of what holds it
        statement = self._statement(value, name)
        return Part(
            name=name,
            value=value,
            statement=statement,
            place=self._place(statement),
            holds=tuple(self._flat(inner)),
        )

    def _flat(self, values: Iterable[Any], depth: int = 3) -> Iterator[Any]:
        """Yield values with what stands inside of them, unless they have a name of their own."""
        for value in values:
            yield value
            if depth and not issubclass(type(value), _PLAIN) and id(value) not in self._names:
                yield from self._flat(self._pieces(value), depth - 1)

    def _pieces(self, value: Any) -> list[Any]:
        """Return what stands inside of a value: its items, or else its class."""
        try:
            inner = list(_items(value))
            if not inner and (self.is_own(type(value)) or known_model(type(value))):
                inner = [type(value)]
        except Exception:  # as in `find`
            return []
        return inner

    def _function(self, value: Any, function: types.FunctionType) -> Part:
        name = function.__name__
        statement = self._statement(value, name) or self._statement(function, name)
        place = self._place(statement)
        if statement is None and function.__globals__ is not self.namespace:
            file = Path(function.__code__.co_filename).name
            place = f"{file}:{function.__code__.co_firstlineno}"
        return Part(
            name=name,
            value=function,
            statement=statement,
            place=place,
            reads=(*read_names(function.__code__), *_names_in_text(function)),
            # The class of an object that is called like a function is a part as well.
            holds=(type(value), *self._flat(_held(function))),
            globals=function.__globals__,
        )

    def _class(self, value: Any) -> Part:
        name = value.__name__
        statement = self._statement(value, name)
        methods = [each for each in _methods(value) if self.is_own(each)]
        reads = [read for method in methods for read in read_names(method.__code__)]
        reads += _names_in_text(value) if self.is_own(value) else []
        holds = [held for method in methods for held in _held(method)]
        return Part(
            name=name,
            value=value,
            statement=statement,
            place=self._place(statement),
            reads=tuple(dict.fromkeys(read for read in reads if read != name)),
            holds=tuple(self._flat((*_bases(value), *field_types(value), *holds))),
            globals=self._modules.get(value.__module__, {}),
        )

    def _statement(self, value: Any, name: str) -> Any:
        found = self.recorder.by_object.get(id(value)) if callable(value) else None
        if found is not None and any(bound.holds(value) for bound in found.bound.values()):
            return found
        for statement in reversed(self.recorder.by_name.get(name, ())):
            if name in statement.bound and statement.bound[name].holds(value):
                return statement
        if isinstance(value, types.FunctionType):  # perhaps a decorator put another in its place
            for statement in reversed(self.recorder.by_name.get(name, ())):
                bound = statement.bound.get(name)
                if bound is not None and any(each is value for each in _inside(bound.kept())):
                    return statement
        return None

    def _place(self, statement: Any) -> str:
        """Return where something can be run again; nowhere, when it has been already."""
        by_name = self.recorder.by_name
        if statement is None or not any(by_name[n][-1] is statement for n in statement.binds):
            return ""
        return cell_of(statement)


def version(recorder: Recorder, name: str, part: Part) -> Any:
    """Return the statement that had bound a name by the end of the cell that defined a part.

    What a name means in a body is looked up late, so that helpers may stand below in the cell.
    None when nothing had, or nobody knows when the part was defined.
    """
    if part.statement is None:
        return None
    index = last = part.statement.index  # which is its place in the list
    while last + 1 < len(recorder.statements):
        if recorder.statements[last + 1].cell != recorder.statements[index].cell:
            break
        last += 1
    bindings = [each for each in recorder.by_name.get(name, ()) if each.index <= last]
    return bindings[-1] if bindings else None


def plain_function(value: Any) -> types.FunctionType | None:
    """Return the Python function that runs when ``value`` is called, None if there is none."""
    for _ in range(20):  # a chain of partials ends somewhere
        if isinstance(value, types.FunctionType):
            return value
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, types.MethodType):
            value = value.__func__
        elif isinstance(value, functools._lru_cache_wrapper):
            value = value.__wrapped__
        elif isinstance(value, type) or not callable(value):
            return None
        else:
            value = inspect.getattr_static(type(value), "__call__", None)
    return None


def known_model(value: Any) -> bool:
    """Return whether a value is a model, for any value whatever."""
    try:
        return is_model(value)
    except Exception:  # an alias of what does not exist yet, or a class of its own mind
        return False


# --- What a code object reads ---------------------------------------------------------------------

_reads: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = weakref.WeakKeyDictionary()


def read_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the global names that code reads, those of inner functions too, in order."""
    known = _reads.get(code)
    if known is None:
        names: dict[str, None] = {}
        todo = [code]
        while todo:
            each = todo.pop(0)
            for instruction in dis.get_instructions(each):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                    names[instruction.argval] = None
            todo += [
                constant for constant in each.co_consts if isinstance(constant, types.CodeType)
            ]
        known = _reads[code] = tuple(names)
    return known


def _held(function: types.FunctionType) -> Iterator[Any]:
    """Yield what a function took in when it was defined."""
    yield from (type_ for type_ in _annotations(function).values() if not isinstance(type_, str))
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    wrapped = attribute(function, "__wrapped__")
    if wrapped is not None:
        yield wrapped


def _annotations(value: Any) -> dict[str, Any]:
    found = vars(value).get("__annotations__") if isinstance(value, type) else None
    found = attribute(value, "__annotations__") if found is None else found
    return found if isinstance(found, dict) else {}


def _names_in_text(value: Any) -> list[str]:
    """Return the names in annotations that are kept as text, which Python looks up late."""
    found: dict[str, None] = {}
    for text in (type_ for type_ in _annotations(value).values() if isinstance(type_, str)):
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError):
            continue
        found.update((node.id, None) for node in ast.walk(tree) if isinstance(node, ast.Name))
    return list(found)


def _methods(class_: Any) -> Iterator[types.FunctionType]:
    for member in vars(class_).values():
        inner = [attribute(member, name) for name in ("__func__", "fget", "fset", "func")]
        inner.append(attribute(member, "wrapped"))  # what pydantic makes of a validator
        for each in (member, *inner):
            each = attribute(each, "__func__", each)
            if not isinstance(each, types.FunctionType):
                continue
            # What a dataclass writes for itself has no file.
            written = not each.__code__.co_filename.startswith("<string>")
            if written and each.__qualname__.startswith(f"{class_.__qualname__}."):
                yield each


def _bases(class_: Any) -> tuple[Any, ...]:
    return class_.__mro__[1:] if isinstance(class_, type) else ()


def field_types(type_: Any) -> list[Any]:
    """Return the types of a model's fields that are no text."""
    if isinstance(type_, NewType):
        return [type_.__supertype__]
    fields = attribute(type_, "model_fields")
    if isinstance(fields, dict):
        return [info.annotation for info in fields.values()]
    if dataclasses.is_dataclass(type_):
        return [each.type for each in dataclasses.fields(type_) if not isinstance(each.type, str)]
    return [each for each in _annotations(type_).values() if not isinstance(each, str)]


def _inside(value: Any, depth: int = 4) -> Iterator[types.FunctionType]:
    """Yield the functions that a function stands in for, as a decorator's does."""
    if not depth:
        return
    function = plain_function(value) if callable(value) else None
    if function is None:
        return
    yield function
    for held in _held(function):
        if isinstance(held, types.FunctionType):
            yield from _inside(held, depth - 1)


def _items(value: Any) -> Iterator[Any]:
    """Yield what stands inside of a container, a generic type or a partial function."""
    made = vars(value).get("__pydantic_generic_metadata__") if isinstance(value, type) else None
    if made and made["origin"] is not None:  # pydantic makes a class of Page[Item]
        yield from (made["origin"], *made["args"])
        return
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif get_origin(value) is not None:
        yield from (get_origin(value), *get_args(value))
    elif isinstance(value, _CONTAINERS):
        items = value.values() if isinstance(value, dict) else value
        yield from (item for _, item in zip(range(_ITEMS), items, strict=False))


# --- Words ----------------------------------------------------------------------------------------


def cell_of(statement: Any) -> str:
    """Return where a recorded statement stands: ``"cell 4"``."""
    return f"cell {statement.cell}" if isinstance(statement.cell, int) else str(statement.cell)


def and_list(words: Iterable[str]) -> str:
    """Return ``"a, b and c"``."""
    several = list(words)
    return " and ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)


def numbered(names: Iterable[str]) -> str:
    """Return ``"operation 'a'"`` or ``"operations 'a' and 'b'"``."""
    several = list(names)
    return f"operation{'s' * (len(several) > 1)} {and_list(repr(name) for name in several)}"
