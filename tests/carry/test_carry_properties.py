"""Any small session: its operation is refused, or gives elsewhere what it gives here."""

from __future__ import annotations

import sys
import types

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from pulpo.carry import Carried
from pulpo.errors import CarryError

from .notebook import Notebook, run_here

NUMBERS = st.integers(0, 3)


def atoms(order: int) -> st.SearchStrategy[str]:
    """Expressions; functions call only those of a lower number, so that most sessions end."""
    calls = [f"f{n}()" for n in range(order)] + [f"f{n}(2)" for n in range(order)]
    return st.one_of(
        NUMBERS.map(str),
        NUMBERS.map("c{}".format),
        st.sampled_from(["K0.a", "K1.a", "K0().m()", "K1().m()"]) if order > 2 else st.just("7"),
        st.sampled_from(calls) if calls else st.just("8"),
    )


def expressions(order: int) -> st.SearchStrategy[str]:
    atom = atoms(order)
    return st.one_of(
        atom,
        st.lists(atom, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.tuples(atom, atom).map("({0[0]}, {0[1]})".format),
        atom.map("[c0 for c0 in ({},)]".format),
        atom.map("sorted([{}, 1], key=repr)".format),
        atom.map("{{'k': {}}}".format),
    )


@st.composite
def cells(draw: st.DrawFn) -> str:
    number = draw(NUMBERS)
    value = draw(expressions(4))
    inner = draw(expressions(number))
    default = draw(st.sampled_from(["", f"={draw(atoms(4))}"]))
    decorator = draw(st.sampled_from(["", "", "@twice\n"]))
    base = draw(st.sampled_from(["", "(K0)", "(K1)"]))
    return draw(
        st.sampled_from(
            [
                f"c{number} = {value}",
                f"c{number} = {value}",
                f"c{number}: list = {value}; extra = c{number}",
                f"c{number} += {value}",
                f"c{number}.append({value})",
                f"c{number} = c{(number + 1) % 4}",
                f"{decorator}def f{number}(x{default or '=5'}): return (x, {inner})",
                f"{decorator}def f{number}(x{default or '=5'}):\n    # read\n    return {inner}",
                f"def f{number}(x=0):\n    c{number}.append(x)\n    return {inner}",
                f"def f{number}(x=0):\n    global c{number}\n    c{number} = {inner}\n    return x",
                f"f{number} = f{(number + 3) % 4}",
                f"f{number} = twice(f{number})",
                f"f{number} = lambda x=1: (x, {inner})",
                f"class K{number % 2}{base}:\n    a = {value}\n    def m(self): return {inner}",
                f"K{number % 2}.a = {value}",
                f"del c{number}",
                f"for c{number} in range(2): pass",
                f"if c{number}:\n    c{number} = {value}",
                f"f{number}()",
            ]
        )
    )


# Everything is there from the start: what the cells do is change it.
START = [
    "def twice(g):\n    def inner(*args): return [g(*args), g(*args)]\n    return inner",
    "c0 = 1\nc1 = [c0, 2]\nc2 = (c0, c1)\nc3 = []",
    "class K0:\n    a = c0\n    def m(self): return self.a",
    "class K1(K0): pass",
    "def f0(x=0): return x\ndef f1(x=c0): return [f0(x)]\ndef f2(x=0): return f1(c2)\nf3 = f1",
]


def outcome(notebook: Notebook) -> Carried | CarryError:
    try:
        return notebook.carry("op")
    except CarryError as refusal:
        return refusal


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(cells(), min_size=1, max_size=8), st.lists(atoms(4), min_size=1, max_size=4))
@example(["c0 = c1", "c0 += c0", "if c0:\n    c0 = 0"], ["c0"])
@example(["K0.a = 0", "class K0:\n    a = f1()", "def f0(x=5): return (x, 7)"], ["K0.a"])
@example(["K0.a = f1()", "def f0(x=5): return (x, 7)"], ["K0.a"])
@example(["f0 = f3", "f0 = twice(f0)"], ["f0()"])
@example(["f1 = f0", "f3 = twice(f3)"], ["f1()", "f3()"])
@example(["c1: list = {'k': 1}; extra = c1", "c0 = c1", "if c1:\n    c1 = [K0.a]"], ["K0.a"])
@example(["f1 = twice(f1)", "f3 = f2", "f0 = f3"], ["f0()"])
@example(["c1 += c1", "c2 = c2"], ["c1"])
@example(["c0: list = c1; extra = c0", "c0 = K0.a", "c1.append(0)"], ["c1"])
@example(
    ["c1.append(0)", "c2 = c3", "c2.append(c1)", "def f3(x=0):\n    c3.append(x)"], ["c1", "c2"]
)
@example(
    [
        "c0 = sorted([f0(), 1], key=repr)",
        "c0 += 0",
        "c0 += 0",
        "def f0(x=0):\n    c0.append(x)\n    return [c0 for c0 in (7,)]",
    ],
    ["c0"],
)
@example(
    [
        "c0 = sorted([f0(), 1], key=repr)",
        "c0 = c0",
        "f2 = lambda x=1: (x, {'k': f0()})",
        "f3 = f2",
        "f0 = f3",
    ],
    ["c0"],
)
def test_a_session_is_refused_or_gives_elsewhere_what_it_gives_here(
    sources: list[str], results: list[str]
) -> None:
    real = sys.modules["__main__"]
    limit = sys.getrecursionlimit()
    try:
        notebook = Notebook(*START)
        for source in [*sources, f"def op(): return [{', '.join(results)}]"]:
            note(source)
            notebook.run(source, fails=True)
        # What is read while carrying must not change what is there.
        before = snapshot(notebook.names)
        carried = outcome(notebook)
        assert snapshot(notebook.names) == before
        if isinstance(carried, CarryError):
            note(str(carried))
            assert str(carried).startswith("operation 'op': cannot carry")
            return
        note(carried.text)
        try:
            live = repr(notebook["op"]())
        except Exception as error:  # the session's own fault: it must fail elsewhere too
            live = type(error).__name__
        try:
            there = run_here(carried, "op()")
        except ImportError:
            return  # verify() refuses it
        except Exception as error:
            there = type(error).__name__
        if not carried.warnings:
            assert there == live
    finally:
        sys.modules["__main__"] = real
        sys.setrecursionlimit(limit)


def snapshot(names: dict[str, object]) -> dict[str, str]:
    plain = (int, list, tuple, dict, str)
    found = {name: repr(value) for name, value in names.items() if isinstance(value, plain)}
    for name, value in names.items():
        if isinstance(value, type) and not isinstance(value, types.GenericAlias):
            found[name] = repr(value.__dict__.get("a"))
    return {name: text for name, text in found.items() if not name.startswith("__")}
