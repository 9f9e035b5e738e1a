"""What ``%pulpo check`` finds, and what it keeps quiet about, on real cells in a real shell."""

from __future__ import annotations

import atexit
import json
import linecache
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from pulpo.errors import CompileError, Problem
from pulpo.session import Session, current

#: What most sessions below begin with.
MODELS = """
import asyncio, functools, json, sqlite3, subprocess, time, urllib.request
from dataclasses import dataclass
from time import sleep as nap
from typing import Annotated, NewType, Optional, TypedDict
import httpx
import pandas as pd
import pulpo
from pydantic import BaseModel
"""
AD = "class Ad(BaseModel):\n    title: str\n    pay: int = 0\n"
NEW_AD = "class Ad(BaseModel):\n    title: str\n    salary: float = 0\n"
RAW = "class Raw(BaseModel):\n    ads: list[Ad]\n"


class Book:
    """Cells in one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.session: Session = current()

    def run(self, *cells: str) -> str:
        """Run cells that have to succeed; return what the last one shows."""
        text = ""
        for cell in cells:
            with capture_output() as shown:
                result = self.shell.run_cell(textwrap.dedent(cell).strip("\n"), store_history=True)
            assert result.success, (cell, result.error_before_exec or result.error_in_exec)
            text = str(result.result) if result.result is not None else shown.stdout
        return text

    def story(self, text: str) -> None:
        """Run cells that stand below one another, parted by lines of dashes."""
        self.run(*textwrap.dedent(text).strip("\n").split("\n---\n"))

    def problems(self, code: str = "") -> list[Problem]:
        return [p for p in self.session.check().problems if code in ("", p.code)]

    def codes(self) -> list[str]:
        return [problem.code for problem in self.problems()]


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    main = sys.modules["__main__"]
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    try:
        yield shell
    finally:
        shell.extension_manager.unload_extension("pulpo")
        current().clear()
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = main


@pytest.fixture
def book(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A shell with pulpo and the usual imports; its cells begin with number 1."""
    monkeypatch.setenv("PULPO_NO_WARMUP", "1")
    with capture_output():
        if "pulpo" in shell.extension_manager.loaded:
            shell.extension_manager.unload_extension("pulpo")
    # Not shell.reset(), which collects garbage for a fifth of a second.
    for name in [name for name in shell.user_ns if name not in shell.user_ns_hidden]:
        if not name.startswith("__"):
            del shell.user_ns[name]
    shell.history_manager.reset()
    shell.execution_count = 1
    book = Book(shell)
    book.session.clear()
    book.session.recorder.forget()
    book.run("%load_ext pulpo", MODELS)
    return book


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


# --- Stale ----------------------------------------------------------------------------------------

#: Where an operation uses Ad, and what has to run again once Ad (cell 3) has other fields.
USES = {
    "its parameter": (
        "%%operation use\ndef use(ad: Ad) -> int:\n    return 1",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "its parameter, as a list of it": (
        "%%operation use\ndef use(ads: list[Ad]) -> int:\n    return 1",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "its result": (
        "%%operation use\ndef use() -> Ad | None:\n    return None",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "an annotation that is text": (
        "%%operation use\ndef use(ad: 'Ad') -> int:\n    return 1",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "what the magic's line says": (
        "%%operation use --inputs Ad\ndef use(ad) -> int:\n    return 1",
        "it was written for the old Ad",
        "Run cell 4 again.",
    ),
    "a wrapped cell": (
        "%%operation use --in ad:Ad --out n\nn = 1",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "a decorated function": (
        "@pulpo.operation(name='use')\ndef use(ad: Ad) -> int:\n    return 1",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "its body": (
        "%%operation use\ndef use() -> str:\n    return Ad(title='x').title",
        "it was written for the old Ad",
        "Run cell 4 again.",
    ),
    "an inner function of its body": (
        "%%operation use\ndef use() -> list:\n    return list(map(lambda t: Ad(title=t), 'ab'))",
        "it was written for the old Ad",
        "Run cell 4 again.",
    ),
    "the default of a parameter": (
        "%%operation use\ndef use(n: int = 1, like=Ad(title='x')) -> int:\n    return n",
        "it still holds the old Ad",
        "Run cell 4 again.",
    ),
    "a helper that stands below it in the cell": (
        """
        %%operation use
        def use() -> str:
            return read()
        def read():
            return Ad(title="x").title
        """,
        "read (cell 4) was written for the old Ad",
        "Run cell 4 again.",
    ),
    "a helper of another cell": (
        """
        def read():
            return Ad(title="x").title
        ---
        %%operation use
        def use() -> str:
            return read()
        """,
        "read (cell 4) was written for the old Ad",
        "Run cell 4 again.",
    ),
    "a helper of a helper, of a later cell": (
        """
        %%operation use
        def use() -> str:
            return first()
        ---
        def first():
            return second()
        ---
        def second() -> "Ad":
            return Ad(title="x")
        """,
        "second (cell 6) was written for the old Ad",
        "Run cell 6 again.",
    ),
    "its body, behind a decorator": (
        """
        def timed(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper
        ---
        %%operation use
        @timed
        def use() -> str:
            return Ad(title="x").title
        """,
        "; it was written for the old Ad",
        "Run cell 5 again.",
    ),
    "an object that is called": (
        """
        class Use:
            def __call__(self) -> str:
                return self.read()
            def read(self):
                return Ad(title="x").title
        ---
        it = pulpo.operation(name="use")(Use())
        """,
        "Use (cell 4) was written for the old Ad and the operation needs the new Use",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a generic model": (
        """
        import typing
        T = typing.TypeVar("T")
        class Page(BaseModel, typing.Generic[T]):
            items: list[T]
        ---
        %%operation use
        def use(page: Page[Ad]) -> int:
            return 1
        """,
        "; it still holds the old Ad",
        "Run cell 5 again.",
    ),
    "a helper that is cached": (
        """
        @functools.cache
        def read():
            return Ad(title="x").title
        ---
        %%operation use
        def use() -> str:
            return read()
        """,
        "read (cell 4) was written for the old Ad",
        "Run cell 4 again.",
    ),
    "a helper in a default": (
        """
        def read():
            return Ad(title="x").title
        ---
        %%operation use
        def use(n: int = 1, by=read) -> str:
            return by()
        """,
        "read (cell 4) was written for the old Ad and the operation needs the new read",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a helper in a table": (
        """
        def read():
            return Ad(title="x").title
        ---
        TABLE = {"a": read}
        ---
        %%operation use
        def use() -> str:
            return TABLE["a"]()
        """,
        "read (cell 4) was written for the old Ad and TABLE (cell 5) needs the new read",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a method of a class": (
        """
        class Reader:
            def read(self):
                return Ad(title="x")
        ---
        %%operation use
        def use() -> str:
            return Reader().read().title
        """,
        "Reader (cell 4) was written for the old Ad",
        "Run cell 4 again.",
    ),
    "a value made of it": (
        """
        NOBODY = Ad(title="nobody")
        ---
        %%operation use
        def use() -> str:
            return NOBODY.title
        """,
        "NOBODY (cell 4) still holds the old Ad",
        "Run cell 4 again.",
    ),
    "a value that is a default": (
        """
        NOBODY = Ad(title="nobody")
        ---
        %%operation use
        def use(n: int = 1, ad=NOBODY) -> str:
            return ad.title
        """,
        "NOBODY (cell 4) still holds the old Ad and the operation needs the new NOBODY",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a model with a field of it": (
        """
        class Raw(BaseModel):
            ads: list[Ad]
        ---
        %%operation use
        def use(raw: Raw) -> int:
            return 1
        """,
        "Raw (cell 4) still holds the old Ad and the operation needs the new Raw",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a model with a field of it, in the body": (
        """
        class Raw(BaseModel):
            ads: list[Ad]
        ---
        %%operation use
        def use() -> int:
            return len(Raw(ads=[]).ads)
        """,
        "Raw (cell 4) still holds the old Ad and the operation needs the new Raw",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a model of a model of it": (
        """
        @dataclass
        class Page:
            ads: tuple[Ad, ...]
        ---
        Pages = NewType("Pages", list[Page])
        ---
        %%operation use
        def use(pages: Pages) -> int:
            return 1
        """,
        "Page (cell 4) still holds the old Ad",
        "Run cell 4, cell 5 and cell 6 again, in this order.",
    ),
    "a model that is derived from it": (
        """
        class Better(Ad):
            more: str
        ---
        %%operation use
        def use(ad: Better) -> int:
            return 1
        """,
        "Better (cell 4) still holds the old Ad and the operation needs the new Better",
        "Run cell 4 and cell 5 again, in this order.",
    ),
    "a TypedDict with a field of it, whose cell comes after the operation's": (
        """
        %%operation use
        def use(raw: "Raw") -> int:
            return len(read())
        ---
        def read() -> "Raw":
            return Raw(ads=[])
        ---
        class Raw(TypedDict):
            ads: list[Ad]
        """,
        "Raw (cell 6) still holds the old Ad",
        "Run cell 6, cell 5 and cell 4 again, in this order.",
    ),
}


@pytest.mark.parametrize("where", USES)
def test_a_model_with_other_fields_makes_stale_what_uses_it(book: Book, where: str) -> None:
    story, why, fix = USES[where]
    book.run(AD)
    book.story(story)
    assert book.problems("stale") == []
    book.run(NEW_AD)
    problem = only(book.problems("stale"))
    assert "changed Ad ('pay' is gone, 'salary: float' is new)" in problem.message
    assert why in problem.message
    assert problem.fix == fix
    assert (problem.operation, problem.severity) == ("use", "warning")
    assert [node.stale for node in book.session.plan().operations] == [True]


@pytest.mark.parametrize("where", USES)
def test_running_the_cells_of_the_fix_mends_it(book: Book, where: str) -> None:
    story, _, fix = USES[where]
    book.run(AD)
    cells = textwrap.dedent(story).strip("\n").split("\n---\n")
    book.run(*cells, NEW_AD)
    numbers = [int(word.strip(",")) for word in fix.split() if word.strip(",").isdigit()]
    for number in numbers:
        assert book.problems("stale") != []
        book.run(cells[number - 4])
    assert book.problems("stale") == []
    assert not any(node.stale for node in book.session.plan().operations)


@pytest.mark.parametrize("where", USES)
def test_running_a_model_again_unchanged_makes_nothing_stale(book: Book, where: str) -> None:
    book.run(AD)
    book.story(USES[where][0])
    book.run(AD)
    assert book.problems("stale") == []


KINDS = {
    "pydantic": (AD, NEW_AD, "'pay' is gone, 'salary: float' is new"),
    "a dataclass": (
        "@dataclass\nclass Ad:\n    pay: int",
        "@dataclass\nclass Ad:\n    pay: str",
        "'pay' was int, it is str",
    ),
    "a TypedDict": (
        "class Ad(TypedDict):\n    pay: int",
        "class Ad(TypedDict):\n    pay: int\n    a: int\n    b: str",
        "'a: int' and 'b: str' are new",
    ),
    "a NewType": (
        "Ad = NewType('Ad', dict)",
        "Ad = NewType('Ad', list)",
        "it was dict, it is list",
    ),
    "a dataclass that is a NewType now": (
        "@dataclass\nclass Ad:\n    pay: int",
        "Ad = NewType('Ad', dict)",
        "'pay' is gone",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_says_what_changed(book: Book, kind: str) -> None:
    before, after, what = KINDS[kind]
    use = "%%operation use\ndef use(ad: Ad) -> int:\n    return 1"
    other = "%%operation other\ndef other() -> int:\n    return len([Ad])"
    book.run(before, use, other, after)
    assert [what in problem.message for problem in book.problems("stale")] == [True, True]


#: Sessions after which nothing is stale.
FRESH = {
    "an operation that uses no model": (
        AD,
        "%%operation use\ndef use(n: int) -> int:\n    return n",
        NEW_AD,
    ),
    "the model came back to what it was": (
        AD,
        "%%operation use\ndef use(ad: Ad) -> int:\n    return 1",
        NEW_AD,
        AD,
    ),
    "a model in the cell of its operation": (
        f"{AD}@pulpo.operation\ndef use(ad: Ad) -> int:\n    return len([Ad])",
        f"{NEW_AD}@pulpo.operation\ndef use(ad: Ad) -> int:\n    return len([Ad])",
    ),
    "a helper below its model, both run again": (
        AD,
        "%%operation use\ndef use() -> str:\n    return read()",
        f"{AD}def read():\n    return Ad(title='x').title",
        f"{NEW_AD}def read():\n    return Ad(title='x').title",
    ),
    "a model that was first made after the operation": (
        "%%operation use\ndef use() -> str:\n    return Ad(title='x').title",
        AD,
    ),
    "a variable of the model's name in a function": (
        AD,
        "%%operation use\ndef use(pairs: dict) -> list:\n    return [Ad for Ad in pairs]",
        NEW_AD,
    ),
    "a method that changed": (
        AD + "    def text(self):\n        return 1\n",
        "%%operation use\ndef use(ad: Ad) -> int:\n    return ad.text()",
        AD + "    def text(self):\n        return 2\n",
    ),
    "an attribute that is called like the model": (
        AD,
        "%%operation use\ndef use(n: int) -> str:\n    return n.Ad",
        NEW_AD,
    ),
    "an operation that was removed": (
        AD,
        "%%operation use\ndef use(ad: Ad) -> int:\n    return 1",
        NEW_AD,
        "%pulpo remove use",
    ),
}


@pytest.mark.parametrize("what", FRESH)
def test_what_was_not_defined_against_an_older_model_is_not_stale(book: Book, what: str) -> None:
    book.run(*FRESH[what])
    assert book.problems("stale") == []


def test_an_older_version_of_a_helper_is_not_to_be_run_again(book: Book) -> None:
    helper = "def read():\n    return Ad(title='x').title"
    use = "%%operation use\ndef use(n: int = 1, by=read) -> str:\n    return by()"
    book.run(AD, helper, use, NEW_AD, helper)
    problem = only(book.problems("stale"))
    assert problem.fix == "Run cell 5 again."


def test_a_model_that_changed_itself_can_hold_an_older_one_too(book: Book) -> None:
    raw = "class Raw(BaseModel):\n    ads: list[Ad]\n    number: int = 0\n"
    book.run(AD, RAW, raw, "%%operation use\ndef use(raw: Raw) -> int:\n    return 1", NEW_AD)
    assert only(book.problems("stale")).fix == "Run cell 5 and cell 6 again, in this order."


def test_two_operations_are_told_apart(book: Book) -> None:
    book.run(AD, RAW, "%%operation a\ndef a() -> Raw:\n    return Raw(ads=[Ad(title='x')])")
    book.run("%%operation b\ndef b(raw: Raw) -> int:\n    return 1", NEW_AD)
    first, second = book.problems("stale")
    assert first.fix == "Run cell 4 and cell 5 again, in this order."
    assert second.fix == "Run cell 4 and cell 6 again, in this order."
    book.run(RAW, "%%operation b\ndef b(raw: Raw) -> int:\n    return 1")
    assert only(book.problems("stale")).fix == "Run cell 5 again."


def test_a_stale_operation_is_drawn_so_and_compile_says_it(book: Book) -> None:
    book.run(AD, "%%operation use\ndef use(ad: Ad) -> int:\n    return 1")
    assert "stale" not in book.session.graph("dataflow").text
    book.run(NEW_AD)
    assert "↻ stale" in book.session.graph("dataflow").text
    assert "operation 'use' is stale" in str(book.session.compile())
    assert "0 errors, 2 others" in str(book.session.status())
    assert book.session.compile().is_valid


def test_looking_twice_gives_the_same_plan(book: Book) -> None:
    book.run(AD, "%%operation use\ndef use(ad: Ad) -> int:\n    return 1")
    assert book.session.plan() is book.session.plan()
    book.run(NEW_AD)
    assert book.session.plan() is book.session.plan()


def test_a_module_that_was_loaded_again_makes_stale_too(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "adverts.py").write_text(f"from pydantic import BaseModel\n{AD}")
    book.run("import importlib, adverts", "from adverts import Ad")
    book.run("%%operation use\ndef use(ad: Ad) -> int:\n    return 1")
    (tmp_path / "adverts.py").write_text(f"from pydantic import BaseModel\n{NEW_AD}")
    linecache.checkcache()
    book.run("importlib.reload(adverts)")
    problem = only(book.problems("stale"))
    assert "'pay' is gone" in problem.message
    monkeypatch.delitem(sys.modules, "adverts")


def test_what_cannot_be_looked_at_stops_no_command(book: Book) -> None:
    book.run(
        """
        class Odd(type):
            def __getattribute__(cls, name):
                if name in ("__qualname__", "__module__", "__mro__"):
                    raise RuntimeError("not mine")
                return super().__getattribute__(name)
        class Thing(metaclass=Odd):
            pass
        THING = Thing()
        """,
        AD,
        "%%operation use\ndef use(ad: Ad) -> int:\n    return len([THING, Thing])",
        NEW_AD,
    )
    assert "main_flow" in str(book.session.compile())
    assert book.session.check().problems is not None


# --- Blocking calls -------------------------------------------------------------------------------

#: What an async operation does, and the call that is found in it.
BLOCKS = {
    "a function of a module": ("time.sleep(1)", "time.sleep (line 3)"),
    "a function by another name": ("nap(1)", "time.sleep (line 3)"),
    "an import in the body": ("import time as t\n    t.sleep(1)", "time.sleep (line 4)"),
    "an import from in the body": ("from time import sleep\n    sleep(1)", "time.sleep"),
    "a module that nobody has imported": ("import ftplib\n    ftplib.FTP('x')", "ftplib.FTP"),
    "a module of a package": ("urllib.request.urlopen('https://x')", "urllib.request.urlopen"),
    "an HTTP client": ("with httpx.Client() as client:\n        client.get('x')", "httpx.Client"),
    "an HTTP call in an expression": ("return len(httpx.get('x').text)", "httpx.get"),
    "a program": ("subprocess.run(['ls'])", "subprocess.run"),
    "a question": ("name = input('name?')", "input (line 3)"),
    "a database": ("sqlite3.connect(':memory:')", "sqlite3.connect"),
    "an object of the notebook": ("DB.execute('select 1')", "sqlite3.Connection.execute"),
    "a table from the net": ("pd.read_csv('https://x/y.csv')", "pandas.read_csv"),
    "a table from a name": ("pd.read_json(URL)", "pandas.read_json"),
    "a table from a text with holes": ("pd.read_csv(f'{URL}/{1}')", "pandas.read_csv"),
    "a table from a database": ("pd.read_sql('select 1', DB)", "pandas.read_sql"),
    "a loop in a loop": ("asyncio.run(asyncio.sleep(1))", "asyncio.run"),
    "a partial function": ("pause()", "time.sleep"),
    "a comprehension": ("return [nap(n) for n in range(3)]", "time.sleep"),
    "an inner function that is called": (
        "def wait():\n        nap(1)\n    wait()",
        "time.sleep (line 4)",
    ),
    "an inner async function": (
        "async def one():\n        nap(1)\n    await asyncio.gather(one(), one())",
        "time.sleep (line 4)",
    ),
    "a helper": ("helper()", "calls 'helper', which calls time.sleep (line 2)"),
    "a helper of a helper": ("outer()", "calls 'helper', which calls time.sleep (line 2)"),
    "an async helper": ("await later()", "calls 'later', which calls time.sleep"),
    "a cached helper": ("cached()", "calls 'cached', which calls time.sleep"),
}
HELPERS = """
DB = sqlite3.connect(":memory:")
URL = "https://example.org"
pause = functools.partial(time.sleep, 1)
---
def helper():
    nap(1)
def outer():
    helper()
async def later():
    nap(1)
@functools.lru_cache(maxsize=None)
def cached():
    nap(1)
def in_thread(function):
    @functools.wraps(function)
    async def wrapper(*args):
        return await asyncio.to_thread(function, *args)
    return wrapper
@in_thread
def slow():
    nap(1)
def sleep(seconds):
    return seconds
class Client:
    def get(self, url):
        return url
CLIENT = Client()
"""


def operation(body: str, *, head: str = "async def work() -> int") -> str:
    return f"%%operation work\n{head}:\n    {body}\n    return 1\n"


@pytest.mark.parametrize("what", BLOCKS)
def test_a_blocking_call_on_the_event_loop_is_found(book: Book, what: str) -> None:
    body, call = BLOCKS[what]
    book.story(HELPERS)
    book.run(operation(body))
    problem = only(book.problems("blocking-call"))
    assert call in problem.message
    assert problem.fix
    assert problem.cell == ("cell 4" if "which calls" in call else "cell 5")


#: What an async operation may do; the last are whole operations.
LETS_RUN = {
    "sleeping as it should": "await asyncio.sleep(1)",
    "handing a function over": "await asyncio.to_thread(time.sleep, 1)",
    "handing an inner function over": (
        "def wait():\n        nap(1)\n    await asyncio.to_thread(wait)"
    ),
    "handing a lambda over": "await asyncio.to_thread(lambda: nap(1))",
    "handing a helper over": "await asyncio.to_thread(helper)",
    "a helper whose decorator runs it in a thread": "await slow()",
    "a function of the user's with that name": "sleep(1)",
    "a parameter with that name": "return (lambda time: time)(1)",
    "a variable with that name": "time = CLIENT\n    time.sleep = 1\n    time.get(1)",
    "an argument that shadows": "def f(nap):\n        nap(1)\n    f(print)",
    "an async client": "async with httpx.AsyncClient() as c:\n        await c.get('x')",
    "a client of the user's": "CLIENT.get('x')",
    "a table from a file": "pd.read_csv('here.csv')",
    "a file": "open('here.txt').read()",
    "a process that goes on": "subprocess.Popen(['ls'])",
    "a name in a text": "print('time.sleep(1)')  # time.sleep(1)",
}


@pytest.mark.parametrize("what", LETS_RUN)
def test_what_blocks_nothing_is_not_told(book: Book, what: str) -> None:
    book.story(HELPERS)
    book.run(operation(LETS_RUN[what]))
    assert book.problems("blocking-call") == []


def test_a_plain_operation_may_block(book: Book) -> None:
    book.story(HELPERS)
    book.run(operation("nap(1); helper(); httpx.get('x')", head="def work() -> int"))
    assert book.problems("blocking-call") == []


def test_the_fix_depends_on_whether_the_operation_awaits(book: Book) -> None:
    book.run(operation("nap(1)"))
    assert "make the operation a plain def" in only(book.problems("blocking-call")).fix
    book.run(operation("httpx.get('x'); await asyncio.sleep(0)"))
    problem = only(book.problems("blocking-call"))
    assert problem.fix == "Use httpx.AsyncClient; or await asyncio.to_thread(httpx.get, …)."


def test_a_helper_is_told_once_for_all_that_call_it(book: Book) -> None:
    book.run("def helper():\n    nap(1)")
    for name in ("one", "two"):
        book.run(f"%%operation {name}\nasync def {name}() -> int:\n    helper()\n    return 1")
    problem = only(book.problems("blocking-call"))
    assert problem.message.startswith("async operations 'one' and 'two' call 'helper', which")
    assert problem.cell == "cell 3"


# --- Shadowed names -------------------------------------------------------------------------------

USE = "%%operation use\ndef use(n: int) -> str:\n    return {}"
#: Cells, and what is said of the name.
SHADOWS = {
    "a builtin by a variable": (
        USE.format("str(list(range(n)))"),
        "list = [1]",
        "reads 'list', which was the builtin; it is a list since cell 4",
        "Rename it in cell 4 and run 'del list'; if it is meant, run cell 3 again.",
    ),
    "a builtin by a function": (
        USE.format("sum([n])"),
        "def sum(values):\n    return 0",
        "it is a function since cell 4",
        "Rename it in cell 4 and run 'del sum'; if it is meant, run cell 3 again.",
    ),
    "a builtin by a star import": (
        USE.format("pow(n, 2, 3)"),
        "from math import *",
        "'pow', which was the builtin",
        "Rename it in cell 4",
    ),
    "a module by a variable": (
        USE.format("json.dumps(n)"),
        "json = {'a': 1}",
        "reads 'json', which was imported in cell 2; it is a dict since cell 4",
        "Rename it in cell 4 and run cell 2 again; if it is meant, run cell 3 again.",
    ),
    "a module by a loop": (
        USE.format("json.dumps(n)"),
        "for json in [{}]:\n    pass",
        "which was imported in cell 2; it is a dict since cell 4",
        "Rename it in cell 4",
    ),
    "a module by a function of its name": (
        USE.format("time.time()"),
        "from time import time",
        "reads 'time', which was imported in cell 2",
        "Rename it in cell 4",
    ),
    "an imported function by one of the notebook": (
        USE.format("nap(n)"),
        "def nap(n):\n    return n",
        "reads 'nap', which was imported in cell 2; it is a function since cell 4",
        "Rename it in cell 4",
    ),
    "a helper by a variable": (
        "def part(n):\n    return n\n---\n" + USE.format("part(n)"),
        "part = 3",
        "reads 'part', which was a function of cell 3; it is an int since cell 5",
        "Rename it in cell 5 and run cell 3 again; if it is meant, run cell 4 again.",
    ),
    "a class by a variable": (
        f"{AD}---\n" + USE.format("Ad(title='x').title"),
        "Ad = 1",
        "which was a class of cell 3; it is an int since cell 5",
        "Rename it in cell 5",
    ),
    "an operation's function by a variable": (
        "%%operation first\ndef first() -> int:\n    return 1\n---\n" + USE.format("first()"),
        "first = 1",
        "which was the function of operation 'first' of cell 3; it is an int since cell 5",
        "Rename it in cell 5",
    ),
    "an operation's function by another operation's": (
        "%%operation a.load\ndef load() -> int:\n    return 1\n---\n" + USE.format("load()"),
        "%%operation b.load\ndef load() -> int:\n    return 2",
        "it is the function of operation 'b.load' since cell 5",
        "Rename it in cell 5 and run cell 3 again",
    ),
    "a helper by an operation's function": (
        "def clean(text):\n    return text\n---\n" + USE.format("clean('x')"),
        "%%operation b.clean\ndef clean(pages: int, top: int = 1) -> int:\n    return 2",
        "which was a function of cell 3; it is the function of operation 'b.clean' since cell 5",
        "Rename it in cell 5",
    ),
    "a name that a helper reads": (
        "def text(n):\n    return json.dumps(n)\n---\n" + USE.format("text(n)"),
        "json = 1",
        "operation 'use', in 'text' (cell 3), reads 'json'",
        "Rename it in cell 5 and run cell 2 again; if it is meant, run cell 3 again.",
    ),
    "a builtin that is called though it was no function before": (
        "max = 3\n---\n" + USE.format("max(n, 1)"),
        "pass",
        "reads 'max', which was meant to be called; it is an int since cell 3",
        "Rename it in cell 3 and run 'del max'",
    ),
}


@pytest.mark.parametrize("what", SHADOWS)
def test_a_name_that_came_to_mean_something_else_is_told(book: Book, what: str) -> None:
    story, cell, message, fix = SHADOWS[what]
    book.story(story)
    quiet = book.problems("shadowed-name")
    book.run(cell)
    problem = only(book.problems("shadowed-name"))
    assert message in problem.message
    assert fix in problem.fix
    assert quiet == [] or cell == "pass"


#: Cells after which every name means what it says.
PLAIN = {
    "a name that nothing reads": (USE.format("n"), "list = [1]\njson = 1"),
    "a result that is named like its operation": (USE.format("n"), "use = use(1)"),
    "an operation that was defined after": ("list = [1]", USE.format("list[0]")),
    "a helper that is named like a builtin, before": (
        "def filter(n):\n    return n",
        USE.format("filter(n)"),
    ),
    "a helper that is named like a builtin, below": (
        USE.format("filter(n)") + "\ndef filter(n):\n    return n",
    ),
    "that helper run again": (
        "def filter(n):\n    return n",
        USE.format("filter(n)"),
        "def filter(n):\n    return n + 1",
    ),
    "a threshold that is named like a builtin": ("max = 3", USE.format("min(n, max)")),
    "a module that was imported again": (USE.format("json.dumps(n)"), "import json"),
    "another library in its place": (USE.format("json.dumps(n)"), "import pickle as json"),
    "what a dataclass reads for itself": (
        "@dataclass\nclass Item:\n    n: int",
        USE.format("str(Item(n))"),
        "id = 3\nisinstance(id, int)",
    ),
    "a variable with a new value": ("top = 3", USE.format("n + top"), "top = 'four'"),
    "a helper that was edited": (
        "def part(n):\n    return n",
        USE.format("part(n)"),
        "def part(n, m=1):\n    return n",
    ),
    "two operations' functions of one name that nothing calls": (
        "%%operation a.load\ndef load() -> int:\n    return 1",
        "%%operation b.load\ndef load() -> int:\n    return 2",
    ),
    "an operation that calls itself, run again": (
        "%%operation a.load\ndef load(n: int) -> int:\n    return n and load(n - 1)",
        "%%operation a.load\ndef load(n: int) -> int:\n    return n and load(n - 2)",
    ),
    "a helper that became an operation": (
        "def part(n: int) -> int:\n    return n",
        USE.format("part(n)"),
        "%%operation part\ndef part(n: int) -> int:\n    return n + 1",
    ),
    "an operation that got another name": (
        "%%operation a.part\ndef part(n: int) -> int:\n    return n",
        USE.format("part(n)"),
        "%pulpo remove a.part",
        "%%operation b.part\ndef part(n: int, m: int = 1) -> int:\n    return n",
    ),
    "a local variable": (USE.format("[json for json in (n,)]"), "json = 1"),
    "an attribute": (USE.format("n.json"), "json = 1"),
    "a model that came to be another": (
        AD,
        USE.format("Ad(title='x').title"),
        "Ad = NewType('Ad', dict)",
    ),
    "a name that came back": (USE.format("str(list(range(n)))"), "list = [1]", "del list"),
}


@pytest.mark.parametrize("what", PLAIN)
def test_a_name_that_means_what_it_should_is_not_told(book: Book, what: str) -> None:
    book.run(*PLAIN[what])
    assert book.problems("shadowed-name") == []
    if "use = use(1)" in PLAIN[what]:
        assert book.codes() == []


def test_running_the_reader_again_says_that_the_name_is_meant(book: Book) -> None:
    book.run(USE.format("str(len(n))"), "def len(n):\n    return n")
    assert book.codes() == ["shadowed-name"]
    book.run(USE.format("str(len(n))"))
    assert book.codes() == []


# --- Results that go nowhere, and signatures ------------------------------------------------------

TYPES = """
A = NewType("A", dict)
B = NewType("B", dict)
RawJobs = NewType("RawJobs", dict)
---
"""
GIVE = "%%operation {0}\ndef {1}({2}) -> {3}:\n    {4}\n---\n"


def op(name: str, takes: str = "", gives: str = "None", function: str = "") -> str:
    body = "pass" if gives == "None" else "return 1"
    return GIVE.format(name, function or name.rpartition(".")[2], takes, gives, body)


#: Cells below the types, with the code, a part of the message and of the fix.
WIRING = {
    "a model that nobody takes beside one like it that nobody gives": (
        op("load", gives="'RawJob'") + op("clean", "raw: RawJobs", "A"),
        "unused-operation",
        "operation 'load' gives RawJob, which nobody takes; 'clean' takes RawJobs, which nobody",
        "write RawJobs in both signatures",
    ),
    "a third source that the merge does not take": (
        op("get.one", gives="A", function="one")
        + op("get.two", gives="A", function="two")
        + op("get.three", gives="A", function="three")
        + op("get.merge", "one: A, two: A", "B"),
        "unused-operation",
        "operation 'get.three' gives A, but 'get.merge' takes that of 'get.one' and 'get.two'",
        "%pulpo remove get.three",
    ),
    "an operation beside all others": (
        op("load", gives="A") + op("clean", "a: A", "B") + op("hello"),
        "unused-operation",
        "operation 'hello' takes no model and gives nothing",
        "--after hello",
    ),
    "operations behind an error": (
        op("one", gives="A")
        + op("two", gives="A")
        + op("odd", "x: A", "B")
        + op("later", "b: B", "RawJobs")
        + op("last", "jobs: RawJobs", "int"),
        "unreachable",
        "operations 'later' and 'last' can never run: they come after 'odd', which an error stops",
        "Mend the errors",
    ),
    "operations behind a loop": (
        op("one", "b: B", "A") + op("two", "a: A", "B") + op("last", "a: A", "int"),
        "unreachable",
        "operation 'last' can never run: it comes after 'one' and 'two', which errors stop",
        "Mend the errors",
    ),
    "a list that nobody passes on": (
        op("rows", gives="list[dict]") + op("count", "found: list[dict]", "int"),
        "no-edge",
        "the parameter 'found' is 'list[dict]', which makes no edge; 'rows' gives one that nobody",
        "Found = NewType('Found', list[dict])",
    ),
    "an optional bare list": (
        op("rows", gives="list") + op("count", "all_rows: Optional[list]", "int"),
        "no-edge",
        "the parameter 'all_rows' is 'Optional[list]'",
        "AllRows = NewType('AllRows', list)",
    ),
    "a set of a model that came later": (
        op("count", "pages: \"set['Page']\"", "int") + "Page = NewType('Page', dict)\n---\n",
        "no-edge",
        "operation 'count', pages: set[Page] makes no edge, though a model is in it",
        "run cell 4 again",
    ),
    "a result of models that came later": (
        op("count", gives="\"dict[str, 'Page']\"") + "Page = NewType('Page', dict)\n---\n",
        "no-edge",
        "operation 'count', return: dict[str, Page] makes no edge",
        "run cell 4 again",
    ),
    "a copied NewType that kept its name": (
        "Clean = NewType('A', dict)\n---\n" + op("load", gives="A") + op("use", "a: Clean", "int"),
        "twin-models",
        "A and Clean both go by the name 'A'",
        "Clean = NewType('Clean', …)",
    ),
    "a mark that was copied": (
        "One = Annotated[list, pulpo.Model('Ads')]\nTwo = Annotated[dict, pulpo.Model('Ads')]"
        "\n---\n" + op("load", gives="One") + op("use", "a: Two", "int"),
        "twin-models",
        "One and Two both go by the name 'Ads'",
        "Two = NewType('Two', …)",
    ),
    "a bare DataFrame": (
        op("use", "frame: pd.DataFrame", "int"),
        "bare-type",
        "is a bare DataFrame",
        "NewType('RawJobs', DataFrame)",
    ),
    "a result without an annotation": (
        "%%operation use\ndef use():\n    return 1\n---\n",
        "no-return-annotation",
        "'use' returns something",
        "def use(…) -> Model",
    ),
    "a model that nobody gives": (
        op("load", gives="A") + op("use", "b: B", "int"),
        "missing-model",
        "no operation gives B",
        "--param b=@variable",
    ),
    "a port that several can feed": (
        op("one", gives="A") + op("two", gives="A") + op("use", "x: A", "int"),
        "ambiguous-port",
        "takes one A, but 2 operations give one",
        "--bind x=one",
    ),
}


@pytest.mark.parametrize("what", WIRING)
def test_what_is_wrong_with_the_wiring_is_told_with_its_fix(book: Book, what: str) -> None:
    cells, code, message, fix = WIRING[what]
    book.story(TYPES + cells.removesuffix("\n---\n"))
    problem = book.problems(code)[0]
    assert len(book.problems(code)) == 1 or what.startswith("a copied")
    assert message in problem.message
    assert fix in problem.fix
    assert problem.cell.startswith("cell ")


#: Sessions in which all is as somebody may have meant it.
QUIET = {
    "one operation": op("load", gives="A"),
    "one operation that does it all": op("hello"),
    "jobs of their own": op("one") + op("two") + op("three"),
    "an end that gives a model": op("load", gives="A") + op("clean", "a: A", "B"),
    "an end that gives nothing": op("load", gives="A") + op("store", "a: A"),
    "several ends": op("load", gives="A") + op("x", "a: A", "B") + op("y", "a: A", "int"),
    "a chain of transforms": op("load", gives="A") + op("x", "a: A", "A") + op("y", "a: A", "A"),
    "a source that is left out by hand": (
        op("one", gives="A")
        + op("two", gives="A")
        + "%%operation use --bind x=one\ndef use(x: A) -> int:\n    return 1\n---\n"
    ),
    "a branch of its own in another group": (
        op("a.load", gives="A", function="al")
        + op("a.use", "x: A", "B", "au")
        + op("b.load", gives="A", function="bl")
        + op("b.use", "x: A", "B", "bu")
        + op("a.end", "x: B", "int", "ae")
    ),
    "all of several": op("one", gives="A") + op("two", gives="A") + op("use", "x: list[A]", "int"),
    "a first step that others come after": (
        op("hello")
        + "%%operation load --after hello\ndef load() -> A:\n    return 1\n---\n"
        + op("use", "a: A", "int")
    ),
    "lists that are parameters": (
        op("load", "cities: list, tags: Optional[list] = None", "A")
        + op("use", "a: A, sizes: list[int]", "list[str]")
    ),
    "another name for a model": (
        "Same = A\n---\n" + op("load", gives="A") + op("use", "x: Same", "int")
    ),
    "a model that was run again under another name too": (
        "Same = A\n---\nA = NewType('A', dict)\n---\n"
        + op("load", gives="A")
        + op("use", "x: A", "int")
    ),
    "part of what an operation gives": (op("load", gives="tuple[A, B]") + op("use", "a: A", "int")),
    "a model of a later cell": (
        op("load", gives="'Later'")
        + "Later = NewType('Later', dict)\n---\n"
        + op("use", "x: Later", "int")
    ),
    "functions that take models": (
        "from collections.abc import Callable\n---\n"
        + op("load", "how: Callable[[A], B], kind: type[A] = A", "A")
    ),
}
MEANT = {"ambiguous-port", "nearest-group", "missing-model"}


@pytest.mark.parametrize("what", QUIET)
def test_a_good_session_hears_nothing(book: Book, what: str) -> None:
    book.story(TYPES + QUIET[what].removesuffix("\n---\n"))
    assert [p for p in book.problems() if p.code not in MEANT] == []


def test_the_same_name_from_two_modules_is_told(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "first_models.py").write_text(f"from pydantic import BaseModel\n{AD}")
    book.run("from first_models import Ad", op("load", gives="Ad").removesuffix("\n---\n"))
    book.run(AD, op("use", "ad: Ad", "int").removesuffix("\n---\n"))
    problem = only(book.problems("split-model"))
    assert "takes the Ad of the notebook, but 'load' gives the Ad of first_models" in (
        problem.message
    )
    assert problem.severity == "warning"
    monkeypatch.delitem(sys.modules, "first_models")


# --- How it is said -------------------------------------------------------------------------------

SESSION = """
A = NewType("A", dict)
---
%%operation one
def one() -> A:
    return 1
---
%%operation two
def two() -> A:
    return 1
---
%%operation use
async def use(x: A, frame: pd.DataFrame) -> int:
    time.sleep(1)
    return 1
"""
SAID = """\
Errors
  cell 6: operation 'use': the port 'x' takes one A, but 2 operations give one: one, two.
    → Say which: --bind x=one; or take all of them: 'x: list[A]'.
Warnings
  cell 6: async operation 'use' calls time.sleep (line 3). Nothing else runs until that returns.
    → Use await asyncio.sleep(…); or make the operation a plain def, which runs in a thread.
Notes
  cell 6: operation 'use': the parameter 'frame' is a bare DataFrame, which makes no edge.
    → Name the data: RawJobs = NewType('RawJobs', DataFrame), and use RawJobs in the signatures.
1 error, 1 warning and 1 note in 3 operations."""


def test_the_check_is_grouped_by_severity_and_ends_with_a_count(book: Book) -> None:
    book.story(SESSION)
    assert book.run("%pulpo check") == SAID
    assert book.run("%pulpo check") == SAID
    assert "→ Say which" in book.session.check()._repr_html_()


def test_the_check_has_a_form_for_machines(book: Book) -> None:
    book.story(SESSION)
    content = json.loads(book.session.check().json())
    assert (content["operations"], content["errors"], content["notes"]) == (3, 1, 1)
    assert [each["code"] for each in content["problems"]] == [
        "ambiguous-port",
        "blocking-call",
        "bare-type",
    ]
    assert content["problems"][0]["candidates"] == ["one", "two"]


def test_without_problems_the_check_is_one_line(book: Book) -> None:
    book.run("%%operation one\ndef one() -> int:\n    return 1")
    assert book.run("%pulpo check") == "No problems in 1 operation."
    assert book.session.check().is_valid


def test_errors_can_be_raised(book: Book) -> None:
    book.session.check().raise_if_invalid()
    book.story(SESSION)
    with pytest.raises(CompileError, match="1 error, 1 warning and 1 note") as raised:
        book.session.check().raise_if_invalid()
    assert [problem.code for problem in raised.value.problems] == ["ambiguous-port"]


NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_hear_nothing(
    book: Book, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setenv("PULPO_IDLE", "1")
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    last = next(n for n, cell in enumerate(cells) if cell.startswith("%pulpo"))
    defined = [cell for cell in cells[:last] if "%load_ext" not in cell]
    book.run(*defined)
    assert len(book.session.operations) >= 6
    assert book.problems() == []
    book.run(*defined[1:])
    assert book.problems() == []
    book.run("'server' in globals() and server.close()")
