"""What happens before anything runs, and how a run shows itself; no server is needed."""

from __future__ import annotations

import contextvars
import inspect
import linecache
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runner_sample import NAMES, CleanedJobs, RawJobs, sample

from pulpo import parameters, runner
from pulpo.errors import (
    BlockedFlowError,
    MissingInputError,
    Problem,
    RunError,
    UnknownNameError,
    UsageError,
)
from pulpo.run_logs import kept_logs
from pulpo.runs import OperationFailedError, Run


def run(flow: str, /, **parameters: Any) -> Run:
    given, options = sample().arguments(flow, **parameters)
    return runner.run_flow_blocking(*given, **options)


def converted(flow: str, **given: Any) -> dict[str, Any]:
    the = sample()
    loaded = runner._load(the.modules, the.functions, the.namespace)
    definition = the.plan.get_flow(flow)
    assert definition is not None
    annotations = inspect.get_annotations(loaded.flows[flow].fn)
    return parameters.convert(definition, annotations, given, loaded.helpers.Ref)


# --- Loading -------------------------------------------------------------------------------------


def test_loaded_flows_are_found_by_name() -> None:
    the = sample()
    flows = runner.load_flows(the.modules, the.functions, the.namespace)
    assert set(flows) == {"scraping_flow", "parsing_flow", "main_flow"}


def test_a_run_loads_its_flow_and_the_subflows_of_that_alone() -> None:
    the = sample()

    def loaded(flow: str) -> set[str]:
        return set(runner._load(the.modules, the.functions, the.namespace, flow).flows)

    assert loaded("scraping_flow") == {"scraping_flow"}
    assert loaded("main_flow") == {"scraping_flow", "parsing_flow", "main_flow"}


def test_a_log_line_reaches_its_own_run_which_has_no_result_yet() -> None:
    first, second = Run("first_flow", ["a"]), Run("second_flow", ["a"])
    with kept_logs(first):
        context = contextvars.copy_context()
        with kept_logs(second):
            context.run(logging.getLogger("prefect").warning, "hello")
    assert "hello" in str(first.logs())
    assert "hello" not in str(second.logs())


def test_generated_lines_can_be_looked_up_for_tracebacks() -> None:
    the = sample()
    flow = runner.load_flows(the.modules, the.functions, the.namespace)["scraping_flow"]
    assert flow.fn.__code__.co_filename == "<pulpo scraping_flow>"
    assert "async def scraping_flow" in "".join(linecache.getlines("<pulpo scraping_flow>"))
    assert "async def scraping_flow" in inspect.getsource(flow.fn)


def test_an_exported_folder_is_neither_imported_nor_shadowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run_cache").mkdir()
    (tmp_path / "run_cache/__init__.py").write_text("THEIRS = True\n")
    (tmp_path / "run_cache/operations.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import run_cache

    the = sample()
    assert len(runner.load_flows(the.modules, the.functions, the.namespace)) == 3
    assert sys.modules["run_cache"] is run_cache
    assert [name for name in sys.modules if name.startswith("run_cache")] == ["run_cache"]
    monkeypatch.delitem(sys.modules, "run_cache")


def test_a_load_that_fails_leaves_nothing_behind() -> None:
    the = sample()
    name = "run_cache.orchestration.main_flow"
    broken = {**the.modules, name: "from run_cache.operations import Gone\n"}
    with pytest.raises(RunError, match=r"main_flow cannot be loaded.*Gone"):
        runner.load_flows(broken, the.functions, the.namespace)
    assert not [name for name in sys.modules if name.startswith("run_cache.")]
    assert not [f for f in sys.meta_path if isinstance(f, runner._Finder)]


def test_types_come_from_the_notebook_and_then_from_the_operations_modules() -> None:
    stand_in = parameters.LiveNames("run_cache.operations", sample().functions, {"RawJobs": 1})
    assert stand_in.RawJobs == 1
    assert stand_in.CleanedJobs is CleanedJobs
    with pytest.raises(AttributeError, match="Nowhere"):
        stand_in.Nowhere  # noqa: B018


@pytest.mark.slow
def test_importing_prefect_leaves_the_root_logger_alone() -> None:
    asks = (
        "import logging; from pulpo import runner; runner._import_prefect(); "
        "import sys; print('prefect.main' in sys.modules, logging.getLogger().handlers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "True []"


# --- Parameters ----------------------------------------------------------------------------------


def test_an_unknown_flow_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'scraping_flow'"):
        run("scrapping_flow")


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no parameter 'querry'\. Did you mean 'query'\?"):
        run("main_flow", querry="python")


def test_a_port_given_by_its_own_name_is_told_the_flow_s_parameter() -> None:
    with pytest.raises(UsageError, match=r"'data' of parsing\.clean gets the flow's 'raw_jobs'"):
        run("parsing_flow", data="x")


def test_a_missing_parameter_names_the_operations_that_take_it_and_the_flag() -> None:
    with pytest.raises(MissingInputError) as caught:
        run("main_flow")
    assert str(caught.value) == (
        "main_flow needs 'query' (str), which scraping.stepstone.fetch and "
        "scraping.linkedin.fetch take: add --param query=…."
    )
    assert caught.value.missing == ("query",)


def test_missing_data_is_asked_for_as_a_variable() -> None:
    with pytest.raises(MissingInputError, match="--param raw_jobs=@variable"):
        run("parsing_flow")


def test_a_blocked_flow_does_not_start() -> None:
    from dataclasses import replace

    the = sample()
    problem = Problem(code="x", severity="error", message="two candidates")
    flows = tuple(replace(flow, blocked=(problem,)) for flow in the.plan.flows)
    given, options = the.arguments(query="python")
    with pytest.raises(BlockedFlowError, match="two candidates") as caught:
        runner.run_flow_blocking(replace(the.plan, flows=flows), *given[1:], **options)
    assert caught.value.problems == (problem,)


def test_text_becomes_the_parameters_type() -> None:
    assert converted("main_flow", query="7", pages="3") == {"query": "7", "pages": 3}


@pytest.mark.parametrize("value", ["many", "1.5", "[1]", None, object()])
def test_a_value_of_the_wrong_type_is_one_clear_line(value: Any) -> None:
    with pytest.raises(UsageError, match="main_flow needs 'pages' as int, not ") as caught:
        converted("main_flow", query="python", pages=value)
    assert "\n" not in str(caught.value)


def test_data_is_passed_on_as_the_very_object() -> None:
    jobs = RawJobs(titles=["a"])
    assert converted("parsing_flow", raw_jobs=jobs)["raw_jobs"].value is jobs
    anything = object()
    assert converted("parsing_flow", raw_jobs=anything)["raw_jobs"].value is anything


def test_data_given_as_json_text_becomes_the_model() -> None:
    given = converted("parsing_flow", raw_jobs='{"titles": ["b", "a"]}')
    assert given["raw_jobs"].value == RawJobs(titles=["b", "a"])


def test_data_given_as_other_text_is_refused_with_the_way_to_give_an_object() -> None:
    with pytest.raises(UsageError, match=r"Give a live object as raw_jobs=@variable\."):
        converted("parsing_flow", raw_jobs="somewhere.json")


# --- Results -------------------------------------------------------------------------------------


def finished_run() -> Run:
    made = Run("main_flow", ["a.load", "a.<merge>", "b.clean"])
    made.state = "failed"
    load, merge, clean = made.operations.values()
    load.state, load._value, load.seconds = "done", [1, 2, 3], 0.25
    merge.state, merge.error, merge.seconds = "failed", ValueError("no <b>titles</b>"), 1.5
    clean.state = "not reached"
    made.error = merge.error
    return made


def test_a_runs_text_holds_no_times() -> None:
    assert str(finished_run()).splitlines() == [
        "main_flow: failed",
        "operation  state        value",
        "a.load     done         list of 3",
        "a.<merge>  failed       ValueError: no <b>titles</b>",
        "b.clean    not reached",
    ]


def test_a_runs_html_escapes_and_marks_its_times() -> None:
    page = finished_run()._repr_html_()
    assert "a.&lt;merge&gt;" in page
    assert "<b>titles" not in page
    assert '<span class="pulpo-seconds">1.5 s</span>' in page


def test_values_are_had_by_name_and_absent_ones_say_why() -> None:
    made = finished_run()
    assert made["a.load"] == [1, 2, 3]
    assert list(made) == ["a.load"]
    assert dict(made) == {"a.load": [1, 2, 3]}
    assert "b.clean" not in made
    with pytest.raises(RunError, match=r"it failed with ValueError: no <b>"):
        made["a.<merge>"]
    with pytest.raises(RunError, match="it was not reached"):
        made["b.clean"]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'b\.clean'"):
        made["clean"]
    with pytest.raises(RunError, match="its run is failed"):
        made.result  # noqa: B018


def test_a_failed_run_raises_from_the_users_exception() -> None:
    made = finished_run()
    with pytest.raises(OperationFailedError, match=r"a\.<merge> failed") as caught:
        made.raise_for_failure()
    assert caught.value.__cause__ is made.error
    assert caught.value._render_traceback_()[0] == (
        "OperationFailedError: a.<merge> failed; not reached: b.clean"
    )


def test_the_progress_line_counts_what_has_ended() -> None:
    made = finished_run()
    assert made.progress_line() == "failed 2/3: a.<merge>"
    made.state = "running"
    made.operations["b.clean"].state = "running"
    assert made.progress_line() == "running 2/3: b.clean"


def test_a_long_table_keeps_what_did_not_finish() -> None:
    made = Run("main_flow", [f"a.n{place}" for place in range(1000)])
    for operation in made.operations.values():
        operation.state = "done"
    made.operations["a.n900"].state = "failed"
    text = str(made)
    assert "a.n900" in text
    assert text.endswith("… and 940 more")


def test_the_sanitizer_file_takes_the_seconds_out() -> None:
    import configparser
    import re

    import pulpo

    shipped = Path(str(pulpo.__file__)).with_name("nbval.cfg")
    rules = configparser.RawConfigParser()
    rules.read(shipped)
    text = finished_run()._repr_html_() + '<svg id="x">\n</svg> at 0x7f3a2b1c'
    for section in rules.sections():
        text = re.sub(rules[section]["regex"], rules[section]["replace"], text)
    assert "1.5 s" not in text
    assert "<svg id" not in text
    assert "0x7f" not in text


def test_every_operation_of_the_flow_is_in_the_run_in_registration_order() -> None:
    the = sample()
    job = runner._Job(*the.arguments(query="x")[0], the.modules, None)
    assert list(job.run.operations) == NAMES
