"""The registry remembers operations in order, and the decorator puts them there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from declared import Clean, Duck, Raw, declare

import pulpo
from pulpo.errors import DeclarationError, InvalidNameError, ModelError, UnknownNameError
from pulpo.registry import OperationRegistry, default_registry


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    before = OperationRegistry.list_all()
    OperationRegistry.clear()
    yield
    OperationRegistry.clear()
    for operation in before:
        OperationRegistry.register(operation)


def names(registry: Any = OperationRegistry) -> list[str]:
    return [operation.name for operation in registry.list_all()]


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    def clean(jobs: Raw) -> Clean:
        return Clean(n=jobs.n)

    assert pulpo.operation(name="parsing.clean")(clean) is clean
    assert clean(Raw(n=3)).n == 3
    assert OperationRegistry.get("parsing.clean").function is clean


def test_the_bare_decorator_takes_the_function_s_name() -> None:
    @pulpo.operation
    def report(jobs: Clean) -> str: ...

    assert names() == ["report"]


def test_a_re_run_cell_replaces_the_operation_in_its_place() -> None:
    for line in ("a.x() -> Raw", "a.y() -> Raw", "a.x() -> Clean"):
        OperationRegistry.register(declare(line))
    assert names() == ["a.x", "a.y"]
    assert OperationRegistry.get("a.x").models_out == ["Clean"]


def test_instances_are_registries_of_their_own() -> None:
    registry = OperationRegistry()
    registry.register(declare("a.x() -> Raw"))
    assert (names(registry), names()) == (["a.x"], [])
    registry.clear()
    assert len(registry) == 0


def test_the_class_works_on_the_default_registry() -> None:
    OperationRegistry.register(declare("a.x() -> Raw"))
    assert "a.x" in default_registry()
    assert OperationRegistry.get("a.y") is None


def test_models_in_and_out_are_other_names_for_inputs_and_outputs() -> None:
    @pulpo.operation(name="a.clean", models_in=Raw, models_out=[Clean])
    def clean(data): ...  # type: ignore[no-untyped-def]

    operation = OperationRegistry.get("a.clean")
    assert (operation.models_in, operation.models_out) == (["Raw"], ["Clean"])


def test_any_object_with_the_four_attributes_can_be_registered() -> None:
    duck = Duck("a.x", ["Raw"], ["Clean"])
    assert OperationRegistry.register(duck) is duck
    assert OperationRegistry.list_all() == [duck]


def plain(data: int) -> None: ...


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (plain, {"name": "class.x"}, InvalidNameError, "class_.x"),
    (plain, {"name": "a.x", "inputs": Raw, "models_in": Raw}, DeclarationError, "mean the same"),
    (plain, {"name": "a.x", "outputs": Raw, "models_out": Raw}, DeclarationError, "mean the same"),
    (plain, {"name": "a.x", "retrys": 3}, DeclarationError, "Did you mean 'retries'"),
    (plain, {"name": "a.x", "outputs": 3}, ModelError, "no data model"),
    (lambda data: data, {}, InvalidNameError, "lambda"),
    (functools.partial(plain, 3), {}, DeclarationError, "name="),
    (3, {"name": "a.x"}, DeclarationError, "function"),
    (3, {}, DeclarationError, "function"),
    (Raw, {"name": "a.x"}, DeclarationError, "function"),
    ("a.x", {}, DeclarationError, "by keyword"),
]


@pytest.mark.parametrize(("function", "flags", "error", "message"), BAD)
def test_a_bad_declaration_registers_nothing(
    function: Any, flags: dict[str, Any], error: type[Exception], message: str
) -> None:
    version = default_registry().version

    def declare_it() -> None:
        pulpo.operation(**flags)(function) if flags else pulpo.operation(function)

    with pytest.raises(error, match=message):
        declare_it()
    assert names() == []
    assert default_registry().version == version


@pytest.mark.parametrize("thing", [3, None, "a.x", Duck("a b", [], [])])
def test_what_is_no_operation_is_not_registered(thing: Any) -> None:
    with pytest.raises((DeclarationError, InvalidNameError)):
        OperationRegistry.register(thing)
    assert names() == []


def test_removing_and_renaming_keep_the_order() -> None:
    registry = OperationRegistry()
    for line in ("a.x() -> Raw", "a.y() -> Raw", "a.z() -> Raw"):
        registry.register(declare(line))
    registry.rename("a.y", declare("b.y() -> Raw"))
    assert names(registry) == ["a.x", "b.y", "a.z"]
    registry.rename("a.z", declare("a.x() -> Clean"))
    assert names(registry) == ["b.y", "a.x"]
    registry.remove("b.y")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'a\.x'"):
        registry.remove("a.xx")


def test_a_listener_hears_of_every_change_until_it_leaves() -> None:
    registry, heard = OperationRegistry(), []
    leave = registry.subscribe(lambda: heard.append(registry.version))
    registry.register(declare("a.x() -> Raw"))
    registry.clear()
    leave()
    leave()
    registry.register(declare("a.x() -> Raw"))
    assert len(heard) == 2
    assert heard[0] < heard[1] < registry.version


def test_an_operation_of_a_module_says_its_file_and_line() -> None:
    @pulpo.operation(name="a.x")
    def x() -> Raw: ...

    assert OperationRegistry.get("a.x").cell.startswith("test_registry.py:")
