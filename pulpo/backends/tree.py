"""A plan as plain text, for terminals and for tests that compare: a tree of names, and edges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..plan import Edge, Node, Orchestration
from .view import Group, View, edge_words, group_tree, look, mark, signature, state_words

__all__ = ["both_text", "dataflow_text", "edge_list", "escape", "hierarchy_text"]

_BRANCH, _LAST = "├── ", "└── "
_BAR, _BLANK = "│   ", "    "
# A terminal obeys control characters, and marks that reorder text make a line lie.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def hierarchy_text(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return the tree of groups and operations, each with what it takes and gives."""
    view = look(plan, flow)
    flows = {f.hierarchy_path: f.name for f in plan.flows if f.hierarchy_path}
    tree = group_tree(view.nodes, view.flow.hierarchy_path if view.flow else "")
    root = view.flow.name if view.flow else "main_flow"
    head = f"{tree.name} [{root}]" if tree.name else root
    lines = [escape(head), *_branches(tree, view, states or {}, flows, "")]
    return "\n".join(lines)


def dataflow_text(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return each operation with, below it, what it needs and from where."""
    view = look(plan, flow)
    needs = _needs(view)
    lines: list[str] = []
    for node in view.nodes:
        lines.append(_operation(node, node.name, view, states or {}))
        items = needs.get(node.name, [])
        for number, item in enumerate(items, start=1):
            lines.append((_LAST if number == len(items) else _BRANCH) + item)
    return "\n".join(lines)


def both_text(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return the tree of names, then the edges."""
    edges = edge_list(plan, flow=flow)
    return hierarchy_text(plan, flow=flow, states=states) + (f"\n\n{edges}" if edges else "")


def edge_list(plan: Orchestration, *, flow: str | None = None) -> str:
    """Return one line an edge, ``a -[Model]-> b``, in the plan's order.

    What nobody gives comes from ``?``, order alone is ``-[after]->``, and a port that could not be
    settled has a line for every candidate, ``-[Model ?]->``.
    """
    view = look(plan, flow)
    lines = [_edge(edge, view) for edge in view.edges]
    for missing in view.missing:
        for operation, port in missing.wanted_by:
            lines.append(f"? -[{escape(port)}: {escape(missing.label)}]-> {escape(operation)}")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return ``text`` as one line that a terminal shows and does not obey."""
    return text if text.isprintable() else _UNSAFE.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"


def _branches(
    group: Group, view: View, states: Mapping[str, str], flows: Mapping[str, str], indent: str
) -> Iterator[str]:
    cut = len(group.name) + 1 if group.name else 0
    for number, child in enumerate(group.children, start=1):
        last = number == len(group.children)
        head, below = (_LAST, _BLANK) if last else (_BRANCH, _BAR)
        label = child.name[cut:]
        if isinstance(child, Node):
            yield indent + head + _operation(child, label, view, states)
            continue
        flow = flows.get(child.name, "")
        yield indent + head + escape(label) + (f" [{escape(flow)}]" if flow else "")
        yield from _branches(child, view, states, flows, indent + below)


def _operation(node: Node, label: str, view: View, states: Mapping[str, str]) -> str:
    _, words = state_words(node, view, states)
    line = f"{label} {mark(node)} {signature(node)}"
    return escape(f"{line}  {words}" if words else line)


def _needs(view: View) -> Mapping[str, list[str]]:
    needs: dict[str, list[str]] = {}
    for edge in view.edges:
        what = "after" if edge.kind == "order" else edge_words(edge, view.crowded) or "result"
        needs.setdefault(edge.target, []).append(f"{escape(what)} ← {escape(edge.source)}")
    for missing in view.missing:
        for operation, port in missing.wanted_by:
            said = f"{escape(port)}: {escape(missing.label)} ← nobody"
            needs.setdefault(operation, []).append(said)
    return needs


def _edge(edge: Edge, view: View) -> str:
    what = "after" if edge.kind == "order" else edge_words(edge, view.crowded)
    return f"{escape(edge.source)} -[{escape(what)}]-> {escape(edge.target)}"
