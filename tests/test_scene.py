"""What a page knows of a picture agrees with the SVG that it shows."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import sample_plans
from hypothesis import given, settings
from sessions import sessions

from pulpo.backends.render import draw
from pulpo.backends.scene import Scene, scene
from pulpo.compiler import compile_plan
from pulpo.operations import Operation
from pulpo.plan import Edge, Node, Orchestration, OutputPlan, PortPlan

KINDS = ("both", "dataflow", "hierarchy")


def plan() -> Orchestration:
    """Two groups, one in the other; a model that nobody gives; an operation without a group."""
    given = OutputPlan("jobs.Raw")
    return Orchestration(
        operations=(
            Node(name="a.load", function="load", outputs=(given,), cell="cell 2", is_async=True),
            Node(name="a.b.one", function="one", ports=(PortPlan("raw", "data", "jobs.Raw"),)),
            Node(name="a.b.two", function="two", doc="Count.\n\nMore."),
            Node(
                name="alone",
                function="alone",
                ports=(PortPlan("lost", "data", "jobs.Lost", missing=True, hint="did you mean?"),),
            ),
        ),
        edges=(Edge("a.load", "a.b.one", port="raw", model="jobs.Raw"),),
    )


def by_key(made: Scene) -> dict[str, dict[str, object]]:
    return {node["key"]: dict(node) for node in made["nodes"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_has_its_element(kind: str) -> None:
    picture = draw(plan(), kind, closed=["a.b"])
    ids = [element.get("id") for element in ElementTree.fromstring(picture.svg).iter()]
    made = scene(picture.view, kind)
    assert all(node["id"] in ids for node in made["nodes"])
    frames = ["a.*"] if kind != "dataflow" else []
    missing = ["Lost"] if kind != "hierarchy" else []
    assert list(by_key(made)) == ["a.load", "a.b.*", "alone", *frames, *missing]


def test_a_node_says_what_there_is_to_know_of_it() -> None:
    nodes = by_key(scene(draw(plan(), "both").view))
    assert nodes["a.load"]["lines"] == ["async () → Raw", "cell 2"]
    assert nodes["a.load"]["label"] == "a.load, async () → Raw"
    assert nodes["a.b.two"]["lines"] == ["sync ()", "Count."]
    assert nodes["a.b.*"]["members"] == ["a.b.one", "a.b.two"]
    assert nodes["a.*"]["label"] == "group a, 3 operations"
    assert nodes["Lost"]["lines"][0] == "nobody gives it: did you mean?"  # type: ignore[index]
    assert [node["kind"] for node in nodes.values()] == [
        *["operation"] * 4, "frame", "frame", "missing",
    ]  # fmt: skip


def test_edges_end_at_what_is_shown() -> None:
    open_, closed = (scene(draw(plan(), "both", closed=c).view) for c in ((), ["a"]))
    assert open_["edges"] == [
        {"source": "a.load", "target": "a.b.one", "words": "Raw"},
        {"source": "Lost", "target": "alone", "words": "Lost"},
    ]
    assert [edge["source"] for edge in closed["edges"]] == ["Lost"]


def test_a_run_s_states_are_in_the_label() -> None:
    picture = draw(plan(), "both", states={"a.load": "failed"})
    nodes = by_key(scene(picture.view, "both", picture.states))
    assert nodes["a.load"]["label"] == "a.load, async () → Raw, ✗ failed"


def test_the_hierarchy_of_one_flow_has_its_own_groups_alone() -> None:
    made = plan()
    flows = sample_plans.flows_of(*made.operations)
    whole = Orchestration(operations=made.operations, edges=made.edges, flows=flows)
    picture = draw(whole, "hierarchy", flow="a_flow")
    assert [
        n["key"] for n in scene(picture.view, "hierarchy")["nodes"] if n["kind"] == "frame"
    ] == ["a.b.*"]


@settings(max_examples=40)
@given(sessions())
def test_whatever_a_session_holds_edges_join_nodes_that_are_there(
    operations: list[Operation],
) -> None:
    made = compile_plan(operations)
    for kind in ("both", "dataflow"):
        shown = scene(draw(made, kind).view, kind)
        keys = [node["key"] for node in shown["nodes"] if node["kind"] != "missing"]
        assert len(keys) == len(set(keys))
        known = {node["key"] for node in shown["nodes"]}
        assert all({edge["source"], edge["target"]} <= known for edge in shown["edges"])
