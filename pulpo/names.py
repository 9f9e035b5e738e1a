"""Dotted names of operations, and the hierarchy that they span."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .errors import InvalidNameError

__all__ = [
    "HierarchyParser",
    "ParsedName",
    "common_groups",
    "normal",
    "parse_name",
    "snake_case",
    "valid_name_near",
]

_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NO_WORD = re.compile(r"\W+", re.ASCII)
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: Top-level groups whose flows would take the names of pulpo's own entry points.
RESERVED_GROUPS = ("main", "standalones")


@dataclass(frozen=True, slots=True)
class ParsedName:
    """A valid dotted name.

    Parameters
    ----------
    full_name
        The name itself, such as ``"scraping.stepstone.fetch"``.
    hierarchy
        Its parts: ``["scraping", "stepstone", "fetch"]``.
    """

    full_name: str
    hierarchy: list[str]

    @property
    def parent(self) -> str | None:
        """The group it belongs to, ``"scraping.stepstone"``; None for a standalone."""
        return ".".join(self.hierarchy[:-1]) or None

    @property
    def root(self) -> str:
        """The first part: the top-level group, or the standalone's own name."""
        return self.hierarchy[0]

    @property
    def name(self) -> str:
        """The last part."""
        return self.hierarchy[-1]

    @property
    def level(self) -> int:
        """How many parts there are; 1 for a standalone."""
        return len(self.hierarchy)

    @property
    def is_standalone(self) -> bool:
        """True for a name without a dot."""
        return len(self.hierarchy) == 1


def parse_name(name: str) -> ParsedName:
    """Parse a dotted name.

    Parameters
    ----------
    name
        Dotted identifiers; each part matches ``[A-Za-z_][A-Za-z0-9_]*`` and is no keyword.

    Raises
    ------
    InvalidNameError
        When it is not; the message offers the nearest valid name.
    """
    if not isinstance(name, str):
        raise InvalidNameError(
            f"an operation's name is text such as 'scraping.merge', not {type(name).__name__}."
        )
    parts = name.split(".")
    for part in parts:
        if not _PART.match(part) or keyword.iskeyword(part):
            raise _refusal(name, part)
    if len(parts) > 1 and parts[0] in RESERVED_GROUPS:
        near = f"{parts[0]}_{'.'.join(parts[1:])}"
        raise InvalidNameError(
            f"operation name {name!r}: the top-level group {parts[0]!r} is taken by pulpo's own "
            f"{parts[0]}_flow. Name it {near!r}, or choose another group.",
            suggestion=near,
        )
    return ParsedName(name, parts)


def _refusal(name: str, part: str) -> InvalidNameError:
    near = valid_name_near(name)
    if not name:
        why = "the name is empty"
    elif not part:
        why = "a part between the dots is empty"
    elif keyword.iskeyword(part):
        why = f"{part!r} is a Python keyword"
    else:
        why = f"{part!r} is no identifier (letters, digits and _, not starting with a digit)"
    return InvalidNameError(
        f"operation name {name!r} is not valid: {why}. Use a dotted name such as {near!r}.",
        suggestion=near,
    )


def valid_name_near(text: str) -> str:
    """Return the valid dotted name that is nearest to ``text``: ``naive.x`` for ``naïve.x``."""
    parts = []
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    plain = "".join(one for one in plain if not unicodedata.combining(one))
    for raw in re.split(r"[./\\:]+", plain):
        part = re.sub(r"\W+", "_", raw, flags=re.ASCII).strip("_")
        if not part:
            continue
        if part[0].isdigit() or keyword.iskeyword(part):
            part = f"{part}_" if keyword.iskeyword(part) else f"_{part}"
        parts.append(part)
    if len(parts) > 1 and parts[0] in RESERVED_GROUPS:
        parts[:2] = [f"{parts[0]}_{parts[1]}"]
    return ".".join(parts) or "operation"


def snake_case(name: str) -> str:
    """Return ``RawJobs`` as ``raw_jobs``: the name of a flow parameter that carries the model."""
    words = _NO_WORD.sub("_", name) if name.isascii() else _letters(name)
    words = _NEW_WORD.sub("_", words.strip("_")).lower()
    if not words.isascii():
        words = _letters(words).strip("_")  # small letters may have another normal form
    if keyword.iskeyword(words):
        return f"{words}_"
    return words if words.isidentifier() else f"_{words}"


def normal(identifier: str) -> str:
    """Return an identifier as Python reads it: the ligature of ``ﬁle`` becomes two letters.

    Python compares identifiers in the normal form NFKC (PEP 3131), so that two spellings of one
    would collide in generated code.
    """
    return identifier if identifier.isascii() else unicodedata.normalize("NFKC", identifier)


def _letters(text: str) -> str:
    """Return ``text`` with what cannot stand in an identifier made ``_``, in its normal form."""
    kept = "".join(one if f"_{one}".isidentifier() else " " for one in normal(text))
    return normal("_".join(kept.split()))


def common_groups(one: str, other: str) -> int:
    """Return how many leading groups two operation names share (their last parts do not count)."""
    count = 0
    for a, b in zip(one.split(".")[:-1], other.split(".")[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _group_by(names: Iterable[str], key: Callable[[ParsedName], Any]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for name in names:
        groups.setdefault(key(parse_name(name)), []).append(name)
    return groups


class HierarchyParser:
    """The hierarchy over dotted names; holds no state, every method may be called on the class."""

    parse = staticmethod(parse_name)

    @staticmethod
    def group_by_parent(names: Iterable[str]) -> dict[str | None, list[str]]:
        """Return the names by their group; standalones stand under None."""
        return _group_by(names, lambda parsed: parsed.parent)

    @staticmethod
    def group_by_root(names: Iterable[str]) -> dict[str, list[str]]:
        """Return the names by their first part."""
        return _group_by(names, lambda parsed: parsed.root)

    @staticmethod
    def group_by_level(names: Iterable[str]) -> dict[int, list[str]]:
        """Return the names by the number of their parts."""
        return _group_by(names, lambda parsed: parsed.level)

    @staticmethod
    def find_siblings(name: str, names: Iterable[str]) -> list[str]:
        """Return the other names of the same group, in the order given."""
        parent = parse_name(name).parent
        return [other for other in names if other != name and parse_name(other).parent == parent]

    @staticmethod
    def find_children(group: str, names: Iterable[str]) -> list[str]:
        """Return the names directly inside ``group``, in the order given."""
        return [name for name in names if parse_name(name).parent == group]

    @staticmethod
    def build_hierarchy_tree(names: Iterable[str]) -> dict[str, Any]:
        """Return the names as nested dicts; an operation without names below it is ``{}``."""
        tree: dict[str, Any] = {}
        for name in names:
            branch = tree
            for part in parse_name(name).hierarchy:
                branch = branch.setdefault(part, {})
        return tree

    @staticmethod
    def validate_names(names: Iterable[str]) -> list[str]:
        """Return one message for each invalid or repeated name; empty when all is well."""
        messages, seen = [], set()
        for name in names:
            try:
                parse_name(name)
            except InvalidNameError as error:
                messages.append(str(error))
            if name in seen:
                messages.append(f"operation name {name!r} is used twice; names are unique.")
            seen.add(name)
        return messages
