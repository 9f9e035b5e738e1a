"""A view as Mermaid text, which GitHub and others draw where Markdown stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..plan import Node
from .look import shallower
from .view import (
    Collapsed,
    End,
    Group,
    View,
    drawable,
    edge_class,
    edge_words,
    group_words,
    in_brief,
    mark,
    more_words,
    shorten,
    state_words,
    summary,
    words,
)

__all__ = ["MOST_EDGES", "MOST_TEXT", "draw", "escape"]

# What Mermaid refuses to exceed, unless the page that shows it says otherwise (``maxEdges`` and
# ``maxTextSize`` of its configuration, which a text cannot set for itself).
MOST_EDGES = 500
MOST_TEXT = 50_000

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_SPECIAL = re.compile('["#&<>`]')
# In a text with a line break Mermaid reads these after its entities: only what is invisible between
# their characters keeps them apart.
_SPLIT = re.compile(r"\\(?=n)|\$(?=\$)|:(?=fa-)|\d(?=\. )")
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069\ufffe\uffff]"
)
_LONGEST = 44  # characters of a name

# Strokes only: a fill would have to know whether the page is light or dark.
_CLASSES: Mapping[str, str] = {
    "missing": "stroke:#d1242f,stroke-dasharray:5 3",
    "more": "stroke-dasharray:2 3",
    "outside": "stroke-dasharray:5 3",
    "note": "fill:none,stroke:none",
    "around": "stroke-width:3px",
    "problem": "stroke:#d97706,stroke-width:2px",
    "stale": "stroke:#b58407,stroke-dasharray:5 3",
    "running": "stroke:#0e8a8a,stroke-width:2px",
    "done": "stroke:#2da44e",
    "cached": "stroke:#2da44e,stroke-dasharray:5 3",
    "failed": "stroke:#d1242f,stroke-width:2px",
    "cancelled": "stroke:#8b949e,stroke-dasharray:5 3",
    "not-reached": "stroke:#8b949e,stroke-dasharray:5 3",
}
_ARROWS: Mapping[str, str] = {
    "data": "-->",
    "each": "==>",
    "order": "-.->",
    "candidate": "-.->",
    "missing": "-.->",
    "more": "-.->",
    "tree": "---",
}
_EDGE_STYLES: Mapping[str, str] = {"candidate": "stroke:#d97706", "missing": "stroke:#d1242f"}

States = Mapping[str, str]


def draw(view: View, kind: str, states: States | None = None) -> str:
    """Return ``"both"``, ``"dataflow"`` or ``"hierarchy"`` as a flowchart.

    Where Mermaid would refuse it as too large, groups are collapsed, and the chart says so.

    Parameters
    ----------
    states
        What each operation's run came to, as in ``Run.states``.
    """
    paper = _VIEWS[kind](_Paper(drawable(view), states or {}))
    if paper.fits():
        return paper.text()
    note = (
        f"Mermaid draws at most {MOST_EDGES} edges and {MOST_TEXT:,} characters, so groups are "
        "collapsed. See a part with --around OPERATION or of one flow (FLOW), or all as SVG."
    )
    for smaller in shallower(view):
        paper = _VIEWS[kind](_Paper(drawable(replace(smaller, note=note)), states or {}))
        if paper.fits():
            break
    return paper.text()


def escape(text: str) -> str:
    """Return ``text`` as the inside of a quoted Mermaid string that shows exactly it.

    Quotes, and what Mermaid reads as Markdown, HTML or an entity, become entities of its own kind
    (``#34;``), and only those: it does not undo them everywhere. The one place where users' words
    enter Mermaid.
    """
    text = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    text = _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)
    return _SPLIT.sub("\\g<0>\N{WORD JOINER}", text).replace("\n", "<br/>")


@dataclass(slots=True)
class _Paper:
    """A chart that is being written; Mermaid styles an edge by its number."""

    view: View
    states: States
    lines: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    edges: int = 0
    styled: dict[str, list[int]] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)

    def node(self, ident: str, lines: list[str], shape: str, kind: str, indent: str = "  ") -> None:
        """Write a node; ``shape`` is its brackets, such as ``"[]"``."""
        middle = len(shape) // 2
        label = escape("\n".join(line for line in lines if line))
        self.lines.append(f'{indent}{ident}{shape[:middle]}"{label}"{shape[middle:]}')
        if kind:
            self.classes.setdefault(kind, []).append(ident)

    def edge(self, source: str, target: str, kind: str, said: str = "") -> None:
        """Write an edge."""
        label = f'|"{escape(said)}"|' if said else ""
        self.lines.append(f"  {source} {_ARROWS[kind]}{label} {target}")
        if kind in _EDGE_STYLES:
            self.styled.setdefault(kind, []).append(self.edges)
        self.edges += 1

    def end(self, end: End) -> str:
        """Return what an operation or a collapsed group is called in the chart."""
        if isinstance(end, Collapsed):
            return self.ident("group", end.name)
        return self.ident("op", end)

    def ident(self, kind: str, name: str) -> str:
        """Return an identifier; never a word of Mermaid's own, as all begin with their kind."""
        if not name:
            return kind
        if not _PLAIN.fullmatch(name):
            name = self.odd.setdefault(name, f"odd-{len(self.odd) + 1}")
        # Mermaid 10 reads a dot as a path into its own objects.
        return f"{kind}-{name.replace('.', '-')}"

    def fits(self) -> bool:
        """Say whether Mermaid will draw it."""
        return self.edges <= MOST_EDGES and len(self.text()) <= MOST_TEXT

    def text(self) -> str:
        """Return the chart."""
        used = [
            f"  classDef {kind} {_CLASSES[kind]}\n  class {','.join(idents)} {kind}"
            for kind, idents in self.classes.items()
        ]
        styled = [
            f"  linkStyle {','.join(map(str, numbers))} {_EDGE_STYLES[kind]}"
            for kind, numbers in self.styled.items()
        ]
        return "\n".join([*self.lines, *used, *styled])


def _both(paper: _Paper) -> _Paper:
    _start(paper, "Dataflow and groups", "TB")
    _frames(paper, paper.view.tree, "  ")
    return _close(paper)


def _dataflow(paper: _Paper) -> _Paper:
    _start(paper, "Dataflow", "TB")
    for node in paper.view.nodes:
        _leaf(paper, node, node.name)
    return _close(paper)


def _hierarchy(paper: _Paper) -> _Paper:
    _start(paper, "Hierarchy", "LR")
    view, tree = paper.view, paper.view.top
    root = view.flow.name if view.flow else "main_flow"
    paper.node(paper.ident("group", tree.name), [tree.name, root], "[]", "")
    _branches(paper, tree)
    return paper


def _start(paper: _Paper, kind: str, direction: str) -> None:
    # The title holds numbers and a flow's name, which is an identifier.
    title = summary(paper.view, kind).partition("\n")[0]
    paper.lines += [f"flowchart {direction}", f"  accTitle: {title}"]
    if paper.view.note:
        paper.node("note", [paper.view.note], "[]", "note")


def _close(paper: _Paper) -> _Paper:
    """Add what stands outside of every frame: stubs, missing inputs, edges."""
    view = paper.view
    for node in view.outside:
        end = node if isinstance(node, Collapsed) else node.name
        paper.node(paper.end(end), [shorten(node.name, _LONGEST)], "()", "outside")
    for missing in view.missing:
        ident = paper.ident("missing", missing.label)
        label = shorten(missing.label, _LONGEST)
        paper.node(ident, [f"{label} ?", "nobody gives it"], "()", "missing")
        for end, port in missing.wanted_by:
            paper.edge(ident, paper.end(end), "missing", port)
    for edge in view.edges:
        kind = edge_class(edge, view.crowd)
        source, target = paper.end(edge.source), paper.end(edge.target)
        paper.edge(source, target, kind, edge_words(edge, view.crowd))
    for more in view.more:
        end = paper.end(more.end)
        ident = f"more-{'before' if more.before else 'after'}-{end}"
        paper.node(ident, [f"… {more_words(more)}"], "()", "more")
        paper.edge(*((ident, end) if more.before else (end, ident)), "more")
    return paper


def _leaf(paper: _Paper, node: Node | Collapsed, label: str, indent: str = "  ") -> None:
    state, said = state_words(node, paper.view, paper.states)
    label = shorten(label, _LONGEST)
    if isinstance(node, Collapsed):
        lines, shape = [label, group_words(node), said], "[[]]"
        paper.node(paper.end(node), lines, shape, state, indent)
    else:
        _, takes, gives = words(node)
        brief = in_brief(takes, gives)
        lines, shape = [f"{label} {mark(node)}", brief, said], "()"
        around = "around" if node.name == paper.view.around else ""
        paper.node(paper.end(node.name), lines, shape, state or around, indent)


def _frames(paper: _Paper, group: Group, indent: str) -> None:
    cut = len(group.name) + 1 if group.name else 0
    for child in group.children:
        if not isinstance(child, Group):
            _leaf(paper, child, child.name[cut:], indent)
            continue
        ident = paper.ident("group", child.name)
        paper.lines.append(f'{indent}subgraph {ident}["{escape(child.name)}"]')
        _frames(paper, child, indent + "  ")
        paper.lines.append(f"{indent}end")


def _branches(paper: _Paper, group: Group) -> None:
    cut = len(group.name) + 1 if group.name else 0
    here = paper.ident("group", group.name)
    for child in group.children:
        label = child.name[cut:]
        if isinstance(child, Group):
            there = paper.ident("group", child.name)
            flow = paper.view.titles.get(child.name, "")
            paper.node(there, [shorten(label, _LONGEST), flow], "[]", "")
        else:
            there = paper.end(child if isinstance(child, Collapsed) else child.name)
            _leaf(paper, child, label)
        paper.edge(here, there, "tree")
        if isinstance(child, Group):
            _branches(paper, child)
    if group.hidden:
        there = f"more-in-{here}"
        paper.node(there, [f"… {group.hidden:,} more"], "()", "more")
        paper.edge(here, there, "tree")


_VIEWS: Mapping[str, Callable[[_Paper], _Paper]] = {
    "both": _both,
    "dataflow": _dataflow,
    "hierarchy": _hierarchy,
}
