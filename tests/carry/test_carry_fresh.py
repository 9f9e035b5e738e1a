"""What only a fresh process can show: it is the same there, or told, or refused with the fix."""

from __future__ import annotations

import calendar
import csv
import decimal
import logging
import os
import re
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from pulpo.carry import carry, refusals, verify
from pulpo.carry.write import Carried
from pulpo.errors import CarryError, SecretError

from .notebook import Notebook, run_elsewhere


def carried_by(*cells: str) -> tuple[Carried, tuple[str, ...]]:
    """Return what cells give whose last one defines ``op``, with all warnings of an export."""
    book = Notebook(*cells)
    carried = carry(book.recorder, {"op": book["op"]})
    differs = verify(
        carried.text,
        modules=carried.modules,
        digests=carried.digests,
        kept=carried.kept,
        settings=carried.settings,
        twice=carried.twice,
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


# --- The order of sets ----------------------------------------------------------------------------

WORDS = "{'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta', 'iota'}"
SETS = {
    "a pattern": (f"import re\nWORDS = {WORDS}", "X = re.compile('|'.join(WORDS))"),
    "a partial": (
        f"from functools import partial\nWORDS = {WORDS}\ndef h(n, ws): return ws[n]",
        "X = partial(h, ws=list(WORDS))",
    ),
    "members of an enum": ("from enum import Enum", f"X = Enum('X', list({WORDS}))"),
    "a default": ("", f"def X(n=1, cols=list({WORDS})): return cols[n]"),
    "a keyword's default": ("", f"def X(n=1, *, cols=tuple({WORDS})): return cols[n]"),
    "a default of a lambda": ("", f"X = lambda n=1, ws=[*{WORDS}]: ws[n]"),
    "a field": (
        "from pydantic import BaseModel",
        f"class X(BaseModel):\n    n: int = 1\n    cols: list = list({WORDS})",
    ),
    "an attribute": ("import re", f"class X:\n    pat = re.compile('|'.join({WORDS}))"),
    "a deque": ("from collections import deque", f"X = deque({WORDS})"),
    "a constant": ("", f"X = [one for one in {WORDS}]"),
    "through a function": (f"def made(): return list({WORDS})", "X = made()"),
    "in a dict of functions": (
        f"def h(n, cols=list({WORDS})): return cols[n]",
        "X = {'h': h}",
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_the_order_of_a_set_is_refused_wherever_it_was_caught(name: str) -> None:
    first, second = SETS[name]
    with pytest.raises(CarryError, match="something else in every process, as the order of a set"):
        carried_by(first, second, "def op(): return X")
    sorted_first = first.replace(WORDS, f"sorted({WORDS})")
    sorted_second = second.replace(WORDS, f"sorted({WORDS})")
    assert carried_by(sorted_first, sorted_second, "def op(): return X")[1] == ()


def test_the_order_of_a_set_in_an_operations_default_is_refused() -> None:
    with pytest.raises(CarryError, match=r"'op': its 'cols' is something else in every process"):
        carried_by(f"def op(cols=list({WORDS})): return cols")


def test_what_differs_for_another_reason_is_not_said_to_be_the_order_of_a_set() -> None:
    with pytest.raises(
        CarryError, match=r"'X': its line gives something else in a process that runs"
    ):
        carried_by("X = 'notebook' if __name__ == '__main__' else 'lib'", "def op(): return X")


def test_two_processes_are_asked_only_where_a_set_may_be_read_in_order() -> None:
    plain = "X = {'a', 'b'}\nY = frozenset({'a'})\nZ = {'a': 1}\nW = len('abc')"
    assert not Notebook(plain, "def op(): return X, Y, Z, W, list({1, 2})").carry("op").twice
    for line in ("Y = list(X)", "Y = [*X]", "Y = [x for x in X]", "Y = ''.join({'a', 'b'})"):
        assert Notebook(plain, line, "def op(): return Y").carry("op").twice


# --- The clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "X = pd.Timestamp('now')",
        "X = pd.Timestamp('today', tz='UTC')",
        "X = pd.Timestamp('now') - pd.Timedelta(days=30)",
        "X = pd.Timestamp.now()",
        "X = str(pd.Timestamp(ts_input='now'))",
        "def made(): return pd.Timestamp('now')\nX = made()",
    ],
)
def test_a_time_of_pandas_is_computed_at_run_time(line: str) -> None:
    with pytest.raises(CarryError, match="a value computed at run time"):
        carried_by("import pandas as pd", line, "def op(): return X")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("class X:\n    at = pd.Timestamp('now')", "X.at was computed by pd.Timestamp(…) when"),
        ("class X:\n    at = pd.Timestamp.now()", "X.at was computed by pd.Timestamp.now() when"),
        ("class X:\n    at = datetime.now()", "X.at was computed by datetime.now() when its"),
        ("class X:\n    at: object = pd.Timestamp('now')", "the default of 'at' in 'X' was comp"),
        ("def X(t=pd.Timestamp('today')): return t", "the default of 't' in 'X' was computed"),
        (
            "WORD = 'now'\nX = pd.Timestamp(WORD)",
            "of 'X' it is something else each time that it is made",
        ),
        ("X = pd.Timestamp('2026-01-01')", ""),
        ("class X:\n    at = pd.Timestamp('2026-01-01')", ""),
    ],
)
def test_a_time_that_was_taken_in_is_told(cell: str, said: str) -> None:
    imports = "import pandas as pd\nfrom datetime import datetime"
    _, told = carried_by(imports, cell, "def op(): return X")
    assert [one[: len(said)] for one in told] == ([said] if said else [])


# --- Modules that cells have patched --------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        "_dumps = json.dumps\njson.dumps = lambda *a, **k: _dumps(*a, **k).upper()",
        "from functools import partial\njson.dumps = partial(json.dumps, indent=2)",
        "json.loads = json.dumps = len",
    ],
)
def test_a_patch_of_json_is_carried_and_not_in_the_way(lines: str) -> None:
    import json

    before = json.dumps, json.loads
    try:
        carried, told = carried_by("import json", lines, "def op(): return json.dumps('ab')")
    finally:
        json.dumps, json.loads = before
    assert told == ()
    assert "json.dumps = " in carried.text


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['PULPO_TEST_MODE'] = 'a'; os.environ['PULPO_TEST_MODE'] += 'b'",
        "X = 1; os.environ['PULPO_TEST_MODE'] = 'ab'; Y = 2",
        "os.environ.update(\n    PULPO_TEST_MODE='a'); os.environ['PULPO_TEST_MODE'] += 'b'",
    ],
)
def test_a_mark_carries_all_statements_of_its_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_TEST_MODE", "")
    operation = "def op(): return os.environ['PULPO_TEST_MODE']"
    carried, told = carried_by("import os", f"{line}  # pulpo: carry", operation)
    assert told == ()
    monkeypatch.delenv("PULPO_TEST_MODE")
    assert run_elsewhere(carried, "op()", tmp_path) == "'ab'"


# --- Values that literals do not give -------------------------------------------------------------

UNLIKE = {
    "a pickle": (
        "import pickle\nclass P: pass\nX = [pickle.dumps(P())]",
        "it cannot be frozen: it holds a pickle of what the notebook defines",
    ),
    "an object twice": (
        "row = [0]\nX = [row, row]\nfor _ in range(2): X.append(row)",
        "it cannot be frozen: an object is in it more than once",
    ),
    "an object in itself": (
        "X = [1]\nfor _ in range(1): X.append(X)",
        "it cannot be frozen: an object is in it more than once",
    ),
    "a part": (
        "X = {'a': [1]}\nfor _ in range(1): X['a'].append(float('nan'))",
        r"it cannot be frozen: X\['a'\]\[1\] is nan, and only text",
    ),
    "another part": (
        "X = [1]\nfor _ in range(1): X.append(...)",
        r"it cannot be frozen: X\[1\] is a ellipsis, and only text",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_a_literal_would_not_give_is_neither_frozen_nor_offered(name: str) -> None:
    cell, why = UNLIKE[name]
    book = Notebook(cell, "def op(): return X")
    with pytest.raises(CarryError) as refused:
        carry(book.recorder, {"op": book["op"]})
    assert "--freeze" not in str(refused.value)
    with pytest.raises(CarryError, match=why):
        carry(book.recorder, {"op": book["op"]}, freeze=["X"])


def test_what_shares_its_object_with_another_name_is_not_frozen(tmp_path: Path) -> None:
    cells = ["A = []\nB = A\nC = {'a': A}\nfor _ in range(1): A.append(1)"]
    book = Notebook(*cells, "def op(): return A is B, B", "def other(): return C")
    with pytest.raises(CarryError) as refused:
        carry(book.recorder, {"op": book["op"]})
    assert "--freeze" not in str(refused.value)
    with pytest.raises(CarryError, match=r"it cannot be frozen: it shares an object with '[AB]'"):
        carry(book.recorder, {"op": book["op"]}, freeze=["B", "A"])
    carried = carry(book.recorder, {"op": book["op"]}, freeze=["A"])  # B = A stays
    assert run_elsewhere(carried, "op()", tmp_path) == "(True, [1])"
    carried = carry(book.recorder, {"other": book["other"]}, freeze=["C"])
    assert run_elsewhere(carried, "other()", tmp_path) == "{'a': [1]}"


# --- Settings of the process ----------------------------------------------------------------------

DECIMAL = "def op(): return decimal.Decimal(1) / 3"
PANDAS = "def op(): return str(pd.DataFrame({'v': [1]}))"
PREC = "decimal.getcontext().prec is not in the export what this session has set"
ROWS = "pandas.options.display.max_rows is not in the export"
SET = {
    "by a function": (
        "import decimal\ndef setup(): decimal.getcontext().prec = 4\nsetup()",
        DECIMAL,
        PREC,
    ),
    "by another name": ("import decimal\nctx = decimal.getcontext()\nctx.prec = 4", DECIMAL, PREC),
    "by a lambda": (
        "import decimal\nprec = lambda p: setattr(decimal.getcontext(), 'prec', p)\nprec(4)",
        DECIMAL,
        PREC,
    ),
    "pandas by a function": (
        "import pandas as pd\ndef setup(): pd.set_option('display.max_rows', 2)\nsetup()",
        PANDAS,
        ROWS,
    ),
    "pandas by a class": (
        "import pandas as pd\nclass S:\n    def __init__(self):\n"
        "        pd.set_option('display.max_rows', 2)\nS()",
        PANDAS,
        ROWS,
    ),
    "pandas by another name": (
        "import pandas as pd\nopts = pd.options.display\nopts.max_rows = 2",
        PANDAS,
        ROWS,
    ),
    "pandas inside of a function": (
        "import pandas as pd\ndef setup(): pd.set_option('display.max_rows', 2)\nsetup()",
        "def op():\n    import pandas as pd\n    return str(pd.DataFrame({'v': [1]}))",
        ROWS,
    ),
    "a context that was entered": (
        "import pandas as pd\nctx = pd.option_context('display.max_rows', 2)\n_ = ctx.__enter__()",
        PANDAS,
        ROWS,
    ),
    "numpy by a function": (
        "import numpy as np\ndef setup(): np.set_printoptions(precision=2)\nsetup()",
        "def op(): return str(np.ones(1) / 3)",
        "numpy.get_printoptions()['precision'] is not in the export",
    ),
    "matplotlib by another name": (
        "import matplotlib as mpl\nrc = mpl.rcParams\nrc['lines.linewidth'] = 9.0",
        "def op(): return mpl.rcParams['lines.linewidth']",
        "matplotlib.rcParams['lines.linewidth'] is not in the export",
    ),
    "the level of all loggers": (
        "import logging\nroot = logging.getLogger()\nroot.setLevel(5)",
        "def op(): return logging.getLogger('any').getEffectiveLevel()",
        "logging.root.level is not in the export",
    ),
    "a logger by another name": (
        "import logging\nother = logging.getLogger('pulpo-test')\nother.setLevel(5)",
        "def op(): return logging.getLogger('pulpo-test').level",
        "logging.getLogger('pulpo-test') is not in the export",
    ),
    "sockets by a name": (
        "from socket import setdefaulttimeout\nsetdefaulttimeout(7)",
        "def op():\n    import socket\n    return socket.getdefaulttimeout()",
        "socket.getdefaulttimeout() is not in the export",
    ),
    "a size of csv by a function": (
        "import csv\ndef setup(): csv.field_size_limit(7)\nsetup()",
        "def op(): return csv.field_size_limit()",
        "csv.field_size_limit() is not in the export what this session has set",
    ),
    "a day of the calendar by a function": (
        "import calendar\ndef setup(): calendar.setfirstweekday(6)\nsetup()",
        "def op(): return calendar.firstweekday()",
        "calendar.firstweekday() is not in the export what this session has set",
    ),
    "a filter of warnings in a block": (
        "import warnings\nif True:\n    warnings.filterwarnings('error', 'x', RuntimeWarning)",
        "def op(): return warnings.filters[0][0]",
        "the filter of warnings ('error' for RuntimeWarning) is not in the export",
    ),
}


@pytest.fixture
def settings_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    decimal.setcontext(decimal.Context())
    with (
        np.printoptions(),
        pd.option_context("display.max_rows", 60),
        mpl.rc_context(),
        warnings.catch_warnings(),
    ):
        yield
    decimal.setcontext(decimal.Context())
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("pulpo-test").setLevel(logging.NOTSET)
    socket.setdefaulttimeout(None)
    csv.field_size_limit(131072)
    calendar.setfirstweekday(0)


@pytest.mark.usefixtures("settings_put_back")
@pytest.mark.parametrize("name", SET)
def test_a_setting_is_compared_however_it_was_set(name: str) -> None:
    cell, operation, said = SET[name]
    _, told = carried_by(cell, operation)
    assert [one[: len(said)] for one in told] == [said]
    assert "'# pulpo: carry' to the line that sets it" in told[0]
    assert told[0].endswith(", or set it inside the operation")


@pytest.mark.usefixtures("settings_put_back")
@pytest.mark.parametrize(
    ("cell", "operation"),
    [
        ("import decimal\ndef setup(): decimal.getcontext().prec = 4\nsetup()", "def op(): pass"),
        ("import decimal\ndecimal.getcontext().prec = 4  # pulpo: carry", DECIMAL),
        (
            "import decimal\ndef setup(): decimal.getcontext().prec = 4\nsetup()  # pulpo: carry",
            DECIMAL,
        ),
        ("import pandas as pd\npd.set_option('display.max_rows', 2)", PANDAS),
        ("import pandas as pd, numpy as np, matplotlib, logging, decimal", PANDAS),
        ("import pandas as pd, matplotlib.pyplot as plt", f"{PANDAS}, plt"),
    ],
)
def test_a_setting_that_is_there_or_that_nobody_uses_is_not_told(cell: str, operation: str) -> None:
    assert carried_by(cell, operation)[1] == ()


@pytest.mark.usefixtures("settings_put_back")
def test_a_setting_that_was_set_by_another_name_is_set_in_full_to_be_carried() -> None:
    cell = "import decimal\nctx = decimal.getcontext()\nctx.prec = 4"
    [told] = carried_by(cell, DECIMAL)[1]
    assert "to the line that sets it in full, decimal.getcontext().prec = …, or set it" in told
    cell = cell.replace("ctx.prec = 4", "decimal.getcontext().prec = 4  # pulpo: carry")
    assert carried_by(cell, DECIMAL)[1] == ()


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['PULPO_TEST_MODE'] = 'fast'  # pulpo: carry",
        "for k in ['PULPO_TEST_MODE']: os.environ[k] = 'fast'  # pulpo: carry",
        "def setup(): os.environ['PULPO_TEST_MODE'] = 'fast'\nsetup()  # pulpo: carry",
    ],
)
def test_a_variable_that_a_carried_line_sets_is_not_told(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_TEST_MODE", "")  # so that it is put back
    monkeypatch.delenv("PULPO_TEST_MODE")
    read = "MODE = os.environ['PULPO_TEST_MODE']"
    operation = "def op(): return MODE + os.environ.get('PULPO_TEST_MODE', 'slow')"
    book = Notebook(f"import os\n{line}", read, operation)
    carried = book.carry("op")
    assert carried.warnings == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "'fastfast'"


def test_what_a_module_set_when_it_was_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_put_back: None
) -> None:
    (tmp_path / "pulpo_sets_it.py").write_text("import decimal\ndecimal.getcontext().prec = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    _, told = carried_by("import decimal\nimport pulpo_sets_it", DECIMAL)
    assert [one[: len(PREC)] for one in told] == [PREC]


SEEDS = {
    "a function": (
        "import random\ndef seed_all(n): random.seed(n)\nseed_all(3)",
        "seed_all(…), and in the",
    ),
    "a function of any name": (
        "import random\ndef start(): random.seed(1)\nstart()",
        "start(), and in the",
    ),
    "a block": ("import random\nif True:\n    random.seed(1)", "random.seed(…), and in the"),
    "numpy in a loop": (
        "import random\nimport numpy as np\nfor n in [1]: np.random.seed(n)",
        "np.random.seed(…), which seeds",
    ),
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_that_is_not_carried_is_told(name: str) -> None:
    cell, said = SEEDS[name]
    _, told = carried_by(cell, "def op(): return random.random()")
    assert len(told) == 1
    assert told[0].startswith(f"cell 1 ran {said}")
    assert carried_by(cell, "def op(): return random.Random(3).random()")[1] == ()


@pytest.mark.parametrize("mark", ["", "  # pulpo: carry"])
@pytest.mark.parametrize(
    ("cell", "draws"),
    [
        ("from random import seed, random\nseed(5)", "random()"),
        ("import random\nrandom.seed(5)", "random.choice([1, 2])"),
    ],
)
def test_a_seed_of_numbers_that_prefect_draws_from_too_is_told(
    cell: str, draws: str, mark: str
) -> None:
    _, told = carried_by(cell + mark, f"def op(): return {draws}")
    [said] = [one for one in told if "Prefect draws" in one]
    assert re.match(r"cell 1 ran (random\.)?seed\(…\), and in the export Prefect draws", said)
    assert "seed inside the operation" in said
    assert carried_by(cell + mark, "def op(): return 1")[1] == ()


def test_a_seed_of_numpy_is_told_unless_it_is_carried() -> None:
    cell, draws = "from numpy.random import rand, seed\nseed(5)", "def op(): return rand()"
    _, told = carried_by(cell, draws)
    assert [one.partition(",")[0] for one in told] == ["cell 1 ran seed(…)"]
    assert carried_by(f"{cell}  # pulpo: carry", draws)[1] == ()


@pytest.mark.parametrize(
    "read",
    [
        "os.environ.get('PULPO_TEST_HOST')",
        "os.getenv('PULPO_TEST_HOST')",
        "environ['PULPO_TEST_HOST']",
    ],
)
def test_a_variable_that_this_session_has_set_is_told(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_TEST_HOST", "")
    monkeypatch.delenv("PULPO_TEST_HOST")
    imports = "import os\nfrom os import environ"
    put = "def load(): os.environ.update(PULPO_TEST_HOST='hidden')\nload()"
    book = Notebook(f"{imports}\n{put}", f"def op(): return {read}")
    told = carry(book.recorder, {"op": book["op"]}).warnings
    assert any("reads the environment variable PULPO_TEST_HOST, which this" in one for one in told)
    assert "hidden" not in str(told)
    book = Notebook(imports, f"def op(): return {read}")
    assert carry(book.recorder, {"op": book["op"]}).warnings == ()


# --- Registries -----------------------------------------------------------------------------------

REGISTRIES = {
    "a command": (
        "import click\n@click.group()\ndef cli(): pass",
        "@cli.command()\ndef go(): pass",
        "cli",
        ("cell 2 ran @cli.command for 'go'", "'cli' keeps 'commands'"),
    ),
    "a queue": (
        "import asyncio\nq = asyncio.Queue()",
        "q.put_nowait(4)",
        "q",
        ("'q' is not in the export",),
    ),
    "a method's dispatcher": (
        "from functools import singledispatchmethod\nclass A:\n    @singledispatchmethod\n"
        "    def go(self, x): return 'obj'",
        "@A.go.register\ndef _(self, x: int): return 'int'",
        "A",
        ("cell 2 ran @A.go.register for '_'", "'A.go' is not in the export"),
    ),
    "a dispatcher in a loop": (
        "from functools import singledispatch\n@singledispatch\ndef go(x): return 'obj'",
        "for t in (int, float): go.register(t, lambda x: 'num')",
        "go",
        ("'go' keeps 'registry'",),
    ),
    "a dispatcher by a function": (
        "from functools import singledispatch\n@singledispatch\ndef go(x): return 'obj'\n"
        "def put(t, r): go.register(t, lambda x: r)",
        "put(int, 'num')",
        "go",
        ("'go' keeps 'registry'",),
    ),
    "an abstract class in a loop": (
        "from abc import ABC\nclass Num(ABC): pass",
        "for t in (int, float): Num.register(t)",
        "Num",
        ("'Num.register' is not in the export",),
    ),
    "how a class is pickled": (
        "import copyreg\nclass P: pass\ndef red(p): return (P, ())",
        "copyreg.pickle(P, red)",
        "P",
        ("'P.copyreg.pickle' is not in the export",),
    ),
    "a library's base class": (
        "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column\n"
        "class Base(DeclarativeBase): pass",
        "class User(Base):\n    __tablename__ = 'users'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)",
        "Base",
        ("'Base.metadata.tables' is not in the export",),
    ),
    "an event of a library": (
        "from sqlalchemy import create_engine, event\nfrom sqlalchemy.engine import Engine",
        "@event.listens_for(Engine, 'connect')\ndef pragma(dbapi, rec): pass",
        "create_engine",
        ("cell 2 ran @event.listens_for for 'pragma', and the export does not",),
    ),
    "a method for a library's class": (
        "import pandas as pd\ndef method(fn):\n    setattr(pd.DataFrame, fn.__name__, fn)\n"
        "    return fn",
        "@method\ndef pulpo_total(self): return int(self.to_numpy().sum())",
        "pd",
        ("cell 2 ran @method for 'pulpo_total', and the export does not",),
    ),
}


@pytest.mark.parametrize("name", REGISTRIES)
def test_what_was_registered_by_something_that_is_not_carried_is_told(name: str) -> None:
    first, second, used, said = REGISTRIES[name]
    _, told = carried_by(first, second, f"def op(): return {used}")
    assert [one[: len(begins)] for one, begins in zip(told, said, strict=True)] == [*said]
    # What is carried is not told.
    assert carried_by(first, f"def op(): return {used}")[1] == ()


@pytest.mark.parametrize(
    ("cell", "other"),
    [
        (
            "from dataclasses import dataclass\n@dataclass\nclass A: pass",
            "@dataclass\nclass B: pass",
        ),
        ("import functools\n@functools.cache\ndef A(): pass", "@functools.cache\ndef B(): pass"),
        ("def deco(f): return f\n@deco\ndef A(): pass", "@deco\ndef B(): pass"),
        ("import click\n@click.command()\ndef A(): pass", ""),
        ("import string\nA = string.Template('$a')", "A.substitute(a=1)"),
    ],
)
def test_what_is_decorated_and_not_registered_is_not_told(cell: str, other: str) -> None:
    assert carried_by(cell, other, "def op(): return A")[1] == ()


# --- Names in conditions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "operation"),
    [
        ("COND = 'v > @LIMIT'", "def op(): return FRAME().query(COND)['v'].tolist()"),
        (
            "def keep(df, cond='v > @LIMIT'): return df.query(cond)",
            "def op(): return keep(FRAME())['v'].tolist()",
        ),
        ("", "def op():\n    c = 'v > @LIMIT'\n    return FRAME().query(c)['v'].tolist()"),
        ("", "def op(c='v > @LIMIT'): return FRAME().query(c)['v'].tolist()"),
    ],
)
def test_a_name_in_a_condition_is_carried(cell: str, operation: str, tmp_path: Path) -> None:
    frame = "import pandas as pd\nLIMIT = 2\ndef FRAME(): return pd.DataFrame({'v': [1, 2, 3]})"
    carried, told = carried_by(frame, cell, operation)
    assert told == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "[3]"


@pytest.mark.parametrize(
    "operation",
    [
        "def op(): return 'me@LIMIT', '@LIMIT'",
        "def op(d, LIMIT=1):\n    c = 'v > @LIMIT'\n    return d.query(c)",
    ],
)
def test_other_texts_with_an_at_carry_nothing(operation: str) -> None:
    assert "LIMIT = " not in Notebook("LIMIT = 2\nd = 1", operation).carry("op").text


# --- Words ----------------------------------------------------------------------------------------

SAID = {
    "what has no literal": (
        ["import random\nrng = random.Random(3)", "def op(): return rng.random()"],
        r"computed at run time \(random.Random\) by random.Random\(…\) in cell 1. Create it inside "
        "the operation, or in a helper that the operation calls.$",
    ),
    "a queue": (
        ["import queue\nq = queue.Queue()", "def op(): return q"],
        "by queue.Queue\\(\\) in cell 1. Create it inside the operation",
    ),
    "a function that its cell defines again": (
        ["def f(): return 1\nX = f()\ndef f(): return 2", "def op(): return X"],
        "from an older 'f', which cell 1 has changed since. Give one 'f' another name.",
    ),
    "deleted": (
        ["x = 5", "del x", "def op(): return x"],
        r"'x' \(used by op\): it was deleted in cell 2. Define it in a cell.$",
    ),
    "whether it is a notebook": (
        [
            "try:\n    get_ipython()\n    HERE = True\nexcept NameError:\n    HERE = False",
            "def op(): return HERE",
        ],
        r"computed at run time \(bool\) by get_ipython\(\) in cell 1",
    ),
    "whether it is a notebook, in a function": (
        ["def op():\n    try: return get_ipython()\n    except NameError: return None"],
        "'get_ipython' .*: it is there in a notebook only. Leave it out",
    ),
    "what it was made from": (
        ["conf = {'k': 2}\nX = conf['k'] * 2", "conf['k'] = 500", "def op(): return X"],
        r"'X' .*: it was computed in cell 1 from 'conf', which conf\['k'\] = 500 in cell 2 has "
        "changed since. Run cell 1 again",
    ),
    "a builtin": (
        ["import builtins\nbuiltins.print = lambda *a: None", "def op(): print(1)"],
        "'print' .*: this session has put it among the builtins, or in place of one",
    ),
    "a new builtin": (
        ["import builtins\nbuiltins.pulpo_rate = 4", "def op(): return pulpo_rate"],
        "'pulpo_rate' .*: this session has put it among the builtins, or in place of one",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_refusal_says_what_happened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.print", print)  # so that it is put back
    monkeypatch.setattr("builtins.get_ipython", lambda: None, raising=False)
    monkeypatch.setattr("builtins.pulpo_rate", 0, raising=False)
    monkeypatch.delattr("builtins.pulpo_rate")
    cells, said = SAID[name]
    if name == "a builtin":
        # That of a module that was imported before somebody replaced it.
        monkeypatch.setattr("pulpo.carry.closure._BUILTINS", frozenset(("int",)))
    book = Notebook(*cells)
    with pytest.raises(CarryError, match=said):
        carry(book.recorder, {"op": book["op"]})


@pytest.mark.parametrize(
    "cell",
    [
        "try:\n    from pulpo_beside_it import h\nexcept ImportError:\n    def h(): return -1",
        "try:\n    import pulpo_beside_it\nexcept ImportError:\n    pulpo_beside_it = None\n"
        "def h(): return pulpo_beside_it.h()",
        "if True:\n    from pulpo_beside_it import h\nelse:\n    h = None",
    ],
)
def test_a_module_that_a_block_imports_goes_along_or_is_refused(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.modules.pop("pulpo_beside_it", None)
    (tmp_path / "pulpo_beside_it.py").write_text("def h(): return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    book = Notebook(cell, "def op(): return h()")
    carried = carry(book.recorder, {"op": book["op"]}, root=tmp_path)
    assert carried.warnings == (
        "'pulpo_beside_it' is imported, not copied: take pulpo_beside_it.py along with the export",
    )
    assert carried.packages == ()
    with pytest.raises(CarryError, match=r"it is a module in .*pulpo_beside_it\.py, which the exp"):
        carry(book.recorder, {"op": book["op"]}, root=tmp_path / "elsewhere")


def test_defaults_that_a_carried_line_sets_are_what_they_are_here(tmp_path: Path) -> None:
    carried, told = carried_by(
        "def h(x, k=1): return x * k", "h.__defaults__ = (50,)", "def op(): return h(2)"
    )
    assert told == ()
    assert run_elsewhere(carried, "op()", tmp_path) == "100"


# --- Modules and classes of others ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "used", "differs"),
    [
        (
            "from unittest import mock\n"
            "p = mock.patch('textwrap.shorten', lambda t, width: t[:width])\np.start()",
            "textwrap.shorten('hello', 3)",
            "'textwrap.shorten' is not in the export what is here",
        ),
        (
            "for name in ('pulpo_a',): setattr(textwrap.TextWrapper, name, lambda self: 3)",
            "textwrap.TextWrapper().pulpo_a()",
            "'textwrap.TextWrapper.pulpo_a' is not in the export what is here",
        ),
        (
            "for name in ('pulpo_a',): setattr(Wrapper, name, property(lambda self: 3))",
            "Wrapper().pulpo_a",
            "'Wrapper.pulpo_a' is not in the export what is here",
        ),
        ("textwrap.shorten = lambda t: 4", "textwrap.shorten('hello')", ""),
        ("textwrap.TextWrapper.pulpo_a = lambda self: 3", "textwrap.TextWrapper().pulpo_a()", ""),
        ("Wrapper.pulpo_a = property(lambda self: 3)", "Wrapper().pulpo_a", ""),
    ],
)
def test_what_was_put_into_others_modules_and_classes_is_compared(
    cell: str, used: str, differs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import textwrap

    monkeypatch.setattr(textwrap, "shorten", textwrap.shorten)
    monkeypatch.setattr(textwrap.TextWrapper, "pulpo_a", 0, raising=False)
    imports = "import textwrap\nfrom textwrap import TextWrapper as Wrapper"
    _, told = carried_by(imports, cell, f"def op(): return {used}")
    assert [one[: len(differs)] for one in told] == ([differs] if differs else [])


# Who changes what, and how it is called.
KEPT = {
    "a context variable by a function": (
        "import contextvars\nlang = contextvars.ContextVar('lang', default='en')\n"
        "def use(name): lang.set(name)",
        "use('de')",
        "lang.get()",
        "'lang' is not in the export what is here",
    ),
    "an attribute of a method": (
        "class Api:\n    def get(self): Api.get.calls += 1\n    get.calls = 0",
        "Api().get()",
        "Api.get.calls",
        "'Api.get.calls' is not in the export what is here",
    ),
    "a new attribute of a method": (
        "class Api:\n    def get(self): Api.get.calls = 1",
        "Api().get()",
        "Api",
        "'Api.get.calls' is not in the export what is here",
    ),
    "an attribute of a static method": (
        "class Api:\n    @staticmethod\n    def get(): Api.get.calls = 1",
        "Api().get()",
        "Api",
        "'Api.get.calls' is not in the export what is here",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_calls_have_left_behind_is_told(name: str) -> None:
    cell, call, used, said = KEPT[name]
    operation = f"def op(): return {used}"
    assert carried_by(cell, operation)[1] == ()
    [warning] = carried_by(cell, call, operation)[1]
    assert warning.startswith(said)


def test_a_context_variable_that_is_told_is_told_once() -> None:
    cell = "import contextvars\nlang = contextvars.ContextVar('lang')\nlang.set('de')"
    [warning] = carried_by(cell, "def op(): return lang.get()")[1]
    assert warning.startswith("cell 1 ran lang.set(…)")
    assert carried_by(f"{cell}  # pulpo: carry", "def op(): return lang.get()")[1] == ()


def test_a_counter_that_makes_the_defaults_of_a_class_is_told() -> None:
    counted = "@dataclass\nclass Job:\n    id: int = field(default_factory=count(1).__next__)"
    cells = ["from dataclasses import dataclass, field\nfrom itertools import count", counted]
    assert carried_by(*cells, "def op(): return Job().id")[1] == ()
    (said,) = carried_by(*cells, "Job(), Job()", "def op(): return Job().id")[1]
    assert said.startswith("'Job.__init__' is not in the export what is here")


def test_a_part_of_an_array_is_looked_at_without_touching_the_array() -> None:
    book = Notebook("import numpy as np\nx = np.zeros(3)\ny = x[1:]", "y[0] += 1")
    book.run("def op(): return y")
    with pytest.raises(CarryError):
        carry(book.recorder, {"op": book["op"]})
    assert book["x"].tolist() == [0.0, 1.0, 0.0]


def test_an_array_that_is_another_there_is_told() -> None:
    cell = "import numpy as np\nW = np.full(2, __name__ == '__main__')"
    [told] = carried_by(cell, "def op(): return W")[1]
    assert told.startswith("'W' is not in the export what is here")


# --- The command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reads",
    [
        "import sys\ndef op(): return len(sys.argv)",
        "from sys import argv\ndef op(): return argv[1:]",
        "import argparse\ndef op(): return argparse.ArgumentParser().parse_args()",
        "import argparse\ndef make(): return argparse.ArgumentParser()\n"
        "def op(): return make().parse_known_args()[0]",
    ],
)
def test_what_reads_the_command_line_is_told(reads: str) -> None:
    _, told = carried_by(reads)
    assert [one.partition(",")[0] for one in told] == ["'op' reads sys.argv"]


def test_a_parser_that_is_given_its_arguments_reads_no_command_line() -> None:
    text = "import argparse\ndef op(): return argparse.ArgumentParser().parse_args(['x'])"
    assert carried_by(text)[1] == ()


# --- What was told, and then done -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "again", "operation"),
    [
        ("os.environ['PULPO_X'] = 'a'", "", "os.environ['PULPO_X']"),
        ("np.seterr(all='ignore')", "", "np.geterr()['over']"),
        ("np.seterr(all='ignore')", "np.seterr(all='call')", "np.geterr()['over']"),
        ("decimal.getcontext().prec = 7", "", "decimal.getcontext().prec"),
        ("setup()", "", "os.environ['PULPO_X']"),
        ("np.random.seed(3)", "", "np.random.rand()"),
    ],
)
def test_a_line_that_is_marked_as_told_is_not_told_again(
    line: str,
    again: str,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
    settings_put_back: None,
) -> None:
    monkeypatch.setenv("PULPO_X", "")
    imports = (
        "import decimal, os\nimport numpy as np\ndef setup(): os.environ['PULPO_X'] = 'b'\n"
        "setup_is = 'below'"
    )
    monkeypatch.delenv("PULPO_X")
    before = np.geterr()
    try:
        book = Notebook(imports, "np.random.seed(0)" if "seed" in line else "pass", line)
        book.run(f"def op(): return {operation}")

        def told() -> tuple[str, ...]:
            carried = carry(book.recorder, {"op": book["op"]})
            expected = {"kept": carried.kept, "settings": carried.settings}
            return (*carried.warnings, *verify(carried.text, **expected))  # type: ignore[arg-type]

        assert any("# pulpo: carry" in one for one in told()) or "seed" in line
        book.run(f"{again or line}  # pulpo: carry")
        assert told() == ()
    finally:
        np.seterr(**before)


@pytest.mark.parametrize(
    ("cell", "operation"),
    [
        ("random.seed(7)", "random.Random(7).random()"),
        ("random.seed(7)", "(random.seed(7), random.random())"),
        ("np.random.seed(7)", "(np.random.seed(7), np.random.rand())"),
        ("seed_all()", "(seed_all(), random.random(), np.random.rand())"),
    ],
)
def test_an_operation_that_seeds_its_numbers_is_not_told(cell: str, operation: str) -> None:
    imports = "import random\nimport numpy as np\n"
    imports += "def seed_all():\n    random.seed(7)\n    np.random.seed(7)"
    draw = "random.random(), np.random.rand()"
    _, told = carried_by(imports, cell, draw, f"def op(): return {operation}")
    assert told == ()


def test_seeds_of_one_kind_are_no_seeds_of_the_other() -> None:
    imports = "import random\nimport numpy as np\nrandom.seed(7)"
    _, told = carried_by(imports, "def op(): return (np.random.seed(7), random.random())")
    assert ["Prefect draws" in one for one in told] == [True]
    helper = (
        "def seed_all():\n    random.seed(7)\n    np.random.seed(7)\nseed_all()  # pulpo: carry"
    )
    _, told = carried_by(imports, helper, "def op(): return random.random()")
    assert all("Prefect draws" in one for one in told)
    assert any("seed_all()" in one for one in told)


def test_a_variable_that_was_set_and_taken_away_again_is_not_told() -> None:
    line, undo = "os.environ['PULPO_GONE'] = 'a'", "os.environ.pop('PULPO_GONE')"
    reads = "def op(): return os.environ.get('PULPO_GONE')"
    try:
        _, told = carried_by("import os", line, reads)
        assert len(told) == 1
        del os.environ["PULPO_GONE"]
        assert carried_by("import os", line, undo, reads)[1] == ()
    finally:
        os.environ.pop("PULPO_GONE", None)


def test_a_credential_of_the_environment_is_not_to_be_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULPO_API_KEY", "")
    line, reads = "os.environ['PULPO_API_KEY'] = 'hunter22'", "os.environ['PULPO_API_KEY']"
    _, told = carried_by("import os", line, f"def op(): return {reads}")
    assert [one.partition(": ")[2] for one in told] == ["set PULPO_API_KEY where the export runs"]
    with pytest.raises(SecretError, match="and set PULPO_API_KEY where the export runs") as refusal:
        carried_by("import os", f"{line}  # pulpo: carry", f"def op(): return {reads}")
    assert "hunter22" not in str(refusal.value)
