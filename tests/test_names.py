"""Dotted names: what is one, what is offered instead, and the hierarchy over them."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulpo.errors import InvalidNameError
from pulpo.names import HierarchyParser, common_groups, parse_name, snake_case

NAMES = ["a.b.load", "a.b.save", "a.merge", "report", "a.b", "c.d.e.f"]


def test_a_name_knows_its_place_in_the_hierarchy() -> None:
    parsed = HierarchyParser.parse("scraping.stepstone.fetch")
    assert parsed.hierarchy == ["scraping", "stepstone", "fetch"]
    assert (parsed.parent, parsed.root, parsed.name) == ("scraping.stepstone", "scraping", "fetch")
    assert (parsed.level, parsed.is_standalone) == (3, False)


def test_a_name_without_a_dot_is_a_standalone() -> None:
    parsed = HierarchyParser().parse("report")
    assert (parsed.parent, parsed.root, parsed.level) == (None, "report", 1)
    assert parsed.is_standalone


REFUSED = [
    ("../x", "x"),
    ("class.def", "class_.def_"),
    ("", "operation"),
    ("...", "operation"),
    ("a..b", "a.b"),
    ("a.b.", "a.b"),
    (".a", "a"),
    ("1a.b", "_1a.b"),
    ("a b.c", "a_b.c"),
    ("a/b", "a.b"),
    ("naïve.x", "na_ve.x"),
    ("größe", "gr_e"),
    ("a-b", "a_b"),
    ("a.b\n", "a.b"),
    ("None", "None_"),
    ("ª.b", "b"),
    ("main.x", "main_x"),
    ("standalones.x.y", "standalones_x.y"),
    ("main.class", "main_class_"),
    ("x\x00y", "x_y"),
]


@pytest.mark.parametrize(("name", "near"), REFUSED)
def test_what_is_no_name_is_refused_with_the_nearest_one(name: str, near: str) -> None:
    with pytest.raises(InvalidNameError) as refused:
        parse_name(name)
    assert refused.value.suggestion == near
    assert repr(near) in str(refused.value)
    assert isinstance(refused.value, ValueError)
    parse_name(near)


@pytest.mark.parametrize("name", ["main", "standalones", "x.main", "a.standalones.b", "match.case"])
def test_only_top_level_groups_are_reserved(name: str) -> None:
    assert parse_name(name).full_name == name


@pytest.mark.parametrize("thing", [None, 3, b"a.b", ["a"]])
def test_a_name_is_text(thing: object) -> None:
    with pytest.raises(InvalidNameError, match="is text such as"):
        parse_name(thing)  # type: ignore[arg-type]


@given(st.text() | st.from_regex(r"[\w.\-/ ]{0,20}") | st.sampled_from(keyword.kwlist))
@example("main.main.main")
@example("_main.x-y")
@example("main._.class")
def test_any_text_is_a_name_or_is_refused_with_one(text: str) -> None:
    try:
        parsed = parse_name(text)
    except InvalidNameError as refused:
        text = refused.suggestion
        parsed = parse_name(text)
    assert ".".join(parsed.hierarchy) == text
    assert ".".join([*([parsed.parent] if parsed.parent else []), parsed.name]) == text
    assert all(part.isidentifier() and not keyword.iskeyword(part) for part in parsed.hierarchy)
    assert parsed.is_standalone == (parsed.parent is None) == (parsed.level == 1)


@given(st.text())
def test_a_model_s_name_makes_an_identifier(text: str) -> None:
    name = snake_case(text)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("RawJobs", "raw_jobs"),
        ("HTMLPage", "html_page"),
        ("Page[Item]", "page_item"),
        ("Class", "class_"),
        ("A", "a"),
        ("Jobs2Go", "jobs2_go"),
        ("_Raw", "raw"),
    ],
)
def test_a_parameter_is_called_after_its_model(model: str, name: str) -> None:
    assert snake_case(model) == name


def test_names_are_grouped_in_the_order_given() -> None:
    assert HierarchyParser.group_by_parent(NAMES) == {
        "a.b": ["a.b.load", "a.b.save"],
        "a": ["a.merge", "a.b"],
        None: ["report"],
        "c.d.e": ["c.d.e.f"],
    }
    assert list(HierarchyParser.group_by_root(NAMES)) == ["a", "report", "c"]
    assert HierarchyParser.group_by_level(NAMES) == {
        3: ["a.b.load", "a.b.save"],
        2: ["a.merge", "a.b"],
        1: ["report"],
        4: ["c.d.e.f"],
    }


def test_siblings_and_children() -> None:
    assert HierarchyParser.find_siblings("a.b.load", NAMES) == ["a.b.save"]
    assert HierarchyParser.find_siblings("report", [*NAMES, "other"]) == ["other"]
    assert HierarchyParser.find_children("a", NAMES) == ["a.merge", "a.b"]
    assert HierarchyParser.find_children("c", NAMES) == []


def test_a_name_can_be_both_an_operation_and_a_group_in_the_tree() -> None:
    tree = HierarchyParser.build_hierarchy_tree(["a.b", "a.b.load", "report"])
    assert tree == {"a": {"b": {"load": {}}}, "report": {}}


def test_validation_tells_each_invalid_and_repeated_name() -> None:
    messages = HierarchyParser.validate_names(["a.b", "../x", "a.b", "main.x"])
    assert len(messages) == 3
    assert "'../x' is not valid" in messages[0]
    assert "'a.b' is used twice" in messages[1]
    assert "main_x" in messages[2]
    assert HierarchyParser.validate_names(NAMES) == []


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("a.b.x", "a.b.y", 2),
        ("a.x", "a.x", 1),
        ("x", "x", 0),
        ("a.b", "b.a", 0),
        ("a.b.c", "a.x", 1),
    ],
)
def test_only_groups_count_as_shared(one: str, other: str, count: int) -> None:
    assert common_groups(one, other) == common_groups(other, one) == count
