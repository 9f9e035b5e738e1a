"""DOT text: what it says of a plan, and that users' words cannot change what it means."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import sample_plans
from hypothesis import given, settings
from hypothesis import strategies as st

from pulpo.backends import dot
from pulpo.backends.look import look
from pulpo.backends.render import _run
from pulpo.errors import UnknownNameError
from pulpo.plan import Edge, Orchestration

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://www.w3.org/1999/xlink}title"

HOSTILE = [
    'a"b',
    "a\\b",
    "ends in\\",
    "\\N \\G \\l \\E",
    "a\nb",
    "</svg><script>alert(1)</script>",
    "]]>",
    "&lt;b&gt; &amp; &#60;",
    "<b>bold</b>",
    '"]; evil [label="x',
    "a -> b",
    "a:b:c",
    "%41",
    "{x|y}",
    "ünï 日本 🐙",
]


def node(text: str) -> str:
    hover = dot.escape(text, hover=True)
    return f'digraph {{ "{dot.key(text)}" [label="{dot.escape(text)}" tooltip="{hover}"] }}'


def shown(text: str) -> tuple[str, str]:
    """Return the label and the tooltip that Graphviz makes of a text."""
    root = ElementTree.fromstring(_run(node(text), "svg"))
    label = "\n".join(element.text or "" for element in root.iter(f"{SVG}text"))
    tooltip = next(element.attrib[TITLE] for element in root.iter(f"{SVG}a"))
    return label.replace("\xa0", " "), tooltip


@pytest.mark.parametrize("text", HOSTILE)
def test_graphviz_shows_hostile_text_as_it_was_written(text: str) -> None:
    assert shown(text) == (text, text)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab"\\&;<>#%{}|NGTEHLRnlr[]-') | st.characters()))
def test_graphviz_accepts_any_text_and_sees_one_node(text: str) -> None:
    drawn = _run(node(text), "plain")
    assert drawn.count(b"\nnode ") == 1
    assert b"\nedge " not in drawn


@given(st.text(), st.text())
def test_keys_are_different_for_different_names_and_need_no_escape(one: str, other: str) -> None:
    assert (dot.key(one) == dot.key(other)) == (one == other)
    assert dot.escape(dot.key(one)) == dot.key(one)
    assert dot.name_of(dot.key(one)) == one


def test_a_plan_makes_the_same_text_every_time() -> None:
    for view in dot.VIEWS.values():
        assert view(look(sample_plans.jobs())) == view(look(sample_plans.jobs()))


def test_the_dataflow_says_what_flows_and_to_which_port() -> None:
    text = dot.dataflow(look(sample_plans.jobs()))
    assert 'label="scraping.merge sync\\nRawJobs × 2 → CleanedJobs"' in text
    assert (
        '"scraping.linkedin.fetch" -> "scraping.merge" [class="data" label=" linkedin: RawJobs "]'
        in text
    )
    assert '"scraping.merge" -> "parsing.clean" [class="data" label=" CleanedJobs "]' in text
    assert "subgraph" not in text


def test_a_tooltip_has_the_full_name_the_signature_the_doc_and_the_cell() -> None:
    assert (
        'tooltip="scraping.linkedin.fetch (async)\\n(query: str, pages: int = 3) → RawJobs\\n'
        "Ask LinkedIn's API.\\ncell 4\""
    ) in dot.dataflow(look(sample_plans.jobs()))


def test_groups_are_frames_and_a_group_of_one_is_folded_into_its_parent() -> None:
    text = dot.both(look(sample_plans.jobs()))
    assert 'subgraph "cluster_scraping"' in text
    assert 'label="stepstone.fetch async' in text
    assert "cluster_scraping.stepstone" not in text


def test_a_deeper_group_of_two_is_a_frame_in_a_frame() -> None:
    plan = Orchestration(
        operations=tuple(
            sample_plans.operation(name, gives="M") for name in ("a.b.x", "a.y", "a.b.z", "a", "c")
        )
    )
    lines = [
        line for line in dot.both(look(plan)).splitlines() if "subgraph" in line or '" [id' in line
    ]
    assert [line.split(" [")[0].rstrip("{ ") for line in lines] == [
        '  subgraph "cluster_a"',
        '    subgraph "cluster_a.b"',
        '      "a.b.x"',
        '      "a.b.z"',
        '    "a.y"',
        '  "a"',
        '  "c"',
    ]


def test_the_hierarchy_is_a_tree_from_the_main_flow_to_the_operations() -> None:
    text = dot.hierarchy(look(sample_plans.jobs()))
    assert '"group-" -> "group-scraping"' in text
    assert '"group-scraping" -> "scraping.merge"' in text
    assert '"group-" -> "report"' in text
    assert text.count(" -> ") == 8


def test_boxes_of_the_hierarchy_are_as_wide_as_their_longest_name() -> None:
    plan = sample_plans.jobs()
    usual = dot.hierarchy(look(plan))
    long = dot.hierarchy(look(sample_plans.renamed(plan, "report", "w" * 80)))
    [width] = set(re.findall(r"class=\"operation.* width=([\d.]+)", long))
    assert float(width) >= 44 * 0.115  # 44 letters are shown
    assert re.findall(r"width=([\d.]+)", usual)[0] < width


def test_trouble_is_marked_by_class_and_sign_and_dashes() -> None:
    text = dot.dataflow(look(sample_plans.troubled()))
    lines = {line.split(" [")[0].strip(): line for line in text.splitlines()}
    assert 'class="operation sync stale"' in lines['"publish"']
    assert "↻ stale" in lines['"publish"']
    assert "⚠ ambiguous port" in lines['"check"']
    assert "Template ?" in lines['"missing-Template"']
    assert "dashed" in lines['"missing-Template"']
    assert "Did you mean 'Temps'?" in lines['"missing-Template"']
    assert "dashed" in lines['"missing-Template" -> "publish"']
    candidate = lines['"load.east" -> "check"']
    assert 'class="candidate" label=" Temps ? " style=dashed' in candidate
    order = lines['"publish" -> "notify"']
    assert "style=dashed" in order
    assert "label" not in order


def test_states_of_a_run_are_marked() -> None:
    states = {"parsing.clean": "failed", "report": "not reached", "scraping.merge": "done"}
    text = dot.both(look(sample_plans.jobs()), states)
    assert (
        'class="operation sync failed" label="clean sync\\nCleanedJobs → Jobs\\n✗ failed"' in text
    )
    assert "⊘ not reached" in text
    assert "✓ done" in text


def test_an_operation_that_waits_looks_as_ever() -> None:
    plan = sample_plans.jobs()
    assert dot.both(look(plan), {"report": "pending"}) == dot.both(look(plan))


def test_one_flow_has_its_neighbours_as_pale_stubs() -> None:
    text = dot.both(look(sample_plans.jobs(), "parsing_flow"))
    assert 'class="operation outside" label="scraping.merge"' in text
    assert 'class="operation outside" label="report"' in text
    assert "scraping.stepstone.fetch" not in text
    assert text == dot.both(look(sample_plans.jobs(), "parsing"))


def test_an_unknown_flow_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'parsing_flow'"):
        dot.dataflow(look(sample_plans.jobs(), "parsng_flow"))


def test_a_loop_and_an_empty_plan_are_drawn() -> None:
    assert dot.both(look(sample_plans.looped())).count("⚠ cycle") == 3
    assert dot.both(look(Orchestration())).endswith("}\n")


def test_an_edge_to_an_operation_that_is_not_there_is_drawn() -> None:
    plan = replace(sample_plans.jobs(), edges=(Edge(source="gone", target="report", model="M"),))
    assert '"gone" -> "report"' in dot.both(look(plan))


def test_a_long_signature_is_cut_in_the_node_and_whole_in_the_tooltip() -> None:
    ports = [sample_plans.data(f"port_{n}", f"LongModelName{n}") for n in range(9)]
    plan = Orchestration(operations=(sample_plans.operation("x", *ports, gives="Out"),))
    line = next(line for line in dot.dataflow(look(plan)).splitlines() if '"op-x"' in line)
    label, _, tooltip = line.partition("tooltip=")
    assert "… → Out" in label
    assert "LongModelName8" not in label
    assert "port_8: LongModelName8) → Out" in tooltip


def large(nodes: int, edges: int) -> Orchestration:
    plan = sample_plans.layered(nodes)
    return replace(plan, edges=plan.edges[:edges])


@pytest.mark.parametrize(
    ("nodes", "edges", "cheaper"), [(300, 400, False), (300, 401, True), (301, 400, True)]
)
def test_above_300_operations_or_400_edges_graphviz_may_be_less_thorough(
    nodes: int, edges: int, cheaper: bool
) -> None:
    for view in (dot.both, dot.dataflow):
        assert ("mclimit" in view(look(large(nodes, edges)))) is cheaper


@pytest.mark.parametrize("nodes", [99, 101, 301, 1001])
def test_no_picture_has_edges_of_right_angles_only(nodes: int) -> None:
    for view in dot.VIEWS.values():
        assert "ortho" not in view(look(sample_plans.layered(nodes)))


def test_above_300_operations_the_words_of_edges_are_in_tooltips() -> None:
    line = '"group_0.step_0_0" -> "group_0.step_1_0" [class="data" {}]'
    assert line.format('label=" Model0x0 "') in dot.both(look(sample_plans.layered(300)))
    assert line.format('tooltip="Model0x0"') in dot.both(look(sample_plans.layered(301)))


def test_a_collapsed_group_is_one_node_with_its_count_and_merged_edges() -> None:
    text = dot.both(look(sample_plans.jobs(), depth=1))
    assert (
        '"group-scraping" [id="group-scraping" class="group collapsed" '
        'label="scraping\\n3 operations"'
    ) in text
    assert (
        '"group-parsing" -> "report" [class="data merged" label=" Jobs, Skills " penwidth=1.8]'
        in text
    )
    assert "subgraph" not in text
    assert '"parsing.clean"' not in text


def test_a_collapsed_group_says_what_is_worst_in_it() -> None:
    states = {"scraping.merge": "failed", "parsing.clean": "done", "parsing.skills": "done"}
    text = dot.hierarchy(look(sample_plans.jobs(), depth=1), states)
    assert 'class="group collapsed failed" label="scraping\\n3 operations\\n✗ 1 failed"' in text
    assert 'class="group collapsed done" label="parsing\\n2 operations\\n✓ done"' in text


def test_what_is_cut_around_an_operation_goes_on_in_dots() -> None:
    text = dot.both(look(sample_plans.jobs(), around="parsing.clean"))
    assert '"more-before-scraping.merge" [id="more-before-scraping.merge" class="more" ' in text
    assert 'label="… 2 more" tooltip="scraping.stepstone.fetch, scraping.linkedin.fetch"' in text
    assert '"more-before-scraping.merge" -> "scraping.merge" [class="more" style=dotted' in text
    assert 'class="operation sync around" label="clean sync' in text
    assert 'label="4 of 6 operations: parsing.clean, and what is within 1 hop of it.\\l"' in text


def test_a_mapped_port_has_an_arrow_of_its_own() -> None:
    text = dot.both(look(sample_plans.crawled()))
    assert (
        '"crawl.list" -> "crawl.fetch" [class="data each" label=" each Url " '
        "arrowhead=normalnormal]"
    ) in text
    assert 'label="fetch async\\neach Url, agent → Page"' in text
    assert "(each url: Url, agent: str) → Page" in text
    assert '"crawl.fetch" -> "store" [class="data" label=" list[Page] "]' in text


def test_every_colour_is_one_that_graphviz_and_browsers_know() -> None:
    states = ["running", "done", "failed", "cancelled", "not reached", "timed out"]
    names = [node.name for node in sample_plans.jobs().operations]
    text = dot.both(look(sample_plans.jobs()), dict(zip(names, states, strict=False)))
    text += dot.both(look(sample_plans.jobs(), depth=1, around="parsing.clean"))
    text += dot.both(look(sample_plans.troubled())) + dot.both(look(sample_plans.jobs(), "parsing"))
    colours = set(re.findall(r'color="([^"]*)"', text))
    assert len(colours) > 10
    assert {c for c in colours if not re.fullmatch(r"#[0-9a-f]{6}([0-9a-f]{2})?", c)} == {
        "transparent"
    }
