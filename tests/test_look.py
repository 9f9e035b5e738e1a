"""Which part of a plan is drawn: a flow, what is around an operation, collapsed groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sample_plans
from hypothesis import given, settings
from hypothesis import strategies as st

from pulpo.backends.look import MOST, READABLE, closed_at_first, closed_in, look, shallower, toggled
from pulpo.backends.view import Collapsed, Group, Merged, View, drawable, end_words
from pulpo.errors import UnknownNameError, UsageError
from pulpo.plan import Edge, FlowDefinition, Node, Orchestration

DEEP = ("a.b.c.x", "a.b.c.y", "a.b.z", "a.w", "a.single.v", "d.u", "alone")


def plan_of(*names: str, edges: str = "") -> Orchestration:
    """Return a plan of operations, and edges such as ``"a.x>b.y b.y>c"``."""
    pairs = [pair.split(">") for pair in edges.split()]
    operations = tuple(sample_plans.operation(name, gives=f"M_{name}") for name in names)
    return Orchestration(
        operations=operations,
        edges=tuple(
            Edge(source=source, target=target, port="p", model=f"M_{source}")
            for source, target in pairs
        ),
        flows=sample_plans.flows_of(*operations),
    )


def shown(view: View) -> list[str]:
    """Return the nodes as text does: operations by name, groups as ``group.*``."""
    return [end_words(n if isinstance(n, Collapsed) else n.name) for n in view.nodes]


def leaves(group: Group) -> Iterator[Node | Collapsed]:
    for child in group.children:
        if isinstance(child, Group):
            yield from leaves(child)
        else:
            yield child


DEPTHS = {
    1: ["a.*", "d.*", "alone"],
    2: ["a.b.*", "a.w", "a.single.v", "d.u", "alone"],
    3: ["a.b.c.*", "a.b.z", "a.w", "a.single.v", "d.u", "alone"],
    4: [*DEEP],
    99: [*DEEP],
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_counts_the_levels_of_names_that_are_shown(depth: int) -> None:
    assert shown(look(plan_of(*DEEP), depth=depth)) == DEPTHS[depth]


def test_depth_counts_from_the_flow_that_is_drawn() -> None:
    plan = plan_of(*DEEP)
    flow = FlowDefinition(name="a_b_flow", hierarchy_path="a.b", covers=DEEP[:3])
    assert shown(look(plan, "a", depth=1)) == ["a.b.*", "a.w", "a.single.v"]
    assert shown(look(plan, flow, depth=1)) == ["a.b.c.*", "a.b.z"]


def test_neighbours_of_a_flow_collapse_into_its_siblings() -> None:
    plan = plan_of(*DEEP, edges="d.u>a.b.c.x alone>a.b.z a.w>a.b.z a.b.z>a.single.v")
    flow = FlowDefinition(name="a_b_flow", hierarchy_path="a.b", covers=DEEP[:3])
    outside = look(plan, flow, depth=1).outside
    names = [end_words(n if isinstance(n, Collapsed) else n.name) for n in outside]
    assert names == ["a.w", "a.single.*", "d.*", "alone"]


def test_edges_between_collapsed_groups_are_one_for_each_kind() -> None:
    plan = plan_of("a.x", "a.y", "b.x", "b.y", edges="a.x>b.x a.x>b.y a.y>b.y a.x>a.y b.y>a.x")
    order = Edge(source="a.x", target="b.y", kind="order")
    edges = look(replace(plan, edges=(*plan.edges, order)), depth=1).edges
    assert [
        (end_words(edge.source), end_words(edge.target), edge.kind, len(edge.edges))
        for edge in edges
        if isinstance(edge, Merged)
    ] == [("a.*", "b.*", "data", 3), ("b.*", "a.*", "data", 1), ("a.*", "b.*", "order", 1)]
    assert len(edges) == 3


def test_a_group_and_an_operation_of_one_name_are_two_ends() -> None:
    view = look(plan_of("a", "a.x", "a.y", edges="a>a.x a.y>a"), depth=1)
    assert shown(view) == ["a", "a.*"]
    ends = [(end_words(edge.source), end_words(edge.target)) for edge in view.edges]
    assert ends == [("a", "a.*"), ("a.*", "a")]


CHAIN = "a.x>b.x b.x>c.x c.x>d.x d.x>e.x b.x>side sibling>c.x"
NAMES = ("a.x", "b.x", "c.x", "d.x", "e.x", "side", "sibling")
HOPS = {
    0: ["c.x"],
    1: ["b.x", "c.x", "d.x", "sibling"],
    2: ["a.x", "b.x", "c.x", "d.x", "e.x", "sibling"],
    99: ["a.x", "b.x", "c.x", "d.x", "e.x", "sibling"],
}


@pytest.mark.parametrize("hops", HOPS)
def test_around_an_operation_is_what_it_needs_and_what_needs_it(hops: int) -> None:
    view = look(plan_of(*NAMES, edges=CHAIN), around="c.x", hops=hops)
    assert shown(view) == HOPS[hops]
    kept = set(HOPS[hops])
    assert all(edge.source in kept and edge.target in kept for edge in view.edges)


def test_one_hop_is_what_is_meant_when_none_is_named() -> None:
    plan = plan_of(*NAMES, edges=CHAIN)
    assert shown(look(plan, around="c.x")) == HOPS[1]


def test_where_it_goes_on_is_said_for_each_end_and_way() -> None:
    view = look(plan_of(*NAMES, edges=CHAIN), around="c.x")
    assert [(more.end, more.before, more.names) for more in view.more] == [
        ("b.x", True, ("a.x",)),
        ("d.x", False, ("e.x",)),
        ("b.x", False, ("side",)),
    ]
    assert "4 of 7 operations: c.x, and what is within 1 hop of it." in view.note


def test_no_hops_leave_the_operation_alone() -> None:
    note = look(plan_of(*NAMES, edges=CHAIN), around="c.x", hops=0).note
    assert note == "1 of 7 operations: c.x alone."


def test_all_of_a_plan_around_an_operation_has_no_note() -> None:
    view = look(plan_of("a.x", "b.x", edges="a.x>b.x"), around="a.x")
    assert (view.note, view.more) == ("", ())


def test_around_and_depth_leave_the_groups_of_the_operation_open() -> None:
    names = ("a.x", "a.y", "b.x", "b.y", "b.z", "c.x")
    plan = plan_of(*names, edges="a.x>b.x a.y>b.x b.x>b.y b.x>c.x b.y>b.z")
    view = look(plan, around="b.x", depth=1)
    assert shown(view) == ["a.*", "b.x", "b.y", "c.*"]
    groups = [node for node in view.nodes if isinstance(node, Collapsed)]
    assert [(group.name, len(group.members), group.total) for group in groups] == [
        ("a", 2, 2),
        ("c", 1, 1),
    ]


def test_a_collapsed_group_counts_what_the_cut_left_out() -> None:
    plan = plan_of("a.x", "a.y", "b.x", edges="a.x>b.x")
    view = look(plan, around="b.x", depth=1)
    assert [(len(n.members), n.total) for n in view.nodes if isinstance(n, Collapsed)] == [(1, 2)]


def test_around_within_a_flow_keeps_its_neighbours_pale() -> None:
    plan = plan_of(*NAMES, edges=CHAIN)
    view = look(plan, "c", around="c.x")
    assert shown(view) == ["c.x"]
    assert [node.name for node in view.outside] == ["b.x", "d.x", "sibling"]


REFUSED = {
    "there is no operation 'c.y'. Did you mean 'c.x'?": {"around": "c.y"},
    "there is no operation ''.": {"around": ""},
    "'c' is a group, and a picture is drawn around an operation, such as 'c.x'.": {"around": "c"},
    "operation 'a.x' does not run in c_flow": {"flow": "c", "around": "a.x"},
    "no flow is called 'cc_flow'. Did you mean 'c_flow'?": {"flow": "cc_flow"},
}
MEANINGLESS = {
    "hops are counted from an operation: name it with around (--around OPERATION).": {"hops": 2},
    "depth takes a whole number from 1, not 0.": {"depth": 0},
    "depth takes a whole number from 1, not '2'.": {"depth": "2"},
    "hops takes a whole number from 0, not -1.": {"around": "c.x", "hops": -1},
    "hops takes a whole number from 0, not True.": {"around": "c.x", "hops": True},
}


@pytest.mark.parametrize("message", [*REFUSED, *MEANINGLESS])
def test_what_makes_no_sense_is_refused_in_one_line(message: str) -> None:
    kind = UnknownNameError if message in REFUSED else UsageError
    with pytest.raises(kind) as caught:
        look(plan_of(*NAMES, edges=CHAIN), **{**REFUSED, **MEANINGLESS}[message])  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- Many operations ------------------------------------------------------------------------------


def test_a_thousand_operations_are_all_drawn_and_one_more_collapses_groups() -> None:
    assert len(look(sample_plans.layered(MOST)).nodes) == MOST
    view = look(sample_plans.layered(MOST + 1))
    assert all(isinstance(node, Collapsed) for node in view.nodes)
    assert "Groups are collapsed at depth 1, because 1,001 operations cannot be read" in view.note
    assert "--depth 2, one flow, or --around OPERATION." in view.note


def test_groups_are_collapsed_no_more_than_reading_asks_for() -> None:
    plan = sample_plans.nested(phases=4, layers=10, width=30)
    view = look(plan)
    assert len(view.nodes) == 40
    assert [child.name for child in view.tree.children if isinstance(child, Group)] == [
        "phase0",
        "phase1",
        "phase2",
        "phase3",
    ]
    assert "--depth 3" in view.note
    assert len(look(plan, depth=3).nodes) == 1200
    assert len(look(plan, "phase0").nodes) == 300


def test_a_thousand_standalones_are_one_node_with_a_way_out() -> None:
    view = look(plan_of(*(f"op_{n}" for n in range(MOST + 1)), "a.x", edges="op_1>a.x"))
    assert shown(view) == ["standalones", "a.*"]
    assert [end_words(edge.source) for edge in view.edges] == ["standalones"]
    assert "--around OPERATION" in view.note
    assert "--depth 1" in view.note


def test_a_large_flow_of_its_own_is_one_node() -> None:
    names = [f"a.op_{n}" for n in range(MOST + 1)]
    assert shown(look(plan_of(*names, "b.x"), "a")) == ["a.*"]
    assert shown(look(plan_of(*names, "b.x"), "a", depth=1)) == names


def test_what_many_models_a_group_lacks_is_one_node() -> None:
    names = [f"a.op_{n}" for n in range(5)]
    operations = tuple(
        sample_plans.operation(name, sample_plans.data("p", f"M{n}", missing=True))
        for n, name in enumerate(names)
    )
    plan = Orchestration(operations=operations, flows=sample_plans.flows_of(*operations))
    missing = look(plan, depth=1).missing
    assert [each.label for each in missing] == ["5 models for a"]
    assert missing[0].hint == "M0, M1, M2, M3, M4"
    few = replace(plan, operations=operations[:3])
    assert [each.label for each in look(few, depth=1).missing] == ["M0", "M1", "M2"]


def test_of_groups_that_all_need_each_other_the_strongest_edges_are_drawn() -> None:
    names = [f"g{n}.{part}" for n in range(20) for part in ("x", "y")]
    everywhere = [f"g{a}.x>g{b}.x" for a in range(20) for b in range(20) if a != b]
    twice = [f"g{n}.y>g{n + 1}.y" for n in range(19)]
    view = look(plan_of(*names, edges=" ".join(everywhere + twice)), depth=1)
    drawn = drawable(view)
    assert (len(view.edges), len(drawn.edges)) == (380, 150)
    strong = [edge for edge in drawn.edges if isinstance(edge, Merged) and len(edge.edges) == 2]
    assert len(strong) == 19
    assert "Of 380 connections between groups the 150 that carry most are drawn" in drawn.note


names_ = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(max_examples=60)
@given(st.data(), names_)
def test_every_operation_is_in_one_node_and_every_edge_in_one_edge_or_one_node(
    data: st.DataObject, names: list[str]
) -> None:
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    edges = data.draw(st.lists(pairs, max_size=15, unique=True))
    plan = plan_of(*names, edges=" ".join(f"{a}>{b}" for a, b in edges))
    for view in (look(plan, depth=data.draw(st.integers(1, 4))), *shallower(look(plan))):
        home = {}
        for node in leaves(view.tree):
            for member in node.members if isinstance(node, Collapsed) else (node,):
                assert home.setdefault(member.name, node) is node
        assert sorted(home) == sorted(names)
        assert {id(node) for node in view.nodes} == {id(node) for node in leaves(view.tree)}
        inside = sum(
            home[edge.source] is home[edge.target] and isinstance(home[edge.source], Collapsed)
            for edge in plan.edges
        )
        carried = sum(len(e.edges) if isinstance(e, Merged) else 1 for e in view.edges)
        assert carried + inside == len(plan.edges)


@settings(max_examples=60)
@given(st.data(), names_)
def test_a_cut_hides_nothing_without_a_sign(data: st.DataObject, names: list[str]) -> None:
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    edges = data.draw(st.lists(pairs, max_size=15, unique=True))
    plan = plan_of(*names, edges=" ".join(f"{a}>{b}" for a, b in edges))
    around, hops = data.draw(st.sampled_from(names)), data.draw(st.integers(0, 3))
    view = look(plan, around=around, hops=hops)
    kept = {node.name for node in view.nodes}
    assert around in kept
    signs = {(more.end, more.before) for more in view.more}
    for edge in plan.edges:
        if edge.source in kept and edge.target not in kept:
            assert (edge.source, False) in signs
        if edge.target in kept and edge.source not in kept:
            assert (edge.target, True) in signs
    assert len(kept) == len(names) or f"{len(kept):,} of {len(names):,}" in view.note


# --- Groups that a person opens and closes --------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "nodes"),
    [
        ([], [*DEEP]),
        (["a.b"], ["a.b.*", "a.w", "a.single.v", "d.u", "alone"]),
        (["a.b.c", "d"], ["a.b.c.*", "a.b.z", "a.w", "a.single.v", "d.*", "alone"]),
        (["a", "a.b"], ["a.*", "d.u", "alone"]),  # the outer one holds the inner one
        (["nobody"], [*DEEP]),
    ],
)
def test_just_the_groups_that_are_closed_are_one_node_each(
    closed: list[str], nodes: list[str]
) -> None:
    assert shown(look(plan_of(*DEEP), closed=closed)) == nodes


def test_standalones_are_closed_together() -> None:
    plan = plan_of("a.x", "one", "two")
    assert shown(look(plan, closed=["standalones"])) == ["a.x", "standalones"]


def test_a_group_that_is_toggled_is_closed_and_opened_again() -> None:
    plan = plan_of(*DEEP)
    closed: list[str] = []
    for group, then in (
        ("a.b.c", ["a.b.c"]),
        ("d", ["a.b.c", "d"]),
        ("a", ["d", "a"]),  # what was closed inside is no longer its own node
        ("a", ["d"]),
        ("d", []),
    ):
        closed = toggled(look(plan, closed=closed), group)
        assert closed == then


def test_a_large_group_opens_one_level_at_a_time() -> None:
    many = [f"a.{part}.x{number}" for part in "bc" for number in range(40)]
    plan = plan_of("a.w", *many)
    opened = toggled(look(plan, closed=["a"]), "a")
    assert shown(look(plan, closed=opened)) == ["a.w", "a.b.*", "a.c.*"]
    assert toggled(look(plan, closed=opened), "a.b") == ["a.c"]


def test_as_many_groups_are_closed_at_first_as_make_it_readable() -> None:
    few = plan_of(*DEEP)
    assert closed_at_first(few) == []
    many = plan_of(*(f"g{n % 20}.h{n % 40}.x{n}" for n in range(READABLE + 100)))
    closed = closed_at_first(many)
    assert len(look(many, closed=closed).nodes) == len(closed) == 40
    assert look(many, closed=closed).note == ""  # the panel's buttons say how to see more
    assert closed_in(look(many, "main_flow", closed=())) == closed


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join),
        unique=True,
        max_size=12,
    ),
    st.lists(st.integers(0, 20), max_size=8),
)
def test_whatever_is_toggled_every_operation_is_in_one_node(
    names: list[str], clicks: list[int]
) -> None:
    plan = plan_of(*names)
    closed: list[str] = []
    for click in clicks:
        view = look(plan, closed=closed)
        groups = sorted({name.rpartition(".")[0] for name in names} - {""})
        if groups:
            closed = toggled(view, groups[click % len(groups)])
    inside = [
        member.name
        for node in look(plan, closed=closed).nodes
        for member in (node.members if isinstance(node, Collapsed) else (node,))
    ]
    assert sorted(inside) == sorted(names)
