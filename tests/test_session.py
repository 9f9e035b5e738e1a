"""The use cases that every front end shares, on a session of its own for each test."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from pulpo.errors import (
    BlockedFlowError,
    CarryError,
    DeclarationError,
    InvalidNameError,
    MissingInputError,
    UnknownNameError,
)
from pulpo.registry import OperationRegistry
from pulpo.session import Session

MODELS = """
from dataclasses import dataclass

@dataclass
class Raw:
    number: int

@dataclass
class Clean:
    number: int
"""


class Notebook:
    """Cells that run in one namespace, recorded as the magics do it."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.session = Session(OperationRegistry(), self.namespace)
        self.number = 0

    def cell(self, source: str) -> None:
        self.number += 1
        name = f"<cell {self.number} of {id(self)}>"
        import linecache

        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.namespace)
        self.session.recorder.record(source, cell=self.number)

    def operation(self, name: str, source: str, *, identity: str = "", **flags: Any) -> str:
        self.cell(source)
        function = [
            value
            for value in self.namespace.values()
            if isinstance(value, types.FunctionType)
            and value.__code__.co_filename == f"<cell {self.number} of {id(self)}>"
        ][-1]
        declared = self.session.declare(
            function, name=name, cell=f"cell {self.number}", identity=identity, flags=flags
        )
        return str(declared)


@pytest.fixture
def book() -> Notebook:
    book = Notebook()
    book.cell(MODELS)
    book.operation("load.raw", "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n")
    book.operation("clean", "def clean(data: Raw) -> Clean:\n    return Clean(data.number * 2)\n")
    return book


def finished_run(session: Session, **values: Any) -> None:
    """Make the session believe that its operations have run."""
    session._runs += 1
    for name, value in values.items():
        dotted = name.replace("__", ".")
        session._ran[dotted] = (session.registry.get(dotted), value, session._runs)


def names(session: Session) -> list[str]:
    return [operation.name for operation in session.operations]


def test_declaring_answers_with_one_line(book: Notebook) -> None:
    said = book.operation("late", "def late(x: Clean) -> int:\n    return 1\n")
    assert said == "late: late(x: Clean) -> int"


def test_a_re_run_cell_replaces_the_operation_in_its_place(book: Notebook) -> None:
    book.operation("load.raw", "def raw(start: int = 5) -> Raw:\n    return Raw(start)\n")
    assert names(book.session) == ["load.raw", "clean"]
    assert "start: int = 5" in str(book.session.compile())


def test_the_same_cell_with_a_new_name_replaces_the_old_name(book: Notebook) -> None:
    book.operation("one", "def f() -> int:\n    return 1\n", identity="abc")
    said = book.operation("two", "def f() -> int:\n    return 1\n", identity="abc")
    assert names(book.session) == ["load.raw", "clean", "two"]
    assert "replaces one" in said


def test_running_a_model_s_cell_again_breaks_no_edge(book: Notebook) -> None:
    before = book.session.plan().edges
    book.cell(MODELS)
    book.operation("load.raw", "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n")
    assert book.session.plan().edges == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("name", "flags", "error"),
    [
        ("../x", {}, InvalidNameError),
        ("class.def", {}, InvalidNameError),
        ("a.b", {"retries": -1}, DeclarationError),
        ("a.b", {"retrys": 1}, DeclarationError),
        ("a.b", {"cache": "forever"}, DeclarationError),
        ("a.b", {"outputs": [3]}, TypeError),
    ],
)
def test_a_bad_declaration_leaves_the_session_as_it_was(
    book: Notebook, name: str, flags: dict[str, Any], error: type[Exception]
) -> None:
    before = book.session.operations
    with pytest.raises(error):
        book.operation(name, "def f() -> int:\n    return 1\n", **flags)
    assert book.session.operations == before


def test_removing_and_clearing_say_what_they_did(book: Notebook) -> None:
    assert str(book.session.remove("clean")) == "clean removed; 1 operation left."
    with pytest.raises(UnknownNameError, match=r"Did you mean 'load\.raw'"):
        book.session.remove("load.rw")
    assert str(book.session.clear()) == "1 operation forgotten."
    assert names(book.session) == []


def test_everything_answers_on_an_empty_session() -> None:
    session = Session(OperationRegistry(), {})
    hint = "No operations yet"
    for answer in (session.compile(), session.check(), session.listing("operations")):
        assert hint in str(answer)
    assert "operations" in str(session.status())
    with pytest.raises(UnknownNameError, match="no operations yet"):
        session.preview("main_flow")
    with pytest.raises(UnknownNameError, match="no operations yet"):
        session.run()


def test_show_gives_ports_neighbours_and_source(book: Notebook) -> None:
    shown = str(book.session.show("clean"))
    assert "data takes Raw from load.raw" in shown
    assert "return Clean(data.number * 2)" in shown
    with pytest.raises(UnknownNameError, match="Did you mean 'clean'"):
        book.session.show("claen")


def test_an_operation_is_no_flow_and_the_error_says_which_runs_it(book: Notebook) -> None:
    with pytest.raises(UnknownNameError, match=r"'clean' is an operation.*main_flow runs it"):
        book.session.preview("clean")
    with pytest.raises(UnknownNameError, match="Did you mean 'load'"):
        book.session.preview("lod")


def test_check_hints_at_newtype_for_a_bare_dataframe() -> None:
    book = Notebook()
    book.cell("class DataFrame: ...\n")
    book.operation("a", "def a(frame: DataFrame) -> int:\n    return 1\n")
    assert "NewType('RawJobs', DataFrame)" in str(book.session.check())


def test_a_result_that_nobody_gets_for_want_of_an_annotation_is_told(book: Notebook) -> None:
    book.operation("lost", "def lost(x: Clean):\n    return x.number\n")
    book.operation("quiet", "def quiet(x: Clean):\n    print(x)\n    return None\n")
    for answer in (book.session.compile(), book.session.check()):
        assert "'lost' returns something" in str(answer)
        assert "'quiet' returns" not in str(answer)


def test_html_escapes_what_users_write(book: Notebook) -> None:
    book.operation("h", 'def h(x: Clean, t: str = "<b>") -> int:\n    return 1\n')
    for answer in (book.session.compile(), book.session.listing("flows"), book.session.show("h")):
        assert "<b>'" not in answer._repr_html_()
        assert "<b>" not in book.session.listing("operations")._repr_html_()


# --- Another flow's results -----------------------------------------------------------------------


def test_a_flow_without_its_inputs_says_what_to_do(book: Notebook) -> None:
    with pytest.raises(MissingInputError, match=r"standalones_flow needs raw .*load\.raw"):
        book.session.run("standalones_flow")


def test_a_flow_takes_what_the_last_run_left(book: Notebook) -> None:
    result = object()
    finished_run(book.session, load__raw=result)
    flow = book.session.flow("standalones_flow", book.session.plan())
    assert book.session._from_earlier_runs(flow, {}) == {"raw": result}


def test_a_result_of_an_operation_that_changed_since_is_not_taken(book: Notebook) -> None:
    finished_run(book.session, load__raw=object())
    book.operation("load.raw", "def raw(start: int = 9) -> Raw:\n    return Raw(start)\n")
    flow = book.session.flow("standalones_flow", book.session.plan())
    with pytest.raises(MissingInputError):
        book.session._from_earlier_runs(flow, {})


def test_a_result_whose_input_was_made_again_since_is_not_taken(book: Notebook) -> None:
    book.operation("report.text", "def text(clean: Clean) -> str:\n    return str(clean)\n")
    finished_run(book.session, load__raw=1, clean=2)
    flow = book.session.flow("report", book.session.plan())
    assert book.session._from_earlier_runs(flow, {}) == {"clean": 2}
    finished_run(book.session, load__raw=3)
    with pytest.raises(MissingInputError, match="the result of clean"):
        book.session._from_earlier_runs(flow, {})


# --- Exports --------------------------------------------------------------------------------------


def load(folder: Path) -> Any:
    """Import the exported operations under a name of their own."""
    path = folder / "operations.py"
    spec = importlib.util.spec_from_file_location(f"exported_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_an_export_holds_what_its_operations_need(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = book.session.export("flows")
    module = load(exported.folder)
    raw, clean = module.OPERATIONS["load.raw"], module.OPERATIONS["clean"]
    assert clean(raw(4)).number == 8
    assert "flows/orchestration/main_flow.py" in str(exported)
    assert str(tmp_path) not in str(exported)


def test_the_command_in_the_answer_works_from_here(book: Notebook, tmp_path: Path) -> None:
    folder = tmp_path / "other place" / "flows"
    command = str(book.session.export(folder)).splitlines()[-1].partition("anywhere: ")[2]
    script = shlex.split(command)[1]
    assert Path(script).is_file()


def test_the_same_session_exports_the_same_bytes(book: Notebook, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        folder = book.session.export(tmp_path / name / "flows").folder
        texts.append({p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
    assert texts[0] == texts[1]
    assert len(texts[0]) > 5


def test_one_flow_can_be_exported_alone(book: Notebook, tmp_path: Path) -> None:
    exported = book.session.export(tmp_path / "flows", flow="load")
    assert exported.flows == ("load_flow",)
    assert list(load(exported.folder).OPERATIONS) == ["load.raw"]


def test_a_blocked_session_is_not_exported_but_its_free_flows_are(
    book: Notebook, tmp_path: Path
) -> None:
    book.operation("other", "def other() -> Raw:\n    return Raw(1)\n")
    with pytest.raises(BlockedFlowError, match=r"--bind data=load\.raw.*%pulpo export load"):
        book.session.export(tmp_path / "flows")
    assert not (tmp_path / "flows").exists()
    assert book.session.export(tmp_path / "flows", flow="load").flows == ("load_flow",)


def test_what_cannot_be_carried_leaves_the_old_export(book: Notebook, tmp_path: Path) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    before = (folder / "operations.py").read_bytes()
    book.cell("handle = open('/dev/null')\n")
    book.operation("bad", "def bad(x: Clean) -> int:\n    return len(handle.read())\n")
    with pytest.raises(CarryError, match=r"'bad'.*'handle'"):
        book.session.export(tmp_path / "flows")
    assert (folder / "operations.py").read_bytes() == before
    book.namespace["handle"].close()


def test_a_foreign_object_without_source_warns_and_raises_only_when_called(
    book: Notebook, tmp_path: Path
) -> None:
    class Foreign:
        name = "foreign"
        models_in = ("Clean",)
        models_out = ("Score",)
        function = staticmethod(len)

    book.session.registry.register(Foreign())
    exported = book.session.export(tmp_path / "flows")
    assert "'foreign' has no source" in str(exported)
    with pytest.raises(NotImplementedError, match="without its source"):
        load(exported.folder).OPERATIONS["foreign"](1)
