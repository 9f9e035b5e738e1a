"""What the files of imported modules held when they were imported."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Loaded"]


class Loaded:
    """What the files of imported modules held when they were imported; installed ones aside.

    A module that was imported before the first look counts as unedited until then. To make one
    costs nothing, since that is part of loading the extension.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._then: dict[str, tuple[Any, str, bytes]] = {}
        #: Modules that were edited and loaded again.
        self.renewed: set[str] = set()

    def look(self) -> None:
        """Note what was imported, or loaded again, since the last look."""
        from pulpo.carry.modules import installed

        new = set(sys.modules) - self._seen
        self._seen |= new
        for name in [*new, *self._then]:
            with suppress(Exception):  # some modules answer in their own way
                spec = sys.modules[name].__spec__  # a new one when it is loaded again
                file = spec.origin if spec else None
                if not file or not file.endswith(".py") or file.startswith(installed()):
                    continue
                then = self._then.get(name)
                if then is None or then[0] is not spec:
                    self._then[name] = spec, file, _digest(file)
                    if then is not None and then[2] != self._then[name][2]:
                        self.renewed.add(name)

    def digest(self, name: str) -> str:
        """Return the digest of what a module's file held when it was imported, ``""`` of others."""
        then = self._then.get(name)
        return then[2].hex() if then else ""

    def is_edited(self, name: str) -> bool:
        """Tell whether a module's file is not what was imported any more."""
        then = self._then.get(name)
        return then is not None and _digest(then[1]) != then[2]


def _digest(file: str) -> bytes:
    import hashlib

    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:
        return b""
