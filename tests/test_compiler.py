"""What flows come out: groups and nesting, stages, parameters, results, and the law of the plan."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import fake_prefect
import pytest
from declared import Duck, declare, declared
from hypothesis import given, settings
from hypothesis import strategies as st
from law import compiles_again, plan_obeys
from sessions import WORLD, sessions

from pulpo.backends.prefect import PrefectCodeGenerator
from pulpo.compiler import OrchestrationCompiler, Selection, compile_plan
from pulpo.dataflow import build_graph
from pulpo.errors import CycleError, InvalidNameError, UnknownNameError, UsageError
from pulpo.operations import Operation
from pulpo.plan import (
    FlowDefinition,
    Orchestration,
)


def plan_of(*lines: str, flat: bool = False) -> Orchestration:
    return compile_plan(declared(*lines), flat=flat)


def flow(plan: Orchestration, name: str) -> FlowDefinition:
    found = plan.get_flow(name)
    assert found, [flow.name for flow in plan.flows]
    return found


def shape(plan: Orchestration) -> dict[str, list[list[str]]]:
    """Return each flow's children, by stage."""
    return {flow.name: [list(stage) for stage in flow.parallel_groups] for flow in plan.flows}


def parameters(plan: Orchestration, name: str) -> list[str]:
    return [
        p.name
        + (f": {p.annotation.text}" if p.annotation else "")
        + (f" = {p.default.text}" if p.default else "")
        + (f" <- {p.value.operation}" if p.value else "")
        for p in flow(plan, name).parameters
    ]


JOBS = (
    "scraping.stepstone.fetch(query: str) -> Raw --async",
    "scraping.linkedin.fetch(query: str, pages: int = 3) -> Raw --async",
    "scraping.merge(stepstone: Raw, linkedin: Raw) -> Clean",
    "parsing.skills(jobs: Clean) -> Skills",
    "report(jobs: Clean, skills: Skills) -> Report",
)


# --- Groups and nesting ----------------------------------------------------------------------

NESTING = [
    (
        "groups of one operation are folded into their parent",
        JOBS,
        {
            "scraping_flow": [
                ["scraping.stepstone.fetch", "scraping.linkedin.fetch"],
                ["scraping.merge"],
            ],
            "parsing_flow": [["parsing.skills"]],
            "main_flow": [["scraping_flow"], ["parsing_flow"], ["report"]],
            "standalones_flow": [["report"]],
        },
    ),
    (
        "a deeper group of two gets a flow, a sibling of its parent's operations",
        ("a.b.x() -> Raw", "a.b.y(raw: Raw) -> Clean", "a.z(clean: Clean) -> Skills"),
        {
            "a_b_flow": [["a.b.x"], ["a.b.y"]],
            "a_flow": [["a_b_flow"], ["a.z"]],
            "main_flow": [["a_flow"]],
        },
    ),
    (
        "a chain of groups with one operation at its end is folded whole",
        ("a.b.c.d() -> Raw", "a.e() -> Clean"),
        {"a_flow": [["a.b.c.d", "a.e"]], "main_flow": [["a_flow"]]},
    ),
    (
        "two below a grandchild make flows of both",
        ("a.b.c.x() -> Raw", "a.b.c.y() -> Clean"),
        {
            "a_b_c_flow": [["a.b.c.x", "a.b.c.y"]],
            "a_b_flow": [["a_b_c_flow"]],
            "a_flow": [["a_b_flow"]],
            "main_flow": [["a_flow"]],
        },
    ),
    (
        "a name that is an operation and a group",
        ("a.b() -> Raw", "a.b.x(raw: Raw) -> Clean", "a.b.y(c: Clean)", "a() -> Skills"),
        {
            "a_b_flow": [["a.b.x"], ["a.b.y"]],
            "a_flow": [["a.b"], ["a_b_flow"]],
            "main_flow": [["a_flow", "a"]],
            "standalones_flow": [["a"]],
        },
    ),
    (
        "a top-level group of one",
        ("a.x() -> Raw",),
        {"a_flow": [["a.x"]], "main_flow": [["a_flow"]]},
    ),
    (
        "standalones alone",
        ("x() -> Raw", "y(raw: Raw)"),
        {"main_flow": [["x"], ["y"]], "standalones_flow": [["x"], ["y"]]},
    ),
    (
        "standalones with a group in between run without it on their own",
        ("x() -> Raw", "a.b(raw: Raw) -> Clean", "y(clean: Clean)"),
        {
            "a_flow": [["a.b"]],
            "main_flow": [["x"], ["a_flow"], ["y"]],
            "standalones_flow": [["x", "y"]],
        },
    ),
    (
        "operations called like pulpo's own flows",
        ("main_flow() -> Raw", "main() -> Clean", "standalones_flow()", "a.x()", "a_flow()"),
        {
            "a_flow_2": [["a.x"]],
            "main_flow": [["main_flow", "main", "standalones_flow", "a_flow_2", "a_flow"]],
            "standalones_flow": [["main_flow", "main", "standalones_flow", "a_flow"]],
        },
    ),
    (
        "names that collide when underscored, or in case only",
        ("a.b_c.x()", "a.b_c.y()", "a_b.c.x()", "a_b.c.y()", "A.z()", "Main.x()"),
        {
            "a_b_c_flow": [["a.b_c.x", "a.b_c.y"]],
            "a_flow": [["a_b_c_flow"]],
            "a_b_c_flow_2": [["a_b.c.x", "a_b.c.y"]],
            "a_b_flow": [["a_b_c_flow_2"]],
            "A_flow_2": [["A.z"]],
            "Main_flow_2": [["Main.x"]],
            "main_flow": [["a_flow", "a_b_flow", "A_flow_2", "Main_flow_2"]],
        },
    ),
    ("nothing", (), {}),
]


@pytest.mark.parametrize(("title", "session", "flows"), NESTING, ids=[n[0] for n in NESTING])
def test_groups_become_flows(
    title: str, session: tuple[str, ...], flows: dict[str, list[list[str]]]
) -> None:
    plan = plan_of(*session)
    assert shape(plan) == flows
    plan_obeys(plan)


def test_a_flow_knows_its_path_its_operations_and_all_that_it_covers() -> None:
    plan = plan_of(*JOBS)
    scraping = flow(plan, "scraping_flow")
    assert scraping.hierarchy_path == "scraping"
    assert scraping.operations == tuple(line.partition("(")[0] for line in JOBS[:3])
    main = flow(plan, "main_flow")
    assert (main.hierarchy_path, main.operations) == ("", ("report",))
    assert main.subflows == ("scraping_flow", "parsing_flow")
    assert len(main.covers) == 5
    assert plan.is_valid


@pytest.mark.parametrize("name", ["main.x", "standalones.x"])
def test_top_level_groups_of_pulpo_s_own_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        compile_plan([Duck(name, [], [])])


def test_flat_is_one_flow_whose_tasks_are_tagged_with_their_group() -> None:
    plan = plan_of(*JOBS, flat=True)
    assert shape(plan) == {
        "main_flow": [
            ["scraping.stepstone.fetch", "scraping.linkedin.fetch"],
            ["scraping.merge"],
            ["parsing.skills"],
            ["report"],
        ]
    }
    assert [step.group for step in flow(plan, "main_flow").steps] == [
        "scraping.stepstone",
        "scraping.linkedin",
        "scraping",
        "parsing",
        "",
    ]


# --- Groups in a loop ------------------------------------------------------------------------


def test_a_group_in_a_loop_runs_inside_its_parent() -> None:
    plan = plan_of("a.x() -> Raw", "b.y(raw: Raw) -> Clean", "a.z(clean: Clean) -> Skills")
    assert shape(plan) == {"main_flow": [["a.x"], ["b.y"], ["a.z"]]}
    (warning,) = plan.problems
    assert (warning.code, warning.severity) == ("groups-in-a-loop", "warning")
    assert "'a' and 'b' need each other both ways" in warning.message
    assert [step.group for step in flow(plan, "main_flow").steps] == ["a", "b", "a"]
    assert plan.is_valid


def test_a_loop_over_three_groups_is_found_and_others_stay() -> None:
    plan = plan_of(
        "a.x() -> Raw",
        "b.y(raw: Raw) -> Clean",
        "c.z(clean: Clean) -> Skills",
        "a.w(skills: Skills) -> Report",
        "d.v(report: Report) -> Table",
    )
    assert shape(plan) == {
        "d_flow": [["d.v"]],
        "main_flow": [["a.x"], ["b.y"], ["c.z"], ["a.w"], ["d_flow"]],
    }


def test_a_loop_at_depth_only_dissolves_there() -> None:
    plan = plan_of(
        "t.a.x() -> Raw",
        "t.a.v()",
        "t.b.y(raw: Raw) -> Clean",
        "t.b.v()",
        "t.a.z(clean: Clean) -> Skills",
        "t.c.p()",
        "t.c.q()",
    )
    assert shape(plan) == {
        "t_c_flow": [["t.c.p", "t.c.q"]],
        "t_flow": [["t.a.x", "t.a.v", "t.b.v", "t_c_flow"], ["t.b.y"], ["t.a.z"]],
        "main_flow": [["t_flow"]],
    }
    assert "run inside t_flow" in plan.problems[0].message


def test_a_group_in_a_loop_with_an_operation_of_its_parent() -> None:
    plan = plan_of(
        "a.b.x() -> Raw", "a.mid(raw: Raw) -> Clean", "a.b.y(clean: Clean) -> Skills", "a.b.z()"
    )
    assert shape(plan)["a_flow"] == [["a.b.x", "a.b.z"], ["a.mid"], ["a.b.y"]]
    assert "'a.b' and 'a.mid'" in plan.problems[0].message


def test_the_subgroups_of_a_dissolved_group_stay_flows_where_they_can() -> None:
    plan = plan_of(
        "a.x() -> Raw",
        "b.y(raw: Raw) -> Clean",
        "a.z(clean: Clean) -> Skills",
        "a.s.p() -> Report",
        "a.s.q(report: Report)",
    )
    assert shape(plan) == {
        "a_s_flow": [["a.s.p"], ["a.s.q"]],
        "main_flow": [["a.x", "a_s_flow"], ["b.y"], ["a.z"]],
    }
    plan_obeys(plan)


def test_order_alone_can_close_a_loop_of_groups() -> None:
    plan = plan_of("a.x()", "b.y() --after a.x", "a.z() --after b.y")
    assert shape(plan) == {"main_flow": [["a.x"], ["b.y"], ["a.z"]]}


def test_operations_in_a_loop_are_an_error_and_can_still_be_drawn() -> None:
    operations = declared("a.x(c: Clean) -> Raw", "b.y(raw: Raw) -> Clean", "c.z() -> Skills")
    plan = compile_plan(operations)
    assert not plan.is_valid
    assert [p.code for p in plan.problems] == ["cycle"]
    assert len(plan.edges) == 2
    blocked = {flow.name: bool(flow.blocked) for flow in plan.flows}
    assert blocked == {"a_flow": True, "b_flow": True, "c_flow": False, "main_flow": True}
    with pytest.raises(CycleError, match=r"a\.x -\[Raw\]-> b\.y -\[Clean\]-> a\.x"):
        OrchestrationCompiler().compile(operations)


# --- Flow parameters -------------------------------------------------------------------------


def test_the_same_parameter_of_several_operations_is_one() -> None:
    plan = plan_of(*JOBS)
    assert parameters(plan, "scraping_flow") == ["query: str", "pages: int = 3"]
    assert parameters(plan, "main_flow") == ["query: str", "pages: int = 3"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("n: int", "n: str"), ("n: int", "n: int = 3"), ("n: int = 3", "n: int = 4"), ("n", "n: int")],
)
def test_on_a_conflict_all_take_the_full_name(one: str, other: str) -> None:
    plan = plan_of(f"a.x({one})", f"a.y({one})", f"b.z({other})")
    names = [p.name for p in flow(plan, "main_flow").parameters]
    assert sorted(names) == ["a_x_n", "a_y_n", "b_z_n"]
    assert sorted(p.name for p in flow(plan, "a_flow").parameters) == ["a_x_n", "a_y_n"]


def test_two_classes_of_one_name_are_a_conflict() -> None:
    operations = [
        declare(f"{group}.x(n: Kind)", {"Kind": type("Kind", (), {"__module__": group})})
        for group in "ab"
    ]
    assert parameters(compile_plan(operations), "main_flow") == ["a_x_n: Kind", "b_x_n: Kind"]


def test_a_full_name_never_hides_another_parameter() -> None:
    plan = plan_of("a.b_c(n: int)", "a_b.c(n: str)", "d.x(a_b_c_n: int)")
    assert [p.name for p in flow(plan, "main_flow").parameters] == [
        "a_b_c_n_2",
        "a_b_c_n_3",
        "a_b_c_n",
    ]


@pytest.mark.parametrize(
    "name",
    ["wait_for", "return_state", "self", "_n", "__n", "_", "model_config", "v__args", "model_dump"],
)
def test_what_prefect_refuses_as_a_parameter_takes_the_full_name(name: str) -> None:
    plan = plan_of(f"a.x({name}: int)", f"_b({name}: int)")
    names = [p.name for p in flow(plan, "main_flow").parameters]
    tail = name.strip("_")
    assert names == [f"a_x_{name}".strip("_"), f"b_{name}".strip("_")]
    assert all(each.endswith(tail) for each in names)


def test_what_nobody_gives_becomes_one_typed_parameter() -> None:
    plan = plan_of("a.x(raw: Raw)", "b.y(data: 'Raw')", "c.z(it) --in Raw", "p() -> Clean")
    assert parameters(plan, "main_flow") == ["raw: Raw"]
    assert parameters(plan, "c_flow") == ["raw: Raw"]
    assert [(p.code, p.severity) for p in plan.problems] == [("missing-model", "note")] * 3
    assert "it becomes the flow parameter 'raw'" in plan.problems[0].message
    assert plan.is_valid
    missing = {
        (node.name, port.name) for node in plan.operations for port in node.ports if port.missing
    }
    assert missing == {("a.x", "raw"), ("b.y", "data"), ("c.z", "it")}


def test_what_nobody_gives_is_told_the_nearest_model() -> None:
    plan = plan_of("a.x() -> Clean", "b.y(d) --in 'Cleen'")
    assert "Did you mean 'Clean'" in plan.problems[0].message


def test_one_and_many_of_a_missing_model_are_two_parameters() -> None:
    plan = plan_of("a.x(raw: Raw)", "b.y(raws: list[Raw])")
    assert parameters(plan, "main_flow") == ["a_x_raw: Raw", "b_y_raw: list[Raw]"]


def test_a_default_survives_and_comes_last() -> None:
    plan = plan_of(
        "a.x(raw: Raw = None, n: int = 2, m: str = 'x y', k: int)".replace("k: int", "*, k: int")
    )
    assert parameters(plan, "a_flow") == [
        "k: int",
        "raw: Raw = None",
        "n: int = 2",
        "m: str = 'x y'",
    ]


def test_a_missing_model_with_the_name_of_a_parameter_is_a_conflict() -> None:
    plan = plan_of("a.x(raw: str)", "b.y(it: Raw)")
    assert parameters(plan, "main_flow") == ["a_x_raw: str", "b_y_raw: Raw"]


def test_results_of_other_flows_are_parameters_by_reference() -> None:
    plan = plan_of(*JOBS)
    assert parameters(plan, "parsing_flow") == ["clean: Clean <- scraping.merge"]
    assert flow(plan, "parsing_flow").parameters[0].by_reference
    assert parameters(plan, "standalones_flow") == [
        "clean: Clean <- scraping.merge",
        "skills: Skills <- parsing.skills",
    ]


def test_two_results_of_one_model_are_called_after_their_operations() -> None:
    plan = plan_of(*JOBS[:2], "b.all(raws: list[Raw])")
    assert parameters(plan, "b_flow") == [
        "scraping_stepstone_fetch: Raw <- scraping.stepstone.fetch",
        "scraping_linkedin_fetch: Raw <- scraping.linkedin.fetch",
    ]


def test_a_result_called_like_a_parameter_is_called_after_its_operation() -> None:
    plan = plan_of("a.load() -> Raw", "b.y(it: Raw, raw: str)")
    assert parameters(plan, "b_flow") == ["a_load: Raw <- a.load", "raw: str"]


# --- Results ---------------------------------------------------------------------------------


def test_a_flow_returns_what_others_need_and_what_nobody_takes() -> None:
    plan = plan_of(*JOBS)
    assert {flow.name: flow.returns for flow in plan.flows} == {
        "scraping_flow": ("scraping.merge",),
        "parsing_flow": ("parsing.skills",),
        "main_flow": ("report",),
        "standalones_flow": ("report",),
    }


def test_operations_without_outputs_are_not_returned() -> None:
    plan = plan_of("a.x() -> Raw", "a.y(raw: Raw)", "a.z() -> None", "a.w() -> str")
    assert flow(plan, "a_flow").returns == ("a.w",)


def test_an_order_takes_no_result() -> None:
    plan = plan_of("a.x() -> Raw", "a.y() -> Clean --after a.x")
    assert flow(plan, "a_flow").returns == ("a.x", "a.y")


def test_an_item_taken_outside_returns_the_whole_operation() -> None:
    plan = plan_of("a.x() -> tuple[Raw, Clean]", "a.y(raw: Raw)", "b.z(clean: Clean)")
    assert flow(plan, "a_flow").returns == ("a.x",)
    assert parameters(plan, "b_flow") == ["clean: Clean <- a.x"]


# --- Stages, waits, errors -------------------------------------------------------------------

WAITS = [
    ("a chain", ("a.x() -> Raw", "a.y(raw: Raw) -> Clean", "a.z(c: Clean)"), True),
    ("a diamond", (*JOBS[:3],), True),
    ("one stage", ("a.x()", "a.y()"), True),
    (
        "two chains side by side",
        ("a.p() -> Raw", "a.q() -> Clean", "a.r(raw: Raw)", "a.s(clean: Clean)"),
        False,
    ),
    ("one that nobody needs beside a chain", ("a.x() -> Raw", "a.y(raw: Raw)", "a.z()"), False),
    ("order counts as need", ("a.x() -> Raw", "a.z()", "a.y(raw: Raw) --after a.z"), True),
    (
        "a value from two stages before",
        ("a.x() -> Raw", "a.y(raw: Raw) -> Clean", "a.z(raw: Raw, clean: Clean)"),
        True,
    ),
]


@pytest.mark.parametrize(("title", "session", "waits"), WAITS, ids=[w[0] for w in WAITS])
def test_stages_are_awaited_where_that_loses_nothing(
    title: str, session: tuple[str, ...], waits: bool
) -> None:
    assert flow(plan_of(*session), session[0].partition(".")[0] + "_flow").waits is waits


def test_an_error_blocks_only_the_flows_that_contain_it() -> None:
    plan = plan_of(
        "a.x() -> Raw", "a.y() -> Raw", "b.z(raw: Raw) -> Clean", "c.w(clean: Clean)", "d()"
    )
    assert [p.code for p in plan.problems] == ["ambiguous-port"]
    assert [flow.name for flow in plan.flows if flow.blocked] == ["b_flow", "main_flow"]
    assert flow(plan, "main_flow").blocked == plan.problems
    assert flow(plan, "b_flow").steps == ()
    assert not plan.is_valid
    assert [(e.source, e.kind) for e in plan.edges if e.target == "b.z"] == [
        ("a.x", "candidate"),
        ("a.y", "candidate"),
    ]


def test_every_flow_with_a_part_in_a_loop_is_blocked() -> None:
    plan = plan_of(
        "x() --after a.z", "y() --after x", "x2() --after y --after x", "z2() -> Raw",
        "a.w() --after x", "a.z() --after a.w",
        "q() --after y", "p() -> Clean --after q",
    )  # fmt: skip
    assert [p.code for p in plan.problems] == ["cycle"]
    assert [flow.name for flow in plan.flows if flow.blocked] == [
        "a_flow",
        "main_flow",
        "standalones_flow",
    ]


def test_the_reference_listing_runs_parsing_after_scraping() -> None:
    plan = plan_of(
        "scraping.stepstone.fetch(query) --out Raw",
        "scraping.linkedin.fetch(query) --out Raw",
        "scraping.merge(stepstone, linkedin) --in Raw --out Clean",
        "parsing.clean(data) --in Raw --out Skills",
    )
    assert shape(plan)["main_flow"] == [["scraping_flow"], ["parsing_flow"]]
    assert flow(plan, "scraping_flow").returns == tuple(
        f"scraping.{name}" for name in ("stepstone.fetch", "linkedin.fetch", "merge")
    )


def test_ducks_in_a_chain_of_ten_thousand_compile() -> None:
    count = 10_000
    ducks = [Duck(f"g.op{n}", [f"M{n - 1}"] if n else [], [f"M{n}"]) for n in range(count)]
    plan = OrchestrationCompiler().compile(ducks)
    assert flow(plan, "g_flow").parallel_groups == tuple((f"g.op{n}",) for n in range(count))
    plan = OrchestrationCompiler().compile(ducks[:1000])
    assert len(PrefectCodeGenerator().generate_flow(plan, "g_flow").splitlines()) > 3000


def test_names_hundreds_of_levels_deep_compile() -> None:
    deep = ".".join(f"g{n}" for n in range(300))
    plan = compile_plan([Duck(f"{deep}.x", [], ["Raw"]), Duck(f"{deep}.y", ["Raw"], [])])
    assert len(plan.flows) == 301
    plan_obeys(plan)


# --- Selections --------------------------------------------------------------------------------

CHAIN = ("a.w() -> Raw", "a.x(r: Raw) -> Clean", "b.y(c: Clean) -> Skills", "z(s: Skills)")
NEST = (
    "a.b.c.x(n: int) -> Raw",
    "a.b.c.y(r: Raw) -> Clean",
    "a.b.z(c: Clean, r: Raw) -> Skills",
    "d.e.f.v(s: Skills, r: Raw) -> Report",
    "d.e.f.w(s: Skills, c: Clean)",
)
HEADS = ("a.x() -> Raw", "a.y() -> list[Raw]", "b.z() -> Raw", "c.all(r: list[Raw]) -> Clean")
MERGED = ("a.x() -> Raw", "b.y() -> Raw", "c.merge(x: Raw, y: Raw) -> Raw", "d.z(r: Raw)")
MAPPED = (
    "a.urls() -> list[Raw]",
    "a.page(r: Raw) -> Clean",
    "b.words(c: Clean) -> list[Skills]",
    "b.pair(r: Raw, c: Clean) -> Report",
    "c.all(s: list[Skills], p: list[Report])",
)
TORN = ("a.x() -> Raw", "b.y() -> Raw", "c.z(r: Raw) -> Clean", "d.w(c: Clean) -> Skills")
LOOP = ("a.x(s: Skills) -> Raw", "b.y(r: Raw) -> Clean", "a.z(c: Clean) -> Skills", "c.w()")
LOOSE = ("a.x() -> Raw", "b.y(r: Raw) -> Clean", "a.z(c: Clean) -> Skills", "c.w(s: Skills)")

SELECTED: list[tuple[str, tuple[str, ...], dict[str, str], str, list[str]]] = [
    ("up to the first", CHAIN, {"upto": "a.w"}, "a.w", []),
    ("up to one", CHAIN, {"upto": "b.y"}, "a.w a.x b.y", []),
    ("up to two", NEST, {"upto": "a.b.z a.b.c.x"}, "a.b.c.x a.b.c.y a.b.z", ["n: int"]),
    ("from one", CHAIN, {"start": "b.y"}, "b.y z", ["clean: Clean <- a.x"]),
    ("from the last", CHAIN, {"start": "z"}, "z", ["skills: Skills <- b.y"]),
    ("both ends", CHAIN, {"start": "a.x", "upto": "b.y"}, "a.x b.y", ["raw: Raw <- a.w"]),
    ("one alone", CHAIN, {"only": "a.x"}, "a.x", ["raw: Raw <- a.w"]),
    (
        "with a hole in the middle",
        CHAIN,
        {"only": "a.w z"},
        "a.w z",
        ["skills: Skills <- b.y"],
    ),
    (
        "both ends and one more",
        CHAIN,
        {"start": "a.x", "upto": "a.x", "only": "z"},
        "a.x z",
        ["raw: Raw <- a.w", "skills: Skills <- b.y"],
    ),
    (
        "cuts in nested groups",
        NEST,
        {"only": "a.b.c.y d.e.f.v d.e.f.w"},
        "a.b.c.y d.e.f.v d.e.f.w",
        ["raw: Raw <- a.b.c.x", "skills: Skills <- a.b.z"],
    ),
    (
        "some heads of a list",
        HEADS,
        {"only": "a.y c.all"},
        "a.y c.all",
        ["a_x: Raw <- a.x", "b_z: Raw <- b.z"],
    ),
    (
        "many of a list",
        HEADS,
        {"only": "a.x b.z c.all"},
        "a.x b.z c.all",
        ["raw: list[Raw] <- a.y"],
    ),
    (
        "what a transform takes",
        MERGED,
        {"start": "c.merge"},
        "c.merge d.z",
        ["a_x: Raw <- a.x", "b_y: Raw <- b.y"],
    ),
    ("what a transform gives", MERGED, {"only": "a.x d.z"}, "a.x d.z", ["raw: Raw <- c.merge"]),
    (
        "one element's many",
        MAPPED,
        {"only": "a.page"},
        "a.page",
        ["raw: list[Raw] <- a.urls"],
    ),
    (
        "in step",
        MAPPED,
        {"start": "b.words b.pair"},
        "b.words b.pair c.all",
        ["clean: list[Clean] <- a.page", "raw: list[Raw] <- a.urls"],
    ),
    (
        "what was mapped",
        MAPPED,
        {"only": "c.all"},
        "c.all",
        ["skills: list[Skills] <- b.words", "report: list[Report] <- b.pair"],
    ),
    ("before an unsettled port", TORN, {"upto": "a.x"}, "a.x", []),
    ("behind an unsettled port", TORN, {"only": "d.w"}, "d.w", ["clean: Clean <- c.z"]),
    ("beside a loop", LOOP, {"only": "c.w"}, "c.w", []),
    ("a loop of groups, cut", LOOSE, {"only": "a.x b.y"}, "a.x b.y", []),
    (
        "one item of two",
        ("a.x() -> tuple[Raw, Clean]", "b.y(c: Clean)", "b.z(r: Raw)"),
        {"only": "b.y"},
        "b.y",
        ["clean: Clean <- a.x"],
    ),
    ("order alone", ("a.x()", "b.y() --after a.x"), {"only": "b.y"}, "b.y", []),
]


def selected(names: dict[str, str]) -> Selection:
    return Selection(**{end: tuple(text.split()) for end, text in names.items()})


@pytest.mark.parametrize(
    ("title", "lines", "names", "operations", "wanted"), SELECTED, ids=[row[0] for row in SELECTED]
)
@pytest.mark.parametrize("flat", [False, True])
def test_a_selection_cuts_the_plan_and_what_was_cut_is_a_parameter(
    title: str,
    lines: tuple[str, ...],
    names: dict[str, str],
    operations: str,
    wanted: list[str],
    flat: bool,
) -> None:
    plan = compile_plan(declared(*lines), flat=flat, selection=selected(names))
    assert [node.name for node in plan.operations] == operations.split()
    assert parameters(plan, "main_flow") == wanted
    assert plan.is_valid, plan.problems
    assert not any(each.blocked for each in plan.flows)
    assert {name for edge in plan.edges for name in (edge.source, edge.target)} <= {
        node.name for node in plan.operations
    }
    plan_obeys(plan)


def test_a_flow_of_a_selection_says_that_it_is_a_part() -> None:
    plan = compile_plan(declared(*NEST), selection=Selection(upto=("a.b.c.y",)))
    assert {each.name: each.doc for each in plan.flows} == {
        "a_b_c_flow": "Run group ``a.b.c``.",
        "a_b_flow": "Run a part of group ``a.b``: a.b.c.x, a.b.c.y.",
        "a_flow": "Run a part of group ``a``: a.b.c.x, a.b.c.y.",
        "main_flow": "Run a part of everything: a.b.c.x, a.b.c.y.",
    }


def test_an_empty_selection_is_everything() -> None:
    whole = compile_plan(declared(*NEST))
    assert compile_plan(declared(*NEST), selection=Selection()) == whole
    everything = Selection(only=tuple(node.name for node in whole.operations))
    assert compile_plan(declared(*NEST), selection=everything) == whole


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        ({"upto": "a.b.c.yy"}, UnknownNameError, r"no operation 'a\.b\.c\.yy'.*'a\.b\.c\.y'\?"),
        ({"only": "a.b"}, UnknownNameError, r"'a\.b' is a group.*a\.b\.c\.x.*as FLOW"),
        ({"start": "d.e.f.v", "upto": "a.b.z"}, UsageError, "no operation lies between d.e.f.v"),
    ],
)
def test_a_selection_of_nothing_is_told(
    names: dict[str, str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        compile_plan(declared(*NEST), selection=selected(names))


def test_an_error_blocks_a_selection_that_contains_it_and_no_other_tells_of_it() -> None:
    torn, free = (
        compile_plan(declared(*TORN), selection=Selection(only=(name,))) for name in ("c.z", "a.x")
    )
    assert [p.code for p in flow(torn, "main_flow").blocked] == ["ambiguous-port"]
    assert free.problems == ()
    knot = compile_plan(declared(*LOOP), selection=Selection(only=("b.y",)))
    assert [p.code for p in knot.problems] == ["cycle"]
    assert flow(knot, "main_flow").blocked


def test_a_selection_tells_of_its_groups_in_a_loop() -> None:
    loose = compile_plan(declared(*LOOSE), selection=Selection(upto=("a.z",)))
    assert [p.code for p in loose.problems] == ["groups-in-a-loop"]
    cut = compile_plan(declared(*LOOSE), selection=Selection(only=("a.x", "b.y")))
    assert cut.problems == ()
    assert shape(cut)["main_flow"] == [["a_flow"], ["b_flow"]]


class Played:
    """Runs generated flows on the stand-in, and notes what each operation got."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.outputs = {operation.name: operation.outputs for operation in self.operations}
        self.calls: list[tuple[str, str]] = []

    def call(self, name: str, given: dict[str, Any]) -> Any:
        """Return what depends on the arguments alone: absent, many or several as declared."""
        text = f"{name}({sorted(given.items())})"
        self.calls.append((name, text))
        items = {o.index: self.item(f"{text}{o.index}", o) for o in self.outputs[name]}
        if items and None not in items:
            return tuple(items.get(n, "nothing") for n in range(1 + max(map(int, items))))
        return items.get(None, text)

    def item(self, text: str, output: Any) -> Any:
        number = int(hashlib.sha256(text.encode()).hexdigest()[:6], 16)
        if output.optional and number % 3 == 0:
            return None
        return [f"{number}.{n}" for n in range(number % 4)] if output.many else f"{number}"

    def play(self, selection: Selection | None, values: dict[str, Any], flat: bool) -> Any:
        """Run the main flow; what it needs from operations outside comes from ``values``."""
        plan = compile_plan(self.operations, flat=flat, selection=selection)
        main = flow(plan, "main_flow")
        generated = {"OPERATIONS": {o.name: o.function for o in self.operations}, **WORLD}
        flows = fake_prefect.load(PrefectCodeGenerator().generate_all_flows(plan), generated)
        given = {p.name: f"<{p.name}>" for p in main.parameters if p.default is None}
        for p in main.parameters:
            if p.value:
                value = values[p.value.operation]
                given[p.name] = value if p.value.index is None else value[p.value.index]
        self.calls = []
        return asyncio.run(flows["main_flow"](**given))  # type: ignore[operator]


def alone_and_together(operations: list[Operation], played: Played, wanted: Selection) -> None:
    """Check that operations, selected in whatever way, get what they get in the whole session."""
    plan = compile_plan(operations)
    if not plan.operations or flow(plan, "main_flow").blocked:
        return
    played.play(None, {}, flat=False)
    whole = sorted(played.calls)
    values: dict[str, Any] = {}
    alone: list[tuple[str, str]] = []
    for name in build_graph(operations).topological_sort():
        values[name] = played.play(Selection(only=(name,)), values, flat=False)
        alone += played.calls
    assert sorted(alone) == whole
    part = compile_plan(operations, selection=wanted)
    names = {node.name for node in part.operations}
    for flat in (False, True):
        result = played.play(wanted, values, flat)
        assert sorted(played.calls) == [call for call in whole if call[0] in names]
        returns = flow(part, "main_flow").returns
        returned = {name: values[name] for name in returns}
        assert result == (returned if len(returns) > 1 else next(iter(returned.values()), None))


@pytest.mark.parametrize(
    ("lines", "names"),
    [(row[1], row[2]) for row in SELECTED if row[1] not in (TORN, LOOP)],
    ids=[row[0] for row in SELECTED if row[1] not in (TORN, LOOP)],
)
def test_a_selected_operation_gets_what_it_gets_in_the_whole_session(
    lines: tuple[str, ...], names: dict[str, str]
) -> None:
    holder: list[Played] = []
    operations = [declare(line, call=lambda n, g: holder[0].call(n, g)) for line in lines]
    holder.append(Played(operations))
    alone_and_together(operations, holder[0], selected(names))


PLAYED: list[Played] = []


@settings(deadline=None, max_examples=40)
@given(sessions(call=lambda name, given: PLAYED[0].call(name, given)), st.data())
def test_any_selection_runs_its_operations_as_the_whole_session_does(
    operations: list[Operation], data: st.DataObject
) -> None:
    PLAYED[:] = [Played(operations)]
    names = st.lists(st.sampled_from([o.name for o in operations]), min_size=1, max_size=3)
    ends = st.sampled_from((("upto",), ("start",), ("only",), ("upto", "only"), ("start", "only")))
    selection = Selection(**{end: tuple(data.draw(names)) for end in data.draw(ends)})
    alone_and_together(operations, PLAYED[0], selection)


# --- The law of the plan ---------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(sessions())
def test_every_plan_obeys_the_law(operations: list[Operation]) -> None:
    for flat in (False, True):
        plan = compile_plan(operations, flat=flat)
        plan_obeys(plan)
        compiles_again(plan, operations, random.Random(1), flat=flat)
