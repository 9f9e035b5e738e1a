"""Who needs whose result: a table of sessions, and what each port of them gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from declared import MODELS, Clean, Duck, declare, declared, run

import pulpo
from pulpo.dataflow import DataFlowAnalyzer, DataFlowGraph, build_graph
from pulpo.errors import CycleError, DeclarationError, PulpoError, UnknownNameError
from pulpo.operations import make_operation, options_from_flags


@dataclass(frozen=True)
class Case:
    """A session, what each of its data ports gets, and the codes of its problems.

    A port's sources are operations, joined by `` + `` when they come as a list (``name[0]`` is an
    item of a tuple); ``-`` is nothing, ``!`` a person, ``?a|b`` an unsettled choice.
    """

    title: str
    session: tuple[str, ...]
    gets: dict[str, str]
    problems: tuple[str, ...] = ()
    order: tuple[str, ...] = field(default=())


def case(title: str, session: str, gets: str = "", problems: str = "", order: str = "") -> Case:
    pairs = (line.split(" <- ") for line in lines(gets))
    return Case(
        title,
        tuple(lines(session)),
        dict(pairs),
        tuple(problems.split()),
        tuple(lines(order)),
    )


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


FETCHERS = """
    scraping.stepstone.fetch=fetch_stepstone(query: str) -> Raw
    scraping.linkedin.fetch=fetch_linkedin(query: str) -> Raw
"""

CASES = [
    # --- rule 1: --bind wins ---
    case(
        "bind wins over everything",
        FETCHERS
        + "scraping.merge(stepstone: Raw) -> Clean --bind stepstone=scraping.linkedin.fetch",
        "scraping.merge.stepstone <- scraping.linkedin.fetch",
    ),
    case(
        "several binds make a list",
        FETCHERS
        + """a.fetch() -> Raw
        b.all(raws: list[Raw]) --bind raws=scraping.linkedin.fetch --bind raws=a.fetch""",
        "b.all.raws <- scraping.linkedin.fetch + a.fetch",
    ),
    case(
        "one bind to a list is a list of one",
        FETCHERS + "b.all(raws: list[Raw]) --bind raws=scraping.linkedin.fetch",
        "b.all.raws <- scraping.linkedin.fetch +",
    ),
    case(
        "two binds to one value are an error",
        FETCHERS
        + """b.one(raw: Raw) --bind raw=scraping.linkedin.fetch \
             --bind raw=scraping.stepstone.fetch""",
        "b.one.raw <- ?scraping.linkedin.fetch|scraping.stepstone.fetch",
        "bind-too-many",
    ),
    case(
        "bind to what gives another model",
        "a.x() -> Raw\nb.y() -> Clean\nc.z(raw: Raw) --bind raw=b.y",
        "c.z.raw <- ?",
        "unknown-bind",
    ),
    case(
        "bind to what does not exist",
        "a.x() -> Raw\nc.z(raw: Raw) --bind raw=a.xx",
        "c.z.raw <- ?",
        "unknown-bind",
    ),
    case(
        "bind of a port that is none",
        "a.x() -> Raw\nc.z(raw: Raw, n: int) --bind n=a.x --bind rew=a.x",
        "c.z.raw <- a.x",
        "unknown-port unknown-port",
    ),
    case(
        "bind to itself",
        "a.x() -> Raw\nc.z(raw: Raw) -> Raw --bind raw=c.z",
        "c.z.raw <- ?",
        "unknown-bind",
    ),
    # --- rule 2: one head ---
    case("one head", "a.x() -> Raw\nb.y(data: Raw)", "b.y.data <- a.x"),
    case("a producer may be declared later", "b.y(data: Raw)\na.x() -> Raw", "b.y.data <- a.x"),
    case(
        "two ports with one head",
        "a.x() -> Raw\nb.y(one: Raw, other: Raw)",
        "b.y.one <- a.x\nb.y.other <- a.x",
        "same-value-twice",
    ),
    case(
        "many into one maps",
        "a.x() -> list[Raw]\nb.y(one: Raw)",
        "b.y.one <- a.x",
    ),
    case("many into an unannotated port", "a.x() -> list[Raw]\nb.y(d) --in Raw", "b.y.d <- a.x"),
    # --- rule 3: lists take all ---
    case(
        "a list takes every head in registration order",
        FETCHERS + "a.more() -> list[Raw]\nb.all(raws: list[Raw])",
        "b.all.raws <- scraping.stepstone.fetch + scraping.linkedin.fetch + a.more",
    ),
    case("a list of one head", "a.x() -> Raw\nb.y(raws: list[Raw])", "b.y.raws <- a.x +"),
    case(
        "a list goes before names",
        FETCHERS + "b.all(linkedin: list[Raw])",
        "b.all.linkedin <- scraping.stepstone.fetch + scraping.linkedin.fetch",
    ),
    # --- rule 4: names ---
    case(
        "a port called like a group",
        FETCHERS + "scraping.merge(stepstone: Raw, linkedin: Raw) -> Clean",
        """scraping.merge.stepstone <- scraping.stepstone.fetch
        scraping.merge.linkedin <- scraping.linkedin.fetch""",
    ),
    case(
        "a port called like a function",
        FETCHERS + "b.y(fetch_linkedin: Raw)",
        "b.y.fetch_linkedin <- scraping.linkedin.fetch",
    ),
    case(
        "a port called like the last part",
        "a.first() -> Raw\na.second() -> Raw\nb.y(second: Raw)",
        "b.y.second <- a.second",
    ),
    case(
        "a name that two heads share settles nothing",
        FETCHERS + "b.y(fetch: Raw)",
        "b.y.fetch <- ?scraping.stepstone.fetch|scraping.linkedin.fetch",
        "ambiguous-port",
    ),
    case(
        "a name inside a name is no name",
        FETCHERS + "b.y(linked: Raw)",
        "b.y.linked <- ?scraping.stepstone.fetch|scraping.linkedin.fetch",
        "ambiguous-port",
    ),
    # --- rule 5: the nearest group ---
    case(
        "the head in the own group",
        "a.load() -> Raw\nb.load() -> Raw\nb.use(data: Raw)",
        "b.use.data <- b.load",
        "nearest-group",
    ),
    case(
        "the head in the deepest shared group",
        "a.load() -> Raw\na.b.load() -> Raw\na.c.load() -> Raw\na.b.use(data: Raw)",
        "a.b.use.data <- a.b.load",
        "nearest-group",
    ),
    case(
        "two heads equally near",
        "a.b.load() -> Raw\na.c.load() -> Raw\nd.load() -> Raw\na.use(data: Raw)",
        "a.use.data <- ?a.b.load|a.c.load|d.load",
        "ambiguous-port",
    ),
    case(
        "standalones share no group",
        "one() -> Raw\nother() -> Raw\nuse(data: Raw)",
        "use.data <- ?one|other",
        "ambiguous-port",
    ),
    case(
        "a name goes before the group",
        "a.load() -> Raw\nb.load() -> Raw\nb.use(a: Raw)",
        "b.use.a <- a.load",
    ),
    # --- rule 6: unannotated takes all ---
    case(
        "the listing of the reference design",
        """scraping.stepstone.fetch=fetch_stepstone(query) --out Raw
        scraping.linkedin.fetch=fetch_linkedin(query) --out Raw
        scraping.merge(stepstone, linkedin) --in Raw --out Clean
        parsing.clean(data) --in Raw --out Skills""",
        """scraping.merge.stepstone <- scraping.stepstone.fetch
        scraping.merge.linkedin <- scraping.linkedin.fetch
        parsing.clean.data <- scraping.stepstone.fetch + scraping.linkedin.fetch""",
    ),
    case(
        "unannotated, but in the group of one",
        "a.load() -> Raw\nb.load() -> Raw\nb.use(data) --in Raw",
        "b.use.data <- b.load",
        "nearest-group",
    ),
    case(
        "several models pair by position",
        "a.x() -> Raw\na.y() -> Clean\nb.z(one, other) --in Clean,Raw",
        "b.z.one <- a.y\nb.z.other <- a.x",
    ),
    case(
        "inputs= as a list type",
        FETCHERS + "b.all(data) --in list[Raw]",
        "b.all.data <- scraping.stepstone.fetch + scraping.linkedin.fetch",
    ),
    # --- heads and transforms ---
    case(
        "the reference case: a merge replaces both fetchers",
        FETCHERS
        + """scraping.merge(stepstone: Raw, linkedin: Raw) -> Raw
        parsing.clean(jobs: Raw) -> Clean""",
        """scraping.merge.stepstone <- scraping.stepstone.fetch
        scraping.merge.linkedin <- scraping.linkedin.fetch
        parsing.clean.jobs <- scraping.merge""",
    ),
    case(
        "cleaners of one source each replace one head each",
        FETCHERS
        + """clean.stepstone(stepstone: Raw) -> Raw
        clean.linkedin(linkedin: Raw) -> Raw
        merge(stepstone: Raw, linkedin: Raw) -> Clean
        all(raws: list[Raw])""",
        """clean.stepstone.stepstone <- scraping.stepstone.fetch
        clean.linkedin.linkedin <- scraping.linkedin.fetch
        merge.stepstone <- clean.stepstone
        merge.linkedin <- clean.linkedin
        all.raws <- clean.stepstone + clean.linkedin""",
    ),
    case(
        "a list of a model to the model is a transform",
        FETCHERS + "climate.clean(all: list[Raw]) -> Raw\nuse(data: Raw)",
        """climate.clean.all <- scraping.stepstone.fetch + scraping.linkedin.fetch
        use.data <- climate.clean""",
    ),
    case(
        "transforms chain in registration order",
        """a.load() -> Raw
        a.third(x: Raw) -> Raw
        a.first(x: Raw) -> Raw
        use(x: Raw)""",
        "a.third.x <- a.load\na.first.x <- a.third\nuse.x <- a.first",
    ),
    case(
        "a consumer declared before the transform gets the transformed value",
        "a.load() -> Raw\nuse(x: Raw)\na.fix(x: Raw) -> Raw",
        "a.fix.x <- a.load\nuse.x <- a.fix",
    ),
    case(
        "a transform declared before its producer",
        "a.fix(x: Raw) -> Raw\na.load() -> Raw\nuse(x: Raw)",
        "a.fix.x <- a.load\nuse.x <- a.fix",
    ),
    case(
        "bind reaches a value that a transform replaced",
        "a.load() -> Raw\na.fix(x: Raw) -> Raw\nuse(x: Raw) --bind x=a.load",
        "a.fix.x <- a.load\nuse.x <- a.load",
    ),
    case(
        "a transform of what nobody gives",
        "a.fix(x: Raw) -> Raw\nuse(x: Raw)",
        "a.fix.x <- !\nuse.x <- a.fix",
    ),
    case(
        "a transform of two models",
        """a.load() -> tuple[Raw, Clean]
        a.fix(raw: Raw, clean: Clean) -> tuple[Raw, Clean]
        use(raw: Raw, clean: Clean)""",
        """a.fix.raw <- a.load[0]
        a.fix.clean <- a.load[1]
        use.raw <- a.fix[0]
        use.clean <- a.fix[1]""",
    ),
    case(
        "a transform that keeps the raw value of another model",
        "a.load() -> Raw\na.fix(raw: Raw, n: int) -> tuple[Clean, Raw]\nuse(raw: Raw)",
        "a.fix.raw <- a.load\nuse.raw <- a.fix[1]",
    ),
    case(
        "an optional transform without a source",
        "a.fix(x: Raw | None) -> Raw\nuse(x: Raw)",
        "a.fix.x <- -\nuse.x <- a.fix",
    ),
    case(
        "an ambiguous transform",
        FETCHERS + "fix(x: Raw) -> Raw\nuse(x: Raw)",
        """fix.x <- ?scraping.stepstone.fetch|scraping.linkedin.fetch
        use.x <- fix""",
        "ambiguous-port",
    ),
    # --- optional, defaults, missing ---
    case("an optional port without a producer", "use(x: Raw | None)", "use.x <- -"),
    case("an optional port that defaults to None", "use(x: Raw | None = None)", "use.x <- -"),
    case(
        "an optional port with a producer",
        "a.x() -> Raw\nuse(x: Raw | None = None)",
        "use.x <- a.x",
    ),
    case("an optional list", "use(x: list[Raw] | None)", "use.x <- -"),
    case("a port that nobody feeds", "use(x: Raw, y: list[Clean])", "use.x <- !\nuse.y <- !"),
    case("a default does not hide that nobody feeds it", "use(x: Raw = Raw())", "use.x <- !"),
    case("a default gives way to a producer", "a.x() -> Raw\nuse(x: Raw = Raw())", "use.x <- a.x"),
    case("an optional default that is no None", "use(x: Raw | None = Raw())", "use.x <- !"),
    case("an optional output", "a.x() -> Raw | None\nuse(x: Raw | None)", "use.x <- a.x"),
    case(
        "an optional output into a port that takes no None",
        "a.x() -> Raw | None\nuse(x: Raw)",
        "use.x <- a.x",
        "may-be-absent",
    ),
    # --- several outputs ---
    case(
        "items of a tuple",
        "a.x() -> tuple[Raw, Clean]\nb.y(clean: Clean)\nb.z(raws: list[Raw])",
        "b.y.clean <- a.x[1]\nb.z.raws <- a.x[0] +",
    ),
    case(
        "one model twice in a tuple",
        "a.split() -> tuple[Raw, Raw]\nb.all(raws: list[Raw])\nb.one(raw: Raw)",
        "b.all.raws <- a.split[0] + a.split[1]\nb.one.raw <- ?a.split[0]|a.split[1]",
        "ambiguous-port",
    ),
    # --- order only ---
    case("after", "a.x() -> Raw\nb.y() --after a.x", order="a.x < b.y"),
    case("after what comes later", "b.y() --after a.x\na.x() -> Raw", order="a.x < b.y"),
    case("after the unknown", "b.y() --after a.x", problems="unknown-after"),
    case("after itself", "b.y() --after b.y", problems="after-itself"),
    case(
        "a model that no parameter takes",
        "a.x() -> Raw\na.z() -> Raw\nb.y() --in Raw",
        order="a.x < b.y\na.z < b.y",
    ),
    case(
        "a model taken beside a parameter",
        "a.x() -> Raw\na.z() -> Clean\nb.y(raw: Raw) --in Raw,Clean",
        "b.y.raw <- a.x",
        order="a.z < b.y",
    ),
    case("a model that only orders, and that nobody gives", "b.y() --in Raw"),
    case(
        "transforms by declaration alone come one after the other",
        """a.x() --out Raw
        b.y() --in Raw --out Raw
        b.z() --in Raw --out Raw
        c(raw: Raw)""",
        "c.raw <- b.z",
        order="a.x < b.y\nb.y < b.z",
    ),
    # --- models by name ---
    case(
        "text means the model of that name",
        "a.x() -> Raw\nb.y(d) --in 'Raw'\nc.z(raw: 'Raw')",
        "b.y.d <- a.x\nc.z.raw <- a.x",
    ),
    case(
        "text on both sides",
        "a.x() --out 'Jobs'\nb.y(d) --in 'Jobs'\nc.z(d: 'Jobs')",
        "b.y.d <- a.x\nc.z.d <- a.x",
    ),
    case("text gives, the class takes", "a.x() --out 'Raw'\nb.y(d: Raw)", "b.y.d <- a.x"),
    case(
        "text with dots is the qualified name",
        """a.x() -> Raw
        a.y() --out 'other.Raw'
        b.z(d) --in 'other.Raw'
        b.w(d) --in 'declared.Raw'""",
        "b.z.d <- a.y\nb.w.d <- a.x",
    ),
    case(
        "text of a list, and of what may be absent",
        FETCHERS + "b.y(d) --in 'list[Raw]'\nb.z(d) --in 'Clean | None'",
        "b.y.d <- scraping.stepstone.fetch + scraping.linkedin.fetch\nb.z.d <- -",
    ),
    case(
        "text that names a model of a later cell, on both sides",
        "b.y(d: list['Later'])\na.x() -> 'Later'\na.z() -> 'list[Later]'",
        "b.y.d <- a.x + a.z",
    ),
    # --- *args ---
    case(
        "the rest of the arguments takes every head",
        FETCHERS + "a.more() -> tuple[Raw, ...]\nb.all(*linkedin: Raw, n: int = 3)",
        "b.all.linkedin <- scraping.stepstone.fetch + scraping.linkedin.fetch + a.more",
    ),
    case(
        "a port before the rest binds by itself",
        FETCHERS + "b.all(linkedin: Raw, *raws: Raw | None)",
        "b.all.linkedin <- scraping.linkedin.fetch\n"
        "b.all.raws <- scraping.stepstone.fetch + scraping.linkedin.fetch",
    ),
    case("the rest that nobody feeds", "b.all(*raws: Raw)", "b.all.raws <- !"),
    case(
        "the rest as a transform",
        FETCHERS + "a.fix(*raws: Raw) -> Raw\nb.use(raw: Raw)",
        "a.fix.raws <- scraping.stepstone.fetch + scraping.linkedin.fetch\nb.use.raw <- a.fix",
    ),
    case(
        "bind to the rest",
        FETCHERS + "b.all(*raws: Raw) --bind raws=scraping.linkedin.fetch",
        "b.all.raws <- scraping.linkedin.fetch +",
    ),
    # --- one model in and out, more than once ---
    case(
        "transforms of two models take turns",
        """a.load() -> tuple[Raw, Clean]
        a.one(r: Raw) -> Raw
        a.two(c: Clean, r: Raw) -> Clean
        a.end(r: Raw, c: Clean)""",
        """a.one.r <- a.load[0]
        a.two.c <- a.load[1]
        a.two.r <- a.one
        a.end.r <- a.one
        a.end.c <- a.two""",
    ),
    case(
        "one operation transforms two models, another one of them again",
        """a.load() -> tuple[Raw, Clean]
        a.both(r: Raw, c: Clean) -> tuple[Clean, Raw]
        a.again(r: Raw) -> Raw
        a.end(r: Raw, c: Clean)""",
        """a.both.r <- a.load[0]
        a.both.c <- a.load[1]
        a.again.r <- a.both[1]
        a.end.r <- a.again
        a.end.c <- a.both[0]""",
    ),
    case(
        "a transform that may give None",
        """a.load() -> Raw
        a.fix(r: Raw) -> Raw | None
        a.again(r: Raw | None) -> Raw
        b.use(r: Raw)""",
        "a.fix.r <- a.load\na.again.r <- a.fix\nb.use.r <- a.again",
    ),
    case(
        "a transform of many, and a transform of each",
        """a.load() -> list[Raw]
        a.few(rs: list[Raw]) -> list[Raw]
        a.fix(r: Raw) -> Raw
        a.one(rs: list[Raw]) -> Raw
        b.use(r: Raw)""",
        """a.few.rs <- a.load +
        a.fix.r <- a.few
        a.one.rs <- a.fix +
        b.use.r <- a.one""",
    ),
    case(
        "a default of None is a default",
        "use(x: Raw = None)",
        "use.x <- !",
    ),
    case("no operations", ""),
    case("operations with nothing to do with each other", "a.x(n: int) -> Raw\nb(n: int) -> Clean"),
]


def bindings(graph: DataFlowGraph) -> dict[str, str]:
    names = graph.names
    found = {}
    bound = [(name, each) for name, own in zip(names, graph.bindings, strict=True) for each in own]
    for name, binding in bound:
        sources = [
            names[place] + ("" if output.index is None else f"[{output.index}]")
            for place, output in binding.heads
        ]
        text = {
            "one": sources[0] if sources else "",
            "list": " + ".join(sources) + (" +" if len(sources) == 1 else ""),
            "none": "-",
            "missing": "!",
            "ambiguous": "?" + "|".join(sources),
        }[binding.how]
        found[f"{name}.{binding.port.name}"] = text
    return found


def edges(graph: DataFlowGraph, *kinds: str) -> list[tuple[str, str]]:
    names = graph.names
    return [(names[e.source], names[e.target]) for e in graph.links if e.kind in kinds]


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_each_port_gets_what_the_rules_say(case: Case) -> None:
    graph = build_graph(declared(*case.session))
    assert bindings(graph) == case.gets
    assert tuple(problem.code for problem in graph.problems) == case.problems
    assert [f"{a} < {b}" for a, b in edges(graph, "order")] == list(case.order)
    for target, sources in case.gets.items():
        kind = "candidate" if sources.startswith("?") else "data"
        operation = target.rpartition(".")[0]
        for source in sources.strip("?-! +").replace("|", " + ").split(" + "):
            if source:
                assert (source.partition("[")[0], operation) in edges(graph, kind)
                assert source.partition("[")[0] in graph.get_dependencies(operation)
                assert operation in graph.get_dependents(source.partition("[")[0])


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_every_order_that_is_given_respects_every_edge(case: Case) -> None:
    graph = build_graph(declared(*case.session))
    place = {name: n for n, name in enumerate(DataFlowAnalyzer.topological_sort(graph))}
    assert sorted(place) == sorted(graph.names)
    for source, target in edges(graph, "data", "order", "candidate"):
        assert place[source] < place[target]
    stages = DataFlowAnalyzer().find_parallel_groups(graph)
    assert [name for stage in stages for name in stage] == graph.topological_sort()


def test_problems_name_the_port_the_candidates_and_the_flag() -> None:
    graph = build_graph(declared(*lines(FETCHERS), "b.y(data: Raw)"))
    (problem,) = graph.problems
    assert (problem.severity, problem.operation, problem.port) == ("error", "b.y", "data")
    assert problem.candidates == ("scraping.stepstone.fetch", "scraping.linkedin.fetch")
    assert "'data' takes one Raw" in problem.message
    assert "--bind data=scraping.stepstone.fetch" in problem.fix
    assert "data: list[Raw]" in problem.fix


def test_a_wrong_bind_is_told_the_nearest_operation() -> None:
    graph = build_graph(declared("a.load() -> Raw", "b.y(d: Raw) --bind d=a.laod"))
    assert "Did you mean 'a.load'" in graph.problems[0].fix


def test_an_unknown_name_is_told_the_nearest_one() -> None:
    graph = build_graph(declared("a.load() -> Raw"))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'a\.load'"):
        graph.get_dependencies("a.laod")
    assert "a.load" in graph
    assert "a.laod" not in graph
    assert len(graph) == 1


# --- Identity of models ----------------------------------------------------------------------


def in_module(module: str, line: str) -> Any:
    """Declare against a class `Jobs` that was just made, as when its cell is run again."""
    scope: dict[str, Any] = {"__name__": module}
    run("import pydantic\nclass Jobs(pydantic.BaseModel):\n    n: int = 0", scope)
    return declare(line, scope)


def test_a_re_run_model_class_breaks_no_edge() -> None:
    first = in_module("__main__", "a.x() -> Jobs")
    again = in_module("__main__", "b.y(jobs: Jobs)")
    assert first.outputs[0].model == again.ports[0].model
    assert bindings(build_graph([first, again])) == {"b.y.jobs": "a.x"}


def test_two_models_of_one_short_name_are_two_models() -> None:
    one, other = in_module("one", "a.x() -> Jobs"), in_module("other", "b.y(jobs: Jobs)")
    # The class knows its module; the functions of this test all stand in __main__.
    assert one.outputs[0].model.key == "one.Jobs"
    assert bindings(build_graph([one, other])) == {"b.y.jobs": "!"}


def test_text_that_means_two_models_is_an_error_on_each_operation_that_says_it() -> None:
    graph = build_graph(
        [
            in_module("one", "a.x() -> Jobs"),
            in_module("other", "a.y() -> Jobs"),
            declare("b.z(d) --in 'Jobs'"),
            declare("b.w(d) --in 'Jobs'"),
        ]
    )
    assert [(p.code, p.operation) for p in graph.problems] == [
        ("two-models", "b.z"),
        ("two-models", "b.w"),
    ]
    assert graph.problems[0].candidates == ("one.Jobs", "other.Jobs")


def test_annotations_that_are_text_make_the_same_edges() -> None:
    scope: dict[str, Any] = {**MODELS, "__name__": "__main__"}
    run(
        "from __future__ import annotations\n"
        "def load() -> list[Raw]: ...\n"
        "def clean(raws: list[Raw], later: Later | None = None) -> tuple[Clean, Skills]: ...\n"
        "def use(clean: Clean, later: Later): ...\n"
        "def late() -> Later: ...",
        scope,
    )
    names = ("load", "clean", "use", "late")
    graph = build_graph([make_operation(scope[name], name=f"a.{name}") for name in names])
    assert bindings(graph) == {
        "a.clean.raws": "a.load +",
        "a.clean.later": "a.late",
        "a.use.clean": "a.clean[0]",
        "a.use.later": "a.late",
    }


def test_a_model_by_annotation_and_by_newtype() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "Model": pulpo.Model}
    run(
        "from typing import Annotated, NewType\n"
        "Temps = NewType('Temps', list)\n"
        "def load() -> tuple[Temps, Annotated[list, Model('Jobs')]]: ...\n"
        "def use(temps: Temps, jobs: Annotated[list, Model('Jobs')], bare: list): ...",
        scope,
    )
    graph = build_graph([make_operation(scope[n], name=n) for n in ("load", "use")])
    assert bindings(graph) == {"use.temps": "load[0]", "use.jobs": "load[1]"}


# --- Cycles ----------------------------------------------------------------------------------

LOOPS = [
    (
        ["a(s: Skills) -> Raw", "b(r: Raw) -> Clean", "c(c: Clean) -> Skills"],
        "a -[Raw]-> b -[Clean]-> c -[Skills]-> a",
    ),
    (["a() -> Raw --after b", "b(r: Raw)"], "a -[Raw]-> b -[after]-> a"),
    (["a(c: Clean) -> Raw", "b() --in Raw --out Clean"], "a -[after Raw]-> b -[Clean]-> a"),
    (["a(r: Raw) -> Raw --bind r=b", "b(r: Raw) -> Raw"], "a -[Raw]-> b -[Raw]-> a"),
    (["x() -> Report", "a() --after b", "b() --after a"], "a -[after]-> b -[after]-> a"),
]


@pytest.mark.parametrize(("session", "loop"), LOOPS, ids=[loop for _, loop in LOOPS])
def test_a_cycle_prints_the_whole_loop(session: list[str], loop: str) -> None:
    operations = [
        declare(line, cell=f"cell {number}") for number, line in enumerate(session, start=1)
    ]
    graph = build_graph(operations)
    assert graph.has_cycle()
    with pytest.raises(CycleError) as found:
        graph.topological_sort()
    assert loop in str(found.value)
    for operation in operations:
        if operation.name in found.value.cycle:
            assert f"{operation.name} in {operation.cell}" in str(found.value)
    assert isinstance(found.value, ValueError)
    assert isinstance(found.value, PulpoError)
    with pytest.raises(CycleError):
        DataFlowAnalyzer.find_parallel_groups(operations)


def test_each_loop_is_told_and_what_is_behind_it_is_not() -> None:
    graph = build_graph(
        declared(
            "a() --after b", "b() --after a", "c() --after a", "d() --after e", "e() --after d"
        )
    )
    assert [p.candidates for p in graph.problems if p.code == "cycle"] == [("a", "b"), ("d", "e")]


def test_an_unsettled_choice_closes_no_loop() -> None:
    graph = build_graph(
        declared("a.x() -> Raw", "b.y(c: Clean) -> Raw", "use(it: Raw) -> Clean", "z(c: Clean)")
    )
    assert [problem.code for problem in graph.problems] == ["ambiguous-port"]
    assert not graph.has_cycle()
    assert graph.get_dependencies("use") == ["a.x", "b.y"]
    assert graph.find_parallel_groups() == [["a.x", "use"], ["b.y", "z"]]


def test_a_loop_of_thousands_is_no_recursion() -> None:
    count = 3000
    session = [f"o{n}() --after o{(n + 1) % count}" for n in range(count)]
    graph = build_graph(declared(*session))
    assert len(graph.cycles()[0]) == count


def test_a_graph_without_a_cycle_says_so() -> None:
    graph = build_graph(declared("a() -> Raw", "b(r: Raw)"))
    assert not graph.has_cycle()
    assert graph.cycles() == []


# --- Foreign operations ----------------------------------------------------------------------


def test_ducks_in_a_chain_of_ten_thousand() -> None:
    count = 10_000
    ducks = [
        Duck(f"g{n % 7}.op{n}", [f"M{n - 1}"] if n else [], [f"M{n}"], lambda data=None: data)
        for n in reversed(range(count))
    ]
    graph = build_graph(ducks)
    assert graph.problems == []
    assert graph.topological_sort() == [f"g{n % 7}.op{n}" for n in range(count)]


def test_ducks_and_operations_feed_each_other() -> None:
    graph = build_graph(
        [
            Duck("a.x", [], ["Raw"]),
            declare("a.y(raw: Raw) -> Clean"),
            Duck("a.z", ["Clean"], [], lambda data: data),
            Duck("a.w", [Clean], []),
        ]
    )
    assert bindings(graph) == {"a.y.raw": "a.x", "a.z.data": "a.y"}
    assert edges(graph, "order") == [("a.y", "a.w")]


def test_ducks_that_transform_replace_the_heads() -> None:
    ducks = [
        Duck("s.one", [], ["Raw"]),
        Duck("s.two", [], ["Raw"]),
        Duck("s.merge", ["Raw"], ["Raw"]),
        Duck("p.clean", ["Raw"], ["Clean"]),
    ]
    graph = DataFlowAnalyzer().build_dependency_graph(ducks)
    assert graph.get_dependencies("s.merge") == ["s.one", "s.two"]
    assert graph.get_dependencies("p.clean") == ["s.merge"]
    assert graph.find_parallel_groups() == [["s.one", "s.two"], ["s.merge"], ["p.clean"]]


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"two operations are called 'a\.x'"):
        build_graph([Duck("a.x", [], []), Duck("a.x", [], [])])


def test_elements_that_were_left_out_are_named_as_the_reason() -> None:
    graph = build_graph(
        [
            make_operation(links, name="web.links"),
            make_operation(
                get, name="web.get", options=options_from_flags({"on_element_error": "skip"})
            ),
            make_operation(pairs, name="pairs"),
        ]
    )
    [problem] = [one for one in graph.problems if one.code == "maps-out-of-step"]
    assert problem.message.endswith("('web.get' leaves out elements that fail.)")


@dataclass
class Link: ...


@dataclass
class Answer: ...


def links() -> list[Link]: ...
def get(link: Link) -> Answer: ...
def pairs(link: Link, answer: Answer) -> int: ...
