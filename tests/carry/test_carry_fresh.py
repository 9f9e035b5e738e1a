"""What only a fresh process can show: it is the same there, or told, or refused with the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulpo.carry import carry, refusals, verify
from pulpo.carry.write import Carried

from .notebook import Notebook, run_elsewhere


def carried_by(*cells: str) -> tuple[Carried, tuple[str, ...]]:
    """Return what cells give whose last one defines ``op``, with all warnings of an export."""
    book = Notebook(*cells)
    carried = carry(book.recorder, {"op": book["op"]})
    differs = verify(
        carried.text, modules=carried.modules, digests=carried.digests, kept=carried.kept
    )
    return carried, (*carried.warnings, *differs)


# --- Objects that do not like to be looked at -----------------------------------------------------

RAISES = {
    "an item": "class D(dict):\n    def __getattr__(self, k): return self[k]\ncfg = D(lr=0.5)",
    "by its own method": "class D(dict):\n    __getattr__ = dict.__getitem__\ncfg = D(lr=0.5)",
    "an inner dict": (
        "class D:\n    def __init__(self, **kw): self._d = kw\n"
        "    def __getattr__(self, k): return self.__dict__['_d'][k]\ncfg = D(lr=0.5)"
    ),
    "a table": (
        "TABLE = {'lr': 0.5}\nclass D:\n    def __getattr__(self, k): return TABLE[k]\ncfg = D()"
    ),
    "called": (
        "class D(dict):\n    def __getattr__(self, k): return self[k]\n"
        "    def __call__(self): return 1\ncfg = D(lr=0.5)"
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_an_object_whose_attributes_raise_is_carried(name: str, tmp_path: Path) -> None:
    carried, told = carried_by(RAISES[name], "def op(): return cfg.lr")
    assert told == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "0.5"


def test_an_object_that_cannot_be_looked_at_is_refused() -> None:
    odd = "class Odd:\n    def __getattribute__(self, k): raise RuntimeError(k)\nS = Odd()"
    book = Notebook("", "def op(): return S")
    book.run(odd)
    [error] = refusals(book.recorder, {"op": book["op"]})
    assert "'S' (used by op): it is an object (Odd) that raises RuntimeError" in str(error)
