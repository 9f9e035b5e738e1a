"""What is one object here is one in an export; where it is not, and may change, is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulpo.carry import verify

from .notebook import Notebook, run_elsewhere

# Most of them start a fresh process.
pytestmark = pytest.mark.slow

_BAG = "items = []\nclass Bag:\n    def __init__(self, xs): self.xs = xs\nbag = Bag(items)"
_SIZE = "def mk(xs):\n    def size(): return len(xs)\n    return size"

# The cells, and what the export says; the last cell but one made a list anew.
APART = {
    "an attribute": (
        [_BAG, "items = []", "def op():\n    items.append(1)\n    return len(bag.xs)"],
        ("'items'", "'bag.xs'", "run cell 1 again"),
    ),
    "another name": (
        [
            "cfg = {'a': 1}",
            "snap = cfg",
            "cfg = {'a': 1}",
            "def op():\n    cfg['a'] += 1\n    return snap",
        ],
        ("'cfg'", "'snap'", "run cell 2 again"),
    ),
    "a default": (
        [
            "cfg = {'a': 1}",
            "def rate(c=cfg): return c['a']",
            "cfg = {'a': 1}",
            "def op():\n    cfg.update(a=2)\n    return rate()",
        ],
        ("'cfg'", "'rate.c'", "run cell 2 again"),
    ),
    "a closure": (
        [
            "items = [1]",
            _SIZE,
            "size = mk(items)",
            "items = [1]",
            "def op():\n    items.append(1)\n    return size()",
        ],
        ("'items'", "'size.xs'", "run cell 3 again"),
    ),
    "a partial": (
        [
            "from functools import partial\nitems = [1]",
            "size = partial(len, items)",
            "items = [1]",
            "def op():\n    del items[0]\n    return size()",
        ],
        ("'items'", "'size.args[0]'", "run cell 2 again"),
    ),
    "a class": (
        [
            "items = [1]",
            "class Bag:\n    xs = items",
            "items = [1]",
            "def op():\n    Bag.xs.append(2)\n    return items",
        ],
        ("'Bag.xs'", "'items'", "run cell 2 again"),
    ),
    "a view": (
        [
            "import numpy as np\na = np.array([1, 2, 3])\nb = a[:2]",
            "def part():\n    global b\n    b = b.copy()",
            "part()",
            "def op():\n    a[0] = 9\n    return b.tolist()",
        ],
        ("'a'", "'b'", "run cell 1 again"),
    ),
}


def told(book: Notebook) -> tuple[str, ...]:
    carried = book.carry("op")
    expected = {name: getattr(carried, name) for name in ("digests", "kept", "shared", "twice")}
    return (*carried.warnings, *verify(carried.text, **expected))


@pytest.mark.parametrize("case", APART)
def test_what_holds_a_list_of_before_is_told(case: str) -> None:
    cells, words = APART[case]
    [said] = told(Notebook(*cells))
    assert "are two objects, and one in the export" in said
    assert all(word in said for word in words), said


@pytest.mark.parametrize("case", APART)
def test_it_is_not_where_only_what_a_function_made_itself_is_changed(case: str) -> None:
    cells, _ = APART[case]
    reads = (
        "def op(found: list, n=0):\n    rows = []\n    rows.append(n)\n    found.append(1)\n"
        f"    return rows, [{', '.join(_reads(cells))}]"
    )
    assert told(Notebook(*cells[:-1], reads)) == ()


def _reads(cells: list[str]) -> list[str]:
    names = ("items", "cfg", "snap", "bag", "rate", "size", "Bag", "a", "b")
    return [name for name in names if name in Notebook(*cells).names]


def test_it_is_not_where_all_cells_ran_in_their_order() -> None:
    for cells, _ in APART.values():
        if "global" not in "".join(cells):
            assert told(Notebook(*cells[:-2], cells[-1])) == ()


def test_what_is_one_here_and_two_there_is_told() -> None:
    book = Notebook(
        "a = {'n': [1]}\nb = {'n': [1]}",
        "def join():\n    b['n'] = a['n']",
        "join()",
        "def op():\n    a['n'].append(2)\n    return b",
    )
    said = told(book)
    assert any("\"a['n']\" and \"b['n']\" are one object, and two in" in one for one in said), said


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["row = [0]\ngrid = []\ngrid.append(row)\ngrid.append(row)"], "[[0, 1], [0, 1]]"),
        (["grid = [[0]] * 2", "grid.append(3)"], "[[0, 1], [0, 1], 3]"),
        (["grid = dict.fromkeys((0, 1), [0])", "grid[2] = []"], "{0: [0, 1], 1: [0, 1], 2: []}"),
        (["grid = {0: [0]}\ngrid[1] = grid[0]"], "{0: [0, 1], 1: [0, 1]}"),
        (["row = [0]\ngrid = [1]", "grid[0] = row"], "[[0, 1]]"),
    ],
)
def test_a_list_in_two_places_stays_one(cells: list[str], expected: str, tmp_path: Path) -> None:
    book = Notebook(*cells, "def op():\n    grid[0].append(1)\n    return grid")
    assert told(book) == ()
    carried = book.carry("op")
    assert run_elsewhere(carried, "op()", tmp_path) == expected == repr(book["op"]())
