"""The panel without a browser: what it shows, how it follows, and what its button does."""

from __future__ import annotations

import asyncio
import html
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipywidgets.widgets import widget as all_widgets

import pulpo
from pulpo.registry import OperationRegistry
from pulpo.session import Session
from pulpo.widgets import content as contents
from pulpo.widgets import export_tab
from pulpo.widgets import panel as panels
from pulpo.widgets.panel import Panel

MODELS = """
from dataclasses import dataclass

@dataclass
class Raw:
    rows: list[int]

@dataclass
class Clean:
    rows: list[int]
"""
LOAD = """
def load(count: int = 3) -> Raw:
    return Raw(list(range(count)))
"""
CLEAN = """
def clean(raw: Raw) -> Clean:
    return Clean(raw.rows[1:])
"""


class Notebook:
    """A session and its namespace; cells are run and recorded as the magics do."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.session = Session(OperationRegistry(), self.namespace)
        self.panels: list[Panel] = []
        self._cell = 0

    def run(self, source: str, *, name: str = "", **flags: Any) -> None:
        """Run a cell, and declare the function that it ends with as the operation ``name``."""
        self._cell += 1
        exec(compile(source, f"<cell {self._cell}>", "exec"), self.namespace)
        self.session.recorder.record(source, cell=self._cell)
        if name:
            function = self.namespace[re.findall(r"^(?:async )?def (\w+)", source, re.M)[-1]]
            self.session.declare(function, name=name, cell=f"cell {self._cell}", flags=flags)

    def panel(self) -> Panel:
        panel = Panel(self.session)
        self.panels.append(panel)
        return panel


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A session without operations, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    notebook = Notebook()
    yield notebook
    for panel in notebook.panels:
        panel.close()


@pytest.fixture
def story(notebook: Notebook) -> Notebook:
    """A session with two operations in two groups."""
    notebook.run(MODELS)
    notebook.run(LOAD, name="source.load")
    notebook.run(CLEAN, name="parsing.clean")
    return notebook


def words(markup: str) -> str:
    """What a person reads in a piece of HTML."""
    text = re.sub(r"<style>.*?</style>", "", markup, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()


def code(panel: Panel) -> str:
    """The code that the panel shows, or why there is none."""
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", "", panel.code.html, flags=re.S))


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def check_export(panel: Panel) -> str:
    """Click "Check", and return what is said."""
    panel.export.check.click()
    wait_for(lambda: "Checking" not in panel.export.result.value and panel.export.result.value)
    wait_for(lambda: not export_tab._EXPORTING.locked())
    return words(panel.export.result.value)


def export(panel: Panel) -> str:
    """Click the button and return what the panel says when it is done."""
    panel.export.button.click()
    wait_for(lambda: "Exporting" not in panel.export.result.value and panel.export.result.value)
    wait_for(lambda: not export_tab._EXPORTING.locked())
    return words(panel.export.result.value)


# --- What it shows ------------------------------------------------------------------------------


def test_a_panel_shows_picture_code_and_problems(story: Notebook) -> None:
    panel = story.panel()
    assert words(panel._head.value) == "Pulpo 2 operations · 3 flows · no problems"
    for graph in (panel.dataflow, panel.hierarchy):
        assert 'data-operation="parsing.clean"' in graph.picture["svg"]
        names = {node["key"] for node in graph.picture["nodes"]}
        assert names == {"source.load", "parsing.clean", "source.*", "parsing.*"}
    assert panel.dataflow.picture["edges"] == [
        {"source": "source.load", "target": "parsing.clean", "words": "Raw"}
    ]
    assert panel.flow.options == ("main_flow", "source_flow", "parsing_flow")
    assert panel.flow.value == "main_flow"
    assert "async def main_flow" in code(panel)
    assert words(panel.problems.value) == "✓ No problems."


def test_another_flow_shows_its_code(story: Notebook) -> None:
    panel = story.panel()
    panel.flow.value = "parsing_flow"
    assert "async def parsing_flow" in code(panel)
    assert "async def main_flow" not in code(panel)


def test_the_picture_suits_the_theme_of_the_page(story: Notebook) -> None:
    svg = story.panel().dataflow.picture["svg"]
    assert svg == story.session.graph("both").inline  # the very picture of `%pulpo graph`
    assert '[data-jp-theme-light="false"]' in svg


def test_a_session_without_operations_says_how_to_begin(notebook: Notebook) -> None:
    panel = notebook.panel()
    assert "%%operation NAME" in panel.dataflow.picture["text"]
    assert panel.dataflow.picture["svg"] == ""
    assert "%%operation NAME" in code(panel)
    assert panel.flow.layout.display == "none"
    assert export(panel).startswith("✗ Not exported: there are no operations yet")


def test_a_cycle_is_drawn_and_told(notebook: Notebook) -> None:
    notebook.run(MODELS)
    notebook.run("def there(clean: Clean) -> Raw: ...", name="loop.there")
    notebook.run("def back(raw: Raw) -> Clean: ...", name="loop.back")
    panel = notebook.panel()
    assert "1 error" in words(panel._head.value)
    assert panel._tabs.titles[-1] == "Problems (1)"
    assert "loop.there" in words(panel.problems.value)
    assert "✗ error" in words(panel.problems.value)
    assert "loop.back" in panel.dataflow.picture["svg"]
    assert code(panel).startswith("✗ ")
    assert "Traceback" not in panel.code.html
    assert export(panel).startswith("✗ Not exported:")
    assert not Path("run_cache").exists()


def test_a_blocked_flow_leaves_the_others_their_code(notebook: Notebook) -> None:
    notebook.run(MODELS)
    notebook.run("def one() -> Raw: ...", name="a.one")
    notebook.run("def two() -> Raw: ...", name="a.two")
    notebook.run("def use(raw: Raw) -> Clean: ...", name="b.use")
    panel = notebook.panel()
    panel.flow.value = "b_flow"
    assert code(panel).startswith("✗ ")
    panel.flow.value = "a_flow"
    assert "async def a_flow" in code(panel)
    assert "--bind" in words(panel.problems.value)


def test_words_of_users_are_no_html(notebook: Notebook) -> None:
    notebook.run(MODELS)
    notebook.run(LOAD, name="source.load", description="<script>alert(1)</script>")
    panel = notebook.panel()
    panel.export.folder.value = "<b>bold"
    assert "&lt;b&gt;bold" in panel.export.result.value or export(panel)
    everything = [
        panel.export.result.value,
        panel.export.files.value,
        panel.code.html,
        panel.problems.value,
    ]
    everything += [graph.picture["svg"] for graph in (panel.dataflow, panel.hierarchy)]
    everything.append(contents.detail_html(notebook.session, "source.load"))
    assert "&lt;b&gt;bold" in panel.export.result.value
    assert not any("<script>" in text or "<b>bold" in text for text in everything)


def test_what_nobody_foresaw_is_told_and_not_raised(story: Notebook) -> None:
    class Broken(Session):
        def check(self) -> Any:
            raise RuntimeError("the moon is full")

    panel = Panel(Broken(story.session.registry, {}))
    story.panels.append(panel)
    assert "unexpected RuntimeError: the moon is full" in words(panel.problems.value)
    story.run(CLEAN, name="parsing.clean")
    assert "the moon is full" in panel._repr_mimebundle_()["text/html"]


def test_without_graphviz_the_panel_shows_text(
    story: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pulpo.backends import render

    def nothing(*_: Any) -> bytes:
        raise pulpo.errors.MissingProgramError(render.HINT)  # type: ignore[attr-defined]

    story.run(LOAD, name="source.load_again")  # a picture that nobody drew before
    monkeypatch.setattr(render, "_with_program", nothing)
    monkeypatch.setattr(render, "_with_wheel", nothing)
    picture = story.panel().dataflow.picture
    assert picture["svg"] == ""
    assert "source.load_again" in picture["text"]
    assert "pip install pygraphviz" in picture["text"]


# --- Following the session ----------------------------------------------------------------------


def test_a_re_run_cell_updates_every_open_panel(story: Notebook) -> None:
    first, second = story.panel(), story.panel()
    first.flow.value = "source_flow"
    story.run("def load(pages: int = 7) -> Raw: ...", name="source.load")
    assert "pages: int = 7" in code(first)
    assert first.flow.value == "source_flow"
    assert "pages" in first.dataflow.picture["svg"]
    assert first.dataflow.picture == second.dataflow.picture
    assert first.flow.options == second.flow.options


def test_groups_are_closed_and_opened_by_what_the_page_sends(story: Notebook) -> None:
    graph = story.panel().dataflow

    def send(*messages: dict[str, Any]) -> list[str]:
        for message in messages:
            graph._handle_custom_msg(message, [])
        wait_for(lambda: graph._shown == graph._asked)
        time.sleep(0.05)
        wait_for(lambda: graph._shown == graph._asked)
        return [node["key"] for node in graph.picture["nodes"] if node["kind"] == "group"]

    source, parsing = ({"type": "toggle", "group": name} for name in ("source", "parsing"))
    assert send(source) == ["source.*"]
    assert send(source, parsing) == ["parsing.*"]  # quicker than the pictures
    assert send({"type": "all", "open": False}) == ["source.*", "parsing.*"]
    assert send({"type": "all", "open": True}) == []
    assert send({"type": "nonsense"}, {"group": 3}, "?") == []  # type: ignore[arg-type]


def test_a_flow_that_is_gone_gives_way_to_the_main_one(story: Notebook) -> None:
    panel = story.panel()
    panel.flow.value = "parsing_flow"
    story.session.remove("parsing.clean")
    assert panel.flow.options == ("main_flow", "source_flow")
    assert panel.flow.value == "main_flow"
    assert "async def main_flow" in code(panel)
    story.session.clear()
    assert panel.flow.value is None
    assert "%%operation" in code(panel)
    story.run(LOAD, name="source.load")
    assert panel.flow.value == "main_flow"
    assert panel.flow.layout.display is None


def test_on_a_running_loop_many_changes_are_one_update(notebook: Notebook) -> None:
    async def work() -> list[int]:
        panel = notebook.panel()
        updates: list[int] = []
        panel.dataflow.observe(lambda change: updates.append(len(change.new["nodes"])), "picture")
        notebook.run(MODELS)
        for number in range(20):
            notebook.run(f"def f{number}() -> Raw: ...", name=f"group.f{number}")
        assert updates == []  # nothing yet: the cell is still running
        while not updates:
            await asyncio.sleep(0.01)
        assert "group.f19" in panel.dataflow.picture["svg"]
        assert "20 operations" in panel._head.value
        panel.close()
        return updates

    assert asyncio.run(work()) == [21]  # twenty operations and their frame


def test_a_change_in_another_thread_is_shown_by_the_thread_of_the_loop(story: Notebook) -> None:
    async def work() -> set[int]:
        panel = story.panel()
        threads: set[int] = set()
        panel.dataflow.observe(lambda _: threads.add(threading.get_ident()), "picture")
        changer = threading.Thread(target=story.session.remove, args=("parsing.clean",))
        changer.start()
        while not threads:
            await asyncio.sleep(0.01)
        changer.join()
        panel.close()
        return threads

    assert asyncio.run(work()) == {threading.get_ident()}


def test_a_loop_that_ended_is_no_trouble_for_the_next_cell(story: Notebook) -> None:
    async def work() -> Panel:
        return story.panel()

    asyncio.run(work())
    story.run("def load(pages: int = 7) -> Raw: ...", name="source.load")
    assert story.session.registry.get("source.load").cell == "cell 4"


def test_what_was_looked_at_earlier_does_not_replace_what_is_newer(story: Notebook) -> None:
    panel = story.panel()
    earlier = contents.look(story.session)
    story.session.remove("parsing.clean")
    panel._show(earlier, [graph.make() for graph in (panel.dataflow, panel.hierarchy)])
    assert "1 operation " in panel._head.value


def test_a_closed_panel_frees_its_subscription_and_its_widgets(story: Notebook) -> None:
    before = dict(all_widgets._instances)
    panel = Panel(story.session)
    assert len(story.session.registry._listeners) == 1
    panel.close()
    panel.close()
    assert story.session.registry._listeners == []
    assert all_widgets._instances == before
    story.run("def load(pages: int = 7) -> Raw: ...", name="source.load")
    assert "pages" not in panel.code.html


def test_a_cell_that_runs_again_closes_the_panels_that_it_made(
    story: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(cell: str, execution: str) -> Panel:
        monkeypatch.setattr(panels, "_cell", lambda: (cell, execution))
        story.panels.append(panels.open_panel(story.session))
        return story.panels[-1]

    first, second, elsewhere = opened("a", "1"), opened("a", "1"), opened("b", "2")
    assert first.comm is not None  # two of one run are both seen
    again = opened("a", "3")
    assert (first.comm, second.comm) == (None, None)
    assert None not in (elsewhere.comm, again.comm)
    outside = opened("", "4")  # where cells have no ids nothing is known to be the same
    opened("", "5")
    assert outside.comm is not None


# --- Exporting ----------------------------------------------------------------------------------


def test_the_button_writes_the_flows_and_lists_the_files(story: Notebook) -> None:
    panel = story.panel()
    assert panel.export.button.description == "Export flows"
    assert panel.export.folder.value == "run_cache"
    said = export(panel)
    files = sorted(path for path in Path("run_cache").rglob("*") if path.is_file())
    assert Path("run_cache/orchestration/main_flow.py") in files
    assert said.startswith(f"✓ 3 flows exported to run_cache: {len(files)} files,")
    listed = words(panel.export.files.value)
    for path in files:
        assert f"{path.as_posix()} {contents.size(path.stat().st_size)}" in listed
    assert "python run_cache/orchestration/main_flow.py" in listed


def test_the_settings_name_the_folder_and_the_person_names_another(
    story: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_CACHE_DIR", "build/flows")
    panel = story.panel()
    assert panel.export.folder.value == "build/flows"
    panel.export.folder.value = f" {tmp_path / 'elsewhere'} "
    export(panel)
    assert (tmp_path / "elsewhere/operations.py").is_file()
    panel.export.folder.value = ""
    export(panel)
    assert (tmp_path / "build/flows/operations.py").is_file()
    assert "build/flows/operations.py" in panel.export.files.value


def test_wrong_settings_are_told_where_the_result_stands(
    story: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_CACHE_DIR", "not-a-name")
    panel = story.panel()
    assert "not_a_name" in words(panel.export.result.value)
    assert panel.export.folder.value == "run_cache"
    assert export(panel).startswith("✓ 3 flows exported to run_cache")


@pytest.mark.parametrize(
    ("cell", "folder", "fix"),
    [
        (CLEAN, "my-flows", "my_flows"),
        (
            "import sqlite3\nbase = sqlite3.connect(':memory:')\ndef clean(raw: Raw) -> Clean:\n"
            "    return Clean(base.execute('select 1').fetchone())",
            "run_cache",
            "Create it inside the operation",
        ),
    ],
    ids=["a folder that cannot be imported", "a live object"],
)
def test_a_refusal_is_shown_with_its_fix(story: Notebook, cell: str, folder: str, fix: str) -> None:
    story.run(cell, name="parsing.clean")
    panel = story.panel()
    panel.export.folder.value = folder
    said = export(panel)
    assert said.startswith("✗ Not exported:")
    assert fix in said
    assert "Traceback" not in said
    assert panel.export.files.value == ""
    assert not Path(folder).exists()


def test_a_check_lists_all_that_an_export_would_refuse_and_writes_nothing(story: Notebook) -> None:
    panel = story.panel()
    assert check_export(panel) == "✓ An export does what the cells do."
    base = "import sqlite3\nbase = sqlite3.connect(':memory:')\nother = sqlite3.connect(':memory:')"
    story.run(base)
    story.run(LOAD.replace("return", "base, other\n    return", 1), name="source.load")
    assert "✗ Not exported:" in export(panel)
    assert check_export(panel) == "2 problems found:"
    listed = html.unescape(words(panel.export.files.value))
    assert "cannot carry 'base'" in listed
    assert "cannot carry 'other'" in listed
    assert listed.count("Create it inside the operation") == 2
    assert not Path("run_cache").exists()
    story.run(LOAD, name="source.load")
    wait_for(lambda: panel.export.files.value == "")
    assert panel.export.result.value == ""
    assert check_export(panel) == "✓ An export does what the cells do."


def test_an_edited_file_is_replaced_only_when_the_box_is_ticked(story: Notebook) -> None:
    panel = story.panel()
    export(panel)
    edited = Path("run_cache/orchestration/main_flow.py")
    text = edited.read_text()
    edited.write_text(f"{text}# mine\n")
    assert panel.export.replace.layout.display == "none"
    said = export(panel)
    assert "main_flow.py" in said
    assert "box" in said
    assert panel.export.replace.layout.display is None
    assert edited.read_text().endswith("# mine\n")
    panel.export.replace.value = True
    assert export(panel).startswith("✓")
    assert edited.read_text() == text
    assert edited.with_name("main_flow.py.bak").read_text().endswith("# mine\n")
    assert "main_flow.py.bak" in words(panel.export.files.value)
    assert panel.export.replace.layout.display == "none"
    assert panel.export.replace.value is False


def test_a_second_click_starts_no_second_export(story: Notebook) -> None:
    begun, go_on = threading.Event(), threading.Event()
    exports = []

    class Slow(Session):
        def export(self, *args: Any, **options: Any) -> Any:
            exports.append(threading.current_thread())
            begun.set()
            go_on.wait(60)
            return super().export(*args, **options)

    session = Slow(story.session.registry, story.namespace)
    session.recorder = story.session.recorder
    panel, other = Panel(session), Panel(session)
    story.panels += [panel, other]
    panel.export.button.click()
    assert begun.wait(60)  # the click came back while the export is still under way
    panel.export.button.click()
    other.export.button.click()
    assert words(panel.export.result.value) == "Exporting…"
    assert "Another panel is exporting" in words(other.export.result.value)
    go_on.set()
    wait_for(lambda: not export_tab._EXPORTING.locked())
    assert words(panel.export.result.value).startswith("✓")
    assert [thread.name for thread in exports] == ["pulpo-export"]
    assert exports[0].daemon
    assert export(other).startswith("✓")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (5_000_000, "5.0 MB"),
        (7_200_000_000, "7.2 GB"),
    ],
)
def test_sizes_are_for_people(number: int, text: str) -> None:
    assert contents.size(number) == text


# --- Where no widget can live -------------------------------------------------------------------


def test_the_output_holds_a_still_picture_and_text_that_never_changes(story: Notebook) -> None:
    first, second = story.panel()._repr_mimebundle_(), story.panel()._repr_mimebundle_()
    assert first["text/plain"] == second["text/plain"]
    assert first["text/html"] == second["text/html"]
    assert first["text/plain"].startswith("Pulpo panel: 2 operations · 3 flows · no problems\n")
    assert "source.load -[Raw]-> parsing.clean" in first["text/plain"]
    assert '<img alt="' in first["text/html"]
    assert "<svg" in first["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in first


def test_problems_stand_under_the_still_picture(notebook: Notebook) -> None:
    notebook.run(MODELS)
    notebook.run("def there(clean: Clean) -> Raw: ...", name="loop.there")
    notebook.run("def back(raw: Raw) -> Clean: ...", name="loop.back")
    still = words(notebook.panel()._repr_mimebundle_()["text/html"])
    assert "✗ error" in still
    assert "loop.there" in still


def test_html_made_from_a_saved_notebook_shows_the_picture(story: Notebook) -> None:
    from nbconvert import HTMLExporter

    output = nbformat.v4.new_output("execute_result", data=story.panel()._repr_mimebundle_())
    saved = nbformat.v4.new_notebook()
    saved.cells = [nbformat.v4.new_code_cell("%pulpo panel", outputs=[output])]
    page, _ = HTMLExporter().from_notebook_node(saved)
    assert '<div class="pulpo-picture"' in page
    assert "This is a still picture" in page


@pytest.mark.slow
def test_a_notebook_with_a_panel_passes_nbval(tmp_path: Path, private_env: dict[str, str]) -> None:
    from nbclient import NotebookClient

    told = nbformat.v4.new_notebook()
    told.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    told.cells = [
        nbformat.v4.new_code_cell(source)
        for source in (
            f"%load_ext pulpo\n{MODELS}",
            f"%%operation source.load{LOAD}",
            "%pulpo panel",
            f"%%operation parsing.clean{CLEAN}",
        )
    ]
    NotebookClient(told, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = told.cells[2].outputs[0].data
    assert "load sync (count: int = 3) → Raw" in shown["text/plain"]
    nbformat.write(told, tmp_path / "told.ipynb")
    shipped = Path(str(pulpo.__file__)).with_name("nbval.cfg")
    command = [sys.executable, "-m", "pytest", "--nbval", "told.ipynb", "--nbval-current-env"]
    run = subprocess.run(
        [*command, "--nbval-sanitize-with", str(shipped), "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env=private_env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout
