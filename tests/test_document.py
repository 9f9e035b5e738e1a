"""A plan as JSON: nothing is forgotten, nothing secret is in it, and equal plans are equal."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from declared import run
from hypothesis import given
from sample_plans import jobs, looped, troubled
from sessions import sessions

from pulpo import errors, plan
from pulpo.backends.document import (
    DESCRIBED,
    HIDDEN,
    Binding,
    Manifest,
    Part,
    PlanDocument,
    describe,
    lasting,
    plain,
)
from pulpo.compiler import compile_plan
from pulpo.operations import make_operation, options_from_flags

ROOT = Path(__file__).parent.parent

#: What the document says besides what the plan does.
ADDED = {PlanDocument: {"schema_version"}, DESCRIBED[plan.PortPlan]: {"producers"}}
ADDED |= {
    DESCRIBED[source]: {"kind"}
    for source in (plan.FromParameter, plan.FromResult, plan.FromList, plan.Nothing)
}


def planned(source: str, **flags: Any) -> plan.Orchestration:
    """Return the plan of one operation, ``a.f``, with this source."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    run(source, scope)
    return compile_plan([make_operation(scope["f"], name="a.f", options=options_from_flags(flags))])


def fields(of: type) -> dict[str, Any]:
    """Return the fields of a class of the plan, with the values they have when left out."""
    if dataclasses.is_dataclass(of):
        return {f.name: f.default for f in dataclasses.fields(of)}
    defaults = of._field_defaults  # type: ignore[attr-defined]
    return {name: defaults.get(name, dataclasses.MISSING) for name in of._fields}  # type: ignore[attr-defined]


def plan_classes() -> list[type]:
    made = [getattr(plan, name) for name in plan.__all__]
    return [each for each in [*made, errors.Problem] if isinstance(each, type)]


# --- Nothing is forgotten -------------------------------------------------------------------------


def test_every_class_of_the_plan_is_described() -> None:
    assert set(plan_classes()) == set(DESCRIBED)


@pytest.mark.parametrize("of", plan_classes(), ids=lambda of: of.__name__)
def test_a_document_has_the_fields_of_the_plan(of: type) -> None:
    described = DESCRIBED[of]
    assert set(described.model_fields) - ADDED.get(described, set()) == set(fields(of))


@pytest.mark.parametrize("of", plan_classes(), ids=lambda of: of.__name__)
def test_what_a_document_leaves_out_has_the_plan_s_own_default(of: type) -> None:
    for name, default in fields(of).items():
        field = DESCRIBED[of].model_fields[name]
        if not field.is_required():
            known = dict(default) if name in ("names", "declared") else default
            assert field.get_default(call_default_factory=True) == known, name


@pytest.mark.parametrize("of", plan_classes(), ids=lambda of: of.__name__)
def test_a_document_knows_every_word_that_a_field_can_hold(of: type) -> None:
    for name, hint in typing.get_type_hints(of).items():
        assert words(DESCRIBED[of].model_fields[name].annotation) == words(hint), name


def words(hint: Any) -> set[object]:
    """Return the words that a type allows, also within a union."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return {word for part in typing.get_args(hint) for word in words(part)}
    return set()


@pytest.mark.parametrize("model", [*DESCRIBED.values(), Manifest], ids=lambda model: model.__name__)
def test_every_field_has_a_description(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_the_schema_describes_every_field_too() -> None:
    schema = PlanDocument.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            assert field["description"], (part["title"], name)


def test_the_page_of_the_plan_is_up_to_date_and_names_every_key() -> None:
    page = import_script("plan_page").page()
    told = (ROOT / "docs/plan.md").read_text("utf-8")
    assert told == page, "run: python scripts/plan_page.py"
    parts = {part.partition("\n")[0]: part for part in told.split("\n## ")}
    for model in [*DESCRIBED.values(), Binding, Part, Manifest]:
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in parts[model.__name__]


def import_script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [jobs, troubled, looped, plan.Orchestration])
def test_a_document_comes_back_as_it_was(make: Any) -> None:
    document = describe(make())
    assert PlanDocument.model_validate_json(document.text()) == document
    assert PlanDocument.model_validate(plain(document)) == document


@given(sessions())
def test_the_document_of_any_session_comes_back_and_is_the_same_twice(operations: Any) -> None:
    document = describe(compile_plan(operations))
    text = document.text()
    assert PlanDocument.model_validate_json(text) == document
    assert describe(compile_plan(operations)).text() == text
    assert [each.name for each in document.operations] == [each.name for each in operations]


def test_a_reader_ignores_what_a_later_version_says_besides() -> None:
    content = {**plain(describe(jobs())), "later": 1}
    content["operations"][0]["colour"] = "red"
    assert PlanDocument.model_validate(content) == describe(jobs())


def test_a_later_schema_is_refused() -> None:
    content = {**plain(describe(jobs())), "schema_version": 2}
    with pytest.raises(ValueError, match="schema_version"):
        PlanDocument.model_validate(content)


def test_the_text_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "from sample_plans import jobs\nfrom pulpo.backends.document import describe\n"
        "print(describe(jobs()).text())"
    )
    tests = os.path.dirname(__file__)
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": tests},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(texts) == 1


# --- What it says ---------------------------------------------------------------------------------


def test_an_operation_says_what_it_takes_gives_and_wants() -> None:
    (operation,) = plain(
        describe(planned("async def f(n: int = 3, *, x=None) -> None: 'Do it.'", retries=2))
    )["operations"]
    assert operation == {
        "name": "a.f",
        "function": "f",
        "is_async": True,
        "ports": [
            {
                "name": "n",
                "kind": "parameter",
                "annotation": {"text": "int"},
                "default": {"text": "3"},
            },
            {
                "name": "x",
                "kind": "parameter",
                "passing": "keyword",
                "default": {"text": "None"},
            },
        ],
        "outputs": [],
        "options": {"retries": 2},
        "returns": {"text": "None"},
        "gives_value": False,
        "doc": "Do it.",
    }


def test_a_port_says_who_feeds_it_and_so_does_a_binding() -> None:
    operations = {each["name"]: each for each in plain(describe(jobs()))["operations"]}
    assert [port["producers"] for port in operations["scraping.merge"]["ports"]] == [
        ["scraping.stepstone.fetch"],
        ["scraping.linkedin.fetch"],
    ]
    assert describe(troubled()).operations[2].ports[0].producers == ("load.east", "load.west")
    bound = plain(describe(planned("def f(x): ...", bind={"x": ["b", "c"]})))
    assert bound["operations"][0]["options"] == {
        "bind": [{"port": "x", "operation": "b"}, {"port": "x", "operation": "c"}]
    }


def test_every_source_of_an_argument_says_its_kind() -> None:
    result = plan.FromResult("a", plan.Value(operation="a", index=1))
    sources = (
        plan.FromParameter("q", True),
        result,
        plan.FromList((result, plan.FromParameter("q")), (True, False), (False, True)),
        plan.Nothing(),
    )
    step = plan.Step("task", "t", tuple(plan.Argument("x", source) for source in sources))
    flow = plan.FlowDefinition(name="main_flow", steps=(step,))
    document = describe(plan.Orchestration(flows=(flow,)))
    assert PlanDocument.model_validate_json(document.text()) == document
    given = plain(document)["flows"][0]["steps"][0]["arguments"]
    shown = {"kind": "result", "step": "a", "value": {"operation": "a", "index": 1}}
    assert [argument["source"] for argument in given] == [
        {"kind": "parameter", "name": "q", "by_reference": True},
        shown,
        {
            "kind": "list",
            "items": [shown, {"kind": "parameter", "name": "q"}],
            "many": [True, False],
            "optional": [False, True],
        },
        {"kind": "nothing"},
    ]


def test_what_lasts_has_no_cells_and_no_problems() -> None:
    text = describe(lasting(troubled())).text()
    assert "cell" not in text
    assert "stale" not in text
    assert json.loads(text)["problems"] == []


# --- Secrets --------------------------------------------------------------------------------------

KEY = "sk-" + "a1B2" * 6


@pytest.mark.parametrize(
    "source",
    [
        f"def f(client: str = '{KEY}'): ...",
        "def f(api_key: str = 'hunter2hunter'): ...",
        "def f(*, password='hunter2hunter'): ...",
        f"def f(x):\n    '''Log in.\n\n    With {KEY}.'''",
        "def f(x):\n    '''Log in with password=hunter2hunter.'''",
    ],
)
def test_what_looks_like_a_credential_is_not_in_the_document(source: str) -> None:
    text = describe(planned(source)).text()
    assert KEY not in text
    assert "hunter2" not in text
    assert HIDDEN in text
    assert PlanDocument.model_validate_json(text).text() == text


@pytest.mark.parametrize("flags", [{"description": f"uses {KEY}"}, {"tags": ["a", KEY]}])
def test_nor_is_one_of_a_flag(flags: dict[str, Any]) -> None:
    text = describe(planned("def f(x): ...", **flags)).text()
    assert KEY not in text
    assert HIDDEN in text


def test_nor_is_one_of_an_annotation() -> None:
    text = plan.Text(f"Literal['{KEY}']")
    ports = (plan.PortPlan(name="x", kind="parameter", annotation=text),)
    node = plan.Node(name="f", function="f", ports=ports, returns=text)
    shown = describe(plan.Orchestration(operations=(node,))).text()
    assert KEY not in shown
    assert shown.count(HIDDEN) == 2


def test_an_ordinary_default_is_shown_whatever_it_is() -> None:
    text = describe(planned("def f(token: str | None = None, key: str = 'id', n=3): ...")).text()
    assert HIDDEN not in text


def test_text_that_no_file_can_hold_is_written_as_an_escape() -> None:
    text = describe(planned("def f(x):\n    'A \\ud800 mark.'")).text()
    assert "A \\\\ud800 mark." in text
    text.encode("utf-8")
