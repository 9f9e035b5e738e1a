"""A function and its annotations become ports and outputs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from cells import cell, gives
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
    return f"{'*' if port.passing == 'variadic' else ''}{port.name}{model}{default}"


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
    ("a.x() -> tuple[Raw, ...]", "", "Raw*"),
    ("a.x() -> tuple[Raw, tuple[Clean, ...]]", "", "0Raw, 1Clean*"),
    ("a.x() -> tuple[()]", "", ""),
    ("a.x() -> dict", "", ""),
    ("a.x(raw: Raw = None, raws: list[Raw] = None)", "raw:Raw=None, raws:Raw*=None", ""),
    ("a.x(raw: Raw = Raw())", "raw:Raw", ""),
    ("a.x(*raws: Raw) -> Clean", "*raws:Raw*", "Clean"),
    ("a.x(c: Clean, *raws: Raw | None, n: int = 3, **kw)", "c:Clean, *raws:Raw*, n=3", ""),
    ("a.x(*raws: 'Raw')", "*raws:Raw*", ""),
    ("a.x(raw: Raw, *names: str, **more: int)", "raw:Raw", ""),
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
    ("a.x(one) --in 'list[Raw]'", "one:Raw*", ""),
    ("a.x(one) --in 'Raw | None'", "one:Raw?", ""),
    ("a.x(one) --in 'list[Later]'", "one:Later*", ""),
    ("a.x(one) --in 'Page[Item]'", "one:Page[Item]~", ""),
    ("a.x(one) --in 'jobs.Raw'", "one:Raw~", ""),
    ("a.x() --out 'list[Raw]'", "", "Raw*"),
    ("a.x() --out 'list[Raw] | None'", "", "Raw*?"),
    ("a.x() --out 'jobs.Raw','Clean'", "", "0Raw, 1Clean"),
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
    ("a.x(*raws: list[Raw])", DeclarationError, r"lists of models\. .* raws: list\[Raw\]"),
    ("a.x(**raws: Raw)", DeclarationError, r"models by name\. .* raws: list\[Raw\]"),
    ("a.x(**raws: list[Raw])", DeclarationError, r"raws: list\[Raw\]"),
    ("a.x(*raws: tuple[Raw, Clean])", ModelError, "'a.x', raws: .* parameter of its own"),
    ("a.x(raws: set[Raw])", ModelError, r"'a.x', raws: set\[Raw\] .* Take list\[Raw\]"),
    ("a.x() -> dict[str, Raw]", ModelError, "'a.x', return: .* NewType"),
    ("a.x() -> tuple[Raw, Clean] | None", ModelError, r"tuple\[Raw \| None, Clean \| None\]"),
    ("a.x() -> tuple[tuple[Raw, Clean], Raw]", ModelError, "Make it one flat tuple"),
    ("a.x(one) --in 'set[Raw]'", ModelError, "'a.x', inputs=: .*list"),
    ("a.x() --out 'set[Raw]'", ModelError, "'a.x', outputs=: .*list"),
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
        make_operation(max, name="a.x")


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


# --- What is called and is no plain function -------------------------------------------------

FUTURE = "from __future__ import annotations"
SCORER = """
class Scorer:
    factor = 2
    def __call__(self, raw: Raw, n: int = 3) -> Clean: return Clean(n=raw.n * self.factor + n)
    def go(self, raw: Raw, n: int = 3) -> Clean: return self(raw, n)
    @classmethod
    def of(cls, raw: Raw, n: int = 3) -> Clean: return cls()(raw, n)
    @staticmethod
    def plain(raw: Raw, n: int = 3) -> Clean: return Scorer()(raw, n)
"""
ADD = "def add(raw: Raw, other: Raw, n: int = 3) -> Clean: return Clean(n=raw.n * other.n + n)"
WRAPPED = """
def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs): return function(*args, **kwargs)
    return inner
"""
DEF = "def f(raw: Raw, n: int = 3) -> Clean: return Clean(n=2 * raw.n + n)"
CALLED = [
    ("an instance", SCORER, "Scorer()", "raw:Raw, n=3"),
    ("an instance, later annotations", FUTURE + SCORER, "Scorer()", "raw:Raw, n=3"),
    ("a bound method", SCORER, "Scorer().go", "raw:Raw, n=3"),
    ("a bound method, later annotations", FUTURE + SCORER, "Scorer().go", "raw:Raw, n=3"),
    ("a class method", SCORER, "Scorer.of", "raw:Raw, n=3"),
    ("a static method", SCORER, "Scorer.plain", "raw:Raw, n=3"),
    ("a partial", DEF, "functools.partial(f, n=4)", "raw:Raw, n=4"),
    ("a partial, later annotations", f"{FUTURE}\n{DEF}", "functools.partial(f)", "raw:Raw, n=3"),
    ("a partial of an instance", SCORER, "functools.partial(Scorer(), n=4)", "raw:Raw, n=4"),
    ("a partial that gives a model", ADD, "functools.partial(add, other=Raw(n=2))", "raw:Raw, n=3"),
    ("a partial that gives the first", ADD, "functools.partial(add, Raw(n=2))", "other:Raw, n=3"),
    ("a partial of a wrapper", WRAPPED + DEF, "functools.partial(wrapped(f), n=4)", "raw:Raw, n=4"),
    ("a wrapper", WRAPPED + DEF, "wrapped(f)", "raw:Raw, n=3"),
    ("a wrapper of wrappers", WRAPPED + DEF, "wrapped(wrapped(wrapped(f)))", "raw:Raw, n=3"),
    ("a function that chooses by type", DEF, "functools.singledispatch(f)", "raw:Raw, n=3"),
    ("a static method by itself", DEF, "staticmethod(f)", "raw:Raw, n=3"),
]


@pytest.mark.parametrize(("title", "source", "called", "takes"), CALLED, ids=[c[0] for c in CALLED])
def test_whatever_can_be_called_is_an_operation(
    title: str, source: str, called: str, takes: str
) -> None:
    session = f"{source}\noperation(name='a.x')({called})"
    _, (operation,) = cell(session)
    assert ports(operation) == takes
    assert outputs(operation) == "Clean"
    raw = "@operation(name='a.raw')\ndef raw() -> Raw: return Raw(n=5)"
    assert gives(f"{session}\n{raw}").n == 10 + (4 if "n=4" in called else 3)


@pytest.mark.parametrize("called", ["Async()", "Async().go", "functools.partial(Async(), n=5)"])
def test_whatever_gives_a_coroutine_is_awaited(called: str) -> None:
    assert (
        gives(f"""
class Async:
    async def __call__(self, n: int = 5) -> Raw: return Raw(n=n)
    go = __call__
operation(name='a.raw')({called})
@operation(name='a.x')
def x(raw: Raw) -> int: return raw.n
""")
        == 5
    )


def test_a_plain_wrapper_around_an_async_function_is_awaited() -> None:
    source = f"""{WRAPPED}
@operation(name='a.raw')
@wrapped
async def raw() -> Raw: return Raw(n=4)
@operation(name='a.x')
def x(raw: Raw) -> int: return raw.n
"""
    assert gives(source) == 4
    _, (raw, _) = cell(source)
    assert raw.function is not None
    wrapped, was_sync = SyncAsyncDetector.detect_and_wrap(raw.function)
    assert was_sync
    assert asyncio.run(wrapped()).n == 4  # type: ignore[arg-type]


NO_FUNCTIONS = [
    ("@operation(name='a.x')\nclass X: ...", r"X is a class.*it = X\(\); .*name='a.x'\)\(it\)"),
    ("operation(name='a.x')(Raw)", "Raw is a class.*def make"),
    ("operation(name='a.x')(3)", "3 is no function. Put @pulpo.operation.* above a def"),
    (
        "class X:\n @operation(name='a.x')\n def fetch(self, raw: Raw): ...",
        r"nobody gives its 'self'.*fetch = X\(\)\.fetch; pulpo.operation\(name='a.x'\)\(fetch\)",
    ),
    (
        "class X:\n @classmethod\n @operation(name='a.x')\n def fetch(cls, raw: Raw): ...",
        r"nobody gives its 'cls'.*fetch = X\.fetch;",
    ),
    (
        "class X:\n @operation(name='a.x')\n @classmethod\n def fetch(cls, raw: Raw): ...",
        r"not bound to its class yet.*fetch = X\.fetch;",
    ),
    ("@operation(name='a.x')\ndef x():\n yield 1", "x yields its values. Collect them"),
    ("@operation(name='a.x')\nasync def x():\n yield 1", "x yields its values. Collect them"),
    (
        "class X:\n def __call__(self):\n  yield 1\noperation(name='a.x')(X())",
        "yields its values",
    ),
    (
        "@operation(name='a.x')\n@functools.lru_cache\nasync def x(): ...",
        "x is async, and .* awaited only once.*cache='inputs'",
    ),
    ("operation(name='a.x')(max)", "no signature to read. Wrap it in a function"),
    ("operation(functools.partial(max))", "name="),
    (
        "class O(TypedDict): ...\n@operation(name='a.x')\ndef x(**o: Unpack[O]): ...",
        r"\*\*o is unpacked. Write its parameters",
    ),
    (
        "def make(own=object()):\n @operation(name='a.x')\n def x(a, b=own, *c: Raw): ...\nmake()",
        r"default of 'b' cannot be written down.*Put 'b' behind \*c",
    ),
]


@pytest.mark.parametrize(("source", "message"), NO_FUNCTIONS, ids=[n[1] for n in NO_FUNCTIONS])
def test_what_cannot_be_an_operation_is_told_what_can(source: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as refused:
        cell(source)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are Python 3.12's")
def test_a_function_with_type_parameters_has_no_one_signature() -> None:
    with pytest.raises(ModelError, match="the type variable M stands for no type"):
        cell("@operation(name='a.x')\ndef x[M: Raw](raw: M) -> M: return raw")
    _, (operation,) = cell("@operation(name='a.x')\ndef x[M](raw: Raw) -> Clean: return Clean()")
    assert (ports(operation), outputs(operation)) == ("raw:Raw", "Clean")


def test_a_foreign_object_s_function_may_say_what_it_likes() -> None:
    def f(raws: set[Raw], *more: dict[str, Raw]) -> dict[str, Clean]: ...

    operation = as_operation(Duck("a.x", ["Raw"], ["Clean"], f))
    assert (ports(operation), outputs(operation)) == ("raws", "Clean")
    assert [ref.name for ref in operation.orders] == ["Raw"]


# --- What arrives ----------------------------------------------------------------------------

TWO = """
@operation(name='a.one')
def one() -> Raw: return Raw(n=1)
@operation(name='a.two')
async def two() -> Raw: return Raw(n=2)
"""
ARRIVALS = [
    (
        "*args between others",
        TWO
        + """
@operation(name='a.x')
def x(k: int, *raws: Raw, n: int = 3) -> object: return k, [r.n for r in raws], n
""",
        (7, [1, 2], 3),
        {"k": 7},
    ),
    (
        "*args of many, and of what may be absent",
        TWO
        + """
@operation(name='a.lots')
def lots() -> list[Raw]: return [Raw(n=5), Raw(n=6)]
@operation(name='a.no')
def no() -> Raw | None: return None
@operation(name='b.x')
async def x(*raws: Raw, **more) -> object: return [r.n for r in raws]
""",
        [1, 2, 5, 6],
        {},
    ),
    (
        "*args of one that is many",
        """
@operation(name='a.lots')
def lots() -> tuple[Raw, ...]: return Raw(n=5), Raw(n=6)
@operation(name='b.x')
def x(*raws: Raw) -> object: return [r.n for r in raws]
""",
        [5, 6],
        {},
    ),
    (
        "*args as --bind says",
        TWO
        + """
@operation(name='b.x', bind={'raws': 'a.two'})
def x(*raws: Raw, also: list[Raw]) -> object: return [r.n for r in raws], len(also)
""",
        ([2], 2),
        {},
    ),
    (
        "any word for a list takes all, as a list",
        TWO
        + """
@operation(name='b.x')
def x(a: Iterable[Raw], b: Collection[Raw] | None, c: Sequence[Raw], d: list[Raw | None],
      kind: type[Raw] = Raw, key: Callable[[Raw], int] = id) -> object:
    return [[type(it), *(raw.n for raw in it)] for it in (a, b, c, d)]
""",
        [[list, 1, 2]] * 4,
        {},
    ),
    (
        "a transform of many, and a transform of each",
        """
@operation(name='a.load')
def load() -> Sequence[Raw]: return Raw(n=1), Raw(n=2), Raw(n=3)
@operation(name='a.few')
def few(raws: Iterable[Raw]) -> tuple[Raw, ...]: return tuple(raws)[1:]
@operation(name='a.fix')
def fix(raw: Raw) -> Raw: return Raw(n=raw.n * 10)
@operation(name='a.one')
def one(*raws: Raw) -> Raw: return Raw(n=sum(raw.n for raw in raws))
@operation(name='b.x')
def x(raw: Raw) -> object: return raw.n
""",
        50,
        {},
    ),
    (
        "*args that nobody feeds",
        """
@operation(name='a.x')
def x(*raws: Raw) -> object: return len(raws)
""",
        3,
        {"raw": [1, 2, 3]},
    ),
    (
        "positional and keyword only",
        """
@operation(name='a.one')
def one() -> Raw: return Raw(n=1)
@operation(name='a.x')
async def x(raw: Raw, /, n: int, *, other: Raw, m: int = 2) -> object:
    return raw.n, n, other.n, m
""",
        (1, 7, 1, 2),
        {"n": 7},
    ),
    (
        "ports called like what runs them",
        """
@operation(name='a.x')
def x(function=1, /, args=2, kwargs=3, *, self=4, wait_for=5,
      asyncio=6, task=7, in_thread=8, OPERATIONS=9, result=10) -> object:
    return [*locals().values()]
""",
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        {},
    ),
    (
        "a kept result",
        """
@operation(name='a.one')
@functools.lru_cache
def one(n: int = 3) -> Raw: return Raw(n=n)
@operation(name='a.x')
def x(raw: Raw) -> object: return raw.n
""",
        3,
        {},
    ),
    (
        "a default of a model",
        """
@operation(name='a.x')
def x(raw: Raw = Raw(n=9), clean: Clean = None) -> object:
    return raw.n, clean
""",
        (9, None),
        {},
    ),
    (
        "absent items and lists",
        """
@operation(name='a.no')
def no() -> tuple[Raw | None, Clean]: return None, Clean(n=4)
@operation(name='a.nil')
def nil() -> list[Skills] | None: return None
@operation(name='b.x')
def x(raw: Raw | None, raws: list[Raw], clean: Clean, skills: list[Skills]) -> object:
    return raw, raws, clean.n, skills
""",
        (None, [], 4, []),
        {},
    ),
    (
        "generics by what they hold",
        """
class Page(BaseModel, Generic[T]):
    it: T
@dataclasses.dataclass
class Row(Generic[T]):
    it: T
@operation(name='a.p')
def p() -> Page[Raw]: return Page[Raw](it=Raw(n=1))
@operation(name='a.q')
def q() -> Page[Clean]: return Page[Clean](it=Clean(n=2))
@operation(name='a.r')
def r() -> tuple[Row[Raw], Row[Clean]]: return Row(3), Row(4)
@operation(name='b.x')
def x(a: Page[Clean], b: Page[Raw], c: Row[Clean], d: Row[Raw]) -> object:
    return a.it.n, b.it.n, c.it, d.it
""",
        (2, 1, 4, 3),
        {},
    ),
    (
        "models that Annotated names",
        """
Fresh = Annotated[list, pulpo.Model('Fresh')]
Ripe = Annotated[Fresh, pulpo.Model('Ripe')]
@operation(name='a.p')
def p() -> Fresh: return [1]
@operation(name='a.q')
def q(fresh: Fresh) -> Ripe: return [*fresh, 2]
@operation(name='a.x')
def x(ripe: Ripe, fresh: Fresh) -> object: return ripe, fresh
""",
        ([1, 2], [1]),
        {},
    ),
    (
        "items of an annotated tuple",
        """
@operation(name='a.p')
def p() -> Annotated[tuple[Raw, Clean], 'a note']: return Raw(n=1), Clean(n=2)
@operation(name='b.x')
def x(clean: Clean, raw: Raw) -> object: return clean.n, raw.n
""",
        (2, 1),
        {},
    ),
    (
        "one model in and out, over and over",
        TWO
        + """
@operation(name='a.all')
def all_(*raws: Raw) -> Raw:
    return Raw(n=sum(r.n for r in raws))
@operation(name='a.more')
def more(r: Raw) -> tuple[Raw, Clean]:
    return Raw(n=r.n + 10), Clean(n=r.n)
@operation(name='a.both')
def both(c: Clean, r: Raw) -> tuple[Clean, Raw]:
    return Clean(n=c.n * 100), Raw(n=r.n + c.n)
@operation(name='b.x')
def x(r: Raw, c: Clean) -> object: return r.n, c.n
""",
        (16, 300),
        {},
    ),
]


@pytest.mark.parametrize(
    ("title", "source", "value", "given"), ARRIVALS, ids=[arrival[0] for arrival in ARRIVALS]
)
def test_each_port_gets_its_value(
    title: str, source: str, value: Any, given: dict[str, Any]
) -> None:
    assert gives(source, **given) == value


def test_rest_arguments_are_shown_as_they_are_written() -> None:
    _, (operation,) = cell("@operation(name='a.x')\ndef x(k: int, *raws: 'Raw', n: int = 3): ...")
    assert operation.signature() == "x(k: int, *raws: Raw, n: int = 3)"
    assert operation.ports[1].annotation == Text("list[Raw]", (("Raw", ""),))


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
            "bind": {"raw": "a.b", "ﬁle": ["c", "d"]},
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
        bind=(("raw", "a.b"), ("file", "c"), ("file", "d")),
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
