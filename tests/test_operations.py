"""A function and its annotations become ports and outputs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from declared import MODELS, Clean, Duck, Raw, declare, run

import pulpo
from pulpo.errors import DeclarationError, InvalidNameError, ModelError, PulpoError
from pulpo.operations import (
    NO_DEFAULT,
    Operation,
    Port,
    SyncAsyncDetector,
    as_operation,
    make_operation,
    options_from_flags,
)
from pulpo.plan import TaskOptions, Text


def ports(operation: Operation) -> str:
    return ", ".join(map(told, operation.ports))


def told(port: Port) -> str:
    """Tell a port in one word: ``name``, ``name:Model``, ``name:Model*`` (all), ``~`` (any)."""
    mark = {"one": "", "all": "*", "any": "~"}[port.shape] + ("?" if port.optional else "")
    model = f":{port.model.name}{mark}" if port.model else ""
    default = f"={port.default_text.text}" if port.default_text else ""
    return f"{port.name}{model}{default}"


def outputs(operation: Operation) -> str:
    return ", ".join(
        f"{'' if output.index is None else output.index}{output.model.name}"
        f"{'*' if output.many else ''}{'?' if output.optional else ''}"
        for output in operation.outputs
    )


SIGNATURES = [
    ("a.x(raw: Raw) -> Clean", "raw:Raw", "Clean"),
    ("a.x(raw: list[Raw]) -> list[Clean]", "raw:Raw*", "Clean*"),
    ("a.x(raw: Raw | None) -> Clean | None", "raw:Raw?", "Clean?"),
    ("a.x(raw: list[Raw] | None = None)", "raw:Raw*?=None", ""),
    ("a.x(query: str, pages: int = 3) -> Table", "query, pages=3", "Table"),
    ("a.x() -> tuple[Raw, Clean]", "", "0Raw, 1Clean"),
    ("a.x() -> tuple[int, list[Clean], Raw | None]", "", "1Clean*, 2Raw?"),
    ("a.x() -> tuple[Raw, ...]", "", ""),
    ("a.x() -> dict", "", ""),
    ("a.x(*args, raw: Raw, **kwargs)", "raw:Raw", ""),
    ("a.x(raw: Raw, /, n: int, *, m: int = 2)", "raw:Raw, n, m=2", ""),
    # inputs= and outputs=
    ("a.x(one) --in Raw", "one:Raw~", ""),
    ("a.x(one, other) --in Raw", "one:Raw~, other:Raw~", ""),
    ("a.x(one, other) --in Raw,Clean", "one:Raw~, other:Clean~", ""),
    ("a.x(one, pages=3) --in Raw", "one:Raw~, pages=3", ""),
    ("a.x(one=None) --in Raw", "one:Raw~=None", ""),
    ("a.x(one, query: str) --in Raw", "one:Raw~, query", ""),
    ("a.x(raw: Raw, one) --in Raw,Clean", "raw:Raw, one:Clean~", ""),
    ("a.x(raw: Raw) --in Raw", "raw:Raw", ""),
    ("a.x(one) --in list[Raw]", "one:Raw*", ""),
    ("a.x(one) --in Raw|None", "one:Raw?", ""),
    ("a.x(one) --in 'Raw'", "one:Raw~", ""),
    ("a.x() -> dict --out Clean", "", "Clean"),
    ("a.x() --out Clean,Raw", "", "0Clean, 1Raw"),
    ("a.x() --out list[Clean]", "", "Clean*"),
    ("a.x() -> list[Clean] --out Clean", "", "Clean*"),
    ("a.x() -> tuple[Raw, Clean] --out Clean", "", "1Clean"),
    ("a.x() -> tuple[Raw, int, Clean] --out Raw,Clean", "", "0Raw, 2Clean"),
]


@pytest.mark.parametrize(("line", "takes", "gives"), SIGNATURES, ids=[s[0] for s in SIGNATURES])
def test_a_signature_says_what_an_operation_takes_and_gives(
    line: str, takes: str, gives: str
) -> None:
    operation = declare(line)
    assert ports(operation) == takes
    assert outputs(operation) == gives


@pytest.mark.parametrize(
    ("line", "orders"),
    [
        ("a.x() --in Raw", ["Raw"]),
        ("a.x(query: str) --in Raw,Clean", ["Raw", "Clean"]),
        ("a.x(raw: Raw) --in Raw,Clean", ["Clean"]),
    ],
)
def test_a_model_that_no_parameter_takes_only_orders(line: str, orders: list[str]) -> None:
    operation = declare(line)
    assert [ref.name for ref in operation.orders] == orders
    assert set(orders) <= set(operation.models_in)


REFUSED = [
    ("a.x(one, two, three) --in Raw,Clean", DeclarationError, "names 2 models, but 3 parameters"),
    ("a.x(one) --in Raw,Clean", DeclarationError, "names 2 models, but 1 parameter"),
    ("a.x() -> Raw --out Clean", DeclarationError, "annotated to return Raw"),
    ("a.x(raw: Raw | Clean)", ModelError, r"operation 'a.x', raw: a union of models"),
    ("a.x() -> Raw | Clean", ModelError, "a union of models"),
    ("a.x(*raws: Raw)", DeclarationError, r"raws: list\[Raw\]"),
    ("a.x(one) --in 3", ModelError, "no data model"),
    ("a.x(one) --in ''", ModelError, "empty"),
    ("main.x() -> Raw", InvalidNameError, "main_x"),
]


@pytest.mark.parametrize(("line", "error", "message"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_makes_no_operation_is_refused(
    line: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        declare(line)


def test_a_thing_without_a_signature_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no signature"):
        make_operation(dict, name="a.x")


# --- Annotations that are text ---------------------------------------------------------------


def forward(
    a: Raw,
    b: list[Unknown],  # type: ignore[name-defined]  # noqa: F821
    c: Unknown | None,  # type: ignore[name-defined]  # noqa: F821
    d: list[Raw],
    e: Unknown = None,  # type: ignore[name-defined]  # noqa: F821
) -> Unknown: ...  # type: ignore[name-defined]  # noqa: F821


def test_future_annotations_and_names_of_later_cells_make_ports() -> None:
    operation = make_operation(forward, name="a.x")
    assert ports(operation) == "a:Raw, b:Unknown*, c:Unknown?, d:Raw*, e:Unknown=None"
    assert outputs(operation) == "Unknown"
    assert (
        operation.ports[0].model == make_operation(lambda a: a, name="b", inputs=Raw).ports[0].model
    )
    assert [port.model.key for port in operation.ports[1:3] if port.model] == ["", ""]
    assert operation.ports[1].annotation == Text("list[Unknown]", (("Unknown", __name__),))


def test_quotes_inside_a_list_are_a_forward_reference() -> None:
    operation = declare("a.x(raw: list['Raw'], later: list['Later'])")
    assert ports(operation) == "raw:Raw*, later:Later*"


def test_an_annotation_that_cannot_be_evaluated_is_a_plain_parameter() -> None:
    operation = declare("a.x(n: 'not a type!', m: 'Nowhere.Inner')")
    assert ports(operation) == "n, m"


def written(tmp_path: Path, source: str) -> dict[str, Any]:
    """Run source that `inspect.getsource` can find again."""
    file = tmp_path / "cell.py"
    file.write_text(textwrap.dedent(source))
    scope: dict[str, Any] = {**MODELS, "pulpo": pulpo, "__name__": "__main__"}
    exec(compile(file.read_text(), str(file), "exec", dont_inherit=True), scope)
    return scope


def test_annotations_and_defaults_are_kept_as_written(tmp_path: Path) -> None:
    scope = written(
        tmp_path,
        """
        import datetime
        from typing import Annotated, Literal
        LIMIT = 3
        def f(
            day: datetime.date = datetime.date(2020, 1, 2),
            mode: Literal["a b", "c"] = "c",
            n: int = LIMIT * 2,
            raw: Annotated[list, pulpo.Model("Jobs")] = None,
            note: Annotated[int, "kept"] = 3,
        ) -> "tuple[Raw, list[Clean]]":
            ...
        """,
    )
    operation = make_operation(scope["f"], name="a.f")
    day, mode, n, raw, note = operation.ports
    assert day.annotation == Text("datetime.date", (("datetime", ""),))
    assert day.default_text == Text("datetime.date(2020, 1, 2)", (("datetime", ""),))
    assert mode.annotation == Text("Literal['a b', 'c']", (("Literal", ""),))
    assert n.default_text == Text("LIMIT * 2", (("LIMIT", ""),))
    assert (raw.model and raw.model.name, raw.annotation) == ("Jobs", Text("list"))
    assert note.annotation
    assert note.annotation.text == "Annotated[int, 'kept']"
    assert [output.annotation.text for output in operation.outputs if output.annotation] == [
        "Raw",
        "list[Clean]",
    ]
    assert operation.signature().startswith("f(day: datetime.date = datetime.date(2020, 1, 2), ")


def test_a_class_of_an_enclosing_function_is_not_imported_from_anywhere() -> None:
    source = """
def outer():
    class Local(Raw): ...
    def f(a: Local, b: Raw) -> Local: ...
    return f
"""
    outer = run(source, {**MODELS, "__name__": "__main__"})["outer"]
    operation = make_operation(outer(), name="a.x")
    assert operation.ports[0].model
    assert operation.ports[0].model.name == "Local"
    assert operation.ports[0].annotation is None
    assert operation.ports[1].annotation == Text("Raw", (("Raw", ""),))
    assert operation.returns is None


def test_a_partial_shows_its_own_defaults() -> None:
    def f(a: Raw, n: int = 3, client: object = None) -> Clean: ...

    client = object()
    operation = make_operation(functools.partial(f, n=4, client=client), name="a.x")
    assert ports(operation) == "a:Raw, n=4"


def test_a_default_that_cannot_be_written_stays_the_function_s_own() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "THING": object(), "NAN": float("nan")}
    run("def f(a, b=THING, c=3, d=NAN, *, e={'x': (1, None)}): ...", scope)
    operation = make_operation(scope["f"], name="a.x")
    assert ports(operation) == "a, c=3, e={'x': (1, None)}"
    assert [port.passing for port in operation.ports] == ["either", "keyword", "keyword"]


def test_a_wrapped_function_is_read_through_its_wrapper() -> None:
    def f(raw: Raw) -> Clean: ...

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert ports(make_operation(wrapper, name="a.x")) == "raw:Raw"


def test_a_bare_data_frame_gets_a_hint() -> None:
    class DataFrame: ...

    scope = run("def f(df: DataFrame): ...", {"DataFrame": DataFrame, "__name__": "__main__"})
    assert make_operation(scope["f"], name="a.x").ports[0].hint == "DataFrame"
    assert declare("a.x(table: Table)").ports[0].hint == ""


def test_the_docstring_comes_along() -> None:
    def f() -> Raw:
        """Fetch.

        All of it.
        """

    assert make_operation(f, name="a.x").doc == "Fetch.\n\nAll of it."


# --- Foreign operation objects ---------------------------------------------------------------


def untyped(one, other=None): ...  # type: ignore[no-untyped-def]


def typed(raw: Raw) -> Raw: ...


DUCKS: list[tuple[Duck, str, str, list[str]]] = [
    (Duck("a.x", ["Raw"], ["Clean"], untyped), "one:Raw~, other=None", "Clean", []),
    (Duck("a.x", ["Raw"], ["Clean"], None), "", "Clean", ["Raw"]),
    (Duck("a.x", ["A", "B", "C"], [], untyped), "one:A~, other=None", "", ["B", "C"]),
    (Duck("a.x", ["A", "B"], "C", untyped), "one:A~, other:B~=None", "C", []),
    (Duck("a.x", Raw, (Clean,), untyped), "one:Raw~, other=None", "Clean", []),
    (Duck("a.x", {"B", "A"}, {"D", "C"}, lambda: None), "", "0C, 1D", ["A", "B"]),
    (Duck("a.x", None, None, len), "obj", "", []),
    (Duck("a.x", ["Other"], ["Unlike"], typed), "raw:Raw", "Unlike", ["Other"]),
    (Duck("a.x", ["Raw"], ["Raw"], typed), "raw:Raw", "Raw", []),
    (Duck("a.x", [], [], print), "", "", []),
]


@pytest.mark.parametrize(("duck", "takes", "gives", "orders"), DUCKS)
def test_any_object_with_the_four_attributes_is_an_operation(
    duck: Duck, takes: str, gives: str, orders: list[str]
) -> None:
    operation = as_operation(duck)
    told_ports = ports(operation) if duck.function is not print else ""
    assert told_ports == takes
    assert outputs(operation) == gives
    assert [ref.name for ref in operation.orders] == orders


def test_an_object_that_lacks_one_of_the_four_is_refused() -> None:
    class Half:
        name, models_in = "a.x", ["Raw"]

    with pytest.raises(DeclarationError, match="it has no models_out, function"):
        as_operation(Half())


def test_an_operation_is_left_as_it_is() -> None:
    operation = declare("a.x() -> Raw")
    assert as_operation(operation) is operation


# --- Flags -----------------------------------------------------------------------------------


def test_flags_become_options() -> None:
    options = options_from_flags(
        {
            "description": "Fetch",
            "tags": "web",
            "retries": 2,
            "retry_delay": 1,
            "timeout": 0.5,
            "cache": "30m",
            "after": ["a.b", "c"],
            "bind": {"raw": "a.b", "other": ["c", "d"]},
            "strategy": "process",
        }
    )
    assert options == TaskOptions(
        description="Fetch",
        tags=("web",),
        retries=2,
        retry_delay=1.0,
        timeout=0.5,
        cache="30m",
        after=("a.b", "c"),
        bind=(("raw", "a.b"), ("other", "c"), ("other", "d")),
        strategy="process",
    )
    assert options_from_flags({"tags": None, "retries": 0}) == TaskOptions()


@pytest.mark.parametrize("cache", ["inputs", "1s", "0.5h", "30m", "7d"])
def test_a_cache_is_inputs_or_a_length_of_time(cache: str) -> None:
    assert options_from_flags({"cache": cache}).cache == cache


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(
            ("cache", bad)
            for bad in ("", "30", "m", "1w", "-1m", "0s", "nanm", "1e3s", "input", 30)
        ),
        *(("cache", bad) for bad in ("30m\n", "٣m", True, ["inputs"])),
        *(("retries", bad) for bad in (-1, 1.5, "3", True)),
        *(("retry_delay", bad) for bad in (-1, "soon", float("nan"), float("inf"))),
        *(("timeout", bad) for bad in (0, -1, float("inf"), "1m")),
        *(("tags", bad) for bad in (3, [3], {"a": 1})),
        *(("after", bad) for bad in (3, "a b", ["class"])),
        *(("bind", bad) for bad in ("a=b", {"raw": 3}, ["ab c"], 3, {"raw": "a b"})),
        ("strategy", "fork"),
        ("description", 3),
        ("retrys", 3),
        ("Retries", 3),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(flag: str, value: Any) -> None:
    with pytest.raises((DeclarationError, InvalidNameError)) as refused:
        options_from_flags({flag: value})
    assert isinstance(refused.value, PulpoError)


def test_an_unknown_flag_is_told_the_nearest_one() -> None:
    with pytest.raises(DeclarationError, match="Did you mean 'retries'"):
        options_from_flags({"retrys": 3})


# --- Sync and async --------------------------------------------------------------------------


async def coroutine(x: int) -> int:
    return x


def plain(x: int) -> int:
    return x


class Callable:
    async def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (coroutine, True),
        (plain, False),
        (functools.partial(coroutine, 1), True),
        (functools.partial(plain, 1), False),
        (Callable(), True),
        (Callable().__call__, True),
        (len, False),
        (None, False),
    ],
)
def test_what_gives_a_coroutine_is_async(function: Any, is_async: bool) -> None:
    assert SyncAsyncDetector.is_async(function) is is_async


def test_an_async_function_is_left_as_it_is() -> None:
    assert SyncAsyncDetector.detect_and_wrap(coroutine) == (coroutine, False)


def test_a_sync_function_runs_in_a_thread_with_its_context() -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen")
    seen.set("here")

    def work(x: int) -> tuple[int, str, bool]:
        return x, seen.get(), threading.current_thread() is threading.main_thread()

    wrapped, was_sync = SyncAsyncDetector.detect_and_wrap(work)
    assert was_sync
    assert wrapped.__name__ == "work"
    assert asyncio.run(wrapped(3)) == (3, "here", False)  # type: ignore[arg-type]


def test_the_strategy_is_a_thread_unless_said_otherwise() -> None:
    assert SyncAsyncDetector.get_execution_strategy(plain) == "thread"
    operation = make_operation(plain, name="a.x", options=TaskOptions(strategy="process"))
    assert SyncAsyncDetector.get_execution_strategy(operation) == "process"
    assert operation.ports[0].default is NO_DEFAULT
