"""The form that a flow's parameters make: what each field is, and what it makes of an input."""

from __future__ import annotations

from typing import Any

import pytest
from recorded import Notebook

from pulpo.errors import BlockedFlowError, MissingInputError, UnknownNameError, UsageError
from pulpo.parameters import UNSET, Field

HEAD = """
import datetime as dt
import decimal, enum, pathlib, uuid
from dataclasses import dataclass
from typing import *
from pydantic import AfterValidator, BaseModel, Field, PositiveInt, SecretStr

class Site(enum.Enum):
    STEPSTONE = "stepstone"
    LINKEDIN = "linkedin"

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

class Query(BaseModel):
    text: str = "python"
    pages: int = Field(1, ge=1)

@dataclass
class Point:
    x: int
    y: int = 0

class Options(TypedDict):
    deep: bool

class Frame:
    "Like a DataFrame: pydantic knows nothing of it."

@dataclass
class Holder:
    frame: Frame

Frames = NewType("Frames", Frame)
Name = NewType("Name", str)
Pages = Annotated[int, Field(ge=1, description="How many pages to read.")]

def even(value):
    assert value % 2 == 0, "odd"
    return value

def breaks(value):
    raise RuntimeError("no such thing")
"""


def book(*operations: str) -> Notebook:
    made = Notebook()
    made.cell(HEAD)
    for number, source in enumerate(operations):
        made.operation(f"op{number}", source)
    return made


def field_of(annotation: str, default: str = "", made: Notebook | None = None) -> Field:
    """Return the field of one parameter ``x``."""
    made = made or book()
    typed = f": {annotation}" * bool(annotation)
    made.operation(
        "op", f"def op(x{typed}{' = ' * bool(default)}{default}) -> int:\n    return 1\n"
    )
    [field] = made.session.form()
    return field


def refused(field: Field, given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        field.parse(given)
    return str(caught.value)


# --- Kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "kind", "typed", "value"),
    [
        ("str", "text", " a b ", " a b "),
        ("Name", "text", "x", "x"),
        ("pathlib.Path", "text", "a/b", "PosixPath('a/b')"),
        ("uuid.UUID", "text", "12345678123456781234567812345678", None),
        ("decimal.Decimal", "text", "1.50", "Decimal('1.50')"),
        ("dt.timedelta", "text", "PT90S", "datetime.timedelta(seconds=90)"),
        ("SecretStr", "text", "x", None),
        ("bytes", "text", "x", b"x"),
        ("Any", "text", "hello", "hello"),
        ("int", "integer", " 3 ", 3),
        ("PositiveInt", "integer", "3", 3),
        ("Annotated[int, Field(strict=True)]", "integer", "3", 3),
        ("float", "number", "1.5", 1.5),
        ("bool", "switch", True, True),
        ("bool | None", "choice", "None", None),
        ("Site", "choice", "linkedin", "<Site.LINKEDIN: 'linkedin'>"),
        ("Level", "choice", "HIGH", "<Level.HIGH: 2>"),
        ("Literal['a', 'b']", "choice", "b", "b"),
        ("Literal[1, '1']", "choice", "'1'", "1"),
        ("dt.date", "date", "2024-02-29", "datetime.date(2024, 2, 29)"),
        ("dt.datetime", "datetime", "2024-02-29T12:00", "datetime.datetime(2024, 2, 29, 12, 0)"),
        ("dt.time", "time", "12:30", "datetime.time(12, 30)"),
        ("Query", "json", '{"pages": 2}', "Query(text='python', pages=2)"),
        ("Point", "json", '{"x": 1}', "Point(x=1, y=0)"),
        ("Options", "json", '{"deep": true}', {"deep": True}),
        ("list[int]", "json", "[1, 2]", [1, 2]),
        ("tuple[int, str]", "json", '[1, "a"]', (1, "a")),
        ("dict[str, int]", "json", '{"a": 1}', {"a": 1}),
        ("int | str", "json", "3", 3),
        ("int | str", "json", "three", "three"),
        ("Frame | list[int]", "json", "[1]", [1]),
    ],
)
def test_a_type_makes_a_kind_of_field_whose_text_becomes_a_value(
    annotation: str, kind: str, typed: Any, value: Any
) -> None:
    field = field_of(annotation)
    assert field.kind == kind
    assert (field.required, field.text, field.default) == (True, "", UNSET)
    made = field.parse(typed)
    if value is not None:
        assert value in (made, repr(made))
    if "None" not in annotation:
        assert refused(field, "") == "needs a value"


@pytest.mark.parametrize("annotation", ["Frame", "Frames", "list[Frame]", "Frame | None", "Holder"])
def test_what_json_cannot_tell_takes_a_variable_alone(annotation: str) -> None:
    made = book()
    made.cell("frame = Frame()\n")
    field = field_of(annotation, made=made)
    assert field.kind == "object"
    assert field.hint.endswith("@variable takes an object of the notebook")
    assert refused(field, "frame") == "takes an object of the notebook: @variable, not 'frame'"
    if annotation == "Holder":
        assert refused(field, "@frame") == "@frame is a Frame, not a Holder"
    elif annotation != "list[Frame]":
        assert field.parse("@frame") is made.namespace["frame"]
    assert refused(field, "@fram") == (
        "there is no variable 'fram' in the notebook. Did you mean 'frame'?"
    )


def test_every_kind_takes_a_variable_and_checks_it() -> None:
    made = book()
    made.cell("three = 3\nwords = 'x'\n")
    assert field_of("int", made=made).parse(" @three ") == 3
    assert field_of("str", made=made).parse("@words") == "x"
    assert "valid integer" in refused(field_of("int", made=made), "@words")


# --- Defaults, and None --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "default", "text"),
    [
        ("str", "'python'", "python"),
        ("str", "'@home'", "@home"),
        ("int", "3", "3"),
        ("float", "0.5", "0.5"),
        ("bool", "True", ""),
        ("Site", "Site.LINKEDIN", "linkedin"),
        ("dt.date", "dt.date(2024, 1, 2)", "2024-01-02"),
        ("dt.timedelta", "dt.timedelta(minutes=1)", "PT60S"),
        ("pathlib.Path", "pathlib.Path('a')", "a"),
        ("list[int]", "[1, 2]", "[1,2]"),
        ("str | int", "'x'", '"x"'),
        ("Query", "Query(pages=2)", '{"text":"python","pages":2}'),
        ("Point", "Point(1)", '{"x":1,"y":0}'),
        ("Frame", "Frame()", ""),
        ("int", "None", ""),
        ("", "'x'", "x"),
        ("", "[1]", "[1]"),
    ],
)
def test_a_default_is_shown_and_left_as_it_was_it_is_the_very_object(
    annotation: str, default: str, text: str
) -> None:
    field = field_of(annotation, default)
    assert not field.required
    if annotation != "dt.timedelta":  # which is spelled differently from one release to the next
        assert field.text == text
    assert field.parse(field.text) is field.default
    assert type(field.default).__name__ in default or annotation != "Query"


def test_none_is_what_an_empty_field_means_where_it_may() -> None:
    assert field_of("int | None").optional
    assert field_of("int | None").parse("") is None
    assert field_of("Site | None", "None").choices[-1] == ("None", None)
    assert field_of("int", "None").parse("") is None
    assert field_of("Literal['a', None]").parse("None") is None
    three = field_of("int | None", "3")
    assert refused(three, "") == "needs a value, or None"
    assert three.parse("None") is three.parse(None) is None
    assert field_of("str | None", "'x'").parse("") == ""
    assert refused(field_of("str"), None) == "needs a value"


def test_without_an_annotation_text_is_read_as_json_unless_the_default_is_text() -> None:
    field = field_of("")
    assert (field.kind, field.annotation) == ("text", "")
    assert [field.parse(text) for text in ("3", "[1]", "python", "'3'")] == [
        3,
        [1],
        "python",
        "'3'",
    ]
    assert field_of("", "'x'").parse("3") == "3"
    assert field_of("", "1").parse("3") == 3


# --- Words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "typed", "said"),
    [
        ("Pages", "0", "Input should be greater than or equal to 1"),
        ("Site", "xing", "Input should be 'stepstone' or 'linkedin'"),
        ("Query", '{"pages": 0}', "pages: Input should be greater than or equal to 1"),
        ("Query", "[", "Invalid JSON: EOF while parsing a list at line 1 column 1"),
        ("list[int]", '[1, "x"]', "1: Input should be a valid integer, unable to parse string"),
        ("Annotated[int, AfterValidator(even)]", "3", "Assertion failed, odd"),
        ("Annotated[int, AfterValidator(breaks)]", "3", "RuntimeError: no such thing"),
    ],
)
def test_what_is_wrong_is_told_in_pydantics_own_words(
    annotation: str, typed: str, said: str
) -> None:
    assert refused(field_of(annotation), typed).startswith(said)


def test_a_description_is_the_hint() -> None:
    field = field_of("Pages", "1")
    assert field.hint == "How many pages to read"
    assert field.annotation == "Pages"
    assert field_of("list[Query]").hint.endswith("JSON, or @variable")


def test_data_that_nobody_gives_says_so_with_what_may_be_meant() -> None:
    made = book("def one() -> Query:\n    return Query()\n")
    made.cell("class Queries(BaseModel):\n    all: list[str]\n")
    made.operation("two", "def two(queries: Queries, pages: Pages = 2) -> int:\n    return 1\n")
    queries, pages = made.session.form()
    assert (queries.name, queries.model, queries.kind) == ("queries", "Queries", "json")
    assert queries.hint == (
        "no operation gives Queries. Did you mean 'Query'? JSON with \"all\", or @variable"
    )
    assert (pages.name, pages.model, pages.text) == ("pages", "", "2")
    given = {
        field.name: field.parse(text)
        for field, text in zip(made.session.form(), ('{"all": ["a"]}', "3"), strict=True)
    }
    assert made.session.run(parameters=given, engine="local").state == "done"


# --- Of a session --------------------------------------------------------------------------------


def chain() -> Notebook:
    return book(
        "def load(start: int = 1) -> Query:\n    return Query(pages=start)\n",
        "def clean(query: Query, by: Pages = 2) -> Name:\n    return 'x' * query.pages * by\n",
    )


def test_what_was_cut_off_is_required_until_its_operation_has_run() -> None:
    made = chain()
    session = made.session
    query, _ = session.form(only="op1")
    assert (query.source, query.required, query.kind) == ("op0", True, "json")
    assert query.hint.startswith("the result of op0, which has to run before")
    with pytest.raises(UsageError, match="needs a value"):
        query.parse("")
    session.run(parameters={"start": 3}, engine="local")
    query, by = session.form(only="op1")
    assert (query.source, query.required) == ("op0", False)
    assert query.hint.startswith("the result of op0 in an earlier run")
    given = {field.name: field.parse(field.text) for field in (query, by)}
    assert given == {"query": UNSET, "by": 2}
    assert session.run(only="op1", parameters=given, engine="local")["op1"] == "xxxxxx"


def test_a_run_takes_unset_as_not_given() -> None:
    made = chain()
    with pytest.raises(MissingInputError):
        made.session.run(only="op1", parameters={"query": UNSET}, engine="local")


def test_a_name_that_is_gone_makes_a_field_of_text_that_says_so() -> None:
    made = chain()
    del made.namespace["Pages"]
    made.session.operations[1].function.__globals__.pop("Pages", None)  # type: ignore[union-attr]
    start, by = made.session.form()
    assert (start.kind, by.kind, by.text) == ("integer", "text", "")
    assert by.hint.startswith("'Pages', of a parameter of main_flow, has no meaning any more")
    assert by.parse("") is UNSET
    assert by.parse("3") == 3


def test_a_blocked_flow_has_no_form_and_an_unknown_one_is_told() -> None:
    made = chain()
    made.operation("again", "def again() -> Query:\n    return Query()\n")
    with pytest.raises(BlockedFlowError):
        made.session.form()
    with pytest.raises(UnknownNameError, match="no flow or group 'man_flow'"):
        made.session.form("man_flow")


def test_a_none_that_is_a_default_is_taken_whatever_the_annotation_says() -> None:
    made = book("def op(x: int = None) -> str:\n    return repr(x)\n")
    given = {field.name: field.parse("") for field in made.session.form()}
    assert given == {"x": None}
    assert made.session.run(parameters=given, engine="local")["op0"] == "None"
