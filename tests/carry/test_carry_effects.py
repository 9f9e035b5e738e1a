"""What cells did to modules, loggers and the process is carried, or told: never silently lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulpo.carry import carry, verify
from pulpo.errors import CarryError

from .notebook import Notebook, run_elsewhere, run_here

# Found by somebody who had not seen the code: each of these once was exported without a word, and
# gave something else there.
TOLD = {
    "numpy's errors": (
        "import numpy as np\nnp.seterr(divide='raise')",
        "def op(): return np.geterr()",
        "np.seterr(…)",
    ),
    "a context variable": (
        "import contextvars\ntenant = contextvars.ContextVar('t', default='')\ntenant.set('acme')",
        "def op(): return tenant.get()",
        "tenant.set(…)",
    ),
    "a context variable's token": (
        "import contextvars\ntenant = contextvars.ContextVar('t', default='')\nt = tenant.set('a')",
        "def op(): return tenant.get()",
        "tenant.set(…)",
    ),
    "a logger's handler": (
        "import logging\nlog = logging.getLogger('pulpo-test')\n"
        "log.addHandler(logging.NullHandler())",
        "def op(): return len(log.handlers)",
        "log.addHandler(…)",
    ),
    "a logger's attribute": (
        "import logging\nlog = logging.getLogger('pulpo-test')\nlog.propagate = True",
        "def op(): return log.propagate",
        "log.propagate = …",
    ),
    "the environment": (
        "import os\nos.environ['PULPO_TEST_MODE'] = 'hidden'",
        "def op(): return 1",
        "os.environ['PULPO_TEST_MODE'] = …",
    ),
    "the environment by a call": (
        "import os\nos.environ.setdefault('PULPO_TEST_MODE', 'hidden')",
        "def op(): return os.environ['PULPO_TEST_MODE']",
        "os.environ.setdefault(…)",
    ),
    "decimal's context": (
        "from decimal import Decimal, getcontext\ngetcontext().prec = 28",
        "def op(): return Decimal(1) / 3",
        "getcontext().prec = …",
    ),
    "an adapter": (
        "import sqlite3\nsqlite3.register_adapter(complex, str)",
        "def op(): return sqlite3.connect(':memory:')",
        "sqlite3.register_adapter(…)",
    ),
    "a dialect": (
        "import csv\ncsv.register_dialect('semi', delimiter=';')",
        "def op(): return csv.list_dialects()",
        "csv.register_dialect(…)",
    ),
    "a field size": (
        "import csv\ncsv.field_size_limit(131072)",
        "def op():\n    return csv.field_size_limit()",
        "csv.field_size_limit(…)",
    ),
    "sockets": (
        "import socket\nsocket.setdefaulttimeout(None)",
        "def op():\n    return socket.getdefaulttimeout()",
        "socket.setdefaulttimeout(…)",
    ),
    "recursion, which nobody imports": (
        "import sys\nsys.setrecursionlimit(sys.getrecursionlimit())",
        "def op(n=5): return n and op(n - 1)",
        "sys.setrecursionlimit(…)",
    ),
    "imported inside": (
        "import time\ntime.tzset()",
        "def op():\n    import time\n    return time.localtime(0)",
        "time.tzset()",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_changed_setting_is_told_and_carried_when_it_is_marked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_TEST_MODE", "")  # so that it is put back
    cell, operation, said = TOLD[name]
    carried = Notebook(cell, operation).carry("op")
    assert carried.warnings == (
        f"cell 1 ran {said}, and the export does not: to have it there, add the comment "
        "'# pulpo: carry' to that line",
    )
    assert "hidden" not in str(carried.warnings)
    if cell.count("\n") and "t = " not in cell:
        marked = Notebook(f"{cell}  # pulpo: carry", operation).carry("op")
        assert marked.warnings == ()
        assert "# pulpo: carry" in marked.text
        run_elsewhere(marked, "1", tmp_path)


@pytest.mark.parametrize(
    ("cell", "operation"),
    [
        ("import csv\ncsv.field_size_limit(131072)", "def op(): return 1"),  # nobody uses it
        ("import sys\nsys.path.insert(0, '.')\nsys.path.remove('.')", "def op(): return 1"),
        ("import json\njson.dumps({})\njson.loads('1')", "def op(): return json.dumps(1)"),
        ("import random\nx = random.random()", "def op(): return random.random"),
        ("import logging\nlog = logging.getLogger('x')\nlog.info('a')", "def op(): return log"),
        ("items = {}\nitems.setdefault('a', 1)", "def op(): return 1"),
        ("print('set')\nimport os\nos.getcwd()", "def op(): return os.sep"),
    ],
)
def test_what_changes_nothing_is_not_told(cell: str, operation: str) -> None:
    assert Notebook(cell, operation).carry("op").warnings == ()


@pytest.mark.parametrize("import_line", ["import pandas as pd", "import pandas"])
def test_an_accessor_comes_with_its_package(import_line: str, tmp_path: Path) -> None:
    pd = import_line.split()[-1]
    notebook = Notebook(
        import_line,
        f"@{pd}.api.extensions.register_dataframe_accessor('pulpo_geo')\nclass Geo:\n"
        "    def __init__(self, frame): self.frame = frame\n"
        "    def total(self): return int(self.frame['x'].sum())",
        f"def op(): return {pd}.DataFrame({{'x': [1, 2]}}).pulpo_geo.total()",
    )
    carried = notebook.carry("op")
    del notebook[pd].DataFrame.pulpo_geo
    assert run_elsewhere(carried, "op()", tmp_path) == "3"
    assert carried.warnings == ()


@pytest.mark.parametrize(
    "line",
    [
        "Job.tags = (*Job.tags, 'new')",
        "Job.tags += ('new',)",
        "Job.tags = (*Big.tags, 'new')",
        "Job.tags = more()",
    ],
)
def test_a_line_that_builds_on_itself_is_carried_as_often_as_it_ran(
    line: str, tmp_path: Path
) -> None:
    job = "class Job:\n    tags = ('a',)\nclass Big(Job): pass\n"
    more = "def more(): return (*Job.tags, 'new')"
    book = Notebook(job + more, line, line, "def op(): return Job.tags")
    assert book["op"]() == ("a", "new", "new")
    assert run_elsewhere(book.carry("op"), "op()", tmp_path) == "('a', 'new', 'new')"


def test_what_came_from_an_older_class_is_told_or_refused() -> None:
    old, new = "class Base:\n    def v(self): return 1", "class Base:\n    def v(self): return 2"
    book = Notebook(old, "class Child(Base): pass", new, "def op(): return Child().v()")
    [warning] = book.carry("op").warnings
    assert warning.startswith("'Child' (cell 2) was made with an older 'Base'")
    book = Notebook(old, "made = Base()", new, "def op(): return made.v()")
    with pytest.raises(CarryError, match=r"'made'.*from an older 'Base'.*Run cell 2 again"):
        book.carry("op")
    book = Notebook(old, "made = Base()", f"{old}\n", "def op(): return made.v()")
    assert run_here(book.carry("op"), "op()") == "1"


def test_a_state_behind_a_decorator_is_told() -> None:
    book = Notebook(
        "calls = {'n': 0}\n"
        "def counted(f):\n"
        "    def inner(x):\n"
        "        calls['n'] += 1\n"
        "        return f(x), calls['n']\n"
        "    return inner",
        "@counted\ndef work(x): return x",
        "work(1)",
        "def op(): return work(2)",
    )
    assert book.carry("op").warnings == (
        "'calls' was changed by counted since it was set in cell 1: the export starts with its "
        "first value",
    )


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["X = 3", "def op(name='X'): return globals()[name]"], "'globals' finds only"),
        (["X = 3", "def op(text='X'): return eval(text)"], "'eval' finds only"),
        (["X = 3", "def op():\n    import __main__\n    return __main__.X"], "'import __main__'"),
        (
            ["X = 3", "def op():\n    from __main__ import X\n    return X"],
            "'from __main__ import'",
        ),
        (["import sys\nX = 3", "def op(): return sys.modules['__main__'].X"], "'sys.modules'"),
        (
            ["import sys\nX = 3", "def op(): return vars(sys.modules[__name__])['X']"],
            "'sys.modules'",
        ),
        (
            ["def h(): ...", "def op(): return h.__globals__"],
            "'op' finds names through '__globals__'",
        ),
        (["import inspect", "def op(): return inspect.currentframe().f_globals"], "'f_globals'"),
        (["def op():\n    from IPython import get_ipython\n    return get_ipython()"], "'IPython'"),
        (
            [
                "try:\n    HERE = __file__\nexcept NameError:\n    HERE = ''",
                "def op(): return HERE",
            ],
            "'__file__' is the export's own file there",
        ),
    ],
)
def test_what_works_otherwise_without_a_notebook_is_told(cells: list[str], said: str) -> None:
    assert any(said in warning for warning in Notebook(*cells).carry("op").warnings)


def test_a_table_of_that_name_is_refused() -> None:
    with pytest.raises(CarryError, match=r"'OPERATIONS': that is what the export calls its table"):
        Notebook("OPERATIONS = {}", "def op(): return OPERATIONS").carry("op")


def test_what_a_function_does_to_a_module_is_told() -> None:
    book = Notebook(
        "import json\ndef patch(): json.pulpo_test = 3",
        "patch()",
        "def op(): return json.pulpo_test",
    )
    del book["json"].pulpo_test
    [warning] = book.carry("op").warnings
    assert warning.startswith("cell 2 ran patch(), and the export does not")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (
            "from datetime import datetime\nfrom pydantic import BaseModel, Field\n"
            "class M(BaseModel):\n"
            "    at: str = Field(default=str(datetime.now()))\n    day: int = 3",
            "the default of 'at' in 'M' was computed by datetime.now()",
        ),
        (
            "import os\ndef tag(v): return lambda f: f\n@tag(os.getpid())\ndef M(): return 1",
            "a decorator in 'M' was computed by os.getpid()",
        ),
    ],
)
def test_what_a_class_or_decorator_took_in_is_told(cell: str, said: str) -> None:
    [warning] = Notebook(cell, "def op(): return M()").carry("op").warnings
    assert warning.startswith(said)


def test_dates_that_are_written_down_are_of_no_moment() -> None:
    cell = (
        "import datetime\nfrom dataclasses import dataclass\n@dataclass\nclass M:\n"
        "    at: object = datetime.date(2026, 1, 1)\n"
        "    then: object = datetime.date.fromisoformat('2026-01-01')"
    )
    assert Notebook(cell, "def op(): return M()").carry("op").warnings == ()


@pytest.mark.parametrize(
    "line",
    [
        "X = hash('customer')",
        "X = list({'name', 'price', 'city', 'street', 'zip', 'land', 'region', 'state'})",
        "X = {c: i for i, c in enumerate(set('abcdefghijkl'))}",
    ],
)
def test_what_differs_from_process_to_process_is_refused(line: str) -> None:
    carried = Notebook(line, "def op(): return X").carry("op")
    assert carried.digests.keys() == {"X"}
    with pytest.raises(CarryError, match=r"'X': its line gives something else .* --freeze X"):
        verify(carried.text, digests=carried.digests)


def test_what_is_called_like_a_credential_is_not_offered_to_be_frozen() -> None:
    cells = ["WHO = 'customer'", "API_TOKEN = hash(WHO)", "def op(): return API_TOKEN"]
    carried = Notebook(*cells).carry("op")
    with pytest.raises(CarryError, match=r"or sort it\.$"):
        verify(carried.text, digests=carried.digests)


def test_constants_that_stay_are_verified_and_pass() -> None:
    book = Notebook(
        "A = [1, (2.5, 'x')]\nB = {'k': {3, 1, 2}, 'l': None}\nC = frozenset({'a', 'b', 'c'})\n"
        "D = sorted({'name', 'price', 'city'})\nE = float('nan')\nF = '\\ud800'",
        "def op(): return A, B, C, D, E, F",
    )
    carried = book.carry("op")
    assert carried.digests.keys() >= {"A", "B", "D", "F"}
    verify(carried.text, digests=carried.digests)


def test_there_may_be_many_constants() -> None:
    book = Notebook("\n".join(f"a_constant_with_a_long_name_{n} = {n}" for n in range(3000)))
    names = ", ".join(f"a_constant_with_a_long_name_{n}" for n in range(3000))
    book.run(f"def op(): return {names}")
    carried = carry(book.recorder, {"op": book["op"]})
    assert len(carried.digests) == 3000
    assert verify(carried.text, digests=carried.digests, kept=carried.kept) == ()


COUNTER = """
class Count:
    def __init__(self, f):
        self.f, self.n = f, 0
    def __call__(self, x):
        self.n += 1
        return self.f(x)
def counted(f):
    n, seen = 0, []
    def inner(x):
        nonlocal n
        n += 1
        seen.append(x)
        return f(x)
    return inner
def wrapped(f):
    @functools.wraps(f)
    def inner(x):
        inner.last = x
        return f(x)
    return inner
"""
KEEPS = "keeps {}, which calls or cells have changed"
DREW = "numbers were drawn from 'np.random' since cell 2 seeded it"


@pytest.mark.parametrize(
    ("make", "change", "says"),
    [
        ("@Count\ndef f(x): return x", "f(1)", KEEPS.format("'n'")),
        ("@counted\ndef f(x): return x", "f(1)", KEEPS.format("'n' and 'seen'")),
        ("def g(x): return x\nf = counted(g)", "f(1)", KEEPS.format("'n' and 'seen'")),
        ("@wrapped\ndef f(x): return x", "f(1)", KEEPS.format("'last'")),
        (
            "@wrapped\n@wrapped\n@counted\ndef f(x): return x",
            "f(1)",
            KEEPS.format("'n' and 'seen' and 'last'"),
        ),
        ("def f(x):\n    f.n = x\n    return x", "f(1)", KEEPS.format("'n'")),
        ("def f(x): return x\nf.n = 1", "f(1)", ""),
        ("def f(x): return x\nf.n = 1", "f.n = 2", ""),  # the line is carried
        ("def f(x): return x\nf.n = 1", "vars(f).update(n=3)", KEEPS.format("'n'")),
        ("@counted\ndef f(x): return x", "f", ""),
        ("@counted\ndef f(x): return x", "[f(1) for _ in range(10_001)]", "'n' and 'seen'"),
        ("@pydantic.validate_call\ndef f(x): return x", "f(1)", ""),
        ("@functools.cache\ndef f(x): return x", "f(1)", ""),
        ("np.random.seed(3)\ndef f(x): return np.random.rand()", "f", ""),
        ("np.random.seed(3)\ndef f(x): return np.random.rand()", "f(1)", DREW),
    ],
)
def test_what_calls_left_behind_is_told(make: str, change: str, says: str) -> None:
    imports = "import functools, pydantic, random\nimport numpy as np"
    book = Notebook(f"{imports}\n{COUNTER}", make, change, "def op(): return f(1)")
    carried = carry(book.recorder, {"op": book["op"]})
    told = verify(carried.text, kept=carried.kept, digests=carried.digests)
    if says:
        [warning] = told
        assert says in warning
    else:
        assert told == ()


REGISTRY = """
REG, STEPS = {}, []
def st(f):
    REG[f.__name__] = f
    STEPS.append(f)
    return f
@st
def a(x): return x
@st
def b(x): return x + 1
class K:
    def m(self): return 1
"""


@pytest.mark.parametrize(
    ("cell", "uses", "differs"),
    [
        ("REG.pop('b')", "sorted(REG)", "'REG'"),
        ("REG['a'] = lambda x: x - 1000", "REG['a'](5)", "'REG'"),
        ("@st\ndef c(x): return x\n@st\ndef c(x): return x", "len(STEPS)", "'STEPS'"),
        ("from math import pi as P\nP *= 2", "P", "'P'"),
        ("def patch(c): c.label = property(lambda s: 7)\npatch(K)", "K().label", "'K.label'"),
        ("x = 1", "sorted(REG), len(STEPS), K().m()", ""),
    ],
)
def test_what_no_line_carries_is_told(cell: str, uses: str, differs: str) -> None:
    book = Notebook(REGISTRY, cell, f"def op(): return {uses}")
    carried = carry(book.recorder, {"op": book["op"]})
    told = verify(carried.text, kept=carried.kept)
    if not differs:
        assert told == ()
        assert run_here(carried, "op()") == repr(book["op"]())
    else:
        assert [each.partition(" not in the export")[0] for each in told] == [f"{differs} is"]


def test_a_text_that_prints_is_verified_and_words_of_other_warnings_are_no_names() -> None:
    book = Notebook(
        "import atexit",
        "def text(n): return n",
        "def op(): return text(1)\natexit.register(print, 'bye')  # pulpo: carry",
        "text.n = 3",
        "vars(text)['n'] = 4",
        "import numpy as np\nnp.seterr(all='raise')",
        "def op(): return text(np.e)",
    )
    carried = carry(book.recorder, {"op": book["op"]})
    assert "'# pulpo: carry' to that line" in carried.warnings[0]
    assert "atexit.register" in carried.text
    [warning] = verify(carried.text, kept=carried.kept)
    assert warning.startswith("'text' keeps 'n'")


@pytest.mark.parametrize(
    ("cell", "uses"),
    [
        ("old = K.m\nK.m = lambda self: old(self) + 10", "K().m()"),
        ("old = K.m\nK.m = lambda self: 70", "(old(K()), K().m())"),
        ("old: object = K.m\nK.m = lambda self: old(self) + 10", "K().m()"),
    ],
)
def test_what_was_read_before_a_change_is_read_before_it_there(cell: str, uses: str) -> None:
    book = Notebook("class K:\n    def m(self): return 1", cell, f"def op(): return {uses}")
    carried = book.carry("op")
    assert verify(carried.text, kept=carried.kept) == ()
    assert run_here(carried, "op()") == repr(book["op"]())


def test_a_cache_that_is_older_than_what_it_was_made_from_is_told() -> None:
    cells = ["import functools\nRATE = 1", "def rate(): return RATE"]
    cells += ["@functools.lru_cache\ndef f(x): return x * rate()", "def op(): return f(2)"]
    book = Notebook(*cells)
    book["f"](2)
    assert book.carry("op").warnings == ()
    book.run("RATE = 1")
    assert book.carry("op").warnings == ()
    book.run("RATE = 5")
    assert book.carry("op").warnings == (
        "'f' may remember results from before 'RATE' was defined again (cell 6), which the export "
        "does not: f.cache_clear() shows the same here",
    )
    book["f"].cache_clear()
    assert book.carry("op").warnings == ()


def test_a_cell_that_defines_again_what_it_used_is_not_to_be_run_again() -> None:
    book = Notebook(
        "def deco(f): return f\n@deco\ndef g(): return 1\ndef deco(f): return lambda: 3",
        "def op(): return g()",
    )
    assert book.carry("op").warnings == (
        "'g' (cell 1) was made with an older 'deco'; the export makes it with that of cell 1. "
        "Give one 'deco' another name",
    )


def test_a_future_import_that_came_late_is_told() -> None:
    future = "from __future__ import annotations"
    cells = ["import math\nclass A:\n    x: int = 1\nclass B: pass\ndef plain(x): return x"]
    use = "def op() -> int:\n    return A, B, plain, math"
    told = Notebook(*cells, future, use).carry("op").warnings
    assert told == (
        "'from __future__ import annotations' holds for a whole file, and here it came after 'A': "
        "their annotations are texts in the export. Run its cell first, and theirs again",
    )
    assert Notebook(future, *cells, use).carry("op").warnings == ()
    assert Notebook(*cells, use).carry("op").warnings == ()


def test_a_name_in_a_query_is_carried(tmp_path: Path) -> None:
    book = Notebook(
        "import pandas as pd\nLIMIT = 2\nOTHER = 3",
        "def op(): return pd.DataFrame({'x': [1, 2, 3]}).query('x > @LIMIT')['x'].tolist()",
    )
    carried = book.carry("op")
    assert "OTHER" not in carried.text
    assert run_elsewhere(carried, "op()", tmp_path) == "[3]"


@pytest.mark.parametrize(
    "cell",
    [
        "import os\nfor k in ['A']:\n    os.environ['PULPO_TEST_MODE'] = k",
        "import os\nif True:\n    os.environ['PULPO_TEST_MODE'] = 'x'",
    ],
)
def test_blocks_are_looked_into(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULPO_TEST_MODE", "")
    [warning] = Notebook(cell, "def op(): return 1").carry("op").warnings
    assert warning.startswith("cell 1 ran os.environ['PULPO_TEST_MODE'] = …")


def test_a_magic_is_told_with_what_python_does() -> None:
    book = Notebook("def op(): return 1")
    line = "get_ipython().run_line_magic('env', 'MODE=hidden')"
    book.recorder.record(line, cell=2)
    assert book.carry("op").warnings == (
        "cell 2 ran %env MODE, and the export does not: to have it there, write os.environ[…] = …"
        "  # pulpo: carry",
    )


@pytest.mark.parametrize("base", ["str, Enum", "IntEnum", "StrEnum", "IntFlag"])
def test_members_of_an_enum_are_what_their_text_says(base: str) -> None:
    value = "1" if "Int" in base else "'red'"
    cell = f"from enum import Enum, IntEnum, IntFlag, StrEnum\nclass C({base}):\n    RED = {value}"
    assert Notebook(cell, "def op(): return C.RED").carry("op").warnings == ()


def test_a_class_that_is_equal_by_one_field_is_compared_by_all() -> None:
    book = Notebook(
        "class User:\n"
        "    def __init__(self, n): self.n, self.tags = n, []\n"
        "    def __eq__(self, other): return self.n == other.n\n"
        "users = {'bob': User(1)}",
        "users['bob'].tags.append('vip')",
        "def op(): return users['bob'].tags",
    )
    try:
        assert run_here(book.carry("op"), "op()") == "['vip']"
    except CarryError as error:
        assert "'users'" in str(error)  # noqa: PT017


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "path"),
    [
        ("def op(path='jobs.csv'): return open(path)", "jobs.csv"),
        ("def op(): return open('data/in.csv')", "data/in.csv"),
        ("from pathlib import Path\nDATA = Path('data') / 'in.csv'\ndef op(): return DATA", "data"),
    ],
)
def test_a_file_beside_the_notebook_is_told(
    cell: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/in.csv").touch()
    (tmp_path / "jobs.csv").touch()
    monkeypatch.chdir(tmp_path)
    [warning] = Notebook(cell).carry("op").warnings
    assert warning.startswith(f"'{path}' (in ")
    assert "in the folder that the export is run in" in warning


def test_words_and_whole_paths_are_no_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").touch()
    (tmp_path / "data.csv").touch()
    monkeypatch.chdir(tmp_path)
    cell = f"def op(): return 'jobs', '', '.', '../', 'no.csv', {str(tmp_path / 'data.csv')!r}"
    assert Notebook(cell).carry("op").warnings == ()


# --- Modules inside of others ---------------------------------------------------------------------


def test_a_module_that_something_else_imported_is_refused_with_the_line_to_add() -> None:
    import xml.dom.minidom  # noqa: F401

    book = Notebook("import xml", "def op(): return xml.dom.minidom.parseString('<a/>').nodeName")
    carried = book.carry("op")
    assert carried.modules == ("xml.dom", "xml.dom.minidom")
    with pytest.raises(CarryError, match=r"module xml\.dom, .* Add 'import xml\.dom' to a cell"):
        verify(carried.text, modules=carried.modules)
    book = Notebook("import xml.dom.minidom", "def op(): return xml.dom.minidom.parseString")
    carried = book.carry("op")
    verify(carried.text, modules=carried.modules)


def test_a_module_beside_the_notebook_has_to_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pulpo_beside.py").write_text("def f(): return 3\n")
    (tmp_path / "pulpo_package").mkdir()
    (tmp_path / "pulpo_package/__init__.py").write_text("X = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    book = Notebook(
        "import pulpo_beside",
        "def op():\n    import json, pulpo_package\n    return pulpo_beside.f(), pulpo_package.X",
    )
    carried = carry(book.recorder, {"op": book["op"]}, root=tmp_path)
    assert carried.warnings == (
        "'pulpo_beside' is imported, not copied: take pulpo_beside.py along with the export",
        "'pulpo_package' is imported, not copied: take pulpo_package/ along with the export",
    )
