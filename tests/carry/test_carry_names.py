"""Global names by the walk over the tree, held against Python's own symbol tables."""

from __future__ import annotations

import ast
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulpo.carry.names import names_of
from pulpo.carry.text import rename_function, split, strip_decorators, trim_import


def globals_by_symtable(source: str) -> set[str]:
    """Every name that functions of a text read from the module, annotations left out."""
    # With this line Python keeps annotations out of its tables.
    text = "from __future__ import annotations\n" + source
    return set(_inner(symtable.symtable(text, "<text>", "exec"), top=True))


def _inner(table: symtable.SymbolTable, *, top: bool = False) -> Iterator[str]:
    if not top and table.get_type() == "function":
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                yield symbol.get_name()
    for child in table.get_children():
        yield from _inner(child)


STANDARD_LIBRARY = sorted(Path(ast.__file__).parent.glob("*.py"))[::9]


@pytest.mark.parametrize("file", STANDARD_LIBRARY, ids=lambda file: file.name)
def test_it_agrees_with_pythons_symbol_tables(file: Path) -> None:
    source = file.read_text(encoding="utf-8", errors="replace")
    for node, text in split(source):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        names = names_of(node, lazy_annotations=True)
        # What the walk also finds and the tables lack: names of lambdas and class bodies.
        found = {*names.now, *names.later, *names.binds, *names.hints}
        assert globals_by_symtable(text) - {"__class__"} <= found


@pytest.mark.parametrize("file", STANDARD_LIBRARY, ids=lambda file: file.name)
def test_what_is_cut_into_statements_says_the_same_when_joined(file: Path) -> None:
    source = file.read_text(encoding="utf-8", errors="replace")
    joined = "\n".join(text for _, text in split(source))
    assert ast.dump(ast.parse(joined)) == ast.dump(ast.parse(source))
    comments = [line for line in source.split("\n") if line.startswith("#")]
    assert [line for line in joined.split("\n") if line.startswith("#")] == comments


@pytest.mark.parametrize(
    ("source", "now", "later", "hints"),
    [
        ("def f(a=D, *b: T, c: 'U' = E) -> R: return a + g", "D E T R", "g", "U"),
        ("class A(B, metaclass=M):\n    x: T = y\n    def m(self) -> R: return z", "B M y T R", "z",
         ""),
        ("class A:\n    y = 1\n    x = y\n    def m(self): return y", "", "y", ""),
        ("class A:\n    date: date = date(1)", "date", "", ""),
        ("x = [a for a in b if a > c for d in a]", "b c", "", ""),
        ("x = lambda a=b: a + c", "b", "c", ""),
        ("def f():\n    global g\n    g = 1\n    return h", "", "h", ""),
        ("def f(x):\n    def g():\n        nonlocal x\n        x = y\n    return g", "", "y", ""),
        ("def f():\n    x: Local = 1\n    return x", "", "", "Local"),
        ("x: Literal['a'] | Annotated['b', g('c')] = 1", "Literal Annotated g", "", "b"),
        ("def f():\n    import json\n    return json, sep", "", "sep", ""),
        ("try:\n    import a\nexcept ImportError as e:\n    a = e", "ImportError", "", ""),
        ("def f(v):\n    match v:\n        case {'k': C(x=y), **z}: return y, q", "", "C q", ""),
        ("x = (y := z) + y", "z", "", ""),
        ("x = [w := i for i in r]", "r", "", ""),
        ("x += y", "y x", "", ""),
        ("with a as b, c(b): d(b)", "a c d", "", ""),
        ("for i in j: k(i)", "j k", "", ""),
        ("def f(): return [x for x in y if (z := x)], z", "", "y", ""),
        ("async def f():\n    async for x in y: await z(x)", "", "y z", ""),
        ("def f():\n    class K(B):\n        a = b\n        def m(s): return a", "", "B b a", ""),
    ],
)  # fmt: skip
def test_names_are_told_by_when_they_are_needed(
    source: str, now: str, later: str, hints: str
) -> None:
    names = names_of(ast.parse(source).body[0])
    found = (set(names.now), set(names.later), set(names.hints))
    assert found == (set(now.split()), set(later.split()), set(hints.split()))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f[T: B](x: T) -> list[T]: return g(x)", {"B", "list", "g"}),
        ("class A[T](Base[T]):\n    x: T", {"Base"}),
        ("type P[T] = tuple[T, Q]", {"tuple", "Q"}),
    ],
)
def test_type_parameters_are_no_global_names(source: str, found: set[str]) -> None:
    names = names_of(ast.parse(source).body[0])
    assert {*names.now, *names.later, *names.hints} == found


def test_what_functions_change_is_told_from_what_they_read() -> None:
    source = (
        "def f(own):\n    global n\n    n += 1\n    A.append(1)\n    B['x'] = 2\n    C.d.e = 3\n"
        "    own.append(1)\n    local = []\n    local.append(D)\n    del E[0]\n"
        "    setattr(F, 'x', 1)"
    )
    names = names_of(ast.parse(source).body[0])
    assert names.rebinds == ("n",)
    assert set(names.mutates) == {"n", "A", "B", "C", "E", "F"}
    assert names_of(ast.parse("A.b['c'].append(x)").body[0]).touches == ("A",)


CELL = """\
# opening words

# about a
a = 1  # one
# below a

b = (
    2,  # two
)
# about f
@deco  # why
# between
def f():
    return 1
    # end of f
# about c
c = 'ü'; d = '''
# no comment
'''; e = 3  # last
# the end
"""


def test_comments_go_with_their_statement() -> None:
    assert [text for _, text in split(CELL)] == [
        "# opening words\n\n# about a\na = 1  # one\n# below a",
        "b = (\n    2,  # two\n)",
        "# about f\n@deco  # why\n# between\ndef f():\n    return 1\n    # end of f",
        "# about c\nc = 'ü'",
        "d = '''\n# no comment\n'''",
        "e = 3  # last\n# the end",
    ]


def test_decorators_are_taken_out_and_the_rest_stays() -> None:
    text = "# top\n@a(\n    1,  # x\n)\n# mid\n@b\n@(\n    a\n)\ndef f(): pass  # end"
    assert strip_decorators(text, lambda node: "a" in ast.unparse(node)) == (
        "# top\n# mid\n@b\ndef f(): pass  # end"
    )


def test_a_function_is_renamed_with_its_calls_of_itself() -> None:
    text = "@x\nasync  def  ä(n):  # ä\n    'ä'; return 'ü', ä(n), [ä for _ in n], n.ä"
    assert rename_function(text, "neu") == (
        "@x\nasync  def  neu(n):  # ä\n    'ä'; return 'ü', neu(n), [neu for _ in n], n.ä"
    )


@pytest.mark.parametrize(
    ("text", "needed", "line"),
    [
        ("import a, b as c  # x", ["c"], "import b as c  # x"),
        ("import a.b.c, d", ["a"], "import a.b.c"),
        ("from m import (\n    a,  # x\n    b,\n)", ["a"], "from m import a"),
        ("from  m  import a", ["a"], "from  m  import a"),
        ("# top\nfrom m import *", ["x", "y"], "# top\nfrom m import x, y"),
    ],
)
def test_imports_are_cut_down_to_what_is_needed(text: str, needed: list[str], line: str) -> None:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.Import | ast.ImportFrom)
    assert trim_import(node, text, names_of(node).binds, needed) == line
