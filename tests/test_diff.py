"""What changed since the last export, of real exports of real sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_session import MODELS, Notebook

from pulpo.backends.document import Manifest, describe, lasting
from pulpo.errors import ExportError, SettingsError
from pulpo.reports import Change, Diff, FileChange

RAW = "def raw(start: int = 1) -> Raw:\n    return Raw(start)\n"
CLEAN = "def clean(data: Raw) -> Clean:\n    return Clean(data.number * 2)\n"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """Return a session of two operations, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return opened()


def opened() -> Notebook:
    book = Notebook()
    book.cell(MODELS)
    book.operation("load.raw", RAW)
    book.operation("clean", CLEAN)
    return book


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def told(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(change.kind, change.name) for change in changes]


def paths(files: tuple[FileChange, ...]) -> list[tuple[str, str]]:
    return [(file.kind, file.name) for file in files]


# --- Equal ----------------------------------------------------------------------------------------


def test_without_an_export_one_line_says_how_to_make_one(book: Notebook) -> None:
    diff = book.session.diff()
    assert diff.differs
    assert "\n" not in str(diff)
    assert "No export in run_cache/ yet" in str(diff)
    assert "%pulpo export" in str(diff)
    assert not Path("run_cache").exists()


def test_nothing_has_changed_since_an_export_of_the_same_session(book: Notebook) -> None:
    book.session.export()
    for session in (book.session, opened().session):
        diff = session.diff()
        assert str(diff) == "Nothing has changed since the last export to run_cache/."
        assert not diff.differs


def test_cells_that_ran_once_more_change_nothing_and_export_the_same_bytes(book: Notebook) -> None:
    book.session.export()
    before = tree(Path("run_cache"))
    for _ in range(2):
        book.operation("load.raw", RAW)
        book.operation("clean", CLEAN)
    assert not book.session.diff().differs
    book.session.export()
    assert tree(Path("run_cache")) == before


def test_a_comparison_writes_nothing(book: Notebook) -> None:
    book.session.export()
    book.operation("more", "def more(raw: Raw) -> int:\n    return 1\n")
    before = tree(Path())
    assert book.session.diff().differs
    assert tree(Path()) == before


def test_other_versions_are_a_note_and_no_difference(book: Notebook) -> None:
    book.session.export()
    path = Path("run_cache/manifest.json")
    path.write_text(path.read_text().replace('"prefect": "', '"prefect": "0.'))
    diff = book.session.diff()
    assert diff.edited == ("manifest.json",)
    assert "note: exported by prefect 0." in str(diff)
    assert not Diff(folder="x", notes=diff.notes).differs


# --- Different ------------------------------------------------------------------------------------


def test_an_operation_that_came_is_told_with_its_edges_flows_and_code(book: Notebook) -> None:
    book.session.export()
    book.operation("load.more", "def more(raw: Raw, n: int = 2) -> None:\n    return None\n")
    diff = book.session.diff()
    assert told(diff.operations) == [("added", "load.more")]
    assert told(diff.edges) == [("added", "load.raw -[Raw]-> load.more(raw)")]
    assert told(diff.flows) == [("changed", "load_flow"), ("changed", "main_flow")]
    assert paths(diff.files) == [
        ("changed", "operations.py"),
        ("changed", "orchestration/load_flow.py"),
        ("changed", "orchestration/main_flow.py"),
    ]
    text = str(diff)
    assert "  + load.more: more(raw: Raw, n: int = 2) -> None\n" in text
    assert "\n--- run_cache/operations.py\n+++ run_cache/operations.py\n@@ " in text
    assert '\n+    "load.more": more,\n' in text


def test_a_flow_that_went_takes_its_file_along(book: Notebook) -> None:
    book.session.export()
    book.session.remove("load.raw")
    diff = book.session.diff()
    assert told(diff.operations)[0] == ("removed", "load.raw")
    assert ("removed", "load_flow") in told(diff.flows)
    assert ("removed", "orchestration/load_flow.py") in paths(diff.files)
    assert "+++ /dev/null" in str(diff)


CHANGED: list[tuple[str, dict[str, object], list[str]]] = [
    (RAW.replace("Raw(start)", "Raw(start + 1)"), {}, ["code"]),
    (RAW, {"retries": 2}, ["retries 0 → 2"]),
    (RAW.replace("= 1", "= 5"), {}, ["code", "parameter start: default 1 → 5"]),
    ("async " + RAW, {}, ["code", "async no → yes"]),
    (RAW.replace(":\n", ":\n    '''Say it.'''\n"), {}, ["code", "docstring"]),
]


@pytest.mark.parametrize(("source", "flags", "details"), CHANGED)
def test_what_changed_of_an_operation_is_told(
    book: Notebook, source: str, flags: dict[str, object], details: list[str]
) -> None:
    book.session.export()
    book.operation("load.raw", source, **flags)
    (change,) = book.session.diff().operations
    assert (change.kind, change.name) == ("changed", "load.raw")
    assert list(change.details) == details


def test_a_helper_that_changed_shows_in_the_code_alone(book: Notebook) -> None:
    book.cell("def twice(x):\n    return x * 2\n")
    book.operation("clean", CLEAN.replace("data.number * 2", "twice(data.number)"))
    book.session.export()
    book.cell("def twice(x):\n    return x + x\n")
    diff = book.session.diff()
    assert (diff.operations, diff.edges, diff.flows) == ((), (), ())
    assert paths(diff.files) == [("changed", "operations.py")]
    assert "-    return x * 2" in str(diff)


def test_files_edited_and_deleted_by_hand_are_told(book: Notebook) -> None:
    book.session.export()
    path = Path("run_cache/operations.py")
    path.write_text(path.read_text().replace("* 2", "* 3") + "# mine\n")
    Path("run_cache/orchestration/registry.py").unlink()
    diff = book.session.diff()
    assert diff.edited == ("operations.py",)
    assert diff.deleted == ("orchestration/registry.py",)
    assert told(diff.operations) == [("changed", "clean")]
    assert "edited by hand since: run_cache/operations.py" in str(diff)
    assert "deleted by hand since: run_cache/orchestration/registry.py" in str(diff)
    assert "-# mine" in str(diff)
    assert "sha256" not in str(diff)


def test_an_edit_that_leaves_the_code_as_it_was_is_an_edit_still(book: Notebook) -> None:
    book.session.export()
    path = Path("run_cache/operations.py")
    path.write_text(path.read_text().replace("sha256=", "sha256=0"))
    diff = book.session.diff()
    assert (diff.edited, diff.files, diff.differs) == (("operations.py",), (), True)


def test_a_credential_in_an_edited_file_is_not_shown(book: Notebook) -> None:
    book.session.export()
    path = Path("run_cache/operations.py")
    path.write_text(path.read_text() + "password = 'hunter2hunter2'\n")
    diff = book.session.diff()
    for text in (str(diff), diff._repr_html_(), diff.json()):
        assert "hunter2" not in text
        assert "not shown" in text


# --- What cannot be exported ----------------------------------------------------------------------


def blocked(book: Notebook) -> str:
    book.operation("other", "def other() -> Raw:\n    return Raw(1)\n")
    return "--bind data=load.raw"


def uncarried(book: Notebook) -> str:
    book.cell("rows = (row for row in 'ab')\n")
    book.operation("other", "def other(raw: Raw) -> None:\n    next(rows)\n")
    return "'rows'"


def secret(book: Notebook) -> str:
    book.cell("password = 'hunter2hunter2'\n")
    book.operation("other", "def other(raw: Raw) -> None:\n    print(password)\n")
    return "looks like a credential"


@pytest.mark.parametrize("spoil", [blocked, uncarried, secret])
def test_what_cannot_be_exported_says_why_and_the_rest_is_compared(
    book: Notebook, spoil: Callable[[Notebook], str]
) -> None:
    book.session.export()
    why = spoil(book)
    diff = book.session.diff()
    assert diff.differs
    assert diff.files == ()
    assert why in diff.refused
    assert ("added", "other") in told(diff.operations)
    assert "code is not compared" in str(diff)
    assert "hunter2" not in str(diff)


def test_an_empty_session_has_lost_everything(book: Notebook) -> None:
    book.session.export()
    book.session.clear()
    diff = book.session.diff()
    assert told(diff.operations) == [("removed", "load.raw"), ("removed", "clean")]
    assert "no operations yet" in diff.refused


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": {}}', '{"files": {}, "plan": 1}'])
def test_a_manifest_that_cannot_be_read_is_refused(book: Notebook, text: str) -> None:
    book.session.export()
    Path("run_cache/manifest.json").write_text(text)
    with pytest.raises(ExportError, match=r"^manifest\.json in run_cache/ .* Export .*again"):
        book.session.diff()


def test_a_folder_that_could_be_no_export_is_refused(book: Notebook) -> None:
    with pytest.raises(SettingsError, match="my_flows"):
        book.session.diff("my-flows")


# --- Parts ----------------------------------------------------------------------------------------


def test_an_export_of_one_flow_is_compared_with_that_flow_alone(book: Notebook) -> None:
    book.session.export("flows", flow="load")
    assert not book.session.diff("flows").differs
    book.operation("late", "def late(clean: Clean) -> int:\n    return 1\n")
    assert not book.session.diff("flows").differs
    book.operation("load.more", "def more(raw: Raw) -> None:\n    return None\n")
    diff = book.session.diff("flows")
    assert told(diff.operations) == [("added", "load.more")]
    assert told(diff.flows) == [("changed", "load_flow")]


PARTS: list[dict[str, object]] = [
    {"flat": True},
    {"runner": "threads"},
    {"upto": "load.raw"},
    {"only": "clean"},
    {"from_": ["clean"], "flat": True},
]


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_part_is_compared_as_it_was_asked_for(book: Notebook, part: dict[str, object]) -> None:
    book.session.export("flows", **part)  # type: ignore[arg-type]
    assert str(book.session.diff("flows")).startswith("Nothing has changed")
    book.operation("load.raw", RAW, retries=3)
    book.operation("clean", CLEAN, retries=3)
    changed = book.session.diff("flows").operations
    assert {change.details for change in changed} == {("retries 0 → 3",)}
    only = {"upto": ["load.raw"], "only": ["clean"], "from_": ["clean"]}
    wanted = next((only[flag] for flag in part if flag in only), ["load.raw", "clean"])
    assert [change.name for change in changed] == wanted


def test_flows_of_several_exports_are_compared_each_as_it_was_asked_for(book: Notebook) -> None:
    book.operation("report.text", "def text(clean: Clean) -> str:\n    return str(clean)\n")
    book.session.export("flows", flow="load", runner="threads")
    book.session.export("flows", flow="report")
    assert str(book.session.diff("flows")).startswith("Nothing has changed")
    book.operation("load.raw", RAW, retries=3)
    assert [file.name for file in book.session.diff("flows").files] == [
        "orchestration/load_flow.py"
    ]


def test_a_selected_operation_that_is_gone_is_told(book: Notebook) -> None:
    book.session.export("flows", only="clean")
    book.session.remove("clean")
    diff = book.session.diff("flows")
    assert "'clean'" in diff.refused
    assert told(diff.operations) == [("removed", "clean")]


# --- Shown ----------------------------------------------------------------------------------------


def test_the_manifest_holds_the_plan_as_compile_gives_it(book: Notebook) -> None:
    book.session.export()
    manifest = Manifest.model_validate_json(Path("run_cache/manifest.json").read_text())
    assert manifest.plan == describe(lasting(book.session.plan()))
    assert set(manifest.parts) == {flow.name for flow in manifest.plan.flows}


def test_json_has_all_that_the_answer_has(book: Notebook) -> None:
    book.session.export()
    book.operation("load.raw", RAW, retries=2)
    content = json.loads(book.session.diff().json())
    assert content["differs"] is True
    assert content["operations"] == [
        {"kind": "changed", "name": "load.raw", "details": ["retries 0 → 2"]}
    ]
    assert content["files"][0]["name"] == "orchestration/load_flow.py"
    assert '-@task(name="load.raw", cache_policy=NO_CACHE)' in content["files"][0]["lines"]


def test_html_says_in_words_and_signs_what_colours_say_and_escapes(book: Notebook) -> None:
    book.session.export()
    book.operation("load.raw", RAW, tags=["<b>"])
    book.operation("new", "def new(raw: Raw) -> None:\n    return None\n")
    book.session.remove("clean")
    shown = book.session.diff()._repr_html_()
    for word in ("+ added", "- removed", "~ changed", "<details", "run_cache/"):
        assert word in shown
    assert "<b>'" not in shown
    assert "&lt;b&gt;" in shown
    assert "<script" not in shown


def test_the_same_comparison_gives_the_same_text(book: Notebook) -> None:
    book.session.export()
    book.operation("load.raw", RAW, retries=2)
    texts = {(str(d), d._repr_html_(), d.json()) for d in (book.session.diff() for _ in range(2))}
    assert len(texts) == 1
