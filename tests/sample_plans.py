"""Plans made by hand, for the tests of every target that draws."""

from __future__ import annotations

from dataclasses import replace

from pulpo.errors import Problem
from pulpo.plan import (
    Edge,
    FlowDefinition,
    Node,
    Orchestration,
    OutputPlan,
    PortPlan,
    Text,
)


def data(name: str, model: str, **options: object) -> PortPlan:
    return PortPlan(name=name, kind="data", model=model, **options)  # type: ignore[arg-type]


def value(name: str, annotation: str = "str", default: str = "") -> PortPlan:
    given = Text(default) if default else None
    return PortPlan(name=name, kind="parameter", annotation=Text(annotation), default=given)


def operation(name: str, *ports: PortPlan, gives: str = "", **options: object) -> Node:
    outputs = tuple(OutputPlan(model=model) for model in gives.split(", ") if model)
    function = name.rpartition(".")[2] or "f"
    return Node(name=name, function=function, ports=ports, outputs=outputs, **options)  # type: ignore[arg-type]


def flows_of(*operations: Node) -> tuple[FlowDefinition, ...]:
    """Return the flows of the top-level groups, and the main one."""
    names = [node.name for node in operations]
    groups = dict.fromkeys(name.partition(".")[0] for name in names if "." in name)
    return (
        *(
            FlowDefinition(
                name=f"{group}_flow",
                hierarchy_path=group,
                covers=tuple(name for name in names if name.startswith(group + ".")),
            )
            for group in groups
        ),
        FlowDefinition(name="main_flow", covers=tuple(names)),
    )


def jobs() -> Orchestration:
    """Return the story of the documentation: two sources, one merge, two analyses, one report."""
    operations = (
        operation(
            "scraping.stepstone.fetch",
            value("query"),
            gives="RawJobs",
            is_async=True,
            doc="Fetch the pages of StepStone.\n\nSlowly.",
            cell="cell 3",
        ),
        operation(
            "scraping.linkedin.fetch",
            value("query"),
            value("pages", "int", "3"),
            gives="RawJobs",
            is_async=True,
            doc="Ask LinkedIn's API.",
            cell="cell 4",
        ),
        operation(
            "scraping.merge",
            data("stepstone", "RawJobs"),
            data("linkedin", "RawJobs"),
            gives="CleanedJobs",
            cell="cell 5",
        ),
        operation("parsing.clean", data("jobs", "CleanedJobs"), gives="Jobs", cell="cell 6"),
        operation(
            "parsing.skills", data("jobs", "Jobs"), gives="Skills", is_async=True, cell="cell 7"
        ),
        operation(
            "report",
            data("jobs", "Jobs"),
            data("skills", "Skills"),
            gives="Report",
            doc="Count what is asked for.",
            cell="cell 8",
        ),
    )
    edges = (
        Edge(
            source="scraping.stepstone.fetch",
            target="scraping.merge",
            port="stepstone",
            model="RawJobs",
        ),
        Edge(
            source="scraping.linkedin.fetch",
            target="scraping.merge",
            port="linkedin",
            model="RawJobs",
        ),
        Edge(source="scraping.merge", target="parsing.clean", port="jobs", model="CleanedJobs"),
        Edge(source="parsing.clean", target="parsing.skills", port="jobs", model="Jobs"),
        Edge(source="parsing.clean", target="report", port="jobs", model="Jobs"),
        Edge(source="parsing.skills", target="report", port="skills", model="Skills"),
    )
    return Orchestration(operations=operations, edges=edges, flows=flows_of(*operations))


def troubled() -> Orchestration:
    """Return a plan with a missing input, an ambiguous port, order only, and a stale operation."""
    operations = (
        operation("load.east", gives="Temps"),
        operation("load.west", gives="Temps", is_async=True),
        operation("check", data("temps", "Temps"), gives="Verdict"),
        operation(
            "publish",
            data("verdict", "Verdict"),
            data("template", "Template", missing=True, hint="Did you mean 'Temps'?"),
            stale=True,
        ),
        operation("notify", gives_value=False, is_async=True),
    )
    edges = (
        Edge(source="load.east", target="check", port="temps", model="Temps", kind="candidate"),
        Edge(source="load.west", target="check", port="temps", model="Temps", kind="candidate"),
        Edge(source="check", target="publish", port="verdict", model="Verdict"),
        Edge(source="publish", target="notify", kind="order"),
    )
    problem = Problem(
        code="ambiguous-port",
        severity="error",
        message="port 'temps' of 'check' has two candidates",
        operation="check",
        port="temps",
        candidates=("load.east", "load.west"),
    )
    return Orchestration(
        operations=operations, edges=edges, flows=flows_of(*operations), problems=(problem,)
    )


def crawled() -> Orchestration:
    """Return many of which each is taken alone, and all of what that gives together."""
    many = OutputPlan(model="Page", many=True)
    operations = (
        operation("crawl.list")._replace(outputs=(OutputPlan(model="Url", many=True),)),
        operation(
            "crawl.fetch", data("url", "Url", mapped=True), value("agent"), is_async=True
        )._replace(outputs=(many,)),
        operation("store", data("pages", "Page", shape="all"), gives="Report"),
    )
    edges = (
        Edge(source="crawl.list", target="crawl.fetch", port="url", model="Url", many=True),
        Edge(source="crawl.fetch", target="store", port="pages", model="Page", many=True),
    )
    return Orchestration(operations=operations, edges=edges, flows=flows_of(*operations))


def nested(phases: int, layers: int, width: int) -> Orchestration:
    """Return operations in groups of groups, each needing one of the layer above."""
    names = [
        [f"phase{layer // layers}.layer{layer}.op_{layer}_{n}" for n in range(width)]
        for layer in range(phases * layers)
    ]
    operations = []
    edges = []
    for layer, here in enumerate(names):
        for n, name in enumerate(here):
            model = f"M{layer}x{n}"
            above = [data("given", f"M{layer - 1}x{n}")] if layer else []
            operations.append(operation(name, *above, gives=model))
            if layer:
                edges.append(
                    Edge(
                        source=names[layer - 1][n], target=name, port="given", model=above[0].model
                    )
                )
    return Orchestration(
        operations=tuple(operations), edges=tuple(edges), flows=flows_of(*operations)
    )


def looped() -> Orchestration:
    """Return three operations that need each other in a loop, and one beside it."""
    operations = tuple(
        operation(name, data("given", takes), gives=gives)
        for name, takes, gives in (
            ("a.score", "Jobs", "Scores"),
            ("b.rank", "Scores", "Ranks"),
            ("a.pick", "Ranks", "Jobs"),
            ("c.show", "Ranks", "Page"),
        )
    )
    edges = tuple(
        Edge(source=source, target=target, port="given", model=model)
        for source, target, model in (
            ("a.score", "b.rank", "Scores"),
            ("b.rank", "a.pick", "Ranks"),
            ("a.pick", "a.score", "Jobs"),
            ("b.rank", "c.show", "Ranks"),
        )
    )
    problems = tuple(
        Problem(code="cycle", severity="error", message="a loop", operation=node.name)
        for node in operations[:3]
    )
    return Orchestration(operations=operations, edges=edges, problems=problems)


def layered(count: int, width: int = 5) -> Orchestration:
    """Return ``count`` operations in layers of ``width``, each needing two of the layer above."""
    operations, edges = [], []
    for number in range(count):
        layer, column = divmod(number, width)
        ports, above = [], []
        if layer:
            above = sorted({(column, layer - 1), ((column + layer) % width, layer - 1)})
        for port, (at, up) in enumerate(above):
            source = _layered_name(at, up)
            ports.append(data(f"given_{port}", f"Model{up}x{at}"))
            edges.append(
                Edge(
                    source=source,
                    target=_layered_name(column, layer),
                    port=f"given_{port}",
                    model=f"Model{up}x{at}",
                )
            )
        operations.append(
            operation(
                _layered_name(column, layer),
                *ports,
                gives=f"Model{layer}x{column}",
                is_async=bool(number % 2),
                doc="Do one step.",
                cell=f"cell {number}",
            )
        )
    return Orchestration(
        operations=tuple(operations), edges=tuple(edges), flows=flows_of(*operations)
    )


def renamed(plan: Orchestration, old: str, new: str) -> Orchestration:
    """Return ``plan`` with one operation called something else."""

    def swap(name: str) -> str:
        return new if name == old else name

    return replace(
        plan,
        operations=tuple(node._replace(name=swap(node.name)) for node in plan.operations),
        edges=tuple(
            edge._replace(source=swap(edge.source), target=swap(edge.target)) for edge in plan.edges
        ),
    )


def _layered_name(column: int, layer: int) -> str:
    return f"group_{layer // 3}.step_{layer}_{column}"
