"""A cache that calls have filled is told where its results may not be what calls give anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pulpo.carry import carry

from .notebook import Notebook

IMPORTS = (
    "from functools import cache, lru_cache\nfrom dataclasses import dataclass\n"
    "from pydantic import BaseModel\nimport pandas as pd\n"
)
WORDS = "@lru_cache\ndef words(): return ['a']"
# How the function is made, what a cell does then, and the function.
CHANGED = {
    "a list": (WORDS, "words().append('b')", "words"),
    "without an end": ("@cache\ndef words(): return ['a']", "words().append('b')", "words"),
    "an item": ("@cache\ndef config(): return {'a': 1}", "config()['a'] = 2", "config"),
    "by another name": (
        "@cache\ndef config(): return {'a': 1}",
        "cfg = config()\ncfg['a'] = 2",
        "config",
    ),
    "in a loop": (
        "@cache\ndef rows(): return [{'a': 1}]",
        "for row in rows():\n    row['a'] = 2",
        "rows",
    ),
    "a part": (
        "@cache\ndef config(): return {'a': []}",
        "config().get('a').append(1)",
        "config",
    ),
    "in a function": (
        WORDS,
        "def more(n):\n    own = words()\n    own.append(n)\nmore(1)",
        "words",
    ),
    "by a function that is given it": (
        WORDS,
        "def more(own, n): own.append(n)\nmore(words(), 1)",
        "words",
    ),
    "by a function that gives it on": (
        WORDS,
        "def all_words(): return words()\nall_words().append(1)",
        "words",
    ),
    "a frame": (
        "@cache\ndef table(): return pd.DataFrame({'a': [1]})",
        "table()['b'] = 2",
        "table",
    ),
    "a model": (
        "class S(BaseModel): host: str = ''\n@cache\ndef settings(): return S()",
        "settings().host = 'x'",
        "settings",
    ),
    "a method of it": (
        "class S:\n    n = 0\n    def __init__(self): self.n = 0\n    def up(self): self.n += 1\n"
        "@cache\ndef state(): return S()",
        "state().up()",
        "state",
    ),
    "of a static method": (
        "class R:\n    @staticmethod\n    @lru_cache\n    def words(): return ['a']",
        "R.words().append('b')",
        "R.words",
    ),
    "of cachetools": (
        "from cachetools import LRUCache, cached\n@cached(LRUCache(9))\ndef words(): return ['a']",
        "words().append('b')",
        "words",
    ),
    "whoever has the function": (
        WORDS,
        "def call(f): return f()\ncall(words).append(1)",
        "words",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_kept_result_that_was_changed_is_told(name: str) -> None:
    function, change, called = CHANGED[name]
    book = Notebook(IMPORTS + function, change, f"def op(): return {called}()")
    told = carry(book.recorder, {"op": book["op"]}).warnings
    [warning] = [one for one in told if "keeps what it gave" in one]
    assert warning.startswith(f"{called!r} keeps what it gave, which cell 2 may have changed")
    eval(f"{called}.cache_clear()", book.names)
    told = carry(book.recorder, {"op": book["op"]}).warnings
    assert not [one for one in told if "keeps what it gave" in one]


READ = {
    "what cannot change": ("@cache\ndef square(n): return n * n", "square(2) + 1", "square(2)"),
    "nothing called": (WORDS, "x = 1", "words().append(1)"),
    "shown": (WORDS, "words()", "words()"),
    "printed": (WORDS, "print(words()[0], len(words()), words() == 1)", "list(words())"),
    "by another name": (WORDS, "own = words()\n'-'.join(own)", "words()"),
    "a name that is another's": (
        "@cache\ndef table(): return pd.DataFrame({'a': [1]})",
        "df = table()\ndef change(df): df['b'] = 1",
        "table().sum()",
    ),
    "a new list": (WORDS, "new = [w for w in words()]\nnew.append(1)", "words()"),
    "settings": (
        "class S(BaseModel): host: str = ''\n@lru_cache\ndef settings(): return S()",
        "settings().host",
        "settings().host.upper()",
    ),
    "what is frozen": (
        "@dataclass(frozen=True)\nclass S:\n    host: str = ''\n@cache\ndef settings(): return S()",
        "setattr(settings, 'x', 1)\ndel settings.x",
        "settings()",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_kept_result_that_was_only_read_is_not_told(name: str) -> None:
    function, read, used = READ[name]
    book = Notebook(IMPORTS + function, read, f"def op(): return {used}")
    assert carry(book.recorder, {"op": book["op"]}).warnings == ()


def test_a_cache_that_is_older_than_what_its_class_holds_is_told() -> None:
    book = Notebook(
        "from functools import lru_cache",
        "class R:\n    rate = 2\n    @lru_cache\n    def price(self, n): return n * self.rate\n"
        "r = R()",
        "r.price(5)",
        "R.rate = 10",
        "def op(): return R.price",
    )
    [warning] = book.carry("op").warnings
    assert warning == (
        "'R.price' may remember results from before cell 4 changed 'R', which the export does not: "
        "R.price.cache_clear() shows the same here"
    )


def test_who_asks_what_a_cache_keeps_is_told() -> None:
    book = Notebook(f"{IMPORTS}@cache\ndef f(n): return n", "f(1)")
    book.run("def op(): return f.cache_info().currsize")
    [warning] = book.carry("op").warnings
    assert warning.startswith("'op' asks 'f' what it keeps")
    book["f"].cache_clear()
    assert book.carry("op").warnings == ()


def test_a_cache_of_a_module_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pulpo_keeps.py").write_text(
        "from functools import cache\n@cache\ndef words(): return ['a']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    book = Notebook("import pulpo_keeps", "pulpo_keeps.words()")
    book.run("def op(): return pulpo_keeps.words()")

    def told() -> list[str]:
        warnings = carry(book.recorder, {"op": book["op"]}, root=tmp_path).warnings
        return [one for one in warnings if "keeps what it gave" in one]

    assert told() == []
    book.run("pulpo_keeps.words().append('b')")
    [warning] = told()
    assert warning.startswith("'pulpo_keeps.words' keeps what it gave, which cell 4 may have")
    sys.modules.pop("pulpo_keeps")


def test_a_constant_that_was_set_anew_after_the_function_was_called_is_told() -> None:
    book = Notebook(
        "import functools\n@functools.lru_cache\ndef f(x): return x * K",
        "K = 2",
        "f(3)",
        "def op(): return f(3)",
    )
    assert book.carry("op").warnings == ()
    book.run("K = 2")
    assert book.carry("op").warnings == ()
    book.run("K = 5")
    [said] = book.carry("op").warnings
    assert said.startswith("'f' may remember results from before 'K' was defined again (cell 6)")


def test_a_cache_that_was_cleared_since_is_not_told() -> None:
    book = Notebook(
        "import functools\n@functools.lru_cache\ndef f(x): return g(x) * K\nK = 2",
        "def g(x): return x",
        "f(3)",
        "def g(x): return x + 100",
        "def op(): return f(3)",
    )
    assert len(book.carry("op").warnings) == 1
    book.run("f.cache_clear()")
    book.run("f(3)")
    assert book.carry("op").warnings == ()
    book.run("K = 5; f.cache_clear()\nf(3)")
    assert book.carry("op").warnings == ()
    book.run("K = 6")
    assert len(book.carry("op").warnings) == 1


def test_a_cache_in_a_closure_of_a_library_is_told() -> None:
    made = "@toolz.memoize\ndef f(x): return x * K"
    book = Notebook("import toolz\nK = 2", made, "f(3)", "def op(): return f(3)")
    assert book.carry("op").warnings == ()
    book.run("K = 5")
    [said] = book.carry("op").warnings
    assert said.endswith("which the export does not: running cell 2 again shows the same here")
    book.run(made)
    assert book.carry("op").warnings == ()
