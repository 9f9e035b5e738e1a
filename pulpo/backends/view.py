"""What a picture shows of a plan, before any target's syntax: nodes, edges, groups, words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import Problem
from ..plan import Edge, FlowDefinition, Node

__all__ = [
    "FEW",
    "SIGNS",
    "Collapsed",
    "Crowd",
    "End",
    "Group",
    "Merged",
    "Missing",
    "More",
    "View",
    "count",
    "drawable",
    "edge_class",
    "edge_words",
    "end_words",
    "first_line",
    "group_words",
    "in_brief",
    "is_dense",
    "mark",
    "model_words",
    "more_words",
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
    "cached": "✓",
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
# What a group says of its operations: the first of these that one of them is in.
_URGENT = ("failed", "running", "problem", "stale", "cancelled", "not-reached")
FEW = 3  # names that are said one by one; of more, the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collapsed:
    """A group that is drawn as one node.

    Parameters
    ----------
    members
        Its operations that belong into the picture; ``total`` counts all that it has.
    standalone
        True for the operations without a group, taken together.
    """

    name: str
    members: tuple[Node, ...]
    total: int
    standalone: bool = False


#: What an edge starts or ends at: an operation's name, or a group that is drawn as one node.
End = str | Collapsed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merged:
    """All edges of one kind between two ends of which one is a group, drawn as one edge."""

    source: End
    target: End
    kind: str
    edges: tuple[Edge, ...]


class More(NamedTuple):
    """Where a picture was cut: operations that are not in it, but need ``end`` or are needed."""

    end: End
    before: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A model that nobody produces, with the operations (and their ports) that want it."""

    label: str
    wanted_by: tuple[tuple[End, str], ...]
    hint: str = ""


@dataclass(slots=True)
class Group:
    """A dotted prefix with its children in registration order: groups and operations.

    ``hidden`` counts the operations below it that are not in the picture.
    """

    name: str
    children: list[Group | Node | Collapsed] = field(default_factory=list)
    hidden: int = 0


class Crowd(NamedTuple):
    """Ports whose edges say more than the model: which port it is, or that it takes each one.

    Both are pairs of an operation with a model and with a port.
    """

    several: frozenset[tuple[str, str]] = frozenset()
    mapped: frozenset[tuple[str, str]] = frozenset()


_NO_CROWD = Crowd()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of a plan that is drawn.

    Parameters
    ----------
    nodes
        Operations and collapsed groups, in registration order.
    outside
        Neighbours of a flow, drawn pale.
    more
        Where it goes on, in a picture that was cut around an operation.
    tree
        The groups of ``nodes``; for the hierarchy of one flow they begin at ``top``.
    titles
        The name of each group's flow.
    around
        The operation that the picture was cut around; its groups are never collapsed.
    total
        How many operations there are, shown or not.
    note
        What was left out, and how to see it; empty when all is there.
    whole
        The view before groups were collapsed, where they were.
    """

    nodes: tuple[Node | Collapsed, ...]
    outside: tuple[Node | Collapsed, ...]
    edges: tuple[Edge | Merged, ...]
    missing: tuple[Missing, ...] = ()
    more: tuple[More, ...] = ()
    problems: Mapping[str, tuple[Problem, ...]]
    tree: Group
    top: Group
    titles: Mapping[str, str]
    flow: FlowDefinition | None = None
    around: str = ""
    crowd: Crowd = _NO_CROWD
    total: int
    note: str = ""
    whole: View | None = None


def is_dense(view: View) -> bool:
    """Return whether there are so many edges among the nodes that no layout keeps them apart."""
    return len(view.edges) > max(100, 3 * len(view.nodes))


def drawable(view: View) -> View:
    """Return what a drawing can show: of groups that nearly all need each other, what is most."""
    most = max(150, 3 * len(view.nodes))
    if len(view.edges) <= most or not any(isinstance(edge, Merged) for edge in view.edges):
        return view
    sizes = [len(edge.edges) if isinstance(edge, Merged) else 1 for edge in view.edges]
    kept = set(sorted(range(len(sizes)), key=lambda place: -sizes[place])[:most])
    note = (
        f"Of {len(sizes):,} connections between groups the {most} that carry most are drawn; the "
        "text has all."
    )
    edges = tuple(edge for place, edge in enumerate(view.edges) if place in kept)
    return replace(view, edges=edges, note=f"{view.note} {note}".strip())


def mark(node: Node) -> str:
    """Return how the operation is called: ``"async"`` or ``"sync"``."""
    return "async" if node.is_async else "sync"


def words(node: Node) -> tuple[str, str, str]:
    """Return what the operation takes, in full and in brief, and what it gives.

    In full with its ports, ``stepstone: RawJobs, linkedin: RawJobs``; in brief only the models,
    ``RawJobs × 2``. One that runs for each of many says so: ``each Url``.
    """
    full, brief = [], []
    for text, kind, model, shape, optional, _, annotation, default, _, _, mapped in node.ports:
        what = text
        if kind == "data":
            what = model or text
            if "." in what or optional or shape == "all":  # else it is called as it is
                what = model_words(what, shape == "all", optional)
            text = f"{text}: {what}"
            if mapped:
                text, what = f"each {text}", f"each {what}"
        elif annotation:
            text = f"{text}: {annotation.text}"
        if default:
            text = f"{text} = {default.text}"
        full.append(text)
        brief.append(what)
    if len(brief) == 1:  # the most frequent case, as is a single result of one model
        return text, what, _gives(node)
    if len(set(brief)) < len(brief):
        brief = _counted(brief)
    return ", ".join(full), ", ".join(brief), _gives(node)


def signature(node: Node) -> str:
    """Return what the operation takes and gives in full, ``(jobs: CleanedJobs) → Jobs``."""
    takes, _, gives = words(node)
    return f"({takes}) → {gives}" if gives else f"({takes})"


def in_brief(takes: str, gives: str, limit: int = 38) -> str:
    """Return ``RawJobs × 2 → CleanedJobs`` in at most ``limit`` characters."""
    arrow = f" → {gives}" if gives else ""
    if len(takes) + len(arrow) > limit:
        takes = shorten(takes, max(limit - len(arrow), limit // 2))
        return shorten(f"{takes}{arrow}".lstrip(), limit)
    return f"{takes}{arrow}" if takes else arrow[1:]


def group_words(group: Collapsed) -> str:
    """Return how many operations a collapsed group stands for."""
    shown = len(group.members)
    return count(group.total, "operation", f"{shown:,} of " if shown < group.total else "")


def edge_words(edge: Edge | Merged, crowd: Crowd) -> str:
    """Return what flows on the edge, with the port where the target takes that model twice."""
    if edge.kind == "order":
        return ""
    if isinstance(edge, Merged):
        return _merged_words(edge, crowd)
    model = model_words(edge.model, edge.many) if edge.model else ""
    if crowd.mapped and edge_class(edge, crowd) == "each":
        model = f"each {model_words(edge.model)}"
    if crowd.several and (edge.target, edge.model) in crowd.several:
        model = f"{edge.port}: {model}"
    model = model or edge.port
    return f"{model} ?" if edge.kind == "candidate" else model


def edge_class(edge: Edge | Merged, crowd: Crowd) -> str:
    """Return the edge's kind, or ``"each"`` where its target runs once for each of many."""
    if crowd.mapped and isinstance(edge, Edge) and (edge.target, edge.port) in crowd.mapped:
        return "each"
    return edge.kind


def end_words(end: End) -> str:
    """Return an edge's end in text: an operation's name, or ``group.*``."""
    if isinstance(end, Collapsed):
        return end.name if end.standalone else f"{end.name}.*"
    return end


def more_words(more: More) -> str:
    """Return how many operations stand behind a cut."""
    return f"{len(more.names):,} more"


def state_words(node: Node | Collapsed, view: View, states: Mapping[str, str]) -> tuple[str, str]:
    """Return the state's class and its sign with words; two empty strings when all is well.

    ``states`` are a run's (`pulpo.runs.OperationState`), by operation. A group says what is worst
    in it, and of how many operations.
    """
    if isinstance(node, Collapsed):
        return _group_state(node, view, states)
    state = states.get(node.name, "")
    problems = view.problems.get(node.name, ())
    if state not in ("failed", "timed out", "running", "retrying"):
        if problems:
            return "problem", f"{SIGNS['problem']} {problems[0].code.replace('-', ' ')}"
        state = "stale" if node.stale else state
    return (_LIKE.get(state, state), f"{SIGNS[state]} {state}") if state in SIGNS else ("", "")


def summary(view: View, kind: str) -> str:
    """Return the picture's text alternative: a title line, then what depends on what."""
    bundles = [node for node in view.nodes if isinstance(node, Collapsed)]
    shown = len(view.nodes) + sum(len(bundle.members) - 1 for bundle in bundles)
    part = f"{shown:,} of " if shown < view.total else ""
    title = f"{kind} of {count(view.total, 'operation', part)}"
    groups = [child for child in view.tree.children if _is_group(child)]
    if groups:
        title += f" in {count(len(groups), 'group')}"
    if view.flow is not None:
        title += f" ({view.flow.name})"
    said = [_sentence(edge, view) for edge in view.edges[:40]]
    said += [f"nobody gives {missing.label}" for missing in view.missing[:10]]
    if len(view.edges) > 40:
        said.append(f"and {count(len(view.edges) - 40, 'more edge')}")
    lines = [f"{title}.", view.note, "; ".join(said) + "." if said else ""]
    return "\n".join(line for line in lines if line)


def first_line(text: str) -> str:
    """Return the first line of a docstring that says something."""
    return text.strip().partition("\n")[0].rstrip() if "\n" in text else text.strip()


def shorten(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` characters, the cut shown by an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ,") + "…"


def count(number: int, noun: str, before: str = "") -> str:
    """Return ``"1 operation"`` or ``"1,200 operations"``; ``before`` as in ``"3 of "``."""
    return f"{before}{number:,} {noun}{'' if number == 1 else 's'}"


def model_words(model: str, many: bool = False, optional: bool = False) -> str:
    """Return a model's own name without its module, as Python would annotate it."""
    if "." in model and "[" not in model:
        model = model.rpartition(".")[2]
    if many:
        model = f"list[{model}]"
    return f"{model} | None" if optional else model


def _counted(said: Sequence[str]) -> list[str]:
    """Return each word once, the most frequent first, with how often it is there."""
    found = Counter(said).most_common()
    return [f"{what} × {n:,}" if n > 1 else what for what, n in found]


def _gives(node: Node) -> str:
    outputs = node.outputs
    if len(outputs) == 1:
        only = outputs[0]
        if not only.many:
            return model_words(only.model, False, only.optional)
    if outputs:
        # Of an operation that runs for each element, what it gives each time.
        each = bool(node.maps)
        return ", ".join(
            [model_words(o.model, o.flat if each else o.many, o.optional) for o in outputs]
        )
    return node.returns.text if node.returns and node.gives_value else ""


def _merged_words(merged: Merged, crowd: Crowd) -> str:
    plain = Crowd(mapped=crowd.mapped)
    said = [edge_words(edge, plain).removesuffix(" ?") for edge in merged.edges]
    models = _counted(said)
    if len(models) > FEW:
        models = [f"{models[0]} and {len(models) - 1:,} more"]
    return ", ".join(models) + (" ?" if merged.kind == "candidate" else "")


def _group_state(group: Collapsed, view: View, states: Mapping[str, str]) -> tuple[str, str]:
    found = Counter([state_words(member, view, states)[0] for member in group.members])
    for state in _URGENT:
        if found[state]:
            what = {"problem": "with problems", "not-reached": "not reached"}.get(state, state)
            sign = SIGNS["not reached" if state == "not-reached" else state]
            return state, f"{sign} {found[state]:,} {what}"
    if found.keys() <= {"done", "cached"}:
        state = "done" if found["done"] else "cached"
        return state, f"{SIGNS[state]} {state}"
    return "", ""


def _is_group(child: Group | Node | Collapsed) -> bool:
    return isinstance(child, Group) or (isinstance(child, Collapsed) and not child.standalone)


def _sentence(edge: Edge | Merged, view: View) -> str:
    target, source = end_words(edge.target), end_words(edge.source)
    if edge.kind == "order":
        return f"{target} runs after {source}"
    verb = "may need" if edge.kind == "candidate" else "needs"
    what = edge_words(edge, view.crowd).removesuffix(" ?") or "the result"
    return f"{target} {verb} {what} from {source}"
