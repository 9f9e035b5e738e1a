"""What cannot leave the notebook is refused, with where it is used and what to do instead."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pulpo.carry import carry
from pulpo.errors import CarryError, NoSourceError

from .notebook import Notebook, run_here

CONNECT = "import sqlite3\nclient = sqlite3.connect(':memory:')"
REFUSALS = {
    "a connection, through a helper": (
        [CONNECT, "def fetch(): return client.execute('select 1')", "def op(): return fetch()"],
        "operation 'op': cannot carry 'client' (used by op → fetch): it is a live database "
        "connection (sqlite3.Connection) made by sqlite3.connect(…) in cell 1. Create it inside "
        "the operation, or in a helper that the operation calls.",
    ),
    "a connection, directly": (
        [CONNECT, "def op(): return client"],
        "cannot carry 'client' (used by op): it is a live database connection",
    ),
    "a connection as a default": (
        [CONNECT, "def load(db=client): return db", "def op(): return load()"],
        "cannot carry 'client' (used by op → load): it is a live database connection",
    ),
    "a connection made in a default": (
        ["import sqlite3", "def op(db=sqlite3.connect(':memory:')): return db"],
        "cannot carry 'db' (used by op): it is a live database connection (sqlite3.Connection) "
        "made by sqlite3.connect(…) in cell 2, a default of 'op'",
    ),
    "a connection in a closure": (
        [
            "import sqlite3\ndef make():\n    db = sqlite3.connect(':memory:')\n"
            "    return lambda: db",
            "query = make()",
            "def op(): return query()",
        ],
        "cannot carry 'query' (used by op): it holds 'db', a live database connection",
    ),
    "a connection in the closure of a decorated helper": (
        [
            "import sqlite3\ndef with_db(f):\n    db = sqlite3.connect(':memory:')\n"
            "    def inner(): return f(db)\n    return inner",
            "@with_db\ndef load(db): return db",
            "def op(): return load()",
        ],
        "it is a live database connection (sqlite3.Connection) in cell 2, in the closure of 'load'",
    ),
    "a connection in a class body": (
        ["import sqlite3\nclass R:\n    db = sqlite3.connect(':memory:')", "def op(): return R.db"],
        "cannot carry 'db' (used by op → R): it is a live database connection",
    ),
    "an instance that connects": (
        [
            "import sqlite3\nclass Repo:\n    def __init__(self): self.db = sqlite3.connect('')",
            "repo = Repo()",
            "def op(): return repo",
        ],
        "cannot carry 'repo' (used by op): it is a value computed at run time (Repo) by "
        "Repo() in cell 2",
    ),
    "an open file": (
        ["import os\nf = open(os.devnull)\nf.close()", "def op(): return f.read()"],
        "it is an open file (io.TextIOWrapper) made by open(…) in cell 1",
    ),
    "an iterator": (["rows = iter([1, 2])", "def op(): return next(rows)"], "it is an iterator"),
    "a generator": (
        ["rows = (x for x in [1])", "def op(): return list(rows)"],
        "it is an iterator",
    ),
    "a web client": (
        ["import httpx\nweb = httpx.Client()", "def op(): return web.get('/')"],
        "it is a live client (httpx.Client) made by httpx.Client() in cell 1",
    ),
    "a thread pool": (
        [
            "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)",
            "def op(): return pool",
        ],
        "it is a running thread, process or task",
    ),
    "a frame in memory": (
        [
            "import pandas as pd\ndf = pd.DataFrame({'a': range(20_000)})",
            "def op(): return df.sum()",
        ],
        "cannot carry 'df' (used by op): it is a DataFrame held in memory (pandas.DataFrame, "
        "20,000 rows), made by pd.DataFrame(…) in cell 1",
    ),
    "an array in memory": (
        ["import numpy as np\nx = np.arange(20_000)", "def op(): return x"],
        "it is data held in memory (numpy.ndarray, 20,000 rows)",
    ),
    "a small table that was read": (
        [
            "import io, pandas as pd\ndf = pd.read_csv(io.StringIO('a\\n1'))",
            "def op(): return df",
        ],
        "(pandas.DataFrame, 1 rows), made by pd.read_csv(…) in cell 1. Load it inside",
    ),
    "a small table that was read and cut": (
        [
            "import io, pandas as pd\ndf = pd.read_csv(io.StringIO('a\\n1'))\ndf = df[df.a > 0]",
            "def op(): return df",
        ],
        "(pandas.DataFrame, 1 rows), made by df[df.a > 0] in cell 1. Load it inside",
    ),
    "a small array that was drawn": (
        ["import numpy as np\nx = np.random.rand(2)", "def op(): return x"],
        "(numpy.ndarray, 2 rows), made by np.random.rand(…) in cell 1. Load it inside",
    ),
    "a small array that something changed": (
        ["import numpy as np\nx = np.zeros(2)\nnp.put(x, [0], 7)", "def op(): return x"],
        "it is not what its line in cell 1 gives: it was changed at run time",
    ),
    "a part of an array through which the whole was changed": (
        ["import numpy as np\nx = np.zeros(3)\ny = x[1:]", "y[0] += 1", "def op(): return x"],
        "it is not what its line in cell 1 gives: it was changed at run time",
    ),
    "a value computed at run time": (
        ["import time\nstart = time.time()", "def op(): return start"],
        "it is a value computed at run time (float) by time.time() in cell 1. Compute it inside",
    ),
    "today": (
        ["from datetime import date\ntoday = date.today()", "def op(): return today"],
        "computed at run time (datetime.date) by date.today()",
    ),
    "the result of a function that reads": (
        [
            "def read(p):\n    with open(p) as f: return len(f.read())",
            "import os\nn = read(os.devnull)",
            "def op(): return n",
        ],
        "computed at run time (int) by read(…) in cell 2",
    ),
    "what a loop left": (
        ["total = 0\nfor i in range(3):\n    last = i", "def op(): return last"],
        "cannot carry 'last' (used by op): it is a value computed at run time (int) by a for loop",
    ),
    "what a loop filled": (
        ["found = []", "for i in range(3):\n    found.append(i)", "def op(): return found"],
        "cannot carry 'found' (used by op): it was set in cell 1 and changed by a for loop in "
        "cell 2",
    ),
    "what a loop added up": (
        ["n = 0\nfor i in range(3): n += i", "def op(): return n"],
        "cannot carry 'n'",
    ),
    "what a run-time value was put into": (
        ["import time\nconf = {}", "conf['at'] = time.time()", "def op(): return conf"],
        "cannot carry 'conf'",
    ),
    "what another name changed": (
        ["rows = []\nsame = rows", "same.append(1)", "def op(): return rows"],
        "cannot carry 'rows' (used by op): it is not what its line in cell 1 gives",
    ),
    "a with block": (
        ["import os\nwith open(os.devnull) as f:\n    text = f.read()", "def op(): return text"],
        "computed at run time (str) by a with block",
    ),
    "a branch for scripts": (
        ["if __name__ == '__main__':\n    def f(): return 1", "def op(): return f()"],
        "it is bound in cell 1 only if __name__ is '__main__'",
    ),
    "a branch that a later cell contradicts": (
        [
            "D = [1]",
            "if len(D) == 1:\n    x = 1\nelse:\n    x = 2",
            "D.append(2)",
            "def op(): return x, D",
        ],
        "cannot carry 'x'",
    ),
    "an undefined name": (
        ["def scrape(): pass\ndef op(): return scraper()"],
        "cannot carry 'scraper' (used by op): it is not defined. Define it in a cell. Did you "
        "mean 'scrape'?",
    ),
    "a deleted name": (
        ["def f(): pass", "def op(): return f()", "del f"],
        "cannot carry 'f' (used by op): it was deleted in cell 3",
    ),
    "a name set by a function": (
        ["def init():\n    global conf\n    conf = 3\ninit()", "def op(): return conf"],
        "cannot carry 'conf' (used by op): it was set at run time by 'init'",
    ),
    "a name set by exec": (
        ["exec('rate = 3')", "def op(): return rate"],
        "it is a value (int) that no recorded cell made",
    ),
    "a constant that lags behind": (
        ["RATE = 2", "TOTAL = RATE * 10", "RATE = 3", "def op(): return TOTAL"],
        "cannot carry 'TOTAL' (used by op): it was computed in cell 2 from an older 'RATE', which "
        "cell 3 has changed since. Run cell 2 again.",
    ),
    "a magic inside an operation": (
        ["def op(): return get_ipython().getoutput('ls')"],
        "cannot carry 'get_ipython' (used by op): a % or ! line needs IPython",
    ),
    "output of a shell command": (
        [
            "class S:\n    getoutput = staticmethod(lambda line: ['a'])\n"
            "def get_ipython(): return S",
            "files = get_ipython().getoutput('ls')",
            "def op(): return files",
        ],
        "computed at run time (list) by a magic or shell command in cell 2",
    ),
    "a patch in a loop": (
        [
            "class M: pass",
            "for name in ('a', 'b'):\n    setattr(M, name, 1)",
            "def op(): return M.a",
        ],
        "cannot carry 'M' (used by op): it was changed by a block in cell 2",
    ),
    "a patch with a run-time value": (
        ["class M: pass", "import time\nM.at = time.time()", "def op(): return M.at"],
        "it was changed in cell 2 with a value made by time.time()",
    ),
    "a huge literal": (
        ["BIG = [" + "1, " * 40_000 + "]", "def op(): return BIG"],
        "it is a literal of 120 kB in cell 1",
    ),
    "pulpo itself": (
        ["import pulpo.errors", "def op(): return pulpo.errors"],
        "cannot carry 'pulpo.errors' (used by op): an export runs without pulpo",
    ),
    "a factory that is given a live object": (
        [
            "import sqlite3\ndef make(db): return lambda: db",
            "run = make(sqlite3.connect(':memory:'))",
            "def op(): return run()",
        ],
        "by sqlite3.connect(…) in cell 2",
    ),
}


@pytest.fixture(autouse=True)
def closed_connections(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Close what the cells connect to: a forgotten connection warns in some Pythons."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*args: Any) -> sqlite3.Connection:
        made.append(connect(*args))
        return made[-1]

    remember.__module__, remember.__qualname__, remember.__name__ = "sqlite3", "connect", "connect"
    monkeypatch.setattr(sqlite3, "connect", remember)
    yield
    for one in made:
        one.close()


@pytest.mark.parametrize("name", REFUSALS)
def test_it_is_refused_with_its_path_and_a_fix(name: str) -> None:
    cells, message = REFUSALS[name]
    notebook = Notebook(*cells)
    with pytest.raises(CarryError) as refusal:
        notebook.carry("op")
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("operation 'op': cannot carry '")
    assert str(refusal.value).endswith((".", "?"))


def test_the_operation_is_named_as_it_is_registered() -> None:
    notebook = Notebook(CONNECT, "def load(): return client")
    with pytest.raises(CarryError, match=r"^operation 'scraping\.load': .*\(used by load\)"):
        carry(notebook.recorder, {"scraping.load": notebook["load"]})


def test_a_refusal_leaves_the_session_as_it_was() -> None:
    notebook = Notebook("LOG = []\nrows = [LOG]", "rows[0].append(1)", "def op(): return rows")
    before = repr(notebook["rows"])
    with pytest.raises(CarryError):
        notebook.carry("op")
    assert repr(notebook["rows"]) == before == "[[1]]"


def test_carrying_does_not_run_constructors_that_count() -> None:
    notebook = Notebook(
        "class C:\n    made = 0\n    def __init__(self):\n        C.made += 1",
        "one = C()",
        "def op(): return one",
    )
    with pytest.raises(CarryError, match=r"by C\(\) in cell 2"):
        notebook.carry("op")
    assert notebook["C"].made == 1


def test_statements_behind_a_failing_line_are_not_carried() -> None:
    notebook = Notebook("def f(): return 1\ndef op(): return f()")
    notebook.run("def g(): return 2\n1 / 0\ndef f(): return 'never ran'", fails=True)
    notebook.run("def both(): return f(), g()")
    assert "never ran" not in notebook.carry("both").text
    assert run_here(notebook.carry("both"), "both()") == "(1, 2)"


def test_a_name_of_a_failed_statement_is_refused() -> None:
    notebook = Notebook("found = []\ndef op(): return found")
    notebook.run("for i in range(3):\n    found.append(i)\n    1 / (1 - i)", fails=True)
    with pytest.raises(CarryError, match="cannot carry 'found'"):
        notebook.carry("op")


@pytest.mark.parametrize(
    "make",
    [
        "exec('def op(): return 1')",
        "op = eval('lambda: 1')",
        "def make():\n    def op(): return 1\n    return op\n"
        "ops = [make() for _ in range(2)]\nop = ops[0]",
    ],
)
def test_a_function_without_source_can_be_told_from_other_refusals(make: str) -> None:
    notebook = Notebook()
    notebook.run(make)
    if make.startswith("def"):
        notebook.names["op"] = notebook["ops"][1]
    kind = CarryError if "eval" in make else NoSourceError
    with pytest.raises(kind, match="operation 'op'"):
        notebook.carry("op")


@pytest.mark.parametrize("function", [len, "".join, sqlite3.connect, lambda: 1, print])
def test_a_function_that_was_registered_directly_has_no_source(function: Any) -> None:
    with pytest.raises(NoSourceError, match="operation 'op': the source of its function"):
        carry(Notebook("x = 1").recorder, {"op": function})


def test_a_module_beside_the_notebook_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near_by.py").write_text("def help(): return 1\ndef task(): return 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook = Notebook(
        "import near_by\nfrom near_by import task", "def op(): return near_by.help()"
    )
    carried = notebook.carry("op", "task", root=tmp_path)
    assert "import near_by" in carried.text
    assert "from near_by import task" in carried.text
    assert carried.identifiers == {"op": "op", "task": "task"}
    assert carried.packages == ()


@pytest.mark.parametrize("line", ["import far_off", "def unused():\n    import far_off"])
def test_a_module_elsewhere_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "far_off.py").write_text("def help(): return 1\ndef task(): return 2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    cell = "def op():\n    import far_off\n    return far_off.help()"
    cells = [cell] if line.startswith("def") else [line, "def op(): return far_off.help()"]
    with pytest.raises(CarryError) as refusal:
        Notebook(*cells).carry("op", root=tmp_path)
    assert "cannot carry 'far_off' (used by op): it is a module in" in str(refusal.value)
    assert "Move it beside the notebook" in str(refusal.value)
    notebook = Notebook("from far_off import task")
    with pytest.raises(CarryError, match="operation 'task': its function is in"):
        notebook.carry("task", root=tmp_path)


def test_what_a_value_was_built_upon_is_not_computed_again() -> None:
    book = Notebook(
        "found = [1]",
        "def more():\n    found.append(2)\n    return 3",
        "found = [more()]",
        "found = found",
        "def op(): return found",
    )
    with pytest.raises(CarryError, match=r"computed at run time.*by more\(\) in cell 3"):
        book.carry("op")
    assert book["found"] == [3]
