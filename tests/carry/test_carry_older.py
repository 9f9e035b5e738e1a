"""A cell that runs again makes its classes anew: what holds the old ones is told, if it matters."""

from __future__ import annotations

import pytest

from pulpo.carry import carry, verify
from pulpo.errors import CarryError

from .notebook import Notebook

# The cell that runs again, one that holds what it made, the operation, and who holds what.
HOLDS = {
    "a base class": (
        "class Base: pass",
        "class Sub(Base): pass",
        "issubclass(Sub, Base)",
        ("Sub", "Base"),
    ),
    "a base class of a model": (
        "from pydantic import BaseModel\nclass Base(BaseModel): id: int = 0",
        "class Cat(Base): pass\ndef is_base(x): return isinstance(x, Base)",
        "is_base(Cat())",
        ("Cat", "Base"),
    ),
    "a base class of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Event:\n    id: int = 0",
        "@dataclass\nclass Click(Event):\n    x: int = 1",
        "isinstance(Click(), Event)",
        ("Click", "Event"),
    ),
    "an abstract base": (
        "from abc import ABC\nclass Reader(ABC): pass",
        "class Csv(Reader): pass\nREADERS = {'csv': Csv}",
        "isinstance(READERS['csv'](), Reader)",
        ("Csv", "Reader"),
    ),
    "an exception": (
        "class AppError(Exception): pass",
        "class NotFound(AppError): pass\ndef find(): raise NotFound",
        "(find, AppError)",
        ("NotFound", "AppError"),
    ),
    "a field": (
        "from pydantic import BaseModel\nclass Item(BaseModel): x: int = 1",
        "class Basket(BaseModel): items: list[Item]",
        "Basket(items=[Item()])",
        ("Basket", "Item"),
    ),
    "an adapter": (
        "from pydantic import BaseModel, TypeAdapter\nclass Item(BaseModel): x: int = 1",
        "TA = TypeAdapter(list[Item])",
        "isinstance(TA.validate_python([{}])[0], Item)",
        ("TA", "Item"),
    ),
    "a tuple": ("class A: pass", "AB = (A, int)", "isinstance(A(), AB)", ("AB", "A")),
    "a union": ("class A: pass", "AB = A | int", "isinstance(A(), AB)", ("AB", "A")),
    "a key": ("class A: pass", "NAMES = {A: 'a'}", "NAMES.get(A)", ("NAMES", "A")),
    "a value": ("class A: pass", "KINDS = {'a': A}", "KINDS['a'] is A", ("KINDS", "A")),
    "a closure": (
        "class A: pass",
        "def maker(kind):\n    def make(): return kind()\n    return make\nnew = maker(A)",
        "isinstance(new(), A)",
        ("new", "A"),
    ),
    "a decorator": (
        "class Retry(Exception): pass",
        "def catching(kind):\n    def wrap(f):\n        def call():\n            try: return f()\n"
        "            except kind: return 1\n        return call\n    return wrap\n"
        "@catching(Retry)\ndef work(): raise Retry",
        "work()",
        ("work", "Retry"),
    ),
    "a partial": (
        "class A:\n    def __init__(self, n): pass",
        "from functools import partial\nnew = partial(A, 3)",
        "isinstance(new(), A)",
        ("new", "A"),
    ),
    "an attribute of a class": (
        "class A: pass",
        "class B:\n    kinds = {'a': A}",
        "isinstance(B.kinds['a'](), A)",
        ("B", "A"),
    ),
    "a member of an enum": (
        "import enum\nclass Mode(enum.Enum): FAST = 1",
        "class Job:\n    mode = Mode.FAST\n    def ok(self): return self.mode is Mode.FAST",
        "Job().ok()",
        ("Job", "Mode"),
    ),
    "a dispatcher": (
        "class A: pass",
        "from functools import singledispatch\n@singledispatch\ndef say(x): return 0\n"
        "@say.register\ndef _(x: A): return 1",
        "say(A())",
        ("say", "A"),
    ),
    "a mark": (
        "MISSING = object()",
        "def f(x=MISSING): return x is MISSING",
        "f()",
        ("f", "MISSING"),
    ),
    "a mark of a class": (
        "class Missing: pass\nMISSING = Missing()",
        "def f(x=MISSING): return x is MISSING",
        "f()",
        ("f", "MISSING"),
    ),
}


def told_of(*cells: str, again: int = 0) -> tuple[str, ...]:
    """Return what is told of cells when one of them ran again before the last, ``op``."""
    book = Notebook(*cells[:-1])
    if again:
        book.run(cells[again - 1])
    book.run(cells[-1])
    carried = carry(book.recorder, {"op": book["op"]})
    differs = verify(
        carried.text,
        digests=carried.digests,
        kept=carried.kept,
        settings=carried.settings,
        twice=carried.twice,
    )
    return (*carried.warnings, *differs)


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_what_a_cell_made_before_it_ran_again_is_told(name: str) -> None:
    cell, holds, used, (holder, held) = HOLDS[name]
    operation = f"def op(): return {used}"
    assert told_of(cell, holds, operation) == ()
    [warning] = told_of(cell, holds, operation, again=1)
    assert warning.startswith(f"{holder!r} (cell 2) holds an older {held!r}")
    assert " uses that of cell 3; in the export they are one: run cell 2 again" in warning
    # Which is the fix.
    assert told_of(cell, "pass", cell, holds, operation) == ()


# What runs again, what holds it, and an operation that knows no other.
ALONE = {
    "a base class": ("class Base: pass", "class Sub(Base): pass", "def op(): return Sub()"),
    "a base class whose method is called": (
        "class Base:\n    def __init__(self): pass",
        "class Sub(Base):\n    def __init__(self): Base.__init__(self)",
        "def op(): return Sub()",
    ),
    "a base class of which a number is read": (
        "class Base: limit = 3",
        "class Sub(Base): pass",
        "def op(): return Sub().limit + Base.limit",
    ),
    "a field": (
        "from pydantic import BaseModel\nclass Item(BaseModel): x: int = 1",
        "class Basket(BaseModel): items: list[Item]",
        "def op(one: Item) -> Basket: return Basket(items=[{'x': 1}])",
    ),
    "a field that nothing checks": (
        "from dataclasses import dataclass\n@dataclass\nclass Item: x: int = 1",
        "@dataclass\nclass Basket:\n    items: list[Item]",
        "def op() -> Basket: return Basket([Item()])",
    ),
    "a union in an annotation": (
        "class A: pass",
        "AB = A | int",
        "def op(x: AB = 1) -> AB: return A()",
    ),
    "a model of an operation": (
        "from pydantic import BaseModel\nclass Item(BaseModel): x: int = 1",
        "def make() -> Item: return Item()",
        "def op(x: int = 1) -> Item: return make()",
    ),
    "a table": ("class A: pass", "KINDS = {'a': A}", "def op(): return KINDS['a']()"),
    # Both are carried then.
    "another name": ("class A: pass", "B = A", "def op(): return isinstance(A(), B)"),
    "what nothing holds": ("class A: pass", "x = 1", "def op(): return A(), x"),
}


@pytest.mark.parametrize("name", ALONE)
def test_that_a_cell_ran_again_is_not_told_where_nothing_differs(name: str) -> None:
    assert told_of(*ALONE[name], again=1) == ()


def test_a_base_that_was_edited_is_told_once() -> None:
    cells = ("class Base: pass", "class Sub(Base): pass", "class Base: x = 1")
    [warning] = told_of(*cells, "def op(): return isinstance(Sub(), Base)")
    assert "was made with an older 'Base'" in warning


def test_all_cells_that_a_registry_was_made_in_are_to_run_again() -> None:
    book = Notebook("class A: pass", "KINDS = {}", "KINDS[A] = 'a'", "class A: pass")
    book.run("def op(): return KINDS.get(A)")
    [warning] = carry(book.recorder, {"op": book["op"]}).warnings
    assert warning.endswith("run cells 2 and 3 again")


_LIBRARIES = (
    "import re\nfrom dataclasses import dataclass, field\nfrom functools import partialmethod\n"
    "from typing import NamedTuple\nfrom pydantic import BaseModel, Field, PrivateAttr\n"
    "from pydantic import field_validator\nimport attrs\n"
)
# A class and how it was edited; what no annotation, plain attribute or body of a method shows.
EDITS = {
    "a default of a method": "class M:\n    def __init__(self, k={}): self.k = k",
    "a keyword's default": "class M:\n    def f(self, *, k={}): return k",
    "a pattern": "class M:\n    k = re.compile('{}')",
    "a class inside": "class M:\n    class In:\n        k = {}",
    "a bound method": "class M:\n    def f(self, k): return k\n    g = partialmethod(f, {})",
    "a factory": "@dataclass\nclass M:\n    k: list = field(default_factory=lambda: [{}])",
    "what is in its repr": "@dataclass\nclass M:\n    k: int = field(default=1, repr=bool({} - 1))",
    "a default of a tuple": "class M(NamedTuple):\n    k: int = {}",
    "a default of attrs": "@attrs.define\nclass M:\n    k: int = {}",
    "a default of pydantic": "class M(BaseModel):\n    k: int = {}",
    "a constraint": "class M(BaseModel):\n    k: int = Field(5, ge={})",
    "a factory of pydantic": "class M(BaseModel):\n"
    "    k: list = Field(default_factory=lambda: [{}])",
    "settings": "class M(BaseModel):\n    model_config = {{'frozen': bool({} - 1)}}",
    "a private attribute": "class M(BaseModel):\n    _k: int = PrivateAttr({})",
    "a global default": "K = {}\nclass M:\n    def f(self, k=K): return k",
    "a global default of pydantic": "K = {}\nclass M(BaseModel):\n    k: int = K",
    "a global constraint": "K = {}\nclass M(BaseModel):\n    k: int = Field(5, ge=K)",
    "a global factory": "K = {}\n@dataclass\nclass M:\n    k: list = field(default_factory=list)\n"
    "    n: int = field(default=1, metadata={{'k': K}})",
}
HOLDERS = {
    "a class": "class S(M): pass\ndef op(): return S",
    "a default": "def h(c=M): return c\ndef op(): return h()",
    "a field": "class R(BaseModel, arbitrary_types_allowed=True):\n    m: list[M] = []\n"
    "def op(): return R()",
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_seen_by_what_holds_the_class_of_before(edit: str, holder: str) -> None:
    text = EDITS[edit]
    book = Notebook(_LIBRARIES, text.format(1), HOLDERS[holder])
    assert carry(book.recorder, {"op": book["op"]}).warnings == ()
    book.run(text.format(1))
    assert carry(book.recorder, {"op": book["op"]}).warnings == ()
    book.run(text.format(2))
    warnings = carry(book.recorder, {"op": book["op"]}).warnings
    assert any("an older 'M'" in one and "un cell 3 again" in one for one in warnings), warnings


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_seen_by_a_table_of_before(edit: str) -> None:
    book = Notebook(_LIBRARIES, EDITS[edit].format(1), "KINDS = {'m': M}")
    book.run("def op(): return KINDS['m']")
    book.run(EDITS[edit].format(2))
    with pytest.raises(CarryError, match=r"'KINDS' .* from an older 'M'.* Run cell 3 again"):
        carry(book.recorder, {"op": book["op"]})


def test_a_docstring_of_a_class_is_no_edit() -> None:
    cell = "class M:\n    '''{}'''\n    def f(self): return 1"
    book = Notebook(cell.format(1), "KINDS = {'m': M}\ndef op(): return KINDS['m']")
    book.run(cell.format(2))
    assert carry(book.recorder, {"op": book["op"]}).warnings == ()


def test_a_metaclass_without_a_hash_fails_no_export() -> None:
    cell = "class Meta(type):\n    def __eq__(cls, other): return cls is other\n"
    cell += "class M(metaclass=Meta):\n    k = {}"
    book = Notebook(cell.format(1), "def h(c=M): return c\ndef op(): return h().k")
    book.run(cell.format(2))
    warnings = carry(book.recorder, {"op": book["op"]}).warnings
    assert any("an older 'M'" in one for one in warnings), warnings
