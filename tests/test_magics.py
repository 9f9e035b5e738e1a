"""The magics in a real IPython shell."""

from __future__ import annotations

import atexit
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import pulpo
from pulpo.errors import BlockedFlowError
from pulpo.session import Session, current

MODELS = """
from typing import NewType
Raw = NewType("Raw", dict)
Clean = NewType("Clean", dict)
"""


@dataclass(frozen=True)
class Answer:
    """What running one cell gave."""

    value: Any
    error: BaseException | None
    text: str


class Notebook:
    """A shell that runs cells as a frontend does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.names = shell.user_ns

    def run(self, cell: str, *, identity: str | None = None, stored: bool = True) -> Answer:
        source = textwrap.dedent(cell).lstrip("\n")
        with capture_output() as captured:
            result = self.shell.run_cell(source, store_history=stored, cell_id=identity)
        shown = [output.data.get("text/plain", "") for output in captured.outputs]
        return Answer(
            result.result,
            result.error_before_exec or result.error_in_exec,
            re.sub(r"Out\[\d+\]: \n?", "", "\n".join([captured.stdout, *shown])).strip(),
        )

    def complete(self, text: str) -> list[str]:
        with provisionalcompleter():
            return [item.text for item in self.shell.Completer.completions(text, len(text))]


@pytest.fixture
def bare(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A shell without pulpo."""
    monkeypatch.setenv("PULPO_NO_WARMUP", "1")
    main = sys.modules["__main__"]
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    try:
        yield Notebook(shell)
    finally:
        if "pulpo" in shell.extension_manager.loaded:
            shell.extension_manager.unload_extension("pulpo")
        current().clear()
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = main


@pytest.fixture
def notebook(bare: Notebook) -> Notebook:
    """A shell with pulpo and two models."""
    bare.run("%load_ext pulpo")
    bare.run(MODELS)
    return bare


@pytest.fixture
def session(notebook: Notebook) -> Session:
    return current()


def names(session: Session) -> list[str]:
    return [operation.name for operation in session.registry]


# --- Declaring ----------------------------------------------------------------------------------


def test_a_cell_answers_with_one_line(notebook: Notebook, session: Session) -> None:
    answer = notebook.run(
        """
        %%operation parsing.clean --retries 2 --tags a,b
        def clean(raw: Raw, pages: int = 3) -> Clean:
            return raw
        """
    )
    assert answer.text == "parsing.clean: clean(raw: Raw, pages: int = 3) -> Clean"
    assert answer.error is None
    (operation,) = session.operations
    assert (operation.options.retries, operation.options.tags) == (2, ("a", "b"))
    assert operation.cell == "cell 3"
    assert notebook.names["clean"]({"a": 1}) == {"a": 1}


def test_the_last_value_of_the_cell_is_its_result(notebook: Notebook, session: Session) -> None:
    answer = notebook.run("%operation a.f\ndef f(raw: Raw) -> Clean:\n    return raw\nf({'x': 1})")
    assert answer.value == {"x": 1}
    answer = notebook.run("%operation a.f\ndef f(raw: Raw) -> Clean:\n    return raw\nf({'x': 1});")
    assert "{'x': 1}" not in answer.text
    assert names(session) == ["a.f"]


def test_a_run_again_cell_replaces_the_operation_in_its_place(
    notebook: Notebook, session: Session
) -> None:
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...")
    notebook.run("%%operation a.g\ndef g(clean: Clean): ...")
    notebook.run("%%operation a.f\ndef f(raw: Raw, n: int) -> Clean: ...")
    assert names(session) == ["a.f", "a.g"]
    assert [port.name for port in session.operations[0].ports] == ["raw", "n"]


def test_the_same_cell_with_a_new_name_replaces_the_old_name_and_says_so(
    notebook: Notebook, session: Session
) -> None:
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...", identity="one")
    notebook.run("%%operation a.g\ndef g(raw: Raw) -> Clean: ...", identity="two")
    answer = notebook.run("%%operation a.h\ndef f(raw: Raw) -> Clean: ...", identity="one")
    assert names(session) == ["a.h", "a.g"]
    assert "a.f" in answer.text


def test_helpers_stand_beside_the_operation(notebook: Notebook, session: Session) -> None:
    notebook.run("%%operation a.f\ndef _help(): ...\ndef f(raw: Raw): ...\ndef _more(): ...")
    notebook.run("%%operation a.g --function g\ndef g(raw: Raw): ...\ndef helper(): ...")
    assert [o.function_name for o in session.operations] == ["f", "g"]


def test_a_bare_body_becomes_a_function(notebook: Notebook, session: Session) -> None:
    cell = '''
    %%operation parsing.clean --in raw:Raw --in pages:int=3 --out cleaned:Clean
    # A comment stays.
    text = """
    as it
      stands"""
    cleaned = {**raw, "text": text, "pages": pages}
    '''
    answer = notebook.run(cell)
    assert answer.text == "parsing.clean: clean(raw: Raw, pages: int = 3) -> Clean"
    assert notebook.names["clean"]({"a": 1}) == {
        "a": 1,
        "text": "\nas it\n  stands",
        "pages": 3,
    }
    source = inspect.getsource(notebook.names["clean"])
    assert source.startswith(
        "def clean(raw: Raw, pages: int = 3) -> Clean:\n    # A comment stays.\n"
    )
    assert "cleaned" not in notebook.names
    assert names(session) == ["parsing.clean"]


def test_a_decorated_function_is_the_one_that_is_declared(
    notebook: Notebook, session: Session
) -> None:
    notebook.run(
        """
        import functools
        def twice(function):
            @functools.wraps(function)
            def both(*args): return function(*args), function(*args)
            return both
        """
    )
    notebook.run("%%operation a.f\ndef f(raw: Raw): ...\nf = twice(f)")
    assert session.operations[0].function is notebook.names["f"]


# --- What IPython does stays IPython's ----------------------------------------------------------


def frames(error: BaseException | None) -> list[tuple[str, int]]:
    found = []
    traceback = error.__traceback__ if error else None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        found.append((code.co_name, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def test_tracebacks_point_at_the_lines_of_the_cell(notebook: Notebook) -> None:
    answer = notebook.run(
        """
        %%operation a.f --retries 2
        def f(raw: Raw) -> Clean:
            x = 1
            return x / 0

        f({})
        """
    )
    assert frames(answer.error)[-2:] == [("<module>", 6), ("f", 4)]


def test_tracebacks_of_a_bare_body_point_at_its_lines(notebook: Notebook) -> None:
    notebook.run("%%operation a.f --in raw:Raw --out x:Clean\n\nx = 1\nx = x / 0")
    assert frames(notebook.run("f({})").error)[-1] == ("f", 4)


def test_the_source_and_the_file_of_an_operation_are_known(notebook: Notebook) -> None:
    notebook.run("%%operation a.f\n# first\ndef f(raw: Raw) -> Clean:\n    return raw  # here\n")
    function = notebook.names["f"]
    assert inspect.getsource(function) == "def f(raw: Raw) -> Clean:\n    return raw  # here\n"
    assert function.__code__.co_firstlineno == 3
    plain = notebook.run("def g(): ...") and notebook.names["g"]
    # The debugger finds a cell by its file's name, which IPython makes from the raw cell.
    own, other = (Path(f.__code__.co_filename) for f in (function, plain))
    assert own.parent == other.parent


def test_a_cell_may_await_and_use_other_magics(notebook: Notebook, session: Session) -> None:
    answer = notebook.run(
        """
        %%operation a.f
        import asyncio
        await asyncio.sleep(0)
        words = !echo hello
        async def f(raw: Raw) -> Clean:
            return raw
        %time 1 + 1
        await f({"words": list(words)})
        """
    )
    assert answer.error is None
    assert answer.value == {"words": ["hello"]}
    assert names(session) == ["a.f"]


@pytest.mark.parametrize("magic", ["%%time", "%%capture"])
def test_a_magic_above_works(notebook: Notebook, session: Session, magic: str) -> None:
    answer = notebook.run(f"{magic}\n%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return raw")
    assert answer.error is None
    assert names(session) == ["a.f"]
    assert session.operations[0].cell == "cell 3"


def test_run_cell_magic_works(notebook: Notebook, session: Session) -> None:
    notebook.shell.run_cell_magic("operation", "a.f", "def f(raw: Raw) -> Clean:\n    return raw")
    assert names(session) == ["a.f"]
    assert inspect.getsource(notebook.names["f"]).startswith("def f(")


def test_a_syntax_error_is_pythons_own(notebook: Notebook, session: Session) -> None:
    answer = notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return return")
    assert isinstance(answer.error, SyntaxError)
    assert answer.error.lineno == 3
    assert names(session) == []


# --- Bad input ----------------------------------------------------------------------------------

BAD = {
    "%%operation ../x\ny = 1\ndef f(): ...": "InvalidNameError: operation name '../x' is not valid",
    "%%operation class.def\ndef f(): ...": "InvalidNameError: operation name 'class.def'",
    "%%operation main.x\ndef f(): ...": "InvalidNameError: operation name 'main.x'",
    "%%operation a.f\ny = 1\nimport os": "has no function, only an assignment and an import",
    "%%operation a.f": "UsageError: %%operation a.f: the cell is empty.",
    "%%operation a.f\ndef g(): ...\ndef h(): ...": "several functions (g, h). Pick one with",
    "%%operation a.f --retires 2\ndef g(): ...": "no flag '--retires'. Did you mean '--retries'?",
    "%%operation a.f --after ../x\ndef g(): ...": "InvalidNameError: operation name '../x'",
    "%%operation a.f --timeout 0\ndef g(): ...": "timeout cannot be 0",
    "%%operation a.f --out x:Clean\ny = 1": "the cell never sets 'x', which --out gives.",
    "if True:\n    %operation a.f": "%operation a.f goes on the first line of its cell",
    "if True: pass\n%%operation a.f\ndef f(): ...": "goes on the first line of its cell",
    "%pulpo complie": "no subcommand 'complie'. Did you mean 'compile'? It has: compile,",
    "%pulpo graph --veiw both": "%pulpo graph: there is no flag '--veiw'. Did you mean '--view'?",
    "%pulpo graph --view all": "--view is one of both, dataflow, hierarchy, not 'all'.",
    "%pulpo graph --around kepd": "there is no operation 'kepd'. Did you mean 'kept'?",
    "%pulpo graph --hops 2": "name it with around (--around OPERATION).",
    "%pulpo graph --depth 0": "UsageError: depth takes a whole number from 1, not 0.",
    "%pulpo graph --depth two": "--depth takes a whole number from 0, not 'two'.",
    "%pulpo graph --around kept --hops -1": "%pulpo graph: --hops",
    "%pulpo graph --text --mermaid": "--mermaid is not allowed with --text.",
    "%pulpo graph -o jobs.bmp": "cannot save a picture as 'jobs.bmp': end its name in .svg, .png,",
    "%pulpo list things": "is one of operations, models, flows, not 'things'.",
    "%pulpo show": "%pulpo show: what is missing is OPERATION.",
    "%pulpo show nothing": "UnknownNameError: there is no operation 'nothing'.",
    "%pulpo remove kepd": "Did you mean 'kept'?",
    "%pulpo run --param query": "--param takes name=value or name=@variable, not 'query'.",
    "%pulpo run --param a=1 --param a=2": "--param gives 'a' twice.",
    "%pulpo run --param raw=@Clea": "no variable 'Clea' in the notebook. Did you mean 'Clean'?",
    "%pulpo run kept": "'kept' is an operation, and FLOW is a group or a flow: use --only kept, or",
    "%pulpo run --only kept": "main_flow needs 'raw' (Raw), which kept takes: add --param raw=@var",
    "%pulpo compile --upto kepd": "there is no operation 'kepd'. Did you mean 'kept'?",
    "%pulpo export --from kept, x": "--from takes names of operations: a, or a,b without a space.",
    "%pulpo preview --only": "%pulpo preview: --only expected one argument.",
    "%pulpo run --runner thread": "--runner is one of async, threads, process, dask, ray, not",
    "%pulpo run --engine lokal": "%pulpo run: --engine is one of prefect, local, not 'lokal'.",
    "%pulpo run --engine local --runner dask": "--runner dask is a task runner of Prefect's, and",
    "%pulpo graph 'x": 'cannot read "graph \'x": no closing quotation.',
}


@pytest.mark.parametrize("cell", BAD)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    notebook: Notebook, session: Session, cell: str
) -> None:
    notebook.run("%%operation kept\ndef kept(raw: Raw) -> Clean: ...")
    before = {name for name in notebook.names if not name.startswith("_")}
    answer = notebook.run(cell)
    assert answer.error is not None
    assert BAD[cell] in answer.text
    assert "\n" not in answer.text
    assert names(session) == ["kept"]
    assert {name for name in notebook.names if not name.startswith("_")} == before


def test_a_function_that_makes_no_operation_leaves_the_registry(
    notebook: Notebook, session: Session
) -> None:
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...")
    answer = notebook.run("%%operation a.f\ndef f(raw: Raw | Clean) -> Clean: ...")
    assert type(answer.error).__name__ == "ModelError"
    assert "\n" not in answer.text
    assert [port.name for port in session.operations[0].ports] == ["raw"]


def test_an_error_of_ours_is_not_hidden(
    notebook: Notebook, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Session, function: Any, **_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Session, "declare", broken)
    answer = notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...")
    assert isinstance(answer.error, ZeroDivisionError)
    assert "a bug" in answer.text
    assert "Traceback" in answer.text


# --- JSON and differences ------------------------------------------------------------------------


def test_the_plan_is_shown_as_json(notebook: Notebook, session: Session) -> None:
    fill(notebook)
    text = notebook.run("plan = %pulpo compile --json\nplan").text
    assert text == session.compile().document().text()
    assert [flow["name"] for flow in json.loads(text)["flows"]][:2] == ["load_flow", "main_flow"]


def test_a_blocked_plan_is_shown_as_json_before_the_error(notebook: Notebook) -> None:
    fill(notebook)
    notebook.run("%%operation other\ndef other() -> Clean: ...")
    notebook.run("%%operation last\ndef last(which: Clean): ...")
    answer = notebook.run("%pulpo compile --json")
    assert isinstance(answer.error, BlockedFlowError)
    assert '"schema_version": 1' in answer.text


def test_what_changed_since_the_last_export_is_shown(
    notebook: Notebook, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(notebook)
    assert notebook.run("%pulpo diff").text.startswith("No export in run_cache/ yet")
    notebook.run("%pulpo export --to flows")
    assert notebook.run("%pulpo diff flows").text.startswith("Nothing has changed")
    notebook.run("%%operation load.clean --retries 2\ndef clean(raw: Raw) -> Clean: ...")
    answer = notebook.run("%pulpo diff flows")
    assert "~ load.clean: retries 0 → 2" in answer.text
    assert str(pulpo.diff("flows")).strip() == answer.text


# --- Help ---------------------------------------------------------------------------------------

SUBCOMMANDS = [
    "compile",
    "graph",
    "list",
    "show",
    "preview",
    "run",
    "export",
    "load",
    "diff",
    "check",
    "panel",
    "status",
    "remove",
    "clear",
    "help",
]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help(notebook: Notebook, name: str) -> None:
    by_flag = notebook.run(f"%pulpo {name} --help").text
    assert by_flag.startswith(f"usage: %pulpo {name}")
    assert notebook.run(f"%pulpo help {name}").text == by_flag


def test_help_lists_the_subcommands(notebook: Notebook) -> None:
    for cell in ("%pulpo help", "%pulpo", "%pulpo --help"):
        text = notebook.run(cell).text
        assert [line.split()[0] for line in text.splitlines()[2:-2]] == SUBCOMMANDS
    assert notebook.shell.find_line_magic("pulpo").__doc__ == text


def test_help_of_an_operation_does_nothing_else(notebook: Notebook, session: Session) -> None:
    answer = notebook.run("%%operation a.f --help\ny = 1\ndef f(): ...")
    assert answer.text.startswith("usage: %%operation")
    assert "y" not in notebook.names
    assert names(session) == []
    assert "--retry-delay" in notebook.shell.find_cell_magic("operation").__doc__


# --- %pulpo -------------------------------------------------------------------------------------


def fill(notebook: Notebook) -> None:
    notebook.run("%%operation load.fetch\ndef fetch(query: str) -> Raw: ...")
    notebook.run("%%operation load.clean\ndef clean(raw: Raw) -> Clean: ...")
    notebook.run("%%operation report\ndef report(clean: Clean): ...")


def test_subcommands_give_the_sessions_results(notebook: Notebook, session: Session) -> None:
    fill(notebook)
    assert "load_flow" in notebook.run("%pulpo compile").text
    assert str(notebook.run("x = %pulpo list models\nx").value) == str(session.listing("models"))
    assert "def fetch(query: str)" in notebook.run("%pulpo show load.fetch").text
    assert "load_flow" in notebook.run("%pulpo preview load").text
    assert "3 operations" in notebook.run("%pulpo check").text
    assert notebook.run("%pulpo status").value is not None
    assert notebook.run("%pulpo remove report").error is None
    assert names(session) == ["load.fetch", "load.clean"]
    assert notebook.run("%pulpo clear").error is None
    assert names(session) == []


def test_a_graph_is_a_picture_or_text(notebook: Notebook) -> None:
    fill(notebook)
    picture = notebook.run("%pulpo graph load --view dataflow   # what's in it").value
    assert "<svg" in picture.svg
    assert notebook.run("%pulpo graph load --view dataflow --text").text == str(picture)


@pytest.mark.parametrize(
    ("flags", "runs"),
    [
        ("--upto load.clean", ["load.fetch → load.clean"]),
        ("--from load.clean", ["load.clean", "load_flow → report"]),
        ("--only load.fetch,report", ["load.fetch", "load_flow | report"]),
        ("--only load.fetch --only=report", ["load.fetch", "load_flow | report"]),
        ("--upto load.clean --from load.clean", ["load.clean"]),
        ("--upto load.clean --flat", ["load.fetch → load.clean"]),
    ],
)
def test_a_selection_is_said_by_names_with_commas_or_several_times(
    notebook: Notebook, flags: str, runs: list[str]
) -> None:
    fill(notebook)
    text = notebook.run(f"%pulpo compile {flags}").text
    for line in runs:
        assert f"      runs {line}\n" in text


def test_every_front_end_of_a_flow_takes_a_selection_and_a_runner(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(notebook)
    assert "load.fetch" not in notebook.run("%pulpo preview load --only load.clean").text
    text = notebook.run("%pulpo preview load --only load.clean --runner dask").text
    assert "task_runner=DaskTaskRunner(" in text
    graph = notebook.run("%pulpo graph --only load.clean --text").text
    assert "clean" in graph.partition("\n\n")[0]
    assert "fetch" not in graph.partition("\n\n")[0]
    assert "load.fetch -[Raw]-> load.clean" in graph
    answer = notebook.run("%pulpo run load --from load.clean")
    assert "load_flow needs raw (the result of load.fetch)" in str(answer.error)
    answer = notebook.run("%pulpo export load --upto load.fetch --runner threads --to part")
    assert answer.error is None
    assert "ThreadPoolTaskRunner" in (tmp_path / "part/orchestration/load_flow.py").read_text()
    assert "load.clean" not in (tmp_path / "part/operations.py").read_text()


def test_the_functions_take_what_the_magics_take(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(notebook)
    part = "upto='load.clean', from_=['load.clean']"
    notebook.run("import pulpo")
    assert "main_flow(raw: Raw)" in notebook.run(f"pulpo.compile({part}, runner='threads')").text
    assert "raw: typing" in notebook.run(f"pulpo.preview('load', {part})['load_flow']").text
    assert "load.fetch" in notebook.run(f"pulpo.graph({part})").text
    assert notebook.run(f"pulpo.export('part', flow='load', {part}, force=True)").error is None
    assert "raw" in str(notebook.run(f"pulpo.run({part})").error)
    call = "pulpo.run('load', only=['load.fetch'], parameters={'only': 1}, flat=False)"
    assert "load_flow has no parameter 'only'. It takes: query." in str(notebook.run(call).error)


def test_a_part_of_a_graph_is_the_sessions_in_every_form(
    notebook: Notebook, session: Session, tmp_path: Path
) -> None:
    fill(notebook)
    collapsed = session.graph(depth=1)
    file = tmp_path / "a part.svg"
    assert notebook.run(f"%pulpo graph --depth 1 -o '{file}'").text == f"written to {file}"
    assert file.read_text("utf-8") == collapsed.svg
    assert notebook.run("%pulpo graph --depth 1 --text").text == collapsed.text
    assert notebook.run("%pulpo graph --depth 1 --mermaid").text == collapsed.mermaid
    assert notebook.run("%pulpo graph --depth 1").value.svg == collapsed.svg
    near = session.graph("dataflow", flow="load", around="load.clean", hops=0)
    line = "%pulpo graph load --view dataflow --around load.clean --hops 0 --text"
    assert notebook.run(line).text == near.text


def test_compile_reports_and_then_fails_when_a_flow_is_blocked(
    notebook: Notebook, session: Session
) -> None:
    notebook.run("%%operation a.x\ndef x(raw: Raw) -> Clean: ...")
    notebook.run("%%operation b.y\ndef y() -> Raw: ...")
    notebook.run("%%operation c.z\ndef z() -> Raw: ...")
    answer = notebook.run("%pulpo compile")
    assert type(answer.error).__name__ == "BlockedFlowError"
    assert "a_flow" in answer.text
    assert answer.text.count("BlockedFlowError") == 1
    assert names(session) == ["a.x", "b.y", "c.z"]


def test_a_magic_keeps_braces_and_dollars_as_they_are(notebook: Notebook) -> None:
    fill(notebook)
    answer = notebook.run("query = 1\n%pulpo show '{query}$query'")
    assert "'{query}$query'" in str(answer.error)


def test_an_export_lands_in_the_folder_that_was_asked_for(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(notebook)
    answer = notebook.run("%pulpo export --to out/flows")
    assert answer.error is None
    assert (tmp_path / "out/flows/operations.py").is_file()


def test_what_cannot_leave_is_told_and_frozen(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import time\nnow = time.time()\nlast = now + time.time()")
    notebook.run("%%operation a.late\ndef late(x: int = 1) -> Clean:\n    return now + last")
    told = notebook.run("%pulpo check --export").text
    assert told.count("not to be exported: operation 'a.late': cannot carry") == 2
    assert "No problems" in notebook.run("%pulpo check").text
    notebook.run("import pulpo")
    assert notebook.run("str(pulpo.check(export=True))").value == told
    folder = tmp_path / "flows"
    assert "--freeze now" in str(notebook.run(f"%pulpo export --to '{folder}'").error)
    answer = notebook.run(f"%pulpo export --to '{folder}' --freeze now,last")
    assert answer.error is None
    text = (folder / "operations.py").read_text()
    assert f"now = {notebook.run('now').value!r}\nlast = " in text
    again = notebook.run(f"pulpo.export({str(folder)!r}, freeze=['now', 'last'])")
    assert again.error is None
    assert (folder / "operations.py").read_text() == text


# --- Completion ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_plain_python_completes_again_and_again(notebook: Notebook) -> None:
    # IPython writes into what a matcher returns, and words of other lengths then tripped over it.
    notebook.run("import json\nVALUE = 1")
    for text, found in (("import os; os.pa", "path"), ("VA", "VALUE"), ("js", "json")):
        assert found in notebook.complete(text)


def test_completion_knows_subcommands_flags_and_names(notebook: Notebook) -> None:
    fill(notebook)
    assert notebook.complete("%pulpo co") == ["compile"]
    assert notebook.complete("x = %pulpo st") == ["status"]
    assert notebook.complete("%pulpo show load.") == ["load.fetch", "load.clean"]
    assert notebook.complete("%pulpo graph --vi") == ["--view"]
    assert notebook.complete("%pulpo graph --view d") == ["dataflow"]
    assert notebook.complete("%pulpo graph --around load.c") == ["load.clean"]
    assert notebook.complete("%pulpo graph lo") == ["load", "load_flow"]
    assert notebook.complete("%pulpo list m") == ["models"]
    assert notebook.complete("%%operation a.x --ret") == ["--retries", "--retry-delay"]
    assert notebook.complete("%%operation a.x --after re") == ["report"]
    assert notebook.complete("%%operation a.x --in raw:R") == ["raw:Raw"]
    assert notebook.complete("%operation a.x --bind raw=load.f") == ["raw=load.fetch"]
    assert notebook.complete("%pulpo run --param raw=@Cl") == ["raw=@Clean"]
    assert notebook.complete("%pulpo run --upto load.c") == ["load.clean"]
    assert notebook.complete("%pulpo graph --from re") == ["report"]
    both = ["load.fetch,load.clean"]
    assert notebook.complete("%pulpo export load --only load.fetch,load.") == both
    assert notebook.complete("%pulpo compile --runner t") == ["threads"]
    assert notebook.complete("%pulpo run --eng") == ["--engine"]
    assert notebook.complete("%pulpo run load --engine l") == ["local"]


def test_completion_elsewhere_is_ipythons(notebook: Notebook) -> None:
    assert "Clean" in notebook.complete("x = Cle")
    assert "%pulpo" in notebook.complete("%pul")


# --- Loading ------------------------------------------------------------------------------------


def parts(shell: InteractiveShell) -> list[int]:
    lists = (
        shell.input_transformers_cleanup,
        shell.input_transformers_post,
        shell.ast_transformers,
        shell.Completer.custom_matchers,
        shell.events.callbacks["pre_run_cell"],
        shell.events.callbacks["post_run_cell"],
        shell.magics_manager.magics["line"],
        shell.magics_manager.magics["cell"],
    )
    return [len(each) for each in lists]


def test_loading_twice_and_unloading_leave_nothing_behind(bare: Notebook) -> None:
    before = parts(bare.shell)
    bare.run("%load_ext pulpo")
    loaded = parts(bare.shell)
    assert loaded != before
    bare.run("%load_ext pulpo")
    bare.run("import pulpo; pulpo.load_ipython_extension(get_ipython())")
    assert parts(bare.shell) == loaded
    bare.run("%reload_ext pulpo")
    assert parts(bare.shell) == loaded
    bare.run("%unload_ext pulpo")
    assert parts(bare.shell) == before
    answer = bare.run("%%operation a.f\ndef f(): ...")
    assert str(answer.error) == "Cell magic `%%operation` not found."


def test_reloading_keeps_the_session(notebook: Notebook, session: Session) -> None:
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...")
    notebook.run("%reload_ext pulpo")
    assert current() is session
    assert names(session) == ["a.f"]
    notebook.run("%%operation a.g\ndef g(raw: Raw) -> Clean: ...")
    assert names(session) == ["a.f", "a.g"]


def test_a_reset_of_the_namespace_leaves_the_magics(notebook: Notebook, session: Session) -> None:
    notebook.run("%reset -f")
    notebook.run(MODELS)
    assert notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean: ...").error is None
    assert names(session) == ["a.f"]


def test_loading_imports_nothing_slow(private_env: dict[str, str]) -> None:
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell;"
        "shell = InteractiveShell.instance(); shell.run_cell('%load_ext pulpo');"
        "assert 'pulpo' in shell.extension_manager.loaded;"
        "print(sorted({'prefect', 'networkx', 'graphviz', 'pygraphviz', 'ipywidgets', 'anywidget'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=private_env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# --- The record ---------------------------------------------------------------------------------


def exported(notebook: Notebook, folder: Path) -> str:
    answer = notebook.run(f"%pulpo export --to {folder.name}/flows")
    assert answer.error is None, answer.text
    return (folder / "flows/operations.py").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def test_cells_from_before_loading_are_known(bare: Notebook, folder: Path) -> None:
    bare.run(MODELS)
    bare.run("def helper(raw):\n    return raw  # from before")
    bare.run("%load_ext pulpo\nlimit = 3")
    bare.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return helper(raw), limit")
    text = exported(bare, folder)
    assert "return raw  # from before" in text
    assert "limit = 3" in text


def test_cells_are_numbered_and_known_where_no_history_is_stored(
    bare: Notebook, folder: Path
) -> None:
    cells = [
        MODELS,
        "def helper(raw):\n    return raw",
        "%load_ext pulpo",
        "%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return helper(raw)",
        "%%operation a.g\ndef g(clean: Clean): ...",
    ]
    for cell in cells:
        bare.run(cell, stored=False)
    assert [operation.cell for operation in current().operations] == ["cell 4", "cell 5"]
    assert "def helper(raw):" in exported(bare, folder)


def test_cells_while_unloaded_are_known_after_reloading(notebook: Notebook, folder: Path) -> None:
    notebook.run("%unload_ext pulpo")
    notebook.run("def helper(raw):\n    return raw")
    notebook.run("%load_ext pulpo")
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return helper(raw)")
    assert "def helper(raw):" in exported(notebook, folder)


def test_a_failed_cell_gives_what_stands_above_the_failure(
    notebook: Notebook, folder: Path
) -> None:
    notebook.run("def helper(raw):\n    return raw\n\nhelper(1 / 0)\n")
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return helper(raw)\nf(1 / 0)")
    assert "def helper(raw):" in exported(notebook, folder)


@pytest.mark.parametrize("magic", ["%%time", "%%capture"])
def test_what_a_magic_compiles_is_recorded(notebook: Notebook, folder: Path, magic: str) -> None:
    notebook.run(f"{magic}\ndef helper(raw):\n    return raw")
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return helper(raw)")
    assert "def helper(raw):" in exported(notebook, folder)


@pytest.mark.parametrize("cell", ["%%timeit -n1 -r1\nn = 5", "%timeit -n1 -r1 n = 5"])
def test_what_timeit_measures_is_not_recorded(notebook: Notebook, folder: Path, cell: str) -> None:
    notebook.run("n = 1")
    notebook.run(cell)
    notebook.run("%%operation a.f\ndef f(raw: Raw) -> Clean:\n    return n")
    assert "n = 1\n" in exported(notebook, folder)


def test_an_empty_cell_inside_another_loses_nothing(notebook: Notebook, folder: Path) -> None:
    notebook.run("get_ipython().run_cell('')\ndef helper(raw):\n    return raw")
    assert notebook.run("%%operation a.f\ndef f(raw: Raw): return helper(raw)").error is None
    assert "def helper(raw):" in exported(notebook, folder)
    assert current().operations[0].cell == "cell 4"


def test_a_bare_body_is_exported_as_the_function_it_became(
    notebook: Notebook, folder: Path
) -> None:
    notebook.run("%%operation a.f --in raw:Raw --out clean:Clean\nclean = raw  # as it was")
    text = exported(notebook, folder)
    assert "def f(raw: Raw) -> Clean:\n    clean = raw  # as it was\n    return clean\n" in text
    assert "__pulpo" not in text
