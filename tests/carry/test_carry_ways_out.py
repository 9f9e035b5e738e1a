"""What carries although it would be refused: frozen values, statements that are marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulpo.carry import carry, refusals, verify
from pulpo.errors import CarryError, SecretError

from .notebook import Notebook, run_elsewhere, run_here

VALUES = {
    "a loop's sum": ("x = 0\nfor i in range(5): x += i", "10"),
    "text": ("import os\nx = os.sep.join('ab') + '\"' + chr(10)", "'a/b\"\\n'"),
    "a date": ("import datetime\nx = datetime.date.fromordinal(738000)", None),
    "a time with a zone": (
        "from datetime import datetime, timezone\nx = datetime.fromtimestamp(0, timezone.utc)",
        None,
    ),
    "a named zone": (
        "import datetime, zoneinfo\n"
        "x = datetime.datetime.fromtimestamp(9.5, zoneinfo.ZoneInfo('Europe/Berlin'))",
        None,
    ),
    "a duration": ("import datetime, time\nx = datetime.timedelta(seconds=time.time())", None),
    "decimals in a list": (
        "from decimal import Decimal\nx = [Decimal(str(i)) / 3 for i in range(3)]; x.append('a')",
        None,
    ),
    "a fraction": ("import random\nfrom fractions import Fraction\nx = (Fraction(1, 7),)", None),
    "an id": ("import uuid\nx = {uuid.uuid4(): {1.5: None}}", None),
    "a path": ("from pathlib import Path\nx = {Path.cwd()}", None),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_frozen_value_is_what_it_is_now(name: str, tmp_path: Path) -> None:
    cell, expected = VALUES[name]
    notebook = Notebook(cell, "def op(): return x")
    live = repr(notebook["x"])
    assert expected is None or live == expected
    carried = carry(notebook.recorder, {"op": notebook["op"]}, freeze=["x"])
    assert run_elsewhere(carried, "op()", tmp_path) == live
    assert carried.frozen == ("x",)
    assert carried.warnings == ("'x' is frozen: the export holds its value of now",)


def test_a_name_that_no_cell_made_can_be_frozen() -> None:
    notebook = Notebook("def op(): return x + y")
    notebook.names["x"] = notebook.names["y"] = 7  # %run does so
    with pytest.raises(CarryError, match=r"no recorded cell made .* with --freeze x\.$"):
        notebook.carry("op")
    carried = carry(notebook.recorder, {"op": notebook["op"]}, freeze=["x", "y", "z"])
    assert run_here(carried, "op()") == "14"
    assert carried.frozen == ("x", "y")  # nothing uses z


def test_a_default_can_be_frozen() -> None:
    notebook = Notebook("import time\nnow = time.time()", "def op(at=now): return at")
    carried = carry(notebook.recorder, {"op": notebook["op"]}, freeze=["now"])
    assert run_here(carried, "op()") == repr(notebook["now"])


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("import threading\nx = threading.Lock()", "it is a thread.lock, and only text"),
        ("x = object()", "it is a object, and only text"),
        ("x = list(range(9000))", "of at most 10,000 characters"),
        ("class D(__import__('decimal').Decimal): pass\nx = D(1)", "it is a D, and only text"),
    ],
)
def test_what_is_no_literal_is_not_frozen(cell: str, why: str) -> None:
    notebook = Notebook(cell, "def op(): return x")
    with pytest.raises(CarryError, match=why):
        carry(notebook.recorder, {"op": notebook["op"]}, freeze=["x"])


def test_freezing_is_offered_where_it_works_only() -> None:
    notebook = Notebook(
        "import time\nx = time.time()\ny = [object(), time.time()]",
        "def a(): return x",
        "def b(): return y",
    )
    with pytest.raises(CarryError, match="with --freeze x"):
        notebook.carry("a")
    with pytest.raises(CarryError) as refused:
        notebook.carry("b")
    assert "--freeze" not in str(refused.value)


def test_a_frozen_credential_is_refused() -> None:
    notebook = Notebook("def op(): return x")
    notebook.names["x"] = {"password": "hunter2!x"}
    with pytest.raises(SecretError) as refused:
        carry(notebook.recorder, {"op": notebook["op"]}, freeze=["x"])
    assert "hunter2" not in str(refused.value)


# --- As it stands ---------------------------------------------------------------------------------

MARKED = {
    "a run-time value": ("import random\nrng = random.Random(3)  # pulpo: carry", "rng.random()"),
    "above": ("import random\n# pulpo: carry\nrng = random.Random(3)", "rng.random()"),
    "a live object": (
        "import sqlite3\nrng = sqlite3.connect(':memory:')  # pulpo: carry",
        "rng.execute('select 4').fetchone()",
    ),
    "within its lines": (
        "import random\nrng = random.Random(\n    3,  # pulpo: carry\n)",
        "rng.random()",
    ),
}


@pytest.mark.parametrize("name", MARKED)
def test_a_marked_statement_is_carried_as_it_stands(name: str, tmp_path: Path) -> None:
    cell, expression = MARKED[name]
    notebook = Notebook(cell, f"def op(): return {expression}")
    carried = notebook.carry("op")
    assert "# pulpo: carry" in carried.text
    assert run_elsewhere(carried, "op()", tmp_path) == repr(
        __import__("random").Random(3).random() if "rng.random" in expression else (4,)
    )


def test_a_marked_statement_that_binds_nothing_comes_along() -> None:
    notebook = Notebook(
        "import decimal",
        "decimal.getcontext().prec = 5  # pulpo: carry",
        "decimal.getcontext().prec = 9  # other",
        "def op(): return 1",
    )
    text = notebook.carry("op").text
    assert "import decimal\n\ndecimal.getcontext().prec = 5  # pulpo: carry" in text
    assert "prec = 9" not in text


def test_a_marked_statement_comes_along_whatever_it_binds(tmp_path: Path) -> None:
    book = Notebook(
        "import contextvars\nwho = contextvars.ContextVar('who')\n"
        "before = who.set('acme')  # pulpo: carry",
        "def op(): return who.get()",
    )
    carried = book.carry("op")
    assert carried.warnings == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "'acme'"


def test_what_a_marked_line_needs_is_refused_in_its_name() -> None:
    book = Notebook(
        "import time\nx = time.time()", "print(x)  # pulpo: carry", "def op(): return 1"
    )
    with pytest.raises(CarryError, match=r"^a marked line in cell 2: cannot carry 'x'"):
        book.carry("op")


def test_what_was_typed_in_or_is_a_credential_is_not_frozen() -> None:
    for cell, name in (
        ("import os\nhost = os.environ.get('HOME') or input()", "host"),
        ("import time\napi_key = str(time.time())", "api_key"),
    ):
        book = Notebook(cell, f"def op(): return {name}")
        with pytest.raises(CarryError) as refused:
            carry(book.recorder, {"op": book["op"]}, freeze=[name])
        assert "cannot be frozen: it was typed in, or its name says" in str(refused.value)
    book = Notebook("import time\napi_key = str(time.time())", "def op(): return api_key")
    with pytest.raises(CarryError) as refused:
        book.carry("op")
    assert "--freeze" not in str(refused.value)


def test_what_pydantic_calls_a_secret_is_one() -> None:
    book = Notebook(
        "from pydantic import SecretStr\nKEY = SecretStr('zz-very-own')", "def op(): return KEY"
    )
    with pytest.raises(SecretError) as refused:
        book.carry("op")
    assert "zz-very" not in str(refused.value)


def test_the_mark_in_a_text_is_no_mark() -> None:
    notebook = Notebook(
        "import time\nx = str(time.time()) + '# pulpo: carry'", "def op(): return x"
    )
    with pytest.raises(CarryError, match="computed at run time"):
        notebook.carry("op")


# --- All refusals at once -------------------------------------------------------------------------


def test_refusals_are_all_told_and_each_once() -> None:
    notebook = Notebook(
        "import sqlite3, time\nclient = sqlite3.connect(':memory:')\nnow = time.time()",
        "token = 'a8f5f167f44f4964e6c998dee827110c'",
        "def fetch(): return client, now, gone()",
        "def one(): return fetch(), token",
        "def two(): return fetch(), lost",
        "def three(): return 3",
    )
    functions = {f"a.{name}": notebook[name] for name in ("one", "two", "three")}
    found = refusals(notebook.recorder, functions)
    assert [(error.operation, type(error).__name__) for error in found] == [
        ("a.one", "CarryError"),
        ("a.one", "CarryError"),
        ("a.one", "CarryError"),
        ("a.two", "CarryError"),
        ("a.one", "SecretError"),
    ]
    said = " ".join(map(str, found))
    for what in ("'client'", "'now'", "'gone'", "'lost'"):
        assert said.count(f"cannot carry {what} ") == 1, said
    assert "'token' in cell 2 looks like a credential" in said
    assert "a8f5" not in said
    assert all(error.fix and str(error) == f"{error.message} {error.fix}" for error in found)
    notebook["client"].close()


def test_what_can_be_carried_has_no_refusals() -> None:
    notebook = Notebook("x = 3", "def op(): return x")
    assert refusals(notebook.recorder, {"op": notebook["op"]}) == []


# --- Lines that change a value in place, and are marked -------------------------------------------


@pytest.mark.parametrize(
    ("cells", "used"),
    [
        (["W = []\nfor i in range(4):  # pulpo: carry\n    W.append(i * i)"], "W"),
        (["import heapq\nq = [3, 1, 2]", "heapq.heapify(q)  # pulpo: carry"], "q"),
        (
            [
                "class P:\n    def __init__(self, a): self.a = a",
                "PS = [P(1), P(2)]",
                "for p in PS: p.a += 10  # pulpo: carry",
            ],
            "[one.a for one in PS]",
        ),
        (["xs = []", "list(map(xs.append, [1, 2]))  # pulpo: carry"], "xs"),
    ],
)
def test_a_marked_line_that_changes_a_value_goes_along(
    cells: list[str], used: str, tmp_path: Path
) -> None:
    plain = [one.replace("  # pulpo: carry", "") for one in cells]
    with pytest.raises(CarryError, match="changed"):
        Notebook(*plain, f"def op(): return {used}").carry("op")
    book = Notebook(*cells, f"def op(): return {used}")
    carried = book.carry("op")
    assert run_elsewhere(carried, "op()", tmp_path) == repr(book["op"]())
    verify(carried.text, digests=carried.digests, kept=carried.kept)


def test_a_marked_line_that_gives_something_else_there_is_refused() -> None:
    book = Notebook("xs = []\nn = [0]", "xs.extend(list(n))  # pulpo: carry", "n[0] = 5")
    book.run("def op(): return xs")
    carried = carry(book.recorder, {"op": book["op"]})
    with pytest.raises(CarryError, match=r"cannot carry 'xs'"):
        verify(carried.text, digests=carried.digests, kept=carried.kept)


# --- A cell that ran again ------------------------------------------------------------------------


def test_an_edited_line_takes_the_place_of_its_older_run(tmp_path: Path) -> None:
    book = Notebook("CFG = {'a': 1}\nimport os")
    book.run("CFG['n'] = len(os.getcwd())", identity="b")
    book.run("def op(): return CFG['n']")
    with pytest.raises(CarryError, match="write its value as a literal"):
        book.carry("op")
    book.run("CFG['n'] = 44", identity="b")
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "44"


def test_an_edited_block_takes_the_place_of_its_older_run(tmp_path: Path) -> None:
    book = Notebook("class T:\n    def go(self): return 1\ndef patched(self): return 2")
    book.run("for name in ['go']: setattr(T, name, patched)", identity="b")
    book.run("def op(): return T().go()")
    with pytest.raises(CarryError, match="not by a line of its own"):
        book.carry("op")
    book.run("T.go = patched", identity="b")
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "2"


def test_an_import_that_depends_on_a_flag_stands_below_it(tmp_path: Path) -> None:
    book = Notebook(
        "FAST = False", "if FAST:\n    import nosuch_mod as js\nelse:\n    import json as js"
    )
    book.run("def op(): return js.dumps([1])")
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "'[1]'"


def test_what_a_library_writes_into_an_array_is_told_of_the_array() -> None:
    book = Notebook("import numpy as np\nW = np.arange(3)", "np.add(W, 1, out=W)")
    book.run("def op(): return W.tolist()")
    with pytest.raises(CarryError, match=r"'W'.*changed by np\.add\(…\) in cell 2\."):
        book.carry("op")


def test_a_class_of_the_notebook_is_no_client_by_its_name(tmp_path: Path) -> None:
    book = Notebook(
        "class Bucket:\n    def __init__(self, n): self.n = n",
        "bucket = Bucket(2)",
        "def op(): return bucket.n",
    )
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "2"


def test_a_marked_call_of_what_changes_a_table_goes_along(tmp_path: Path) -> None:
    book = Notebook("U = {'m': 1}\ndef define(n, k): U[n] = k", "define('km', 1000)")
    book.run("def op(): return U")
    assert ["was changed by define" in one for one in book.carry("op").warnings] == [True]
    book.run("define('km', 1000)  # pulpo: carry")
    carried = book.carry("op")
    assert carried.warnings == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "{'m': 1, 'km': 1000}"


@pytest.mark.parametrize(
    "cells",
    [
        ["V = ['b', 'a']", "V.append('c')", "V = sorted(V)"],
        ["V = {'v': 1}", "V['w'] = 5", "V = V | {'c': 2}"],
        ["V = {'v': 1}", "V['w'] = 5", "V = {k: v * 10 for k, v in V.items()}", "V['z'] = 3"],
        ["V = ['b']", "V += ['x']", "V.append('c')", "V = V + ['y']", "V += ['q']"],
        ["V = ['b']\nV.append('c')\nV = sorted(V)\nV.append('a')"],
    ],
)
def test_a_value_that_was_changed_and_then_bound_anew_from_itself(
    cells: list[str], tmp_path: Path
) -> None:
    book = Notebook(*cells, "def op(): return V")
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == repr(book["op"]())


def test_the_change_that_cannot_be_carried_is_the_one_that_is_named() -> None:
    book = Notebook("A = {}", "for k in 'ab': A[k] = k", "A['z'] = 1", "def op(): return A")
    with pytest.raises(CarryError, match=r"changed by a for loop in cell 2\."):
        book.carry("op")
