"""Random sessions for properties: hostile but legal names, every kind of port and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from declared import MODELS, run
from hypothesis import strategies as st
from pydantic import create_model

from pulpo.operations import Operation, make_operation
from pulpo.plan import TaskOptions

#: Names that generated code has other uses for.
HOSTILE = (
    "asyncio", "task", "flow", "opaque", "OPERATIONS", "main", "main_flow", "self", "list", "give",
    "Ref", "start", "settled", "subflow", "finished", "in_thread", "print", "type", "match", "_",
    "typing", "sys", "pathlib", "a", "b", "a_b", "b_c", "x", "X", "x_2", "operation", "value",
    "result", "datetime", "NO_CACHE", "run_cache", "several", "standalones", "cls", "__init__",
)  # fmt: skip

names = st.sampled_from(HOSTILE)
groups = st.sampled_from(("a", "b", "a_b", "A", "flow", "task", "list"))

#: One class for each model that a random session may use.
WORLD: dict[str, Any] = {
    **MODELS,
    **{f"M{n}": create_model(f"M{n}", __module__="__main__", n=(int, 0)) for n in range(6)},
    # Models called like what generated code needs.
    **{name: create_model(name, __module__="__main__") for name in ("Task", "Ref", "Self")},
}
models = st.sampled_from([name for name in WORLD if name not in ("Table", "Report")])
kinds = st.sampled_from(("{}", "{}", "{}", "list[{}]", "{} | None"))
plain = st.sampled_from(("int", "str", "int = 3", "str = 'x'", "", "'Unknown | int' = 4"))


@st.composite
def operation_names(draw: st.DrawFn) -> str:
    depth = draw(st.integers(0, 4))
    parts = [draw(groups) for _ in range(depth)]
    return ".".join([*parts, draw(names)])


@st.composite
def ports(draw: st.DrawFn) -> list[str]:
    """Return the parameters of a signature, as text."""
    wanted = draw(st.lists(names, max_size=4, unique=True))
    required, optional = [], []
    for name in wanted:
        text = draw(plain | st.builds(str.format, kinds, models))
        (optional if "=" in text else required).append(f"{name}: {text}" if text else name)
    return [*required, *optional]


@st.composite
def returns(draw: st.DrawFn) -> str:
    count = draw(st.sampled_from((0, 1, 1, 1, 2, 3)))
    kinds_ = [draw(kinds).format(draw(models)) for _ in range(count)]
    if count == 0:
        return draw(st.sampled_from(("", "None", "int")))
    return kinds_[0] if count == 1 else f"tuple[{', '.join(kinds_)}]"


@st.composite
def sessions(
    draw: st.DrawFn, *, ordered: bool = True, call: Callable[[str, dict[str, Any]], Any] = max
) -> list[Operation]:
    """Return operations; without ``ordered``, none whose meaning depends on the order.

    Each function returns what ``call`` makes of its operation's name and its arguments.
    """
    wanted = draw(st.lists(operation_names(), min_size=1, max_size=10))
    unique = [name for name in dict.fromkeys(wanted) if not refused(name)]
    made: list[Operation] = []
    for name in unique:
        made.append(draw(one_operation(name, unique, ordered, call)))
    return made


def refused(name: str) -> bool:
    return "." in name and name.partition(".")[0] in ("main", "standalones")


@st.composite
def one_operation(
    draw: st.DrawFn,
    name: str,
    others: list[str],
    ordered: bool,
    call: Callable[[str, dict[str, Any]], Any],
) -> Operation:
    takes, gives = draw(ports()), draw(returns())
    if not ordered and any(model in " ".join(takes) for model in WORLD if model in gives):
        gives = ""  # a transform: those bind in registration order
    function = draw(st.just(name.rpartition(".")[2]) | names)
    prefix = draw(st.sampled_from(("", "async ")))
    arrow = f" -> {gives}" if gives else ""
    scope: dict[str, Any] = {**WORLD, "_call": call, "__name__": "__main__"}
    if takes and draw(st.booleans()):
        takes.insert(draw(st.integers(0, len(takes) - 1)), "*")
    body = f"return _call({name!r}, {{**locals()}})"
    run(f"{prefix}def {function}({', '.join(takes)}){arrow}:\n    {body}", scope)
    # Mostly after what stands before, so that most sessions are free of loops.
    before = others[: others.index(name)] or others
    after = draw(st.lists(st.sampled_from(before), max_size=1))
    return make_operation(
        scope[function],
        name=name,
        options=TaskOptions(after=tuple(other for other in after if other != name)),
    )
