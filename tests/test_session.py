"""The use cases that every front end shares, on a session of its own for each test."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import MODELS, Notebook

from pulpo.errors import (
    BlockedFlowError,
    CarryError,
    DeclarationError,
    EditedFileError,
    ExportError,
    InvalidNameError,
    MissingInputError,
    SecretError,
    UnknownNameError,
    UsageError,
)
from pulpo.registry import OperationRegistry
from pulpo.runs import Run
from pulpo.session import Session, _Kept


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
        session._ran[dotted] = _Kept(session.registry.get(dotted), value, session._runs)


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


def test_an_operation_is_no_flow_and_the_error_says_how_to_select_it(book: Notebook) -> None:
    with pytest.raises(UnknownNameError, match=r"'clean' is an op.*--only clean, or --upto clean"):
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


# --- A part of the session ------------------------------------------------------------------------


def made_by(
    session: Session,
    values: dict[str, Any],
    given: dict[str, Any] | None = None,
    flow: str | None = None,
    **part: Any,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Pretend to run; return the parameters that the flow got, and what the run has to say."""
    job = session._job(flow, given, part, None)
    covers = job.plan.get_flow(job.flow)
    assert covers is not None
    run = Run(job.flow, covers.covers)
    for name, value in values.items():
        run.operations[name]._value = value
    job.on_change(run)
    return job.parameters, run.notes


@pytest.mark.parametrize(
    ("part", "flows"),
    [
        ({"upto": "clean"}, {"load_flow": "load.raw", "main_flow": "load.raw clean"}),
        ({"from_": ["clean"]}, {"text_flow": "text.write", "main_flow": "clean text.write"}),
        ({"only": "load.raw,text.write"}, {"main_flow": "load.raw text.write"}),
        ({"only": ["load.raw , clean", "text.write"]}, {"main_flow": "load.raw clean text.write"}),
        ({"from_": "clean", "upto": "clean"}, {"main_flow": "clean"}),
    ],
)
def test_a_part_is_compiled_by_the_names_of_its_operations(
    book: Notebook, part: dict[str, Any], flows: dict[str, str]
) -> None:
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    plan = book.session.compile(**part).orchestration
    covered = {flow.name: " ".join(flow.covers) for flow in plan.flows}
    assert covered.items() >= flows.items()


def test_compile_says_what_a_selection_cut(book: Notebook) -> None:
    report = str(book.session.compile(only="clean"))
    assert "main_flow(raw: Raw)" in report
    assert "the selection leaves out 'load.raw': its result becomes the flow parameter 'raw'" in (
        report
    )
    assert "leaves out" not in str(book.session.compile())


@pytest.mark.parametrize(
    ("part", "error", "said"),
    [
        ({"only": "claen"}, UnknownNameError, "Did you mean 'clean'"),
        ({"upto": "load"}, UnknownNameError, r"'load' is a group.*load\.raw"),
        ({"from_": ""}, UsageError, "--from takes names of operations"),
        ({"upto": "clean,"}, UsageError, "--upto takes names of operations"),
        ({"runner": "thread"}, UsageError, r"runner is one of.*Did you mean 'threads'"),
        ({"from_": "clean", "upto": "load.raw"}, UsageError, "no operation lies between"),
    ],
)
def test_a_part_that_makes_no_sense_is_told(
    book: Notebook, part: dict[str, Any], error: type[Exception], said: str
) -> None:
    uses = [book.session.compile, book.session.preview, book.session.run, book.session.export]
    for use in uses if "runner" in part else [*uses, book.session.graph]:
        with pytest.raises(error, match=said):
            use(**part)


def test_a_flow_of_a_selection_is_its_part_of_that_flow(book: Notebook) -> None:
    book.operation("load.more", "def more(raw: Raw) -> str:\n    return str(raw)\n")
    code = book.session.preview("load", only="load.more")["load_flow"]
    assert "load.raw" not in code
    assert "raw: typing.Annotated[Raw, by_reference]" in code
    with pytest.raises(UsageError, match="nothing of 'load' is in the selection, which has clean"):
        book.session.run("load", only="clean")


def test_a_preview_says_on_what_runner(book: Notebook) -> None:
    assert "ThreadPoolTaskRunner" in book.session.preview(runner="threads")["main_flow"]
    assert list(dict(book.session.preview(flat=True).code)) == ["main_flow"]


def test_the_graph_of_a_selection_shows_where_it_was_cut(book: Notebook) -> None:
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    book.operation("text.far", "def far(t: Raw) -> str:\n    return str(t)\n")
    dot = book.session.graph(only="clean").dot
    assert "load.raw" in dot
    assert "text.write" in dot
    assert "text.far" not in dot
    assert "text.far" in book.session.graph(from_="load.raw").dot
    assert "text.write" not in book.session.graph(flow="load", upto="clean").dot


def test_a_cut_input_comes_from_the_last_run_which_says_so(book: Notebook) -> None:
    made_by(book.session, {"load.raw": "seven", "clean": "fourteen"})
    given, notes = made_by(book.session, {"clean": "new"}, only="clean")
    assert given == {"raw": "seven"}
    assert notes == ("raw: the result of load.raw in an earlier run",)


def test_a_result_that_was_made_of_what_a_person_gave_says_so(book: Notebook) -> None:
    book.operation("last", "def last(data: Clean) -> int:\n    return data.number\n")
    made_by(book.session, {"load.raw": "seven", "clean": "fourteen", "last": 14})
    made_by(book.session, {"clean": "other"}, {"raw": "mine"}, only="clean")
    _, notes = made_by(book.session, {"last": 1}, only="last")
    assert notes == (
        "clean: the result of clean in an earlier run, made with a result of load.raw that a "
        "person gave",
    )


def test_a_cut_input_that_is_stale_says_what_to_run_again(book: Notebook) -> None:
    made_by(book.session, {"load.raw": "seven", "clean": "fourteen"})
    book.cell(MODELS.replace("number: int", "number: int\n    more: int = 0", 1))
    told = r"needs raw .* operation 'load.raw' is stale: .* Run cell 2 again"
    with pytest.raises(MissingInputError, match=told):
        book.session._job(None, None, {"only": "clean"}, None)


@pytest.mark.parametrize("wrong", [3, ["clean", 3], None])
def test_a_selection_that_is_no_text_is_refused(book: Notebook, wrong: Any) -> None:
    with pytest.raises(UsageError, match="names are text, or a list of texts, not"):
        book.session.compile(upto=wrong)


def test_a_cut_input_that_is_given_wins(book: Notebook) -> None:
    made_by(book.session, {"load.raw": "seven", "clean": "fourteen"})
    given, notes = made_by(book.session, {}, {"raw": "mine"}, only="clean")
    assert given == {"raw": "mine"}
    assert notes == ()


def test_a_cut_item_of_a_tuple_is_taken_out_of_it(book: Notebook) -> None:
    book.cell("@dataclass\nclass Left: ...\n@dataclass\nclass Right: ...\n")
    book.operation("two", "def two() -> tuple[Left, Right]: ...\n")
    book.operation("one", "def one(right: Right) -> str: ...\n")
    made_by(book.session, {"two": ("left", "right")}, only="two")
    assert made_by(book.session, {}, only="one")[0] == {"right": "right"}


def test_a_cut_input_that_nobody_has_is_told_in_one_line(book: Notebook) -> None:
    with pytest.raises(MissingInputError) as caught:
        book.session.run(only="clean")
    assert str(caught.value) == (
        "main_flow needs raw (the result of load.raw), and no run of this session has that as it "
        "is now. Make it by '%pulpo run --upto load.raw', or give it by --param raw=@variable."
    )
    assert caught.value.missing == ("raw",)


def test_a_mistyped_parameter_is_told_before_what_is_missing(book: Notebook) -> None:
    with pytest.raises(UsageError, match=r"no parameter 'rwa'\. Did you mean 'raw'"):
        book.session.run(only="clean", parameters={"rwa": 1})


def test_a_result_made_of_what_a_person_gave_can_be_taken_until_its_input_is_made(
    book: Notebook,
) -> None:
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    made_by(book.session, {"clean": "by hand"}, {"raw": "mine"}, only="clean")
    assert made_by(book.session, {}, only="text.write")[0] == {"clean": "by hand"}
    made_by(book.session, {"load.raw": "seven"}, only="load.raw")
    with pytest.raises(MissingInputError, match="the result of clean"):
        made_by(book.session, {}, only="text.write")


def test_what_only_comes_before_does_not_have_to_have_run(book: Notebook) -> None:
    book.operation("first", "def first():\n    print(1)\n")
    book.cell("@dataclass\nclass Late:\n    x: int\n")
    book.operation("late", "def late() -> Late: ...\n", after=["first"])
    book.operation("use", "def use(late: Late) -> str: ...\n")
    made_by(book.session, {"late": "soon"}, only="late")
    assert made_by(book.session, {}, only="use")[0] == {"late": "soon"}
    made_by(book.session, {"first": None}, only="first")
    with pytest.raises(MissingInputError, match="the result of late"):
        made_by(book.session, {}, only="use")


def test_a_result_of_a_model_that_changed_since_is_not_taken(book: Notebook) -> None:
    made_by(book.session, {"load.raw": "seven", "clean": "fourteen"})
    book.cell(MODELS.replace("number: int", "number: int\n    unit: str", 1))
    with pytest.raises(MissingInputError, match=r"the result of load\.raw"):
        made_by(book.session, {}, only="clean")


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


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def flows_in(folder: Path) -> list[str]:
    text = (folder / "orchestration/registry.py").read_text()
    names = [path.stem for path in (folder / "orchestration").glob("*_flow.py")]
    assert sorted(names) == sorted(name for name in names if f'"{name}": {name}' in text)
    assert text.count("_flow,") == len(names)
    return sorted(names)


def test_a_flow_exported_again_leaves_the_export_as_it_is(book: Notebook, tmp_path: Path) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    whole = tree(folder)
    again = book.session.export(folder, flow="load")
    assert tree(folder) == whole
    assert again.flows == ("load_flow",)
    assert again.kept == ("main_flow", "standalones_flow")
    assert again.removed == ()
    assert "1 flow exported" in str(again)
    assert "and made anew: main_flow, standalones_flow" in str(again)
    assert "orchestration/load_flow.py" in again.usage


def test_flows_exported_one_after_the_other_are_all_there(book: Notebook, tmp_path: Path) -> None:
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    book.operation("text.read", "def read(c: Clean) -> str:\n    return str(c)\n")
    folder = tmp_path / "flows"
    book.session.export(folder, flow="load")
    book.session.export(folder, flow="text")
    assert flows_in(folder) == ["load_flow", "text_flow"]
    assert list(load(folder).OPERATIONS) == ["load.raw", "text.write", "text.read"]
    book.session.export(folder)
    one = book.session.export(tmp_path / "other" / "flows").folder
    assert tree(folder) == tree(one)


def test_an_edited_operation_is_made_anew_in_the_flows_that_stay(
    book: Notebook, tmp_path: Path
) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    book.operation("clean", "def clean(data: Raw, by: int = 3) -> Clean:\n    return data\n")
    book.session.export(folder, flow="load")
    assert "by: int = 3" in (folder / "orchestration/main_flow.py").read_text()
    assert "by: int = 3" in (folder / "operations.py").read_text()


def test_what_a_selection_cut_is_a_parameter_of_the_export(book: Notebook, tmp_path: Path) -> None:
    exported = book.session.export(tmp_path / "flows", only="clean")
    assert exported.usage.endswith("main_flow.py' --raw FILE.json") or exported.usage.endswith(
        "main_flow.py --raw FILE.json"
    )
    assert list(load(exported.folder).OPERATIONS) == ["clean"]
    text = (exported.folder / "orchestration/main_flow.py").read_text()
    assert "everything: clean" in text


def test_a_part_of_an_export_is_replaced_by_another_part_and_keeps_the_rest(
    book: Notebook, tmp_path: Path
) -> None:
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    folder = tmp_path / "flows"
    book.session.export(folder, from_="clean")
    assert flows_in(folder) == ["main_flow", "standalones_flow", "text_flow"]
    book.session.export(folder, upto="load.raw")
    assert flows_in(folder) == ["load_flow", "main_flow", "standalones_flow", "text_flow"]
    assert list(load(folder).OPERATIONS) == ["load.raw", "clean", "text.write"]
    parts = json.loads((folder / "manifest.json").read_text())["parts"]
    assert parts["main_flow"] == {"upto": ["load.raw"]}
    assert parts["text_flow"] == {"from": ["clean"]}
    book.session.export(folder, flow="standalones_flow", runner="threads")
    parts = json.loads((folder / "manifest.json").read_text())["parts"]
    assert parts["main_flow"] == {"upto": ["load.raw"]}
    assert parts["standalones_flow"] == {"runner": "threads"}
    assert "ThreadPool" in (folder / "orchestration/standalones_flow.py").read_text()
    assert "ThreadPool" not in (folder / "orchestration/text_flow.py").read_text()


def removed(book: Notebook) -> None:
    book.session.remove("clean")


def torn(book: Notebook) -> None:
    book.operation("other", "def other() -> Raw:\n    return Raw(1)\n")


def uncarriable(book: Notebook) -> None:
    book.cell("handle = (n for n in [1])\n")
    book.operation("clean", "def clean(data: Raw) -> Clean:\n    return Clean(next(handle))\n")


def nothing(book: Notebook) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "part", "said"),
    [
        (removed, {"flow": "load"}, "main_flow too, which.*but this session has no clean"),
        (torn, {"flow": "load"}, "main_flow too, which.*an error blocks it.*Mend that"),
        (uncarriable, {"flow": "load"}, "'handle'.*is for main_flow, standalones_flow"),
        (nothing, {"upto": "load.raw"}, "main_flow in flows/ runs clean too, and this part"),
        (nothing, {"flow": "load", "runner": "dask"}, "main_flow in flows/ calls load_flow, which"),
    ],
    ids=["removed", "blocked", "not to be carried", "smaller", "another runner"],
)
def test_a_partial_export_that_would_cost_other_flows_is_refused(
    book: Notebook,
    tmp_path: Path,
    change: Callable[[Notebook], None],
    part: dict[str, Any],
    said: str,
) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    before = tree(tmp_path)
    change(book)
    with pytest.raises((ExportError, CarryError), match=said) as caught:
        book.session.export(folder, **part)
    assert "or give this part a folder of its own: --to FOLDER." in str(caught.value)
    assert tree(tmp_path) == before
    book.session.export(tmp_path / "own", **part)
    assert tree(folder) == before_in(before)


def before_in(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path.removeprefix("flows/"): text for path, text in files.items()}


def test_a_part_whose_selection_is_gone_is_not_kept(book: Notebook, tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    book.operation("text.write", "def write(c: Clean) -> str:\n    return str(c)\n")
    book.session.export(folder, from_="clean", flow="text")
    before = tree(folder)
    book.session.remove("clean")
    with pytest.raises(ExportError, match=r"has text_flow too.*no operation 'clean'"):
        book.session.export(folder, flow="load")
    assert tree(folder) == before


@pytest.mark.parametrize("damage", ["no", "{}", "[1]", ""])
def test_flows_that_no_manifest_tells_of_are_not_left_behind(
    book: Notebook, tmp_path: Path, damage: str
) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    (folder / "manifest.json").write_text(damage) if damage else (folder / "manifest.json").unlink()
    before = tree(folder)
    with pytest.raises(ExportError, match=r"manifest\.json, which tells of the flows to keep"):
        book.session.export(folder, flow="load", force=True)
    assert tree(folder) == before


def test_a_flow_edited_by_hand_is_kept_by_a_partial_export_too(
    book: Notebook, tmp_path: Path
) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    path = folder / "orchestration/main_flow.py"
    path.write_text("# mine\n" + path.read_text())
    with pytest.raises(EditedFileError, match=r"main_flow\.py"):
        book.session.export(folder, flow="load")
    backed_up = book.session.export(folder, flow="load", force=True).backed_up
    assert backed_up == ("orchestration/main_flow.py.bak",)


def test_a_whole_export_removes_flows_that_are_no_more(book: Notebook, tmp_path: Path) -> None:
    folder = book.session.export(tmp_path / "flows").folder
    assert book.session.export(folder, flat=True).removed == (
        "orchestration/load_flow.py",
        "orchestration/standalones_flow.py",
    )
    book.session.export(folder, flow="load")
    assert flows_in(folder) == ["load_flow", "main_flow"]


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


def test_what_an_export_would_refuse_is_told_beforehand(book: Notebook) -> None:
    book.cell("import time\nlock = (n for n in '12')\nnow = time.time()\nseen = []\n")
    book.operation("bad", "def bad(x: Clean) -> int:\n    return len(str(lock)) + now\n")
    assert book.session.check().is_valid
    checked = book.session.check(export=True)
    assert [(p.code, p.operation, p.severity) for p in checked.problems] == [
        ("cannot-carry", "bad", "error"),
        ("cannot-carry", "bad", "error"),
    ]
    assert checked.problems[0].message.startswith(
        "not to be exported: operation 'bad': cannot carry 'lock' (used by bad): it is a"
    )
    assert checked.problems[1].fix.endswith("Or export its value of now, with --freeze now.")
    book.operation("bad", "def bad(x: Clean) -> int:\n    seen.append(x)\n    return len(seen)\n")
    book.namespace["seen"].append(1)
    [problem] = book.session.check(export=True).problems
    assert (problem.code, problem.severity) == ("export-differs", "warning")
    assert "'seen' was changed by bad" in problem.message
    book.operation("bad", "def bad(x: Clean) -> str:\n    return 'AKIAQ3EGWDQKTEXAMPLZ'\n")
    [problem] = book.session.check(export=True).problems
    assert problem.code == "credential"
    assert "AKIA" not in str(problem)


def test_what_fails_in_a_fresh_process_is_told_beforehand(book: Notebook) -> None:
    book.cell("import sys\n")
    book.cell("assert 'pytest' in sys.modules  # pulpo: carry\n")
    [problem] = book.session.check(export=True).problems
    assert problem.code == "cannot-carry"
    assert "does not run in a fresh process at" in problem.message
    assert "carry': AssertionError" in problem.message.replace('"', "'")


def test_a_frozen_value_stays_frozen_in_what_is_made_anew(book: Notebook, tmp_path: Path) -> None:
    book.cell("import time\nnow = time.time()\n")
    book.operation("late", "def late(x: Clean) -> float:\n    return now\n")
    with pytest.raises(UsageError, match=r"--freeze: no operation of this export uses nobody\."):
        book.session.export(tmp_path / "flows", freeze=["now", "nobody"])
    assert not (tmp_path / "flows").exists()
    exported = book.session.export(tmp_path / "flows", freeze="now")
    assert "'now' is frozen" in str(exported)
    line = f"now = {book.namespace['now']!r}\n"
    assert line in (tmp_path / "flows/operations.py").read_text()
    assert not book.session.diff(tmp_path / "flows").differs
    book.session.export(tmp_path / "flows", flow="load")
    assert line in (tmp_path / "flows/operations.py").read_text()
    with pytest.raises(CarryError, match="--freeze now"):
        book.session.export(tmp_path / "flows")  # everything is asked for anew


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


def test_a_credential_in_the_options_of_an_operation_is_refused(
    book: Notebook, tmp_path: Path
) -> None:
    key = "ghp" + "_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    book.operation("bad", "def bad(x: Clean) -> int:\n    return 1\n", tags=[key])
    with pytest.raises(SecretError, match=r"'bad': its tags or its description.*GitHub") as error:
        book.session.export(tmp_path / "flows")
    assert key not in str(error.value)
    assert not (tmp_path / "flows").exists()
    [problem] = book.session.check(export=True).problems
    assert (problem.code, problem.operation) == ("credential", "bad")
    assert key not in str(problem)
