"""Dotted names: what is one, what is offered instead, and the hierarchy over them."""

from __future__ import annotations

import ast
import keyword

import pytest
from cells import cell, gives
from hypothesis import example, given
from hypothesis import strategies as st

from pulpo.compiler import compile_plan
from pulpo.errors import InvalidNameError
from pulpo.names import HierarchyParser, common_groups, normal, parse_name, snake_case

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
    ("naïve.x", "naive.x"),
    ("größe", "grosse"),
    ("a-b", "a_b"),
    ("a.b\n", "a.b"),
    ("None", "None_"),
    ("ª.b", "a.b"),
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
    assert ast.parse(name, mode="eval").body.id == name  # type: ignore[attr-defined]


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
        ("Größe", "größe"),
        ("Ärzte2Go", "ärzte2_go"),
        ("数据", "数据"),
        ("ﬁle", "file"),
        ("Page[Größe]", "page_größe"),
        ("²", "_2"),
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


# --- Names that collide as identifiers ---------------------------------------------------------

COLLISIONS = [
    (
        "dots and underscores",
        """
@operation(name='a.b_c')
def x() -> Raw: return Raw(n=1)
@operation(name='a_b.c')
def y() -> Clean: return Clean(n=2)
@operation(name='a_b_c')
def z(raw: Raw, clean: Clean) -> object: return raw.n, clean.n
""",
        (1, 2),
        ["a_flow", "a_b_flow", "main_flow", "standalones_flow"],
    ),
    (
        "groups whose paths underscore to one name",
        """
@operation(name='a.b.x')
def x() -> Raw: return Raw(n=1)
@operation(name='a.b.y')
def y(raw: Raw) -> Clean: return Clean(n=raw.n + 1)
@operation(name='a_b.x')
def x(clean: Clean) -> Skills: return Skills(n=clean.n + 1)
@operation(name='a_b.y')
def y(skills: Skills) -> object: return skills.n + 1
""",
        4,
        ["a_b_flow", "a_flow", "a_b_flow_2", "main_flow"],
    ),
    (
        "one name for an operation and a group, at two depths",
        """
@operation(name='a')
def a() -> Raw: return Raw(n=1)
@operation(name='a.b')
def b(raw: Raw) -> Clean: return Clean(n=raw.n + 1)
@operation(name='a.b.c')
def c(clean: Clean) -> Skills: return Skills(n=clean.n + 1)
@operation(name='a.b.d')
def d(skills: Skills) -> object: return skills.n + 1
""",
        4,
        ["a_b_flow", "a_flow", "main_flow", "standalones_flow"],
    ),
    (
        "operations called like flows",
        """
@operation(name='a.x')
def x() -> Raw: return Raw(n=1)
@operation(name='a_flow')
def a_flow(raw: Raw) -> Clean: return Clean(n=raw.n + 1)
@operation(name='main_flow')
def main_flow(clean: Clean) -> Skills: return Skills(n=clean.n + 1)
@operation(name='standalones_flow')
def standalones_flow(skills: Skills) -> object: return skills.n + 1
""",
        4,
        ["a_flow_2", "main_flow", "standalones_flow"],
    ),
    (
        "groups called like flows",
        """
@operation(name='a.x')
def x() -> Raw: return Raw(n=1)
@operation(name='a_flow.x')
def x(raw: Raw) -> Clean: return Clean(n=raw.n + 1)
@operation(name='main_flow.x')
def x(clean: Clean) -> object: return clean.n + 1
""",
        3,
        ["a_flow", "a_flow_flow", "main_flow_flow", "main_flow"],
    ),
    (
        "names that differ in case only",
        """
@operation(name='A.x')
def x() -> Raw: return Raw(n=1)
@operation(name='a.x')
def X(raw: Raw) -> Clean: return Clean(n=raw.n + 1)
@operation(name='a_Flow')
def a_Flow(clean: Clean) -> object: return clean.n + 1
""",
        3,
        ["A_flow_2", "a_flow_3", "main_flow", "standalones_flow"],
    ),
    (
        "functions whose names Python reads as one",
        """
@operation(name='a.x')
def file() -> Raw: return Raw(n=1)
def other() -> Clean: return Clean(n=2)
other.__name__ = 'ﬁle'
operation(name='a.y')(other)
@operation(name='b')
def b(raw: Raw, clean: Clean) -> object: return raw.n, clean.n
""",
        (1, 2),
        ["a_flow", "main_flow", "standalones_flow"],
    ),
    (
        "letters of any language",
        """
class Größe(BaseModel): n: int = 0
class 数据(BaseModel): n: int = 0
@operation(name='a.groesse')
def größe() -> Größe: return Größe(n=1)
@operation(name='a.x')
def daten() -> 数据: return 数据(n=2)
@operation(name='b', bind={'ﬁle': 'a.x'})
def b(ﬁle: 数据, größe: Größe, straße: int = 3) -> object:
    return file.n, größe.n, straße
""",
        (2, 1, 3),
        ["a_flow", "main_flow", "standalones_flow"],
    ),
]


@pytest.mark.parametrize(
    ("title", "source", "value", "flows"), COLLISIONS, ids=[one[0] for one in COLLISIONS]
)
def test_names_that_collide_as_identifiers_all_compile(
    title: str, source: str, value: object, flows: list[str]
) -> None:
    _, operations = cell(source)
    assert [flow.name for flow in compile_plan(operations).flows] == flows
    assert gives(source) == value


def test_models_whose_names_python_reads_as_one_are_told_apart_where_a_person_gives_them() -> None:
    source = """
one = NewType('file', int)
other = NewType('ﬁle', int)
@operation(name='a.x')
def x(a: one, b: other) -> object: return a, b
"""
    _, operations = cell(source)
    names = [parameter.name for parameter in compile_plan(operations).flows[-1].parameters]
    assert len(set(map(normal, names))) == 2
    assert gives(source, **dict(zip(names, (1, 2), strict=True))) == (1, 2)
