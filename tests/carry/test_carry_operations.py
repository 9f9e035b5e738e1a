"""Operations among what is carried: names, decorators, stand-ins, order, verification."""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import pytest

from pulpo.carry import Recorder, carry, verify
from pulpo.errors import CarryError, ExportError

from .notebook import Notebook, run_elsewhere, run_here


@pytest.fixture
def fake_pulpo(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The two names of pulpo that cells use, without the rest of it."""
    import pulpo

    module = types.ModuleType("pulpo.operations")
    code = (
        "def operation(*, name, **flags):\n    return lambda function: function\n"
        "class Model:\n    def __init__(self, name): self.name = name\n"
        "class Registry:\n    def register(self, name): return lambda function: function\n"
    )
    exec(code, vars(module))
    for name in ("operation", "Model", "Registry"):
        monkeypatch.setattr(pulpo, name, getattr(module, name), raising=False)
    return module


@pytest.mark.usefixtures("fake_pulpo")
@pytest.mark.parametrize(
    ("line", "decorator"),
    [
        ("import pulpo", "@pulpo.operation(name='a.x', retries=2)  # twice"),
        ("import pulpo as p", "@p.operation(\n    name='a.x',\n    retries=2,\n)"),
        ("from pulpo import operation", "@operation(name='a.x')"),
        ("from pulpo import operation as op_", "@op_(name='a.x')"),
        ("from pulpo import operation\nmark = operation", "@mark(name='a.x')"),
        (
            "from functools import partial\nfrom pulpo import operation\n"
            "mark = partial(operation, retries=2)",
            "@mark(name='a.x')",
        ),
        ("from pulpo import Registry\nregistry = Registry()", "@registry.register('a.x')"),
    ],
)
def test_the_decorator_is_left_out_whatever_it_is_called(line: str, decorator: str) -> None:
    notebook = Notebook(
        f"import functools\n{line}",
        f"# the task\n{decorator}\n@functools.lru_cache  # remember\ndef op():\n    return 1",
    )
    carried = notebook.carry("op")
    assert "pulpo" not in carried.text
    assert "name=" not in carried.text
    assert "# the task\n@functools.lru_cache  # remember\ndef op():" in carried.text
    assert run_here(carried, "op()") == "1"


@pytest.mark.usefixtures("fake_pulpo")
@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("import pulpo", "pulpo.Model"),
        ("from pulpo import Model", "Model"),
        ("from pulpo import Model as M", "M"),
    ],
)
def test_a_model_name_in_metadata_needs_no_pulpo(line: str, model: str, tmp_path: Path) -> None:
    notebook = Notebook(
        f"from typing import Annotated\n{line}",
        f"Raw = Annotated[dict, {model}('Raw')]",
        f"def op(x: Annotated[int, {model}('N')] = 1) -> Raw: return {{'x': x}}",
    )
    carried = notebook.carry("op")
    assert "import pulpo" not in carried.text
    assert "pulpo" not in carried.packages
    expression = "(op(), op.__annotations__['return'].__metadata__[0].name)"
    assert run_elsewhere(carried, expression, tmp_path) == "({'x': 1}, 'Raw')"


def test_two_operations_of_one_function_name_are_both_carried() -> None:
    notebook = Notebook("def helper(x): return x")
    notebook.run("def merge(n):\n    return 'first', n and merge(n - 1)  # merge again")
    first = notebook["merge"]
    notebook.run("def merge(n):\n    return 'second', helper(n)")
    functions = {"a.merge": first, "b.merge": notebook["merge"]}
    carried = carry(notebook.recorder, functions)
    assert carried.identifiers == {"a.merge": "merge_2", "b.merge": "merge"}
    assert "n and merge_2(n - 1)  # merge again" in carried.text
    assert run_here(carried, "merge_2(1), merge(1)") == "(('first', ('first', 0)), ('second', 1))"


def test_two_operations_of_one_name_in_one_cell_are_both_carried() -> None:
    notebook = Notebook(
        "kept = []\ndef keep(f):\n    kept.append(f)\n    return f",
        "@keep\ndef x(): return 1\n@keep\ndef x(): return 2",
    )
    first, second = notebook["kept"]
    # The decorator stands in for pulpo's, which is stripped; this one is carried with its list.
    notebook.run("kept.clear()")
    carried = carry(notebook.recorder, {"a": first, "b": second})
    names = carried.identifiers
    assert run_here(carried, f"{names['a']}(), {names['b']}()") == "(1, 2)"


def test_a_function_that_cannot_be_renamed_is_refused() -> None:
    notebook = Notebook("def merge(merge): return merge")
    first = notebook["merge"]
    notebook.run("def merge(n): return n")
    with pytest.raises(CarryError, match="operation 'a': another definition is called 'merge'"):
        carry(notebook.recorder, {"a": first, "b": notebook["merge"]})


def test_a_new_name_is_not_one_that_is_taken() -> None:
    notebook = Notebook("merge_2 = 'mine'", "def merge(): return merge_2")
    first = notebook["merge"]
    notebook.run("def merge(): return 2")
    carried = carry(notebook.recorder, {"a": first, "b": notebook["merge"]})
    assert carried.identifiers["a"] == "merge_3"
    assert run_here(carried, "merge_3(), merge()") == "('mine', 2)"


def test_one_function_may_be_several_operations() -> None:
    notebook = Notebook("def f(): return 1")
    carried = carry(notebook.recorder, {"a": notebook["f"], "b": notebook["f"]})
    assert carried.identifiers == {"a": "f", "b": "f"}
    assert carried.text.count("def f()") == 1


def test_an_operation_may_call_another_one() -> None:
    notebook = Notebook("def a(): return 1", "def b(): return a() + 1")
    carried = notebook.carry("b", "a")
    assert run_here(carried, "b()") == "2"
    assert carried.text.count("def a()") == 1


def test_the_text_has_sections_in_order() -> None:
    notebook = Notebook(
        "def op(a: 'M') -> int:\n    return helper(a)",
        "def helper(a): return LIMIT + len(os.sep)",
        "class M: pass",
        "LIMIT = 1",
        "import os",
    )
    text = notebook.carry("op").text
    parts = ["import os", "LIMIT = 1", "class M", "def helper", "def op"]
    assert sorted(parts, key=text.index) == parts


def test_operations_stand_in_the_order_of_their_registration() -> None:
    notebook = Notebook("def a(): pass", "def b(): pass", "def c(): pass")
    text = notebook.carry("c", "a", "b").text
    assert text.index("def c") < text.index("def a") < text.index("def b")


def test_a_cell_that_ran_again_keeps_its_place() -> None:
    cells = ["X = 1", "Y = 2", "def op(): return X, Y"]
    again = Notebook(*cells, "X = 1")
    assert again.carry("op").text == Notebook(*cells).carry("op").text


def test_further_names_are_bound() -> None:
    notebook = Notebook("class Raw: pass\nfrom decimal import Decimal as D", "def op(): pass")
    carried = notebook.carry("op", also=["Raw", "D", "int"])
    assert "class Raw" in carried.text
    assert "from decimal import Decimal as D" in carried.text
    with pytest.raises(CarryError, match=r"cannot carry 'Rav': it is not defined.*'Raw'"):
        notebook.carry("op", also=["Rav"])


def test_the_packages_are_those_to_install() -> None:
    notebook = Notebook(
        "import os, httpx\nfrom pydantic import BaseModel\nimport pandas",
        "class M(BaseModel): pass\ndef op() -> M:\n    import bs4\n    return httpx, os, M()",
    )
    assert notebook.carry("op").packages == ("bs4", "httpx", "pydantic")


def test_the_future_import_comes_first_and_only_if_it_held() -> None:
    notebook = Notebook("import os\ndef early(): return os.sep")
    notebook.run("'''A cell.'''\nfrom __future__ import annotations\nimport re")
    notebook.run("def late(x: NotThere = 1): return re")
    assert notebook.carry("late").text.startswith("from __future__ import annotations\n\nimport re")
    assert "__future__" not in notebook.carry("early").text
    both = notebook.carry("early", "late")
    assert both.text.count("__future__") == 1
    assert run_here(both, "late().__name__, early()") == repr(("re", notebook["early"]()))


def test_display_becomes_print_and_says_so() -> None:
    notebook = Notebook("def op(): display(1)")
    notebook.names["display"] = print
    carried = notebook.carry("op")
    assert carried.warnings == ("'display' becomes 'print' in the export (used by op)",)
    verify(carried.text)


def test_ipythons_own_open_is_the_builtin_one() -> None:
    notebook = Notebook("def op():\n    with open(__import__('os').devnull) as f: return f.read()")
    notebook.names["open"] = lambda *a, **k: pytest.fail("IPython's")
    assert run_here(notebook.carry("op"), "op()") == "''"


def test_a_lambda_may_be_an_operation() -> None:
    notebook = Notebook("K = 2", "double = lambda x: x * K")
    carried = carry(notebook.recorder, {"a.double": notebook["double"]})
    assert carried.identifiers == {"a.double": "double"}
    assert run_here(carried, "double(4)") == "8"


def test_an_operation_behind_an_alias_goes_by_its_own_name() -> None:
    notebook = Notebook("def f(): return 1", "g = f\ndel f")
    carried = carry(notebook.recorder, {"a": notebook["g"]})
    assert run_here(carried, f"{carried.identifiers['a']}()") == "1"


def test_a_function_of_a_module_is_imported() -> None:
    import json
    import textwrap

    notebook = Notebook("def dumps(): return 'mine'")
    functions: dict[str, Any] = {
        "a": json.dumps,
        "b": notebook["dumps"],
        "c": textwrap.TextWrapper.wrap,
        "d": textwrap.TextWrapper.fill,
    }
    carried = carry(notebook.recorder, functions)
    assert carried.identifiers == {
        "a": "dumps_2",
        "b": "dumps",
        "c": "TextWrapper.wrap",
        "d": "TextWrapper.fill",
    }
    assert list(carried.identifiers) == ["a", "b", "c", "d"]
    assert "from json import dumps as dumps_2" in carried.text
    assert carried.text.count("import TextWrapper") == 1
    assert run_here(carried, "dumps_2([1]), dumps()") == "('[1]', 'mine')"


def test_no_functions_give_an_empty_text() -> None:
    carried = carry(Recorder({}), {})
    assert (carried.text, dict(carried.identifiers), carried.packages) == ("", {}, ())


def test_verify_accepts_what_runs(tmp_path: Path) -> None:
    (tmp_path / "beside_me.py").write_text("X = 1\n")
    assert verify("import beside_me\n", tmp_path) == ()


@pytest.mark.parametrize("line", ["import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_a_text_that_ends_the_process_is_refused(line: str) -> None:
    with pytest.raises(CarryError, match=r"ends the process that imports it\. Leave out"):
        verify(f"print('{{')\n{line}\n")


def test_verify_tells_where_it_failed_and_the_last_line_of_the_traceback() -> None:
    says = r"fresh process at '1 / 0': ZeroDivisionError: division by zero\. Restart"
    with pytest.raises(CarryError, match=says):
        verify("x = 1\n\n\n1 / 0\n")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("def f(x=open('pulpo_gone.json').read()): pass\n", "read it inside an operation"),
        ("import pulpo_nowhere\n", "Install it, or put it beside the notebook"),
    ],
)
def test_verify_names_the_way_out_of_what_is_not_there(text: str, fix: str) -> None:
    with pytest.raises(CarryError, match=fix) as refusal:
        verify(text)
    assert repr(text.strip()) in str(refusal.value)


def test_verify_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ExportError, match=r"cannot try the export .* room in .*gone .TMPDIR names"):
        verify("x = 1\n")


def test_verify_does_not_wait_for_ever() -> None:
    with pytest.raises(CarryError, match=r"more than 0\.2 seconds"):
        verify("import time\ntime.sleep(60)\n", timeout=0.2)


def test_recording_never_raises() -> None:
    recorder = Recorder({})
    for source in ("def (", "\x00", "x = " + "(" * 500, "", "# only a comment", "a" * 10, "\\"):
        recorder.record(source, cell=1)
    assert [one.text for one in recorder.statements] == ["aaaaaaaaaa"]


def test_recording_survives_objects_that_cannot_be_looked_at() -> None:
    class Hostile:
        __slots__ = ()

        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise RuntimeError("do not look")

    names: dict[str, Any] = {"x": Hostile(), "y": 1}
    recorder = Recorder(names)
    recorder.record("x = make()\ny = 1", cell=1)
    recorder.record("z = 1", cell=2)
    assert recorder.statements[-1].text == "z = 1"


def test_carrying_reads_no_iterator_on_and_runs_no_property() -> None:
    notebook = Notebook(
        "def numbers(): yield from range(9)\ng = numbers()\nfirst = next(g)\n"
        "rest = list(zip(g, 'a'))",
        "class P:\n    seen = []\n    @property\n    def x(self): return len(self.seen)\np = P()\n"
        "P.x2 = property(lambda self: self.seen.append(1))\nx = p.x2",
        "def one(): return first\ndef two(): return rest\ndef three(): return x",
    )
    for name in ("one", "two", "three"):
        with pytest.raises(CarryError, match="computed at run time"):
            notebook.carry(name)
    assert next(notebook["g"]) == 3
    assert notebook["P"].seen == [1]


def test_forgetting_forgets() -> None:
    notebook = Notebook("def op(): return 1")
    notebook.recorder.forget()
    with pytest.raises(CarryError, match="source of its function cannot be reached"):
        notebook.carry("op")


def test_the_record_keeps_no_data_alive() -> None:
    import gc
    import weakref

    class Frame:
        pass

    frame = Frame()
    names: dict[str, Any] = {"frame": frame, "frames": [frame]}
    recorder = Recorder(names)
    recorder.record("frame = 1\nframes = 2", cell=1)
    seen = weakref.ref(frame)
    names.clear()
    del frame
    gc.collect()
    assert seen() is None


def test_cells_that_ran_before_the_recorder_watched_are_told_apart() -> None:
    cells = ["def f(): return 'old'", "def f(): return 'new'", "def op(): return f()"]
    notebook = Notebook(*cells)
    notebook.recorder.forget()
    for number, cell in enumerate(cells, 1):  # all at once, with the objects of now
        notebook.recorder.record(cell, cell=number)
    carried = notebook.carry("op", "f")
    assert "old" not in carried.text
    assert run_here(carried, "op(), f()") == "('new', 'new')"


def test_a_definition_that_did_not_make_the_object_is_not_trusted() -> None:
    notebook = Notebook("def f(): return 'old'\ndef op(): return f()")
    exec("def f(): return 'new'", notebook.names)
    notebook.recorder.forget()
    notebook.recorder.record("\n\ndef f(): return 'old'\ndef op(): return f()", cell=1)
    with pytest.raises(CarryError, match="cannot carry 'f'"):
        notebook.carry("op")
    with pytest.raises(CarryError, match="cannot be reached"):
        notebook.carry("f")


def test_an_id_that_is_taken_again_is_not_trusted() -> None:
    notebook = Notebook("x = (1, 2)", "def op(): return x")
    notebook.names["x"] = {"other": 1}
    with pytest.raises(CarryError, match="not what cell 1 bound any more"):
        notebook.carry("op")


@pytest.mark.slow
def test_long_chains_of_definitions_need_no_recursion() -> None:
    cells = ["def f0(): return 0"]
    cells += [f"def f{n}(g=f{n - 1}): return {n}" for n in range(1, 1500)]
    notebook = Notebook("\n".join(cells))
    assert run_here(notebook.carry("f1499"), "f1499()") == "1499"
    assert sys.getrecursionlimit() < 1500 * 2


@pytest.mark.parametrize("name", ["top", "lambda_", "genexpr", "listcomp", "class_", "module"])
@pytest.mark.parametrize(
    "cell",
    [
        "def {}(xs): return [x for x in xs]\ndef op(): return {}([1])",
        "def op():\n    def {}(xs):\n        n = len(xs)\n        return n\n    return {}([1])",
        "class A:\n    def {}(self, xs): return xs\ndef op(): return A().{}(1)",
        "class {}:\n    xs = 1\n    ys = xs\ndef op(): return {}.ys",
        "def op():\n    n = 0\n    def {}():\n        nonlocal n\n        n = 1\n    return {}, n",
        "def {}():\n    global n\n    n = 1\nn = 0\ndef op(): return {}, n",
    ],
)
def test_what_a_function_is_called_says_nothing_of_its_names(name: str, cell: str) -> None:
    carried = Notebook(cell.replace("{}", name)).carry("op")
    assert carried.identifiers == {"op": "op"}
    assert name in carried.text
