"""Mermaid text: what it says of a plan, and that users' words cannot change what it means.

The grammar here is the part of Mermaid's that we write; Mermaid itself is no dependency. What is
asked of identifiers and labels was seen with the real parser and renderer, 10.9 and 11.17.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import sample_plans
from hypothesis import given
from hypothesis import strategies as st

from pulpo.backends import mermaid
from pulpo.backends.look import look
from pulpo.plan import Orchestration

JOBS = """\
flowchart TB
  accTitle: Dataflow and groups of 6 operations in 2 groups.
  subgraph group-scraping["scraping"]
    op-scraping-stepstone-fetch("stepstone.fetch async<br/>query → RawJobs")
    op-scraping-linkedin-fetch("linkedin.fetch async<br/>query, pages → RawJobs")
    op-scraping-merge("merge sync<br/>RawJobs × 2 → CleanedJobs")
  end
  subgraph group-parsing["parsing"]
    op-parsing-clean("clean sync<br/>CleanedJobs → Jobs")
    op-parsing-skills("skills async<br/>Jobs → Skills")
  end
  op-report("report sync<br/>Jobs, Skills → Report")
  op-scraping-stepstone-fetch -->|"stepstone: RawJobs"| op-scraping-merge
  op-scraping-linkedin-fetch -->|"linkedin: RawJobs"| op-scraping-merge
  op-scraping-merge -->|"CleanedJobs"| op-parsing-clean
  op-parsing-clean -->|"Jobs"| op-parsing-skills
  op-parsing-clean -->|"Jobs"| op-report
  op-parsing-skills -->|"Skills"| op-report"""

TROUBLED = """\
flowchart TB
  accTitle: Dataflow of 5 operations in 1 group.
  op-load-east("load.east sync<br/>→ Temps")
  op-load-west("load.west async<br/>→ Temps")
  op-check("check sync<br/>Temps → Verdict<br/>⚠ ambiguous port")
  op-publish("publish sync<br/>Verdict, Template<br/>↻ stale")
  op-notify("notify async")
  missing-Template("Template ?<br/>nobody gives it")
  missing-Template -.->|"template"| op-publish
  op-load-east -.->|"Temps ?"| op-check
  op-load-west -.->|"Temps ?"| op-check
  op-check -->|"Verdict"| op-publish
  op-publish -.-> op-notify
  classDef problem stroke:#d97706,stroke-width:2px
  class op-check problem
  classDef stale stroke:#b58407,stroke-dasharray:5 3
  class op-publish stale
  classDef missing stroke:#d1242f,stroke-dasharray:5 3
  class missing-Template missing
  linkStyle 0 stroke:#d1242f
  linkStyle 1,2 stroke:#d97706"""

HIERARCHY = """\
flowchart LR
  accTitle: Hierarchy of 6 operations in 2 groups.
  group["main_flow"]
  group-scraping[["scraping<br/>3 operations"]]
  group --- group-scraping
  group-parsing[["parsing<br/>2 operations"]]
  group --- group-parsing
  op-report("report sync<br/>Jobs, Skills → Report")
  group --- op-report"""

# The words of Mermaid's own grammar, and what its labels take for markup.
WORDS = ["end", "graph", "flowchart", "subgraph", "style", "class", "classDef", "click", "default"]
WORDS += ["linkStyle", "direction", "TB", "x", "o", "v", "href", "call", "accTitle", "note", "odd"]
HOSTILE = ['a"b', "a\\nb", "ends in\\", "a\nb", "</svg><script>alert(1)</script>", "&lt;", "#35;"]
HOSTILE += [
    "<b>x</b>",
    '"]; evil["x',
    "a --> b",
    "`a`",
    "1. x",
    "fa:fa-car",
    "$$x$$",
    "%% c",
    "a;b",
]
HOSTILE += [
    "__b__",
    "[x](y)",
    "|x|",
    "@{x}",
    ":::k",
    "ünï 日本 🐙",
    "\u202erev",
    "odd-1",
    "",
    "\x00",
]

_ID = r"(?:op|group|missing|more|note)(?:-\w+)*"
_TEXT = r'"[^"\n`]*"'
LINE = re.compile(
    rf"""\s*(?:
      flowchart\ (?:TB|LR) | accTitle:\ [\w ,.()]+
      | (?P<node>{_ID})(?:\({_TEXT}\)|\[{_TEXT}\]|\[\[{_TEXT}\]\])
      | subgraph\ (?P<group>{_ID})\[{_TEXT}\] | end
      | (?P<source>{_ID})\ (?:-->|==>|-\.->|---)(?:\|{_TEXT}\|)?\ (?P<target>{_ID})
      | classDef\ [\w-]+\ [\w#:, -]+ | class\ [\w,-]+\ [\w-]+ | linkStyle\ [\d,]+\ [\w#:]+
    )""",
    re.VERBOSE | re.ASCII,
)


def parsed(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the nodes and the edges of a chart, each line of which has to be one of ours."""
    nodes, edges = [], []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        if match["node"] or match["group"]:
            nodes.append(match["node"] or match["group"])
        if match["source"]:
            edges.append((match["source"], match["target"]))
    return nodes, edges


def labels(text: str) -> list[str]:
    """Return the words of a chart as a page shows them."""
    return [shown(label) for label in re.findall(r'"([^"]*)"', text)]


def shown(label: str) -> str:
    label = label.replace("<br/>", "\n").replace("\N{WORD JOINER}", "")
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label)


def test_groups_are_subgraphs_and_edges_carry_models() -> None:
    assert mermaid.draw(look(sample_plans.jobs()), "both") == JOBS


def test_order_is_dotted_and_what_is_missing_is_dashed_and_red() -> None:
    assert mermaid.draw(look(sample_plans.troubled()), "dataflow") == TROUBLED


def test_collapsed_groups_are_nodes_with_their_number_of_operations() -> None:
    assert mermaid.draw(look(sample_plans.jobs(), depth=1), "hierarchy") == HIERARCHY
    text = mermaid.draw(look(sample_plans.jobs(), depth=1), "both")
    assert text.endswith('  group-parsing -->|"Jobs, Skills"| op-report')


def test_mapped_edges_are_thick_and_say_each() -> None:
    text = mermaid.draw(look(sample_plans.crawled()), "both")
    assert 'op-crawl-list ==>|"each Url"| op-crawl-fetch' in text
    assert '("fetch async<br/>each Url, agent → Page")' in text


def test_what_is_cut_goes_on_in_dots() -> None:
    text = mermaid.draw(look(sample_plans.jobs(), around="parsing.clean"), "both")
    assert 'more-before-op-scraping-merge("… 2 more")' in text
    assert "more-before-op-scraping-merge -.-> op-scraping-merge" in text
    assert "class op-parsing-clean around" in text
    assert 'note["4 of 6 operations: parsing.clean, and what is within 1 hop of it."]' in text


def test_one_flow_has_its_neighbours_as_pale_stubs() -> None:
    text = mermaid.draw(look(sample_plans.jobs(), "parsing"), "both")
    assert 'op-scraping-merge("scraping.merge")' in text
    assert "class op-scraping-merge,op-report outside" in text


@pytest.mark.parametrize("kind", ["both", "dataflow", "hierarchy"])
@pytest.mark.parametrize("plan", ["jobs", "troubled", "looped", "crawled"])
def test_every_view_has_every_operation_and_edges_between_its_own_nodes(
    plan: str, kind: str
) -> None:
    drawn = getattr(sample_plans, plan)()
    text = mermaid.draw(look(drawn), kind)
    nodes, edges = parsed(text)
    assert len(nodes) == len(set(nodes))
    assert {end for edge in edges for end in edge} <= set(nodes)
    assert sum(node.startswith("op-") for node in nodes) == len(drawn.operations)
    assert text == mermaid.draw(look(drawn), kind)


@pytest.mark.parametrize("name", [*WORDS, *HOSTILE])
def test_hostile_names_are_words_in_labels_and_nowhere_else(name: str) -> None:
    plan = sample_plans.renamed(sample_plans.jobs(), "report", name)
    edges = tuple(edge._replace(model=name) for edge in plan.edges)
    text = mermaid.draw(look(replace(plan, edges=edges)), "dataflow")
    nodes, _ = parsed(text)
    assert len(nodes) == 6
    clean = mermaid._UNSAFE.sub("\N{REPLACEMENT CHARACTER}", name)
    assert f"{clean} sync\nJobs, Skills → Report" in labels(text)


def test_a_name_of_any_kind_has_an_identifier_of_its_own() -> None:
    names = ["a.b_c", "a_b.c", "a.b.c", "a b", "a-b", "a/b", "odd.1", "odd-1", "_", "A", "a"]
    plan = Orchestration(operations=tuple(map(sample_plans.operation, names)))
    nodes, _ = parsed(mermaid.draw(look(plan), "dataflow"))
    assert len(set(nodes)) == len(names)


@given(st.text(alphabet=st.sampled_from('ab"\\&;<>#%{}|`$:n1.-[]()\n') | st.characters()))
def test_any_text_arrives_as_it_is_in_a_string_of_plain_characters(text: str) -> None:
    escaped = mermaid.escape(text)
    assert not set('"`\n') & set(escaped)
    assert "&" not in escaped
    assert set(re.findall("<[^>]*>?|>", escaped)) <= {"<br/>"}
    plain = text.replace("\r\n", "\n").replace("\N{WORD JOINER}", "")
    assert shown(escaped) == mermaid._UNSAFE.sub("\N{REPLACEMENT CHARACTER}", plain)


@given(st.text(min_size=1))
def test_no_name_adds_a_line(name: str) -> None:
    plan = sample_plans.renamed(sample_plans.jobs(), "report", name)
    assert len(mermaid.draw(look(plan), "dataflow").splitlines()) == 14


# --- Mermaid's limits -----------------------------------------------------------------------------


def test_what_mermaid_would_refuse_is_collapsed_until_it_draws_it() -> None:
    plan = sample_plans.nested(phases=3, layers=10, width=20)
    assert len(plan.edges) > mermaid.MOST_EDGES
    text = mermaid.draw(look(plan), "both")
    nodes, edges = parsed(text)
    assert sum(node.startswith("group-phase") for node in nodes) == 33
    assert len(edges) == 29
    assert "Mermaid draws at most 500 edges and 50,000 characters" in text
    assert len(text) < mermaid.MOST_TEXT


def test_a_large_group_of_operations_without_groups_is_one_node() -> None:
    names = [f"work.op_{n}_{'x' * 60}" for n in range(600)]
    plan = Orchestration(operations=tuple(map(sample_plans.operation, names)))
    nodes, _ = parsed(mermaid.draw(look(plan), "dataflow"))
    assert nodes == ["note", "group-work"]
