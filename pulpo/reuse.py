"""Results of earlier calls that a run takes instead of calling again: ``--resume``, ``--changed``.

A result is taken only for the same inputs, and only while all code and values that made it are what
they were. What counts as the same input is where the two differ: `FromRun` takes the very objects
of the run that it goes on with, `FromStorage` compares content, so it survives a restart.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import hashlib
import os
import pathlib
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from prefect.results import ResultStore

__all__ = ["Call", "Calls", "Found", "FromRun", "FromStorage", "Reuse"]

#: Values that are the same when they are equal, and of one type; others are when they are one.
_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), enum.Enum, uuid.UUID, decimal.Decimal,
    datetime.date, datetime.time, datetime.timedelta, pathlib.PurePath,
)  # fmt: skip

#: Bytes of a value that are looked at to tell whether it was changed in place: pickled ones, which
#: take 40 ms, and those of arrays.
_MOST_PICKLED = 1_000_000
_MOST_RAW = 16_000_000

#: Where results are kept in Prefect's storage; for how many seconds after their last use, and how
#: many bytes of those that the last run did not use.
_KEPT = "pulpo"
_LONGEST = 30 * 24 * 3600
_MOST_KEPT = 10 * 1024**3
#: Folders of operations whose results this process kept, where a storage cannot list them.
_kept_here: set[str] = set()


class Found(NamedTuple):
    """A result that need not be made again."""

    value: Any


class Reuse(Protocol):
    """What a run asks before it calls an operation."""

    notes: list[str]

    async def find(self, operation: str, inputs: Mapping[str, Any]) -> Found | None:
        """Return the result of an equal call, or None."""


# --- Of one run, in memory ------------------------------------------------------------------------


class Call(NamedTuple):
    """A call that an operation finished; the inputs are held so that they stay the very objects."""

    inputs: Mapping[str, Any]
    value: Any
    seal: str | None

    @property
    def is_broken(self) -> bool:
        """True when the value was changed in place since, as far as that can be told."""
        return self.seal is not None and _seal(self.value) != self.seal


@dataclass(slots=True)
class Calls:
    """The calls that one operation finished in a run: several, when it runs for each of many."""

    _by_inputs: dict[Any, Call] = field(default_factory=dict)

    def add(self, inputs: Mapping[str, Any], value: Any) -> Call:
        """Remember a call that ended now."""
        call = self._by_inputs[_identity(inputs)] = Call(inputs, value, _seal(value))
        return call

    def find(self, inputs: Mapping[str, Any]) -> Call | None:
        """Return the call that got these very objects."""
        return self._by_inputs.get(_identity(inputs))

    def __bool__(self) -> bool:
        return bool(self._by_inputs)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._by_inputs.values())


class FromRun:
    """Takes what one run finished, value by value, so that another goes on from there.

    Parameters
    ----------
    calls
        The finished calls by operation: of those only whose code is what it was.
    called
        The operations that got results of each, and so may have changed these in place.
    """

    def __init__(self, calls: Mapping[str, Calls], called: Mapping[str, list[str]]) -> None:
        self.notes: list[str] = []
        self._calls = calls
        self._called = called

    async def find(self, operation: str, inputs: Mapping[str, Any]) -> Found | None:
        """Return the result that the other run had for these very objects, unless it was changed.

        Each operation's results are looked at once more here: a consumer may have changed one in
        place before it failed, and would get the changed one now.
        """
        call = self._calls[operation].find(inputs) if operation in self._calls else None
        if call is None:
            return None
        users = " and ".join(self._called.get(operation, ()))
        if call.is_broken:
            who = users or "an operation that got it"
            self._note(f"{operation} ran again: {who} changed its result in place")
            return None
        if call.seal is None and users:
            self._note(
                f"{operation} was not run again, and it cannot be told whether {users} changed its "
                "result in place (it is large, or cannot be pickled)"
            )
        return Found(call.value)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _identity(value: Any) -> Any:
    """Return a key that two values share when one can stand for the other."""
    if isinstance(value, dict):
        return "dict", tuple((key, _identity(item)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value), tuple(map(_identity, value))
    return (type(value), value) if isinstance(value, _PLAIN) else id(value)


class _TooMuch(Exception):
    """A value is larger than what is looked at."""


class _Sink:
    """Takes pickled bytes, up to so many, into a digest."""

    def __init__(self, most: int | None = None) -> None:
        self._left = most
        self._digest = hashlib.blake2b(digest_size=20)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise _TooMuch
        self._digest.update(data)
        return size

    def write_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self.write(buffer.raw())

    def result(self) -> str:
        return self._digest.hexdigest()


def _seal(value: Any) -> str | None:
    """Return a digest of the value's content; None when it is large or cannot be told."""
    if isinstance(value, _PLAIN):
        return ""
    sink, raw = _Sink(_MOST_PICKLED), _Sink(_MOST_RAW)
    try:
        pickle.Pickler(sink, 5, buffer_callback=raw.write_buffer).dump(value)
    except Exception:  # a user's class may do anything when it is pickled
        return None
    return sink.result() + raw.result()


# --- Across runs and kernels, in Prefect's result storage -----------------------------------------


class FromStorage:
    """Keeps each result under what it was made of, in Prefect's result storage.

    Classes are stored by name, as `pickle` does, so that a result comes back as an instance of the
    class that the notebook has now (Prefect's own, by cloudpickle, would bring a copy of the class
    along: https://github.com/PrefectHQ/prefect/issues/16342).

    Parameters
    ----------
    code_of
        Returns a digest of all that an operation is made of, by its name; None where that is not
        known.
    renews
        Only operations that have kept results already are kept, so that the next ``--changed``
        compares with this run, whatever it was asked for by.
    """

    def __init__(self, code_of: Callable[[str], str | None], *, renews: bool = False) -> None:
        self.notes: list[str] = []
        self._code_of = code_of
        self._renews = renews
        self._store: ResultStore | None = None
        self._folder: Path | None = None
        self._lock = Lock()
        self._used: set[str] = set()
        self._known: set[str] = set()
        self._codes: dict[str, str | None] = {}
        #: Digests of values by their ids, with the values, whose ids stay theirs that way.
        self._digests: dict[int, tuple[Any, str]] = {}

    def open(self) -> None:
        """Look for the storage, with the settings that hold now, and for what it keeps.

        Prefect is imported here, files are looked at, and the server is asked.
        """
        if self._renews and not self._may_keep():
            return
        from prefect.filesystems import LocalFileSystem
        from prefect.results import ResultStore, get_default_result_storage
        from prefect.serializers import PickleSerializer

        default: Any = get_default_result_storage  # its types do not know of _sync
        try:
            storage = default(_sync=True)
        except Exception as error:  # a block whose library is not there, say
            self.notes.append(
                f"nothing is kept: Prefect's storage of results cannot be used ({_reason(error)})"
            )
            return
        self._store = ResultStore(
            result_storage=storage,
            serializer=PickleSerializer(picklelib="pickle"),
            cache_result_in_memory=False,
        )
        self._known = _kept_here
        if isinstance(storage, LocalFileSystem):
            self._folder = Path(storage.basepath or "").expanduser().resolve() / _KEPT
            self._known = set()
            with suppress(OSError):  # nothing was ever kept
                self._known = {each.name for each in self._folder.iterdir()}

    def _may_keep(self) -> bool:
        """Tell, without a server, whether there may be something."""
        from prefect.settings import get_current_settings

        results = get_current_settings().results
        return bool(_kept_here) or (Path(results.local_storage_path).expanduser() / _KEPT).exists()

    def keeps(self, operation: str) -> bool:
        """Tell whether results of an operation are kept."""
        return not self._renews or _name_of(operation) in self._known

    async def find(self, operation: str, inputs: Mapping[str, Any]) -> Found | None:
        """Return the result that is stored for equal inputs and the same code."""
        return await asyncio.to_thread(self._find, operation, dict(inputs))

    async def keep(self, operation: str, inputs: Mapping[str, Any], value: Any) -> None:
        """Store what a call gave, before anybody else gets it."""
        await asyncio.to_thread(self._keep, operation, dict(inputs), value)

    def close(self) -> None:
        """Remove what was not used for long, and the oldest of what is too much.

        A storage that is no local folder has rules of its own for that.
        """
        if self._folder is None:
            return
        files = []
        for path in self._folder.rglob("*"):
            with suppress(OSError):  # another run removes, too
                if path.is_file():
                    files.append((path, path.stat()))
        files.sort(key=lambda each: each[1].st_mtime, reverse=True)
        long_ago, total = time.time() - _LONGEST, 0
        for path, told in files:
            total += told.st_size
            is_used = path.relative_to(self._folder.parent).as_posix() in self._used
            if (told.st_mtime < long_ago or total > _MOST_KEPT) and not is_used:
                with suppress(OSError):
                    path.unlink()
        for folder in {path.parent for path, _ in files} - {self._folder}:
            with suppress(OSError):  # it is not empty
                folder.rmdir()

    def _find(self, operation: str, inputs: dict[str, Any]) -> Found | None:
        key = self._key(operation, inputs)
        if not key or self._store is None:
            return None
        try:
            stored = self._store.read(key).result
            digest, value = stored["digest"], stored["value"]
        except Exception:  # none is there, or its classes are not
            return None
        self._digests[id(value)] = value, digest
        self._use(operation, key)
        return Found(value)

    def _keep(self, operation: str, inputs: dict[str, Any], value: Any) -> None:
        key = self._key(operation, inputs)
        try:
            digest = _content(value)
            self._digests[id(value)] = value, digest
            if key and self._store is not None:
                self._store.write({"digest": digest, "value": value}, key)
                self._use(operation, key)
        except Exception as error:
            self.notes.append(
                f"{operation} runs each time: its result cannot be kept ({_reason(error)})"
            )
            if key and self._folder is not None:  # what is there is not of this run
                with suppress(OSError):
                    (self._folder.parent / key).unlink(missing_ok=True)

    def _use(self, operation: str, key: str) -> None:
        _kept_here.add(_name_of(operation))
        self._used.add(key)
        if self._folder is not None:
            with suppress(OSError):
                os.utime(self._folder.parent / key)

    def _key(self, operation: str, inputs: dict[str, Any]) -> str:
        """Return where a result is kept; empty when its code or inputs cannot be told."""
        with self._lock:
            if operation not in self._codes:
                self._codes[operation] = self._code_of(operation)
        told = [operation, self._codes[operation]]
        if told[1] is None:
            return ""
        try:
            for name, value in sorted(inputs.items()):
                told += [name, self._digest(value)]
        except Exception:
            return ""
        return f"{_KEPT}/{_name_of(operation)}/{hashlib.sha256(repr(told).encode()).hexdigest()}"

    def _digest(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return _content(value)
        if type(value) in (list, tuple):  # of several operations: each is known by itself
            known = [self._digests.get(id(item)) for item in value]
            if value and id(value) not in self._digests and all(known):
                return repr([type(value).__name__, *(each[1] for each in known if each)])
        known_one = self._digests.get(id(value))
        if known_one is None:
            known_one = self._digests[id(value)] = value, _content(value)
        return known_one[1]


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _name_of(operation: str) -> str:
    """Return the name of an operation's folder, on any file system."""
    return f"{operation[:60]}-{hashlib.sha256(operation.encode()).hexdigest()[:8]}"


def _content(value: Any) -> str:
    """Return a digest of the value's content.

    Equal values that are built differently (a text that is one object in one of them, and two in
    the other) have one digest: nothing is pickled by reference to an earlier part.

    Raises
    ------
    Exception
        Whatever pickling raises.
    """
    sink = _Sink()
    pickler = pickle.Pickler(sink, 5, buffer_callback=sink.write_buffer)
    pickler.fast = True
    pickler.dump(value)
    return sink.result()
