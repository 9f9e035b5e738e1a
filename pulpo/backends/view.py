"""What a picture shows of a plan, before any target's syntax: nodes, edges, groups, words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from ..errors import Problem, UnknownNameError, did_you_mean
from ..plan import Edge, FlowDefinition, Node, Orchestration

__all__ = [
    "SIGNS",
    "Group",
    "Missing",
    "View",
    "edge_words",
    "first_line",
    "group_tree",
    "look",
    "mark",
    "model_words",
    "shorten",
    "signature",
    "state_words",
    "summary",
    "words",
]

# Colour is never the only sign: each state has a character and its words.
SIGNS: Mapping[str, str] = {
    "problem": "⚠",
    "stale": "↻",
    "running": "▶",
    "retrying": "▶",
    "done": "✓",
    "failed": "✗",
    "timed out": "✗",
    "cancelled": "⊘",
    "not reached": "⊘",
}
# States that look like another one.
_LIKE: Mapping[str, str] = {
    "retrying": "running",
    "timed out": "failed",
    "not reached": "not-reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A model that nobody produces, with the operations (and their ports) that want it."""

    label: str
    wanted_by: tuple[tuple[str, str], ...]
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of a plan that is drawn; ``outside`` are neighbours of a flow, drawn pale."""

    nodes: tuple[Node, ...]
    outside: tuple[Node, ...]
    edges: tuple[Edge, ...]
    missing: tuple[Missing, ...]
    problems: Mapping[str, tuple[Problem, ...]]
    flow: FlowDefinition | None = None
    # What a target takes at two ports: there an edge says which port it feeds.
    crowded: frozenset[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class Group:
    """A dotted prefix with its children in registration order: groups and operations."""

    name: str
    children: list[Group | Node] = field(default_factory=list)


def look(plan: Orchestration, flow: str | None = None) -> View:
    """Return what is drawn of ``plan``, or of one of its flows (a flow's name or a group)."""
    chosen = _find_flow(plan, flow)
    nodes, outside, edges = _restrict(plan, chosen)
    problems: dict[str, tuple[Problem, ...]] = {}
    for problem in plan.problems:
        if problem.severity == "error" and problem.operation:
            problems[problem.operation] = (*problems.get(problem.operation, ()), problem)
    return View(
        nodes=nodes,
        outside=outside,
        edges=edges,
        missing=_missing(nodes),
        problems=problems,
        flow=chosen,
        crowded=_crowded(edges),
    )


def group_tree(nodes: Iterable[Node], path: str = "") -> Group:
    """Return the groups as they are drawn, and as they get flows; with ``path``, that one alone.

    A top-level group always stands for itself; a deeper one only with two operations below it,
    else its operation is shown in the parent (``stepstone.fetch`` in ``scraping``).
    """
    nodes = tuple(nodes)
    parents = [node.name.rpartition(".")[0] for node in nodes]
    below: Counter[str] = Counter()
    for parent, number in Counter(parents).items():
        for prefix in _prefixes(parent):
            below[prefix] += number
    groups: dict[str, Group] = {"": Group("")}
    homes: dict[str, Group] = {"": groups[""]}
    for node, parent in zip(nodes, parents, strict=True):
        if parent not in homes:
            homes[parent] = _home(parent, below, groups)
        homes[parent].children.append(node)
    return groups.get(path, groups[""])


def mark(node: Node) -> str:
    """Return how the operation is called: ``"async"`` or ``"sync"``."""
    return "async" if node.is_async else "sync"


def words(node: Node, limit: int = 38) -> tuple[str, str]:
    """Return what the operation takes and gives, in full and in brief.

    In full as in Python, ``(stepstone: RawJobs, linkedin: RawJobs) → CleanedJobs``; in brief
    without the ports, ``RawJobs × 2 → CleanedJobs``, and in at most ``limit`` characters.
    """
    full, brief = [], []
    for port in node.ports:
        name = text = port.name
        what = name
        if port.kind == "data":
            what = model_words(port.model or name, port.shape == "all", port.optional)
            text = f"{name}: {what}"
        elif port.annotation:
            text = f"{name}: {port.annotation.text}"
        full.append(f"{text} = {port.default.text}" if port.default else text)
        brief.append(what)
    gives = _gives(node)
    arrow = f" → {gives}" if gives else ""
    return f"({', '.join(full)}){arrow}", _in_brief(brief, arrow, limit)


def signature(node: Node) -> str:
    """Return what the operation takes and gives, in full."""
    return words(node)[0]


def edge_words(edge: Edge, crowded: frozenset[tuple[str, str]] = frozenset()) -> str:
    """Return what flows on the edge, with the port where the target takes that model twice."""
    if edge.kind == "order":
        return ""
    model = model_words(edge.model, edge.many) if edge.model else ""
    if crowded and (edge.target, edge.model) in crowded:
        model = f"{edge.port}: {model}"
    model = model or edge.port
    return f"{model} ?" if edge.kind == "candidate" else model


def state_words(node: Node, view: View, states: Mapping[str, str]) -> tuple[str, str]:
    """Return the state's class and its sign with words; two empty strings when all is well.

    ``states`` are a run's (`pulpo.runs.OperationState`), by operation.
    """
    state = states.get(node.name, "")
    problems = view.problems.get(node.name, ())
    if state not in ("failed", "timed out", "running", "retrying"):
        if problems:
            return "problem", f"{SIGNS['problem']} {problems[0].code.replace('-', ' ')}"
        state = "stale" if node.stale else state
    return (_LIKE.get(state, state), f"{SIGNS[state]} {state}") if state in SIGNS else ("", "")


def summary(view: View, kind: str) -> str:
    """Return the picture's text alternative: a title line, then what depends on what."""
    groups = len({node.name.partition(".")[0] for node in view.nodes if "." in node.name})
    title = f"{kind} of {_count(len(view.nodes), 'operation')}"
    if groups:
        title += f" in {_count(groups, 'group')}"
    if view.flow is not None:
        title += f" ({view.flow.name})"
    said = [_sentence(edge, view) for edge in view.edges[:40]]
    said += [f"nobody gives {missing.label}" for missing in view.missing[:10]]
    if len(view.edges) > 40:
        said.append(f"and {_count(len(view.edges) - 40, 'more edge')}")
    return title + "." + ("\n" + "; ".join(said) + "." if said else "")


def first_line(text: str) -> str:
    """Return the first line of a docstring that says something."""
    return text.strip().partition("\n")[0].rstrip() if "\n" in text else text.strip()


def shorten(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` characters, the cut shown by an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ,") + "…"


@lru_cache(maxsize=4096)
def model_words(model: str, many: bool = False, optional: bool = False) -> str:
    """Return a model's own name without its module, as Python would annotate it."""
    if "[" not in model:
        model = model.rpartition(".")[2]
    if many:
        model = f"list[{model}]"
    return f"{model} | None" if optional else model


def _find_flow(plan: Orchestration, name: str | None) -> FlowDefinition | None:
    if name is None:
        return None
    for flow in plan.flows:
        if name in (flow.name, flow.hierarchy_path) and name:
            return flow
    known = tuple(flow.name for flow in plan.flows)
    raise UnknownNameError(
        f"no flow is called {name!r}.{did_you_mean(name, known)}", candidates=known
    )


def _restrict(
    plan: Orchestration, flow: FlowDefinition | None
) -> tuple[tuple[Node, ...], tuple[Node, ...], tuple[Edge, ...]]:
    """Return the flow's operations, their neighbours in other flows, and the edges among them."""
    if flow is None:
        return plan.operations, (), plan.edges
    covered = frozenset(flow.covers)
    edges = tuple(e for e in plan.edges if e.source in covered or e.target in covered)
    touched = {name for edge in edges for name in (edge.source, edge.target)} - covered
    nodes = tuple(node for node in plan.operations if node.name in covered)
    return nodes, tuple(node for node in plan.operations if node.name in touched), edges


def _missing(nodes: Iterable[Node]) -> tuple[Missing, ...]:
    wanted: dict[str, list[tuple[str, str]]] = {}
    hints: dict[str, str] = {}
    for node in nodes:
        for port in node.ports:
            if port.missing and port.kind == "data":
                label = model_words(port.model) or port.name
                wanted.setdefault(label, []).append((node.name, port.name))
                hints[label] = hints.get(label) or port.hint
    return tuple(
        Missing(label=label, wanted_by=tuple(by), hint=hints[label]) for label, by in wanted.items()
    )


def _crowded(edges: Iterable[Edge]) -> frozenset[tuple[str, str]]:
    ports: dict[tuple[str, str], str] = {}
    crowded = set()
    for edge in edges:
        key = (edge.target, edge.model)
        if ports.setdefault(key, edge.port) != edge.port:
            crowded.add(key)
    return frozenset(crowded)


def _prefixes(name: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    at = name.find(".")
    while at >= 0:
        yield name[:at]
        at = name.find(".", at + 1)
    if name:
        yield name


def _home(parent: str, below: Mapping[str, int], groups: dict[str, Group]) -> Group:
    """Return the group in which the operations of ``parent`` are shown; make it when it is new."""
    home = groups[""]
    for prefix in _prefixes(parent):
        if home.name and below[prefix] < 2:
            continue
        if prefix not in groups:
            groups[prefix] = Group(prefix)
            home.children.append(groups[prefix])
        home = groups[prefix]
    return home


def _in_brief(takes: list[str], arrow: str, limit: int) -> str:
    if len(takes) > 1 and len(set(takes)) < len(takes):
        takes = [f"{what} × {n}" if n > 1 else what for what, n in Counter(takes).items()]
    taken = ", ".join(takes)
    if len(taken) + len(arrow) > limit:
        taken = shorten(taken, max(limit - len(arrow), limit // 2))
        return shorten(f"{taken}{arrow}".lstrip(), limit)
    return f"{taken}{arrow}" if taken else arrow[1:]


def _gives(node: Node) -> str:
    outputs = node.outputs
    if len(outputs) == 1:
        return model_words(outputs[0].model, outputs[0].many, outputs[0].optional)
    if outputs:
        return ", ".join([model_words(o.model, o.many, o.optional) for o in outputs])
    return node.returns.text if node.returns and node.gives_value else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _sentence(edge: Edge, view: View) -> str:
    if edge.kind == "order":
        return f"{edge.target} runs after {edge.source}"
    verb = "may need" if edge.kind == "candidate" else "needs"
    what = edge_words(edge, view.crowded).removesuffix(" ?") or "the result"
    return f"{edge.target} {verb} {what} from {edge.source}"
