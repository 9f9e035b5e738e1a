"""The parts of a carried text and the order in which they stand."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pulpo.carry.names import Names
from pulpo.carry.record import Statement

__all__ = ["Kind", "Piece", "ordered"]


#: How often pieces are ordered again at most; once or twice is enough for what people write.
_ROUNDS = 5


class Kind(enum.IntEnum):
    """The sections of the text, from top to bottom."""

    IMPORT = 0
    CONSTANT = 1
    MODEL = 2
    HELPER = 3
    OPERATION = 4


@dataclass(slots=True, kw_only=True, eq=False)
class Piece:
    """One statement on its way out, with what it leads to.

    ``now`` must stand above it, ``later`` are wanted when its functions are called, ``hints`` when
    its annotations are evaluated, ``attached`` change what it binds. ``user`` is the piece that
    first asked for it, which gives the path of use.
    """

    statement: Statement
    kind: Kind
    text: str
    node: ast.stmt
    names: Names
    place: int
    label: str
    operation: str
    user: Piece | None = None
    needed: dict[str, None] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    now: dict[Piece, None] = field(default_factory=dict)
    later: dict[Piece, None] = field(default_factory=dict)
    hints: dict[Piece, None] = field(default_factory=dict)
    attached: dict[Piece, None] = field(default_factory=dict)
    fixed: dict[str, Statement] = field(default_factory=dict)
    renamed: str = ""
    done: bool = False

    @property
    def key(self) -> tuple[int, int, int]:
        """What the pieces are sorted by, as long as no definition stands in the way."""
        return (self.kind, self.place, self.statement.index)

    @property
    def path(self) -> list[str]:
        """The names from the operation down to this piece."""
        found: list[str] = []
        piece: Piece | None = self
        while piece is not None:
            found.append(piece.label)
            piece = piece.user
        return found[::-1]


def ordered(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the pieces by kind and place, moved up only where a definition needs them.

    The order stays when what was written is read and ordered again, so that an export that is
    loaded and exported is the same text: a piece's place is then where it stands in the text.
    """
    indexes = {piece: piece.statement.index for piece in pieces}
    found = _Sorter(indexes).run(sorted(indexes, key=lambda piece: piece.key))
    for _ in range(_ROUNDS):
        stands = {piece: place for place, piece in enumerate(found)}
        keys = _keys_there(found)
        again = _Sorter(stands).run(sorted(found, key=keys.__getitem__))
        if again == found:
            break
        found = again
    return found


def _keys_there(found: list[Piece]) -> dict[Piece, tuple[int, int, int]]:
    """Return the keys that pieces have once they are read in an order."""
    places: dict[str, int] = {}
    keys: dict[Piece, tuple[int, int, int]] = {}
    for stand, piece in enumerate(found):
        firsts = [places.setdefault(name, stand) for name in piece.statement.binds]
        # Operations are declared in their order, wherever their functions stand.
        place = piece.place if piece.kind is Kind.OPERATION else min(firsts, default=stand)
        keys[piece] = (piece.kind, place, stand)
    return keys


_Step = Iterator["_Step"]


class _Sorter:
    """A depth-first sort without recursion: chains of definitions may be long."""

    def __init__(self, indexes: Mapping[Piece, int]) -> None:
        self._indexes = indexes
        self._out: list[Piece] = []
        self._emitted: set[Piece] = set()
        self._open: set[Piece] = set()
        self._callable_now: set[Piece] = set()

    def run(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            stack: list[_Step] = [self._emit(piece)]
            while stack:
                step = next(stack[-1], None)
                if step is None:
                    stack.pop()
                else:
                    stack.append(step)
        return self._out

    def _emit(self, piece: Piece) -> _Step:
        if piece in self._emitted or piece in self._open:
            return
        self._open.add(piece)
        for need in piece.now:
            yield self._emit(need)
        for need in piece.now:
            yield self._make_callable(need, piece)
        if piece.kind is Kind.MODEL:
            yield self._emit_if_possible(piece.hints)
        self._open.discard(piece)
        self._emitted.add(piece)
        self._out.append(piece)

    def _make_callable(self, piece: Piece, user: Piece) -> _Step:
        """Put what a decorator, base or factory calls above the definition that uses it."""
        yield self._emit_if_possible(
            one for one in piece.attached if self._indexes[one] < self._indexes[user]
        )
        if piece in self._callable_now:
            return
        self._callable_now.add(piece)
        yield self._emit_if_possible(piece.later)
        for need in piece.later:
            if need in self._emitted:
                yield self._make_callable(need, user)
            else:
                self._callable_now.discard(piece)

    def _emit_if_possible(self, pieces: Iterable[Piece]) -> _Step:
        for piece in pieces:
            if piece not in self._emitted and not self._waits(piece):
                yield self._emit(piece)

    def _waits(self, piece: Piece) -> bool:
        """Tell whether a piece needs one that is being placed right now."""
        todo, seen = [piece], {piece}
        while todo:
            one = todo.pop()
            if one in self._open:
                return True
            # Two models that refer to each other wait for each other: their order stays.
            needs = [*one.now, *one.hints] if one.kind is Kind.MODEL else one.now
            fresh = [need for need in needs if need not in seen and need not in self._emitted]
            seen.update(fresh)
            todo += fresh
        return False
