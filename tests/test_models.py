"""What is a data model, and what makes two of them the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import (  # noqa: UP035 - users still write List
    Annotated,
    Any,
    ForwardRef,
    Generic,
    List,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import pydantic
import pytest

import pulpo
from pulpo.errors import ModelError
from pulpo.models import is_model, model_ref, shape_of

T = TypeVar("T")


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


Frame = NewType("Frame", list)
Marked = Annotated[list, pulpo.Model("Marked")]

MODELS = [
    (Jobs, "Jobs"),
    (Row, "Row"),
    (Page, "Page"),
    (Frame, "Frame"),
    (Marked, "Marked"),
    (Box[int], "Box[int]"),
    (Pair[int], "Pair[int]"),
    (Checked, "Checked"),
]


@pytest.mark.parametrize(("type_", "name"), MODELS)
def test_a_model_is_known_by_its_qualified_name(type_: Any, name: str) -> None:
    assert is_model(type_)
    ref = model_ref(type_)
    assert ref.name == name
    assert ref.key.endswith(name)
    assert ref.key != name


@pytest.mark.parametrize(
    "type_", [int, str, list, dict[str, int], pydantic.BaseModel, None, "Jobs", T, 3, Any, Row(1)]
)
def test_what_carries_no_data_is_no_model(type_: Any) -> None:
    assert not is_model(type_) or type_ is not Row
    assert shape_of(type_) is None or isinstance(type_, Row)


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
]


@pytest.mark.parametrize(("type_", "many", "optional"), SHAPES)
def test_an_annotation_says_how_many_and_whether_it_may_be_absent(
    type_: Any, many: bool, optional: bool
) -> None:
    shape = shape_of(type_)
    assert shape is not None
    assert (shape.model.name, shape.many, shape.optional) == ("Jobs", many, optional)


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
