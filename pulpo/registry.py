"""The operations of a session, in order; declaring one again replaces it in its place."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .errors import DeclarationError, UnknownNameError, did_you_mean
from .names import parse_name

if TYPE_CHECKING:  # operations take a third of what loading pulpo takes, and may never be declared
    from .operations import Operation, OperationLike

__all__ = ["OperationRegistry", "default_registry", "operation"]

F = TypeVar("F", bound=Callable[..., Any])


class _EitherWay:
    """Lets a method be called on the class too, where it works on the default registry."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: OperationRegistry | None, owner: type) -> Callable[..., Any]:
        bound: Callable[..., Any] = self.function.__get__(
            instance if instance is not None else default_registry()
        )
        return bound


class OperationRegistry:
    """Remembers operations in the order of their first declaration.

    ``register``, ``get``, ``list_all`` and ``clear`` also work on the class itself, and then on
    the default registry, which is the session's.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Any] = {}
        self._listeners: list[Callable[[], None]] = []
        self._version = 0
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        #: Where the next declaration stands, such as ``"cell 4"``; kept up to date by the magics.
        self.cell = ""

    @_EitherWay
    def register(self, operation: OperationLike) -> Any:
        """Add an operation, or replace the one of the same name in its place; return it.

        Raises
        ------
        DeclarationError, InvalidNameError
            When it is no operation; the registry stays as it was.
        """
        from .operations import Operation, as_operation

        if not isinstance(operation, Operation):
            as_operation(operation)  # refuses what is none
        self._operations[operation.name] = operation
        self._remember(operation)
        self._changed()
        return operation

    @_EitherWay
    def get(self, name: str) -> Any:
        """Return the operation called ``name``, or None."""
        return self._operations.get(name)

    @_EitherWay
    def list_all(self) -> list[Any]:
        """Return the operations in order."""
        return list(self._operations.values())

    @_EitherWay
    def clear(self) -> None:
        """Forget every operation."""
        self._operations.clear()
        self._changed()

    def remove(self, name: str) -> Any:
        """Forget one operation and return it.

        Raises
        ------
        UnknownNameError
            When there is none of that name.
        """
        if name not in self._operations:
            raise UnknownNameError(
                f"there is no operation {name!r}.{did_you_mean(name, self._operations)}",
                candidates=tuple(self._operations),
            )
        removed = self._operations.pop(name)
        self._changed()
        return removed

    def rename(self, old: str, new: Operation) -> None:
        """Put ``new`` in the place of the operation called ``old``."""
        items = [(n, o) for n, o in self._operations.items() if n == old or n != new.name]
        self._operations = dict((new.name, new) if n == old else (n, o) for n, o in items)
        self._remember(new)
        self._changed()

    def restore(self, operations: Iterable[OperationLike]) -> None:
        """Hold these operations, in their order, and no others."""
        self._operations = {operation.name: operation for operation in operations}
        self._changed()

    def name_of(self, function: object) -> str:
        """Return the operation whose function this is, or was; ``""`` when it was none's."""
        try:
            return self._names.get(function, "")
        except TypeError:  # some callables have no hash, or no weak reference
            return ""

    def _remember(self, operation: OperationLike | Operation) -> None:
        with contextlib.suppress(TypeError):
            self._names[operation.function] = operation.name

    @property
    def version(self) -> int:
        """A number that changes with every change."""
        return self._version

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after every change; return a function that ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def __len__(self) -> int:
        return len(self._operations)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._operations.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._operations

    def __repr__(self) -> str:
        return f"OperationRegistry({', '.join(self._operations) or 'empty'})"

    def _changed(self) -> None:
        self._version += 1
        for listener in list(self._listeners):
            listener()


_default = OperationRegistry()


def default_registry() -> OperationRegistry:
    """Return the registry that `operation` and the magics use."""
    return _default


@overload
def operation(function: F, /) -> F: ...
@overload
def operation(
    *, name: str, inputs: Any = ..., outputs: Any = ..., **flags: Any
) -> Callable[[F], F]: ...


def operation(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    inputs: Any = None,
    outputs: Any = None,
    models_in: Any = None,
    models_out: Any = None,
    **flags: Any,
) -> Any:
    """Declare a function as an operation; the function itself stays as it is.

    Parameters
    ----------
    name
        Its dotted name; the function's own name when left out.
    inputs, outputs
        Models: a class, a name or a list; inferred from annotations when left out.
        ``models_in`` and ``models_out`` are other names for them.
    **flags
        ``description``, ``tags``, ``retries``, ``retry_delay`` (seconds), ``timeout`` (seconds),
        ``cache``, ``after``, ``bind``, ``strategy``, as for ``%%operation``.

    Raises
    ------
    DeclarationError, InvalidNameError, ModelError
        When the function cannot be an operation; nothing is registered then.
    """
    from .operations import make_operation, options_from_flags, refuse_no_function

    if isinstance(function, str):
        raise DeclarationError(
            f"write @operation(name={function!r}): the name is given by keyword."
        )
    if inputs is not None and models_in is not None:
        raise DeclarationError("inputs= and models_in= mean the same; give one of them.")
    if outputs is not None and models_out is not None:
        raise DeclarationError("outputs= and models_out= mean the same; give one of them.")
    options = options_from_flags(flags)
    if name is not None:
        parse_name(name)

    def declare(function: F) -> F:
        refuse_no_function(function, name or str(getattr(function, "__name__", "…")))
        own = name or getattr(function, "__name__", "")
        if not own:
            raise DeclarationError(f"{function!r} has no name of its own: give one with name=.")
        declared = make_operation(
            function,
            name=own,
            inputs=inputs if inputs is not None else models_in,
            outputs=outputs if outputs is not None else models_out,
            options=options,
            cell=_place_of(function),
        )
        default_registry().register(declared)
        return function

    return declare if function is None else declare(function)


def _place_of(function: Any) -> str:
    """Say where a function stands: the running cell, or its file and line."""
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    file = getattr(module, "__file__", None)
    code = getattr(function, "__code__", None)
    if file and code is not None and getattr(module, "__name__", "") != "__main__":
        return f"{Path(file).name}:{code.co_firstlineno}"
    return default_registry().cell
