"""Operations that run once per element, and the edges in Prefect's run graph, on a real server."""

from __future__ import annotations

import gc
import threading
import time
import typing
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import typing_extensions
from pydantic import BaseModel

from pulpo import runner
from pulpo.backends.prefect import generate_modules
from pulpo.compiler import compile_plan
from pulpo.errors import RunError, UsageError
from pulpo.operations import Operation, make_operation, options_from_flags
from pulpo.plan import Runner
from pulpo.prefect_server import PrivateServer
from pulpo.runs import OperationFailedError, Run

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

IN_THIS_PROCESS: tuple[Runner, ...] = ("async", "threads")


class Url(BaseModel):
    number: int


class Page(BaseModel):
    number: int


class Rules(BaseModel):
    factor: int = 10


class Stats(BaseModel):
    total: int


class Typed(typing.TypedDict):
    n: int


class Extended(typing_extensions.TypedDict):
    n: int


def find(count: int = 4) -> list[Url]:
    return [Url(number=number) for number in range(count)]


async def rules() -> Rules:
    return Rules()


async def fetch(url: Url, rules: Rules, bad: int = -1) -> Page:
    if url.number == bad:
        raise ValueError(f"number {bad} is bad")
    return Page(number=url.number * rules.factor)


def archive(pages: list[Page]) -> None:
    assert all(isinstance(page, Page) for page in pages)


def stats(pages: list[Page]) -> Stats:
    return Stats(total=sum(page.number for page in pages))


def tell(stats: Stats) -> None: ...


def session(**flags: dict[str, Any]) -> list[Operation]:
    def made(name: str, function: Callable[..., Any]) -> Operation:
        options = options_from_flags(flags.get(function.__name__, {}))
        return make_operation(function, name=name, options=options)

    return [
        made("urls.find", find),
        made("urls.rules", rules),
        made("pages.fetch", fetch),
        made("pages.archive", archive),
        made("stats", stats),
        made("tell", tell),
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    made = PrivateServer()
    made.url()
    yield made
    made.stop()
    gc.collect()  # what Prefect left open is closed here, where its warnings are expected


def run(
    server: PrivateServer,
    operations: list[Operation],
    where: Runner = "async",
    *,
    flat: bool = False,
    on_change: Callable[[Run], None] | None = None,
    **parameters: Any,
) -> Run:
    plan = compile_plan(operations, runner=where, flat=flat)
    functions = {o.name: o.function for o in operations if o.function is not None}
    return runner.run_flow_blocking(
        plan,
        "main_flow",
        functions,
        globals(),
        parameters,
        modules=generate_modules(plan),
        server=server,
        on_change=on_change,
    )


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
def test_an_operation_runs_once_per_element(server: PrivateServer, where: Runner) -> None:
    done = run(server, session(), where)
    done.raise_for_failure()
    assert done["pages.fetch"] == [Page(number=number) for number in (0, 10, 20, 30)]
    assert done["stats"] == Stats(total=60)
    assert (done.operations["pages.fetch"].elements, done.operations["stats"].elements) == (4, None)
    assert set(done.states.values()) == {"done"}


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
def test_a_map_over_nothing_gives_an_empty_list(server: PrivateServer, where: Runner) -> None:
    done = run(server, session(), where, count=0)
    assert done["pages.fetch"] == []
    assert done["stats"] == Stats(total=0)
    assert done.states["pages.fetch"] == "done"


@pytest.mark.parametrize("kind", [Typed, Extended])
def test_typed_dicts_go_from_flow_to_flow_and_from_a_person(
    server: PrivateServer, kind: type
) -> None:
    """Pydantic knows typing's from Python 3.12 on only."""
    own, name = kind.__name__, kind.__name__.lower()
    scope: dict[str, Any] = {own: kind, "Stats": Stats}
    exec(f"def a() -> {own}: return {{'n': 3}}", scope)
    exec(f"def b(m: {own}) -> Stats: return Stats(total=m['n'])", scope)
    made = [make_operation(scope[each], name=f"{each}.{each}") for each in "ab"]
    done = run(server, made)
    done.raise_for_failure()
    assert done["b.b"] == Stats(total=3)
    alone = run(server, made[1:], **{name: '{"n": 7}'})
    assert alone["b.b"] == Stats(total=7)
    with pytest.raises(UsageError, match=f"needs '{name}' as {own}, not '3'"):
        run(server, made[1:], **{name: "3"})


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
@pytest.mark.parametrize(
    ("given", "kind"), [("'http'", "str"), ("{'a': 1}", "dict"), ("7", "int"), ("{1}", "set")]
)
def test_what_is_no_list_is_not_taken_for_many(
    server: PrivateServer, where: Runner, given: str, kind: str
) -> None:
    scope: dict[str, Any] = {"Url": Url, "Page": Page}
    exec(f"def find() -> list[Url]: return {given}\ndef fetch(url: Url) -> Page: ...", scope)
    operations = [make_operation(scope[name], name=f"pages.{name}") for name in ("find", "fetch")]
    failed = run(server, operations, where)
    with pytest.raises(
        RunError, match=rf"pages\.fetch takes each of 'url', and a {kind} is no list"
    ):
        failed.raise_for_failure()


def test_a_generator_is_not_taken_for_many(server: PrivateServer) -> None:
    """It was one that had been used up: Prefect looks at results. With threads it lists them."""
    scope: dict[str, Any] = {"Url": Url, "Page": Page}
    exec("def find() -> list[Url]: return (n for n in 'ab')", scope)
    exec("def fetch(url: Url) -> Page: ...", scope)
    failed = run(server, [make_operation(scope[n], name=n) for n in ("find", "fetch")])
    with pytest.raises(RunError, match="fetch takes each of 'url', and a generator is no list"):
        failed.raise_for_failure()


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
def test_a_failing_element_is_named_and_the_others_finish(
    server: PrivateServer, where: Runner
) -> None:
    failed = run(server, session(), where, bad=2)
    assert failed.state == "failed"
    assert failed.failed == ["pages.fetch"]
    assert failed.not_reached == ["pages.archive", "stats", "tell"]
    fetched = failed.operations["pages.fetch"]
    assert (fetched.ended, fetched.elements) == (4, 4)
    with pytest.raises(OperationFailedError) as caught:
        failed.raise_for_failure()
    told = "".join(caught.value._render_traceback_())
    assert "pages.fetch failed at element 3 of 4: url=Url(number=2)" in told
    assert "number 2 is bad" in told
    assert isinstance(caught.value.__cause__, ValueError)
    assert failed.inputs("pages.fetch")["url"] == Url(number=2)
    assert failed.inputs("urls.find") == {"count": 4}


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
def test_a_failing_element_can_be_left_out(server: PrivateServer, where: Runner) -> None:
    done = run(server, session(fetch={"on_element_error": "skip"}), where, bad=2)
    done.raise_for_failure()
    assert done["pages.fetch"] == [Page(number=number) for number in (0, 10, 30)]
    assert "1 of 4 skipped" in str(done)
    assert any("Skipped: pages.fetch was at element 3 of 4" in line for line in done.logs())


@pytest.mark.parametrize("where", IN_THIS_PROCESS)
def test_no_more_elements_are_worked_on_at_a_time_than_said(
    server: PrivateServer, where: Runner
) -> None:
    now: list[int] = []
    most: list[int] = []
    two = threading.Barrier(2, timeout=60)

    def fetch(url: Url, rules: Rules) -> Page:
        now.append(url.number)
        two.wait()
        most.append(len(now))
        two.wait()
        now.remove(url.number)
        return Page(number=url.number)

    operations = session()
    options = options_from_flags({"max_concurrency": 2})
    operations[2] = make_operation(fetch, name="pages.fetch", options=options)
    done = run(server, operations, where, count=6)
    done.raise_for_failure()
    assert max(most) == 2


def test_the_progress_counts_the_elements(server: PrivateServer) -> None:
    lines: list[str] = []

    def fetch(url: Url, rules: Rules) -> Page:
        time.sleep(0.3)  # longer than the tenth of a second between two looks
        return Page(number=url.number)

    operations = session()
    options = options_from_flags({"max_concurrency": 1})
    operations[2] = make_operation(fetch, name="pages.fetch", options=options)
    run(server, operations, on_change=lambda run: lines.append(run.progress_line()))
    assert any("pages.fetch 2/4" in line for line in lines), lines


# --- Prefect's own picture of the run ------------------------------------------------------------


def edges_in_prefect(server: PrivateServer, tasks: int) -> set[tuple[str, str]]:
    """Return the edges that Prefect's page draws for the newest main_flow."""
    with httpx.Client(base_url=server.url(), timeout=30) as client:
        wanted = {
            "flows": {"name": {"any_": ["main_flow"]}},
            "sort": "START_TIME_DESC",
            "limit": 1,
        }
        flow_run = client.post("/flow_runs/filter", json=wanted).json()[0]["id"]
        for _ in range(100):  # task runs are written down a moment later
            graph = client.get(f"/flow_runs/{flow_run}/graph-v2").json()
            nodes = dict(graph["nodes"])
            if len(nodes) >= tasks:
                break
            time.sleep(0.1)
        assert len(nodes) == tasks
        names = {id_: name_of(client, id_, node) for id_, node in nodes.items()}
    return {
        (names[parent["id"]], names[id_])
        for id_, node in nodes.items()
        for parent in node["parents"]
    }


def name_of(client: httpx.Client, id_: str, node: dict[str, Any]) -> str:
    if node["kind"] == "task-run":
        return str(node["label"]).rpartition("-")[0]
    flow = client.get(f"/flow_runs/{id_}").json()["flow_id"]
    return str(client.get(f"/flows/{flow}").json()["name"])


ORDERED = {"tell": {"after": "pages.archive"}}
EDGES = {
    ("urls.find", "pages.fetch"),
    ("urls.rules", "pages.fetch"),
    ("pages.fetch", "pages.archive"),
    ("pages.fetch", "stats"),
    ("stats", "tell"),
    ("pages.archive", "tell"),
}


NESTED = {
    ("urls_flow", "pages_flow"),
    ("pages_flow", "stats"),
    ("stats", "tell"),
    ("pages_flow", "tell"),
}


@pytest.mark.parametrize(
    ("where", "flat", "nodes", "edges"),
    [("async", True, 9, EDGES), ("threads", False, 9, EDGES), ("async", False, 4, NESTED)],
)
def test_prefects_run_graph_has_every_edge(
    server: PrivateServer, where: Runner, flat: bool, nodes: int, edges: set[tuple[str, str]]
) -> None:
    run(server, session(**ORDERED), where, flat=flat).raise_for_failure()
    assert edges_in_prefect(server, nodes) == edges


def test_a_server_that_follows_another_hears_of_its_own_runs(server: PrivateServer) -> None:
    run(server, session(**ORDERED), flat=True).raise_for_failure()
    server.stop()
    other = PrivateServer()
    try:
        run(other, session(**ORDERED), flat=True).raise_for_failure()
        assert edges_in_prefect(other, 9) == EDGES
    finally:
        other.stop()
