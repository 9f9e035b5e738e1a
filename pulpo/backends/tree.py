"""A view as plain text, for terminals and for tests that compare: a tree of names, and edges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from ..plan import Edge, Node
from .view import (
    Collapsed,
    Group,
    Merged,
    More,
    View,
    edge_words,
    end_words,
    group_words,
    mark,
    more_words,
    signature,
    state_words,
)

__all__ = ["VIEWS", "both_text", "dataflow_text", "edge_list", "escape", "hierarchy_text"]

_BRANCH, _LAST = "├── ", "└── "
_BAR, _BLANK = "│   ", "    "
# A terminal obeys control characters, and marks that reorder text make a line lie.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")

States = Mapping[str, str]


def hierarchy_text(view: View, states: States | None = None) -> str:
    """Return the tree of groups and operations, each with what it takes and gives."""
    return _paragraphs(_tree(view, states or {}), view.note)


def dataflow_text(view: View, states: States | None = None) -> str:
    """Return each operation with, below it, what it needs and from where; then the edges."""
    needs = _needs(view)
    lines: list[str] = []
    for node in view.nodes:
        lines.append(_leaf(node, end_words(_end(node)), view, states or {}))
        items = needs.get(_end(node), [])
        for number, item in enumerate(items, start=1):
            lines.append((_LAST if number == len(items) else _BRANCH) + item)
    return _paragraphs("\n".join(lines), edge_list(view), view.note)


def both_text(view: View, states: States | None = None) -> str:
    """Return the tree of names, then the edges."""
    return _paragraphs(_tree(view, states or {}), edge_list(view), view.note)


def edge_list(view: View) -> str:
    """Return one line an edge, ``a -[Model]-> b``, in the plan's order.

    What nobody gives comes from ``?``, order alone is ``-[after]->``, a port that could not be
    settled has a line for every candidate, ``-[Model ?]->``, one that takes one of many says
    ``-[each Model]->``, and ``…`` stands for what was left out.
    """
    lines = [_edge(edge, view) for edge in view.edges]
    for missing in view.missing:
        for end, port in missing.wanted_by:
            said = f"{port}: {missing.label}" if port else missing.label
            lines.append(f"? -[{escape(said)}]-> {escape(end_words(end))}")
    lines += map(_more, view.more)
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return ``text`` as one line that a terminal shows and does not obey."""
    return text if text.isprintable() else _UNSAFE.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\N{REPLACEMENT CHARACTER}"


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def _tree(view: View, states: States) -> str:
    tree, root = view.top, view.flow.name if view.flow else "main_flow"
    head = f"{tree.name} [{root}]" if tree.name else root
    return "\n".join([escape(head), *_branches(tree, view, states, "")])


def _branches(group: Group, view: View, states: States, indent: str) -> Iterator[str]:
    cut = len(group.name) + 1 if group.name else 0
    items = len(group.children) + bool(group.hidden)
    for number, child in enumerate(group.children, start=1):
        head, below = (_LAST, _BLANK) if number == items else (_BRANCH, _BAR)
        label = child.name[cut:]
        if isinstance(child, Group):
            yield indent + head + escape(label) + _flow_of(child, view)
            yield from _branches(child, view, states, indent + below)
        else:
            yield indent + head + _leaf(child, label, view, states)
    if group.hidden:
        yield f"{indent}{_LAST}… {group.hidden:,} more"


def _flow_of(group: Group | Collapsed, view: View) -> str:
    flow = view.titles.get(group.name, "")
    return f" [{escape(flow)}]" if flow else ""


def _leaf(node: Node | Collapsed, label: str, view: View, states: States) -> str:
    if isinstance(node, Collapsed):
        line = f"{escape(label)}{_flow_of(node, view)}  {group_words(node)}"
    else:
        line = escape(f"{label} {mark(node)} {signature(node)}")
    _, words = state_words(node, view, states)
    return f"{line}  {escape(words)}" if words else line


def _end(node: Node | Collapsed) -> str | Collapsed:
    return node if isinstance(node, Collapsed) else node.name


def _needs(view: View) -> Mapping[str | Collapsed, list[str]]:
    needs: dict[str | Collapsed, list[str]] = {}
    for edge in view.edges:
        said = f"{escape(_words(edge, view) or 'result')} ← {escape(end_words(edge.source))}"
        needs.setdefault(edge.target, []).append(said)
    for missing in view.missing:
        for end, port in missing.wanted_by:
            said = f"{port}: {missing.label}" if port else missing.label
            needs.setdefault(end, []).append(f"{escape(said)} ← nobody")
    for more in view.more:
        if more.before:
            needs.setdefault(more.end, []).append(f"… ← {more_words(more)}")
    return needs


def _words(edge: Edge | Merged, view: View) -> str:
    return "after" if edge.kind == "order" else edge_words(edge, view.crowd)


def _edge(edge: Edge | Merged, view: View) -> str:
    source, target = escape(end_words(edge.source)), escape(end_words(edge.target))
    return f"{source} -[{escape(_words(edge, view))}]-> {target}"


def _more(more: More) -> str:
    end, said = escape(end_words(more.end)), more_words(more)
    return f"… -[{said}]-> {end}" if more.before else f"{end} -[{said}]-> …"


# The views by the words that command lines use.
VIEWS: Mapping[str, Callable[[View, States | None], str]] = {
    "both": both_text,
    "dataflow": dataflow_text,
    "hierarchy": hierarchy_text,
}
