"""What is a data model, and what makes two of them the same."""

from __future__ import annotations

import collections
import dataclasses
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableSequence,
    Reversible,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import (  # noqa: UP035 - users still write List
    Annotated,
    Any,
    ForwardRef,
    Generic,
    List,
    Literal,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import pydantic
import pytest
from typing_extensions import TypeAliasType

import pulpo
from pulpo.errors import ModelError
from pulpo.models import is_model, misfit, model_ref, shape_of

T = TypeVar("T")
U = TypeVar("U")


class Jobs(pydantic.BaseModel):
    title: str
    pay: list[int] = []


@dataclasses.dataclass
class Row:
    n: int


class Page(TypedDict):
    url: str


class Box(pydantic.BaseModel, Generic[T]):
    it: T


@dataclasses.dataclass
class Pair(Generic[T]):
    one: T


@pydantic.dataclasses.dataclass
class Checked:
    n: int


class Plain(Generic[T]):
    """Of no kind that is a model."""


Frame = NewType("Frame", list)
Marked = Annotated[list, pulpo.Model("Marked")]
Alias = TypeAliasType("Alias", Jobs)
Many = TypeAliasType("Many", list[T], type_params=(T,))

MODELS = [
    (Jobs, "Jobs"),
    (Row, "Row"),
    (Page, "Page"),
    (Frame, "Frame"),
    (Marked, "Marked"),
    (Box[int], "Box[int]"),
    (Pair[int], "Pair[int]"),
    (Checked, "Checked"),
    (Annotated[int, "a note", pulpo.Model("Marked"), 3], "Marked"),
    (Annotated[Marked, pulpo.Model("Outer")], "Outer"),
    (Annotated[Marked, "a note"], "Marked"),
    (Alias, "Jobs"),
    (TypeAliasType("Other", Marked), "Marked"),
    (Box[Jobs], "Box[Jobs]"),
    (Box[list[Jobs] | None], "Box[list[Jobs] | None]"),
    (Box[Box[Alias]], "Box[Box[Jobs]]"),
    (Pair[Marked], "Pair[Marked]"),
    (Pair[Frame], "Pair[Frame]"),
    (Pair[tuple[int, ...]], "Pair[tuple[int, ...]]"),
    (Pair[Literal["a b"]], "Pair[Literal['a b']]"),
]


@pytest.mark.parametrize(("type_", "name"), MODELS)
def test_a_model_is_known_by_its_qualified_name(type_: Any, name: str) -> None:
    assert is_model(type_)
    ref = model_ref(type_)
    assert ref.name == name
    assert ref.key.replace(f"{__name__}.", "").replace("pulpo.Model:", "") == name
    assert ref.key != name


def test_a_generic_of_one_model_is_not_that_of_another() -> None:
    keys = [model_ref(t).key for t in (Box, Box[Jobs], Box[Row], Pair[Jobs], Pair[Row], Pair)]
    assert len(set(keys)) == len(keys)
    assert model_ref(Box[Jobs]).key == model_ref(Box[Alias]).key


def test_a_generic_of_two_models_of_one_short_name_is_two_models() -> None:
    here = pydantic.create_model("Item", __module__="here")
    there = pydantic.create_model("Item", __module__="there")
    one, other = model_ref(Box[here]), model_ref(Box[there])  # type: ignore[valid-type]
    assert one.name == other.name == "Box[Item]"
    assert one.key != other.key


def test_a_local_class_is_known_by_its_last_name() -> None:
    class Local(pydantic.BaseModel): ...

    assert model_ref(Local).name == "Local"
    assert model_ref(Pair[Local]).name == "Pair[Local]"


TEXTS = [
    ("Jobs", "", "Jobs"),
    (" Jobs ", "", "Jobs"),
    ("jobs.models.Jobs", "jobs.models.Jobs", "Jobs"),
    ("Page[Item]", "", "Page[Item]"),
    ("Page[jobs.Item]", "", "Page[jobs.Item]"),
    ("Raw jobs, v2.1", "", "Raw jobs, v2.1"),
    ("ﬁle", "", "file"),
]


@pytest.mark.parametrize(("text", "key", "name"), TEXTS)
def test_text_is_a_short_name_or_with_dots_the_qualified_one(
    text: str, key: str, name: str
) -> None:
    assert (model_ref(text).key, model_ref(text).name) == (key, name)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_mark_has_a_name(name: Any) -> None:
    with pytest.raises(ModelError, match=r"pulpo\.Model\('Jobs'\)"):
        pulpo.Model(name)


def test_marks_that_python_reads_as_one_identifier_are_one_model() -> None:
    assert model_ref(pulpo.Model("ﬁle")) == model_ref(pulpo.Model(" file"))


@pytest.mark.parametrize(
    "type_",
    [
        *(int, str, list, dict[str, int], pydantic.BaseModel, None, "Jobs", 3, Any, Row(1)),
        *(type[Jobs], Callable[[Jobs], Row], Callable[..., Jobs], Literal["Jobs"], tuple[()]),
        *(list[type[Jobs]], Plain[int], Plain, TypeAliasType("Number", int), Iterator[int]),
    ],
)
def test_what_carries_no_data_is_no_model(type_: Any) -> None:
    assert not is_model(type_)
    assert shape_of(type_) is None
    assert shape_of(type_, gives=True) is None


@pytest.mark.parametrize("type_", [3, Row(1), [Jobs], None])
def test_a_thing_that_is_no_type_is_refused(type_: Any) -> None:
    with pytest.raises(ModelError, match="no data model"):
        model_ref(type_)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ModelError, match="empty"):
        model_ref("  ")


SHAPES = [
    (Jobs, False, False),
    (list[Jobs], True, False),
    (List[Jobs], True, False),  # noqa: UP006
    (Sequence[Jobs], True, False),
    (Jobs | None, False, True),
    (Optional[Jobs], False, True),  # noqa: UP045
    (list[Jobs] | None, True, True),
    (Annotated[Jobs, "a note"], False, False),
    (Annotated[Jobs | None, "a note"], False, True),
    (Annotated[Jobs | None, pulpo.Model("Jobs")], False, True),
    (Annotated[list, pulpo.Model("Jobs")] | None, False, True),
    (list[Annotated[int, pulpo.Model("Jobs")]], True, False),
    (list[Annotated[int | None, pulpo.Model("Jobs")]], True, False),
    (MutableSequence[Jobs], True, False),
    (Alias | None, False, True),
    (TypeAliasType("Maybe", Optional[Jobs]), False, True),  # noqa: UP045
    (TypeAliasType("Maybe", Alias), False, False),
    (Many[Jobs], True, False),
    (Many[Alias] | None, True, True),
]


@pytest.mark.parametrize(("type_", "many", "optional"), SHAPES)
def test_an_annotation_says_how_many_and_whether_it_may_be_absent(
    type_: Any, many: bool, optional: bool
) -> None:
    for gives in (False, True):
        shape = shape_of(type_, gives=gives)
        assert shape is not None
        assert (shape.model.name, shape.many, shape.optional) == ("Jobs", many, optional)


@pytest.mark.parametrize(
    "type_", [Iterable[Jobs], Collection[Jobs], Reversible[Jobs], list[Jobs | None]]
)
def test_a_parameter_may_take_its_list_as_anything_that_a_list_is(type_: Any) -> None:
    shape = shape_of(type_)
    assert shape is not None
    assert (shape.model.name, shape.many, shape.optional) == ("Jobs", True, False)


@pytest.mark.parametrize(
    ("type_", "sequence"),
    [(list[Jobs], False), (tuple[Jobs, ...], True), (Sequence[Jobs], True), (Many[Jobs], False)],
)
def test_a_result_may_be_a_sequence_that_is_no_list(type_: Any, sequence: bool) -> None:
    shape = shape_of(type_ | None, gives=True)
    assert shape is not None
    assert (shape.many, shape.optional, shape.sequence) == (True, True, sequence)


def test_the_parameters_of_a_type_are_filled_by_name() -> None:
    switched = TypeAliasType("switched", dict[U, list[T]], type_params=(T, U))
    shape = shape_of(TypeAliasType("it", Annotated[switched[int, str], pulpo.Model("Jobs")]))
    assert shape is not None
    with pytest.raises(ModelError, match=r"dict\[str, list\[Jobs\]\] makes no edge"):
        shape_of(switched[Jobs, str])


WRONG = [
    # What stands where a parameter, and where a result; and what is offered instead.
    (set[Jobs], "Take list[Jobs].", "Return list[Jobs]."),
    (frozenset[Jobs], "Take list[Jobs].", "Return list[Jobs]."),
    (AbstractSet[Jobs], "Take list[Jobs].", "Return list[Jobs]."),
    (collections.deque[Jobs], "Take list[Jobs].", "Return list[Jobs]."),
    (tuple[Jobs, ...], "Take list[Jobs].", ""),
    (Collection[Jobs], "", "Return list[Jobs]."),
    (Iterable[Jobs], "", "The first that takes it would use it up: return list[Jobs]."),
    (Iterator[Jobs], "Take list[Jobs].", "would use it up: return list[Jobs]."),
    (Generator[Jobs, None, None], "Take list[Jobs].", "would use it up: return list[Jobs]."),
    (AsyncIterator[Jobs], "Take list[Jobs].", "would use it up: return list[Jobs]."),
    (dict[str, Jobs], "NewType('AllJobs', dict[str, Jobs])", "or name the whole"),
    (Mapping[Jobs, int], "NewType('AllJobs', Mapping[Jobs, int])", "or name the whole"),
    (Awaitable[Jobs], "Take Jobs or list[Jobs]", "Return Jobs or list[Jobs]"),
    (Plain[Jobs], "NewType('AllJobs', Plain[Jobs])", "NewType('AllJobs', Plain[Jobs])"),
    (list[list[Jobs]], "take list[Jobs]", "return list[Jobs]"),
    (Many[Sequence[Jobs]], "take list[Jobs]", "return list[Jobs]"),
    (list[dict[str, Jobs]], "dict[str, Jobs]", "dict[str, Jobs]"),
    (list[Jobs | None], "", "Leave None out, and write list[Jobs]."),
    (tuple[Jobs, Row], "Take each as a parameter of its own.", "Make it one flat tuple."),
    (tuple[Jobs, Row] | None, "a parameter of its own", "tuple[Jobs | None, Row | None]"),
    (list[tuple[Jobs, Row]], "a parameter of its own", "tuple[list[Jobs], list[Row]]"),
    (set[Jobs] | None, "Take list[Jobs].", "Return list[Jobs]."),
    (list[Jobs] | dict[str, Jobs], "dict[str, Jobs] makes no edge", "dict[str, Jobs] makes"),
    (Annotated[int, pulpo.Model], "pulpo.Model('RawJobs')", "pulpo.Model('RawJobs')"),
    (T, "type variable T", "type variable T"),
    (T | None, "type variable T", "type variable T"),
    (list[T], "type variable T", "type variable T"),
    (Pair[T], "type variable T", "type variable T"),
    (dict[str, list[T]], "type variable T", "type variable T"),
    (Many, "type variable T", "type variable T"),
]


@pytest.mark.parametrize(("type_", "taken", "given"), WRONG)
def test_a_model_that_would_make_no_edge_is_refused_with_what_does(
    type_: Any, taken: str, given: str
) -> None:
    for gives, told in ((False, taken), (True, given)):
        if told:
            with pytest.raises(ModelError) as refused:
                shape_of(type_, gives=gives)
            assert told in str(refused.value)
            assert "\n" not in str(refused.value)
        else:
            shape_of(type_, gives=gives)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is Python 3.12's")
def test_a_type_statement_is_an_alias() -> None:
    scope: dict[str, Any] = {"Jobs": Jobs, "Later": ForwardRef("Later")}
    source = "type One = Jobs\ntype All[T] = list[T]\ntype Maybe = All[One] | None"
    exec(f"{source}\ntype Lost = list[Nowhere]", scope)
    shape = shape_of(scope["Maybe"])
    assert shape is not None
    assert (shape.model, shape.many, shape.optional) == (model_ref(Jobs), True, True)
    with pytest.raises(ModelError, match="Define 'Nowhere' first"):
        shape_of(scope["Lost"])


def test_a_mark_on_a_list_makes_the_list_one_model() -> None:
    shape = shape_of(Annotated[list[Jobs], pulpo.Model("Jobs")])
    assert shape is not None
    assert (shape.model.key, shape.many) == ("pulpo.Model:Jobs", False)


def test_a_name_of_a_later_cell_is_a_model_by_its_short_name() -> None:
    shape = shape_of(ForwardRef("Later"))
    assert shape is not None
    assert (shape.model.key, shape.model.name) == ("", "Later")


@pytest.mark.parametrize(
    "type_",
    [Jobs | Row, Union[Jobs, Row, None], Jobs | int, list[Jobs] | Jobs],  # noqa: UP007
)
def test_any_other_union_of_models_is_refused(type_: Any) -> None:
    with pytest.raises(ModelError, match=r"a: A \| None"):
        shape_of(type_)


def test_a_union_of_names_that_do_not_exist_yet_is_a_plain_parameter() -> None:
    assert shape_of(ForwardRef("Path") | int) is None
    with pytest.raises(ModelError):
        shape_of(ForwardRef("Later") | Jobs)


def test_a_union_without_a_model_is_a_plain_parameter() -> None:
    assert shape_of(int | str | None) is None


def fields_of(source: str, name: str = "M") -> Any:
    scope: dict[str, Any] = {
        "__name__": "__main__",
        "BaseModel": pydantic.BaseModel,
        "dataclass": dataclasses.dataclass,
        "TypedDict": TypedDict,
        "NewType": NewType,
    }
    exec(source, scope)
    return model_ref(scope[name])


SAME = "class M(BaseModel):\n    a: int\n    b: list[int] = []"


def test_a_re_run_cell_gives_the_same_model() -> None:
    assert fields_of(SAME) == fields_of(SAME)
    assert fields_of(SAME).schema_hash == fields_of(SAME).schema_hash


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("class M(BaseModel):\n    a: int", "class M(BaseModel):\n    a: str"),
        ("class M(BaseModel):\n    a: int", "class M(BaseModel):\n    b: int"),
        ("class M(BaseModel):\n    a: list[int]", "class M(BaseModel):\n    a: list[str]"),
        ("@dataclass\nclass M:\n    a: int", "@dataclass\nclass M:\n    a: int | None"),
        ("class M(TypedDict):\n    a: int", "class M(TypedDict):\n    a: int\n    b: int"),
        ("M = NewType('M', list)", "M = NewType('M', dict)"),
    ],
)
def test_changed_fields_change_the_hash_and_not_the_identity(before: str, after: str) -> None:
    old, new = fields_of(before), fields_of(after)
    assert old.key == new.key
    assert old.schema_hash != new.schema_hash


def test_a_field_s_validator_does_not_make_each_run_a_new_schema() -> None:
    source = (
        "from typing import Annotated\n@dataclass\nclass M:\n    a: Annotated[int, lambda x: x]"
    )
    assert fields_of(source).schema_hash == fields_of(source).schema_hash


# --- What a value is instead ----------------------------------------------------------------------


class Seen(pydantic.BaseModel):
    number: int


def seen_again() -> Any:
    """Return an instance of a class of the same name, as a cell that ran again makes one."""
    made = pydantic.create_model("Seen", number=(int, ...))
    return made(number=1)


class Child(Row):
    pass


Table = NewType("Table", dict)  # type: ignore[type-arg]
Outer = NewType("Outer", Table)


@pytest.mark.parametrize(
    ("type_", "value", "told"),
    [
        (Seen, Seen(number=1), ""),
        (Seen, seen_again(), ""),
        (Seen, {"number": 1}, "a dict, not a Seen"),
        (Seen, None, "None, not a Seen"),
        (Seen | None, None, ""),
        (Seen | None, 3, "an int, not a Seen"),
        (Row, Child(1), ""),
        (Child, Row(1), "a Row, not a Child"),
        (Outer, {}, ""),
        (Outer, [], "a list, not an Outer"),
        (Annotated[Row, "any"], 1, "an int, not a Row"),
        (list[Seen], [Seen(number=1)], ""),
        (list[Seen], (Seen(number=1),), ""),
        (list[Seen], [Seen(number=1), 3], "a list with an int, not a Seen"),
        (list[Seen], Seen(number=1), "a Seen, not a list"),
        (list[Seen], {"a": 1}, "a dict, not a list"),
        (tuple[Seen, Row], (Seen(number=1), Row(1)), ""),
        (tuple[Seen, Row], (Row(1), Row(1)), "a Row, not a Seen"),
        (tuple[Seen, Row], Row(1), "a Row, not a tuple of 2"),
        # No models, so nothing depends on them.
        (int, "text", ""),
        (list[int], "text", ""),
        (dict[str, Seen], [], ""),
    ],
)
def test_what_a_value_is_instead_of_a_model_is_said(type_: Any, value: Any, told: str) -> None:
    assert misfit(type_, value) == told
