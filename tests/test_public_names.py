"""The names that callers rely on are importable from `pulpo`, with the methods they have."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest
from declared import Duck

import pulpo

METHODS = {
    "HierarchyParser": """parse group_by_parent group_by_root group_by_level find_siblings
        find_children build_hierarchy_tree validate_names""",
    "DataFlowAnalyzer": "build_dependency_graph topological_sort find_parallel_groups",
    "DataFlowGraph": """get_dependencies get_dependents has_cycle topological_sort
        find_parallel_groups""",
    "OrchestrationCompiler": "compile",
    "Orchestration": "flows get_flow is_valid",
    "FlowDefinition": "name hierarchy_path operations parallel_groups",
    "PrefectCodeGenerator": "generate_all_flows generate_flow_registry",
    "SyncAsyncDetector": "detect_and_wrap is_async get_execution_strategy",
    "OperationRegistry": "register get list_all clear",
    "CLI": "compile list_operations list_models up down prefect api db ui init clean",
}
FUNCTIONS = [
    "operation",
    "compile",
    "graph",
    "preview",
    "run",
    "export",
    "check",
    "panel",
    "last_run",
]


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name, methods in METHODS.items() for method in methods.split()],
)
def test_a_public_class_has_its_methods(name: str, method: str) -> None:
    assert name in pulpo.__all__
    assert hasattr(getattr(pulpo, name), method)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_magic_does_is_a_function_too(name: str) -> None:
    assert callable(getattr(pulpo, name))
    assert inspect.getdoc(getattr(pulpo, name))


@pytest.mark.parametrize("name", pulpo.__all__)
def test_every_listed_name_is_there(name: str) -> None:
    assert getattr(pulpo, name) is not None
    assert name in dir(pulpo)


def test_there_is_no_last_run_before_the_first() -> None:
    with pytest.raises(pulpo.PulpoError, match="nothing has run in this session yet"):
        pulpo.last_run()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pulpo.nothing  # type: ignore[attr-defined]
    assert pulpo.__version__  # type: ignore[attr-defined]


def test_the_command_line_class_takes_its_folder_and_how_much_to_say(tmp_path: Path) -> None:
    made: Any = pulpo.CLI(run_cache_dir=str(tmp_path), verbose=False)
    assert made.list_operations() is not None
    assert inspect.signature(made.prefect).parameters["cmd"].default == "start"


def test_the_reference_session_goes_all_the_way() -> None:
    """Objects with four attributes go from analysis to code, as in the reference design."""

    def fetch_stepstone(): ...  # type: ignore[no-untyped-def]
    def fetch_linkedin(): ...  # type: ignore[no-untyped-def]
    def merge(stepstone, linkedin): ...  # type: ignore[no-untyped-def]
    async def clean(data): ...  # type: ignore[no-untyped-def]

    operations = [
        Duck("scraping.stepstone.fetch", [], ["RawJobs"], fetch_stepstone),
        Duck("scraping.linkedin.fetch", [], ["RawJobs"], fetch_linkedin),
        Duck("scraping.merge", ["RawJobs"], ["RawJobs"], merge),
        Duck("parsing.clean", ["RawJobs"], ["CleanedJobs"], clean),
    ]
    graph = pulpo.DataFlowAnalyzer().build_dependency_graph(operations)
    assert graph.get_dependencies("parsing.clean") == ["scraping.merge"]
    assert graph.get_dependents("scraping.linkedin.fetch") == ["scraping.merge"]
    stages = [
        ["scraping.stepstone.fetch", "scraping.linkedin.fetch"],
        ["scraping.merge"],
        ["parsing.clean"],
    ]
    assert pulpo.DataFlowAnalyzer().find_parallel_groups(graph) == stages
    orchestration = pulpo.OrchestrationCompiler().compile(operations)
    assert orchestration.is_valid
    scraping = orchestration.get_flow("scraping_flow")
    assert scraping
    assert scraping.hierarchy_path == "scraping"
    assert [list(stage) for stage in scraping.parallel_groups] == stages[:2]
    assert orchestration.get_flow("no_flow") is None
    codes = pulpo.PrefectCodeGenerator().generate_all_flows(orchestration)
    assert set(codes) == {"scraping_flow", "parsing_flow", "main_flow"}
    assert "asyncio.gather" in codes["scraping_flow"]
    assert "flows_by_name" in pulpo.PrefectCodeGenerator().generate_flow_registry(orchestration)


def test_the_detector_makes_any_function_awaitable() -> None:
    wrapped, was_sync = pulpo.SyncAsyncDetector.detect_and_wrap(lambda x: x + 1)
    assert was_sync
    assert asyncio.run(wrapped(1)) == 2  # type: ignore[arg-type]
