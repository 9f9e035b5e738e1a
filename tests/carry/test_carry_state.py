"""State that no plain value shows: generators, queues, caches, wrappers, what others put there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pulpo.carry import carry, verify
from pulpo.errors import CarryError

from .notebook import Notebook, run_elsewhere

# Most of them start a fresh process.
pytestmark = pytest.mark.slow


def told(book: Notebook, root: Path | None = None) -> tuple[str, ...]:
    carried = carry(book.recorder, {"op": book["op"]}, root=root)
    names = ("modules", "digests", "kept", "shared", "settings", "twice")
    expected = {name: getattr(carried, name) for name in names}
    return (*carried.warnings, *verify(carried.text, root, **expected))


_IMPORTS = (
    "import functools, hashlib, io, queue, random, threading\nimport numpy as np\n"
    "def wrapped(f):\n    @functools.wraps(f)\n    def inner(*a): return f(*a)\n    return inner"
)
_SAMPLER = "def make():\n    {}\n    def draw(): return {}\n    return draw\ndraw = make()"
# What a cell makes, what another does with it, and the operation.
STATES = {
    "numpy's generator in a closure": (
        _SAMPLER.format("rng = np.random.default_rng(0)", "rng.random()"),
        "draw()",
        "draw()",
    ),
    "numpy's older generator in a closure": (
        _SAMPLER.format("rng = np.random.RandomState(0)", "rng.rand()"),
        "draw()",
        "draw()",
    ),
    "Python's generator in a closure": (
        _SAMPLER.format("rng = random.Random(0)", "rng.random()"),
        "draw()",
        "draw()",
    ),
    "a queue in a closure": (
        _SAMPLER.format("q = queue.Queue()", "(q.put(1), q.qsize())"),
        "draw()",
        "draw()",
    ),
    "a generator of a class": (
        "class Sim:\n    rng = np.random.default_rng(0)\n    def draw(s): return s.rng.random()",
        "Sim().draw()",
        "Sim().draw()",
    ),
    "a hash of a class": (
        "class Sim:\n    h = hashlib.md5()",
        "def feed(): Sim.h.update(b'a')\nfeed()",
        "Sim.h.hexdigest()",
    ),
    "an event of an instance": (
        "class Job:\n    def __init__(self): self.ready = threading.Event()\njob = Job()",
        "def go(): job.ready.set()\ngo()",
        "job.ready.is_set()",
    ),
    "a wrapper of a helper": (
        "def h(): return 1",
        "def install():\n    global h\n    f = h\n    @functools.wraps(f)\n"
        "    def w(): return f() + 100\n    h = w\ninstall()",
        "h()",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_state_that_a_cell_left_behind_is_told(name: str) -> None:
    makes, changes, used = STATES[name]
    operation = f"def op(): return {used}"
    assert told(Notebook(_IMPORTS, makes, operation)) == ()
    warnings = told(Notebook(_IMPORTS, makes, changes, operation))
    assert any(
        "not in the export what is here" in one or "calls or cells have changed" in one
        for one in warnings
    ), warnings


def test_an_operation_that_a_cell_wrapped_is_told() -> None:
    book = Notebook(_IMPORTS, "def op(): return 1")
    assert told(book) == ()
    declared = book["op"]
    book.run("op = wrapped(op)")
    carried = carry(book.recorder, {"op": declared})
    [warning] = verify(carried.text, kept=carried.kept)
    assert warning.startswith("'op' is not in the export what is here")
    # Decorated in its own cell, it is there what it is here.
    assert told(Notebook(_IMPORTS, "@wrapped\ndef op(): return 1")) == ()


def test_flags_of_an_array_are_carried_or_it_is_refused(tmp_path: Path) -> None:
    makes, lock = "import numpy as np\na = np.array([1, 2])", "a.flags.writeable = False"
    book = Notebook(makes, lock, "def op(): return a.flags.writeable")
    assert told(book) == ()
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "False"
    for line in ("a.setflags(write=False)", "def f(): a.setflags(write=False)\nf()"):
        book = Notebook(makes, line, "def op(): return a.flags.writeable")
        with pytest.raises(CarryError, match=r"'a' .* it was changed at run time"):
            told(book)


def test_a_number_of_a_library_is_told_however_it_was_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import math

    monkeypatch.setattr(math, "pi", math.pi)
    for line in ("m = math; m.pi = 3", "vars(math)['pi'] = 3", "exec('math.pi = 3')"):
        book = Notebook("import math", "def op(): return math.pi")
        assert told(book) == ()
        book.run(line)
        [warning] = told(book)
        assert warning.startswith("'math.pi' is not in the export what is here")
        monkeypatch.setattr(math, "pi", 3.141592653589793)


# --- What others put on the classes of libraries --------------------------------------------------

_ACCESSOR = (
    "import pandas as pd\n"
    "@pd.api.extensions.register_series_accessor('zed')\n"
    "class Zed:\n    def __init__(self, one): self.one = one\n    def v(self): return 3\n"
)


@pytest.fixture
def accessor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "zedpandas.py").write_text(_ACCESSOR, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "zedpandas"


@pytest.mark.filterwarnings("ignore:registration of accessor")
def test_an_import_that_gives_tables_an_accessor_goes_along(accessor: str, tmp_path: Path) -> None:
    cells = ("import pandas as pd", f"import {accessor}")
    try:
        book = Notebook(*cells, "def op(): return pd.Series([1]).zed.v()")
        carried = carry(book.recorder, {"op": book["op"]}, root=tmp_path)
        assert f"import {accessor}\n" in carried.text
        assert "zedpandas.py" in "".join(told(book, tmp_path))
        assert run_elsewhere_with(tmp_path, carried.text) == "3"
        # What does not use it does not need it.
        book = Notebook(*cells, "def op(): return pd.Series([1]).sum()")
        assert accessor not in carry(book.recorder, {"op": book["op"]}, root=tmp_path).text
        # Nobody in the cells has imported it.
        book = Notebook("import pandas as pd", "def op(): return pd.Series([1]).zed.v()")
        [warning] = told(book, tmp_path)
        assert warning.startswith("'pandas.Series.zed' is not in the export what is here")
    finally:
        import pandas as pd

        del pd.Series.zed
        pd.Series._accessors.discard("zed")
        sys.modules.pop(accessor, None)


def run_elsewhere_with(root: Path, text: str) -> str:
    """Run an export beside the modules that it imports, in a process of its own."""
    import subprocess

    (root / "carried.py").write_text(f"{text}\n\nprint(op())\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(root / "carried.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_in_pandas_eval_are_carried(tmp_path: Path) -> None:
    book = Notebook(
        "import pandas as pd\nw = 3\ns = pd.Series([1, 2])\nunused = object()",
        "def op(): return pd.eval('s * w').tolist()",
    )
    assert told(book) == ()
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "[3, 6]"


# --- Caches ---------------------------------------------------------------------------------------


def test_a_cache_in_a_module_that_a_cell_changed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import functools\nFACTOR = 2\n@functools.cache\ndef get(x): return x * FACTOR\n"
    (tmp_path / "cachedmod.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        book = Notebook("import cachedmod", "cachedmod.get(3)", "def op(): return cachedmod.get(3)")
        assert not any("may remember" in one for one in told(book, tmp_path))
        book.run("cachedmod.FACTOR = 5")
        said = "'cachedmod.get' may remember results from before cell 4 changed 'cachedmod'"
        assert any(one.startswith(said) for one in told(book, tmp_path))
    finally:
        sys.modules.pop("cachedmod", None)


def test_a_cache_in_a_table_is_told() -> None:
    cell = "import functools\nK = 2\ndef raw(x): return x * K\nfs = {'v': functools.cache(raw)}"
    book = Notebook(cell, "fs['v'](1)", "K = 10", "def op(): return fs['v'](1)")
    assert any("may remember results from before" in one for one in told(book))


# --- What a function did when a cell called it ----------------------------------------------------


def test_what_a_function_set_in_a_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import xml.etree.ElementTree as ET

    monkeypatch.setattr(ET, "_namespace_map", dict(ET._namespace_map))
    operation = "def op(): return ET.tostring(ET.Element('{urn:x}a'))"
    cell = "import xml.etree.ElementTree as ET\n"
    cell += "def init():\n    if True:\n        ET.register_namespace('x', 'urn:x')"
    assert told(Notebook(cell, operation)) == ()
    for call in ("init()", "def more():\n    init()\nmore()"):
        warnings = told(Notebook(cell, call, operation))
        assert any("and the export does not" in one for one in warnings), warnings


def test_a_cell_that_patched_json_breaks_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setattr(json.JSONEncoder, "item_separator", ", ")
    monkeypatch.setattr(json.JSONEncoder, "key_separator", ": ")
    book = Notebook(
        "import json\njson.JSONEncoder.item_separator = ';'\njson.JSONEncoder.key_separator = '='",
        "def op(): return json.dumps({'a': [1, 2]})",
    )
    assert told(book) == ()


def test_older_subclasses_are_told() -> None:
    again = "class Sub(Base): pass\nkeep.append(Sub)"
    operation = "def op(): return len(Base.__subclasses__())"
    book = Notebook("class Base: pass\nkeep = []", again, operation)
    assert told(book) == ()
    book.run(again)
    assert any("Base.__subclasses__() has an older 'Sub' too" in one for one in told(book))


# --- What was made of a value that changed afterwards ---------------------------------------------

_MODELS = (
    "import functools\nfrom typing import Annotated, Literal, Union\n"
    "from pydantic import AfterValidator, BaseModel, Field\n"
    "class A(BaseModel): a: int\nclass B(BaseModel): b: int"
)
# The value, what is made of it, how it changes, the operation, and what is told to differ.
MADE = {
    "a union": ("V = [A]", "class M(BaseModel): v: Union[tuple(V)]", "V.append(B)", "M", "M.v"),
    "a limit": (
        "V = {'min': 3}",
        "class M(BaseModel): v: str = Field(min_length=V['min'])",
        "V.update(min=1)",
        "M",
        "M.v",
    ),
    "a pattern": (
        "V = {'id': '^a'}",
        "class M(BaseModel): v: str = Field(pattern=V['id'])",
        "V['id'] = '^b'",
        "M",
        "M.v",
    ),
    "choices": (
        "V = ['a', 'b']",
        "class M(BaseModel): v: Literal[tuple(V)]",
        "V.append('c')",
        "M",
        "M.v",
    ),
    "a validator": (
        "V = {'n': 2}\ndef check(n):\n    def inner(x): return x * n\n    return inner",
        "class M(BaseModel): v: Annotated[int, AfterValidator(check(V['n']))]",
        "V['n'] = 3",
        "M",
        "M.v",
    ),
    "a size of a cache": (
        "V = {'size': 1}",
        "@functools.lru_cache(maxsize=V['size'])\ndef f(x): return x",
        "V['size'] = 100",
        "f.cache_info().maxsize",
        "f",
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_what_was_made_before_a_value_changed_is_told(name: str) -> None:
    value, made, change, used, differs = MADE[name]
    book = Notebook(_MODELS, value, made, f"def op(): return {used}")
    assert told(book) == ()
    book.run(change)
    assert any(one.startswith(f"{differs!r} is not in the export") for one in told(book))
    book.run(made)
    assert not any(one.startswith(f"{differs!r} is") for one in told(book))


def test_an_edit_of_an_operator_or_a_name_is_an_edit_of_a_function(tmp_path: Path) -> None:
    for before, after in (("x * 2", "x - 2"), ("x.lower()", "x.upper()"), ("x < 2", "x > 2"),
                          ("x in {1, 2}", "x in {1, 3}"), ("(1, x)", "(2, x)"),
                          ("x is None", "x is not None")):  # fmt: skip
        text = "def wrap(f): return lambda *a: f(*a)\n@wrap\ndef f(x): return {}"
        book = Notebook(text.format(before), "def op(): return f")
        held = book["f"]
        assert told(book) == ()
        book.run(text.format(after))
        book.names["f"] = held
        try:
            found = told(book)
        except CarryError as refusal:
            found = (str(refusal),)
        assert found, (before, after)


# --- What is carried is not told as well ----------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "used"),
    [
        (["class S:\n    total = 1", "S.total += 5"], "S.total"),
        (["class S:\n    parts = {}", "S.parts['x'] = 1"], "S.parts"),
        (["def h(*, x=1): return x", "h.__kwdefaults__['x'] = 8"], "h()"),
        (
            ["import pandas as pd\npd.options.display.float_format = '{:.1f}'.format"],
            "str(pd.Series([1.25]))",
        ),
        (
            [
                "REG = {}\ndef register(f):\n    REG[f.__name__] = f\n    return f",
                "@register\ndef upp(x): return x\n@register\ndef up(x): return x + 1",
                "del upp",
            ],
            "sorted(REG)",
        ),
        (
            [
                "import functools\n@functools.singledispatch\ndef show(x): return 0",
                "@show.register\ndef show_int(x: int): return 1",
                "def show_int(x): return 2",
            ],
            "show(1)",
        ),
        (
            ["from functools import cmp_to_key\nkey = cmp_to_key(lambda a, b: b - a)"],
            "sorted([1, 3, 2], key=key)",
        ),
        (
            [
                "from typing import Literal\nKINDS = ('a', 'b')",
                "def pick(x: Literal[KINDS]): return x",
                "class C:\n    x: Literal[KINDS] = 'a'",
            ],
            "pick(C.x)",
        ),
        (["V = __import__('datetime').datetime(2024, 1, 2)"], "V.isoformat()"),
        (
            ["try:\n    import nosuch_mod as j\nexcept ImportError:\n    import json as j"],
            "j.dumps(1)",
        ),
    ],
)
def test_what_lines_changed_and_is_carried_is_not_told(
    cells: list[str], used: str, tmp_path: Path
) -> None:
    book = Notebook(*cells, f"def op(): return {used}")
    try:
        assert told(book) == ()
        carried = book.carry("op")
        assert "nosuch_mod" not in carried.packages
        assert run_elsewhere(carried, "op()", tmp_path) == repr(book["op"]())
    finally:
        if "pandas" in sys.modules:
            sys.modules["pandas"].reset_option("display.float_format")
