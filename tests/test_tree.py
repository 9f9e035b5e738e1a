"""Plans as plain text: before and after, side by side."""

from __future__ import annotations

import pytest
import sample_plans

from pulpo.backends import tree
from pulpo.backends.look import look
from pulpo.plan import Orchestration

JOBS_TREE = """\
main_flow
├── scraping [scraping_flow]
│   ├── stepstone.fetch async (query: str) → RawJobs
│   ├── linkedin.fetch async (query: str, pages: int = 3) → RawJobs
│   └── merge sync (stepstone: RawJobs, linkedin: RawJobs) → CleanedJobs
├── parsing [parsing_flow]
│   ├── clean sync (jobs: CleanedJobs) → Jobs
│   └── skills async (jobs: Jobs) → Skills
└── report sync (jobs: Jobs, skills: Skills) → Report"""

JOBS_EDGES = """\
scraping.stepstone.fetch -[stepstone: RawJobs]-> scraping.merge
scraping.linkedin.fetch -[linkedin: RawJobs]-> scraping.merge
scraping.merge -[CleanedJobs]-> parsing.clean
parsing.clean -[Jobs]-> parsing.skills
parsing.clean -[Jobs]-> report
parsing.skills -[Skills]-> report"""

TROUBLED_DATAFLOW = """\
load.east sync () → Temps
load.west async () → Temps
check sync (temps: Temps) → Verdict  ⚠ ambiguous port
├── Temps ? ← load.east
└── Temps ? ← load.west
publish sync (verdict: Verdict, template: Template)  ↻ stale
├── Verdict ← check
└── template: Template ← nobody
notify async ()
└── after ← publish"""

TROUBLED_EDGES = """\
load.east -[Temps ?]-> check
load.west -[Temps ?]-> check
check -[Verdict]-> publish
publish -[after]-> notify
? -[template: Template]-> publish"""

PARSING_TREE = """\
parsing [parsing_flow]
├── clean sync (jobs: CleanedJobs) → Jobs
└── skills async (jobs: Jobs) → Skills"""


COLLAPSED = """\
main_flow
├── scraping [scraping_flow]  3 operations
├── parsing [parsing_flow]  2 operations
└── report sync (jobs: Jobs, skills: Skills) → Report

scraping.* -[CleanedJobs]-> parsing.*
parsing.* -[Jobs, Skills]-> report"""

AROUND = """\
main_flow
├── scraping [scraping_flow]
│   ├── linkedin.fetch async (query: str, pages: int = 3) → RawJobs
│   ├── merge sync (stepstone: RawJobs, linkedin: RawJobs) → CleanedJobs
│   └── … 1 more
└── … 3 more

scraping.linkedin.fetch -[linkedin: RawJobs]-> scraping.merge
… -[1 more]-> scraping.merge
scraping.merge -[1 more]-> …

2 of 6 operations: scraping.linkedin.fetch, and what is within 1 hop of it."""

AROUND_DATAFLOW = """\
scraping.linkedin.fetch async (query: str, pages: int = 3) → RawJobs
scraping.merge sync (stepstone: RawJobs, linkedin: RawJobs) → CleanedJobs
├── linkedin: RawJobs ← scraping.linkedin.fetch
└── … ← 1 more

scraping.linkedin"""

CRAWLED = """\
crawl.list sync () → list[Url]
crawl.fetch async (each url: Url, agent: str) → Page
└── each Url ← crawl.list
store sync (pages: list[Page]) → Report
└── list[Page] ← crawl.fetch

crawl.list -[each Url]-> crawl.fetch
crawl.fetch -[list[Page]]-> store"""


def test_collapsed_groups_have_their_number_of_operations_and_merged_edges() -> None:
    assert tree.both_text(look(sample_plans.jobs(), depth=1)) == COLLAPSED


def test_around_an_operation_what_is_cut_goes_on_in_dots() -> None:
    view = look(sample_plans.jobs(), around="scraping.linkedin.fetch")
    assert tree.both_text(view) == AROUND
    assert tree.dataflow_text(view).startswith(AROUND_DATAFLOW)


def test_one_that_runs_for_each_of_many_says_so() -> None:
    assert tree.dataflow_text(look(sample_plans.crawled())) == CRAWLED


def test_the_hierarchy_is_a_tree_of_groups_and_operations() -> None:
    assert tree.hierarchy_text(look(sample_plans.jobs())) == JOBS_TREE


def test_the_edges_say_what_flows() -> None:
    assert tree.edge_list(look(sample_plans.jobs())) == JOBS_EDGES


def test_both_are_the_tree_and_the_edges() -> None:
    assert tree.both_text(look(sample_plans.jobs())) == f"{JOBS_TREE}\n\n{JOBS_EDGES}"


def test_the_dataflow_says_below_each_operation_what_it_needs() -> None:
    text = tree.dataflow_text(look(sample_plans.troubled()))
    assert text == f"{TROUBLED_DATAFLOW}\n\n{TROUBLED_EDGES}"


def test_missing_ambiguous_and_order_only_edges_look_different() -> None:
    assert tree.edge_list(look(sample_plans.troubled())) == TROUBLED_EDGES


def test_one_flow_starts_at_its_group() -> None:
    assert tree.hierarchy_text(look(sample_plans.jobs(), "parsing_flow")) == PARSING_TREE


def test_states_of_a_run_stand_behind_the_operations() -> None:
    text = tree.hierarchy_text(look(sample_plans.jobs()), {"report": "failed"})
    assert text.endswith("└── report sync (jobs: Jobs, skills: Skills) → Report  ✗ failed")


def test_an_empty_plan_is_a_root_without_edges() -> None:
    assert tree.both_text(look(Orchestration())) == "main_flow"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\r", "\u202ereverse", "\u2028", "\x00"])
def test_a_name_cannot_give_orders_to_the_terminal(name: str) -> None:
    plan = sample_plans.renamed(sample_plans.jobs(), "report", name)
    for text in (tree.both_text(look(plan)), tree.dataflow_text(look(plan))):
        assert name not in text
        assert all(line.isprintable() for line in text.split("\n"))
    assert len(tree.both_text(look(plan)).split("\n")) == len(
        f"{JOBS_TREE}\n\n{JOBS_EDGES}".split("\n")
    )
