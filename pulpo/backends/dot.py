"""A plan as DOT text, for Graphviz: the dataflow, the hierarchy, or both in one picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, unquote

from ..plan import Node, Orchestration
from .view import (
    Group,
    Missing,
    View,
    edge_words,
    first_line,
    group_tree,
    look,
    shorten,
    state_words,
    summary,
    words,
)

__all__ = ["both", "dataflow", "escape", "hierarchy", "key", "name_of"]

# Half-transparent fills suit any page, light or dark; SVG gets its themes in render.py.
# Verdana is the widest of the common sans-serif fonts: text laid out in it fits in all of them.
_HEAD = """\
digraph pulpo {{
  graph [{settings} bgcolor="transparent" pad=0.1 fontname="Verdana" fontsize=12 \
fontcolor="#57606a" labeljust=l tooltip="{summary}"]
  node [shape=box style="rounded,filled" fontname="Verdana" fontsize=12 margin="0.14,0.08" \
height=0.5 color="#4c8dd6" fillcolor="#4c8dd624" fontcolor="#1f2328" penwidth=1.2]
  edge [fontname="Verdana" fontsize=11 color="#7d8590" fontcolor="#57606a" arrowsize=0.7]"""
_DOWN = "rankdir=TB nodesep=0.3 ranksep=0.45"
_ACROSS = "rankdir=LR nodesep=0.12 ranksep=0.7 splines=line"
_CLUSTER = 'style="rounded,filled" color="#8b949e66" fillcolor="#8b949e14" penwidth=1 margin=14'

_LOOKS: Mapping[str, str] = {
    "": "",
    "problem": ' color="#d97706" penwidth=2',
    "stale": ' color="#b58407" fillcolor="#d4a01724" style="rounded,filled,dashed"',
    "running": ' color="#0e8a8a" penwidth=2',
    "done": ' color="#2da44e" fillcolor="#2da44e24"',
    "failed": ' color="#d1242f" fillcolor="#d1242f24" penwidth=2',
    "cancelled": ' color="#8b949e" style="rounded,dashed"',
    "not-reached": ' color="#8b949e" style="rounded,dashed"',
}
_EDGE_LOOK: Mapping[str, str] = {
    "data": "",
    "order": " style=dashed arrowhead=vee",
    "candidate": ' style=dashed color="#d97706" fontcolor="#b45309"',
    "missing": ' style=dashed color="#d1242f"',
    "tree": " arrowhead=none tailport=e headport=w",
}
_LONGEST = 44  # characters of a name; its tooltip has them all
# Above this number of nodes Graphviz is told to look for a good layout, not for the best one.
_MANY = 300
_CHEAPER = " splines=line mclimit=0.1 nslimit=1"

# Inches that hold a name of so many characters in bold, and its mark, whatever font the reader has.
_WIDTHS = tuple(f"{length * 0.115 + 0.8:.2f}" for length in range(_LONGEST + 1))

_UNSAFE = re.compile(
    # controls, surrogates, marks that reorder text, and what XML cannot hold
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def dataflow(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return operations as nodes and what flows between them as edges.

    Parameters
    ----------
    flow
        Draw only this flow (its name, or its group), with its neighbours as pale stubs.
    states
        What each operation's run came to, as in ``Run.states``.
    """
    view = look(plan, flow)
    lines = [_head(view, "Dataflow")]
    lines += [_operation(node, node.name, view, states or {}) for node in view.nodes]
    return _close(lines, view)


def both(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return the dataflow with each group as a frame around its operations."""
    view = look(plan, flow)
    lines = [_head(view, "Dataflow and groups")]
    lines += _clusters(group_tree(view.nodes), view, states or {}, "  ")
    return _close(lines, view)


def hierarchy(
    plan: Orchestration, *, flow: str | None = None, states: Mapping[str, str] | None = None
) -> str:
    """Return the tree of names: the main flow, its groups, their operations."""
    view = look(plan, flow)
    titles = {f.hierarchy_path: f.name for f in plan.flows if f.hierarchy_path}
    tree = group_tree(view.nodes, view.flow.hierarchy_path if view.flow else "")
    root = view.flow.name if view.flow else "main_flow"
    lines = [_head(view, "Hierarchy", _ACROSS), _group_node(tree.name, tree.name or root, root)]
    # Boxes of one width: a straight line to a narrow box would run through its wider neighbour.
    longest = max([len(words(node)[1]) for node in view.nodes], default=0)
    width = f"{longest * 0.088 + 0.35:.2f}"
    lines += _branches(tree, view, states or {}, titles, width)
    return "\n".join(lines) + "\n}\n"


def escape(text: str, *, hover: bool = False) -> str:
    r"""Return ``text`` as the inside of a quoted DOT string that shows exactly it.

    Backslashes are doubled, so ``\N`` and ``\l`` mean nothing (``hover``: twice, as Graphviz reads
    tooltips two times), and ampersands too are written out, as Graphviz reads ``&lt;`` as ``<``.
    The one place where users' words enter DOT.
    """
    if '"' not in text and "\\" not in text and "&" not in text:
        escaped = text.replace("\n", "\\n")
        if escaped.isprintable():
            return escaped  # nearly always, and a thousand operations have ten thousand words
    text = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    text = text.replace("\\", "\\" * (4 if hover else 2)).replace('"', '\\"')
    return text.replace("&", "&amp;").replace("\n", "\\n").replace("\t", " ")


def key(name: str) -> str:
    """Return what identifies ``name`` in DOT and SVG: itself, or a spelling that needs no escape.

    Graphviz changes names with backslashes or ``%``, and joins those of an edge with ``->``.
    """
    if name.isascii() and name.replace(".", "a").isidentifier():
        return name
    return "~" + quote(name.encode("utf-8", "surrogatepass"), safe="")


def name_of(key: str) -> str:
    """Return the name that `key` was made from."""
    return unquote(key[1:], errors="replace") if key.startswith("~") else key


def _head(view: View, kind: str, settings: str = _DOWN) -> str:
    if len(view.nodes) > _MANY:
        settings += _CHEAPER
    return _HEAD.format(settings=settings, summary=escape(summary(view, kind), hover=True))


def _close(lines: list[str], view: View) -> str:
    """Add what stands outside of every frame: stubs, missing inputs, edges."""
    lines += [_stub(node) for node in view.outside]
    for missing in view.missing:
        lines += _missing(missing)
    lines += _edges(view)
    lines.append("}\n")
    return "\n".join(lines)


def _operation(
    node: Node,
    label: str,
    view: View,
    states: Mapping[str, str],
    indent: str = "  ",
    width: str = "",
) -> str:
    full, brief = words(node)
    name = node.name
    ident = key(name)
    called = "async" if node.is_async else "sync"
    label = shorten(label, _LONGEST)
    lines = f"{label} {called}\n{brief}" if brief else f"{label} {called}"
    told = f"{name} ({called})\n{full}"
    if node.doc or node.cell:
        told = f"{told}\n{shorten(first_line(node.doc), 200)}\n{node.cell}"
    classes, looks = called, ""
    if node.stale or name in view.problems or name in states:
        state, said = state_words(node, view, states)
        if state:
            lines, classes, looks = f"{lines}\n{said}", f"{called} {state}", _LOOKS[state]
        told = "\n".join((told, *[problem.message for problem in view.problems.get(name, ())]))
    return (
        f'{indent}"{ident}" [id="op-{ident}" '
        f'class="operation {classes}" label="{escape(lines)}" '
        f'width={width or _WIDTHS[len(label)]} tooltip="{escape(told, hover=True)}"{looks}]'
    )


def _stub(node: Node) -> str:
    ident = key(node.name)
    return (
        f'  "{ident}" [id="op-{ident}" class="operation outside" '
        f'label="{escape(shorten(node.name, _LONGEST))}" '
        f'tooltip="{escape(node.name, hover=True)} (in another flow)" '
        'style="rounded,dashed" color="#8b949e" fontcolor="#8b949e" height=0.3]'
    )


def _missing(missing: Missing) -> Iterator[str]:
    # A hyphen cannot stand in a key, so this one is no operation's.
    ident = f"missing-{key(missing.label)}"
    told = f"nobody gives {missing.label}: it becomes a parameter of the flow\n{missing.hint}"
    yield (
        f'  "{ident}" [id="{ident}" class="missing" '
        f'label="{escape(shorten(missing.label, _LONGEST))} ?\\nnobody gives it" '
        f'tooltip="{escape(told, hover=True)}" '
        'style="rounded,dashed" color="#d1242f" fontcolor="#d1242f"]'
    )
    for operation, port in missing.wanted_by:
        yield (
            f'  "{ident}" -> "{key(operation)}" [class="missing" '
            f'label=" {escape(port)} "{_EDGE_LOOK["missing"]}]'
        )


def _edges(view: View) -> Iterator[str]:
    # An edge's tooltip is made of its ends and its label when the SVG is finished.
    keys = {node.name: key(node.name) for node in (*view.nodes, *view.outside)}
    for edge in view.edges:
        said = edge_words(edge, view.crowded)
        label = f' label=" {escape(said)} "' if said else ""
        yield (
            f'  "{keys.get(edge.source) or key(edge.source)}" -> '
            f'"{keys.get(edge.target) or key(edge.target)}" '
            f'[class="{edge.kind}"{label}{_EDGE_LOOK[edge.kind]}]'
        )


def _clusters(group: Group, view: View, states: Mapping[str, str], indent: str) -> Iterator[str]:
    cut = len(group.name) + 1 if group.name else 0
    for child in group.children:
        if isinstance(child, Node):
            yield _operation(child, child.name[cut:], view, states, indent)
            continue
        ident, told = key(child.name), escape(child.name, hover=True)
        yield (
            f'{indent}subgraph "cluster_{ident}" {{\n{indent}  graph [id="group-{ident}" '
            f'class="group" label="{escape(child.name)}" tooltip="{told}" {_CLUSTER}]'
        )
        yield from _clusters(child, view, states, indent + "  ")
        yield f"{indent}}}"


def _branches(
    group: Group, view: View, states: Mapping[str, str], titles: Mapping[str, str], width: str
) -> Iterator[str]:
    cut = len(group.name) + 1 if group.name else 0
    here = _group_key(group.name)
    for child in group.children:
        if isinstance(child, Node):
            there = key(child.name)
            yield _operation(child, child.name[cut:], view, states, width=width)
        else:
            there = _group_key(child.name)
            yield _group_node(child.name, child.name[cut:], titles.get(child.name, ""))
        yield f'  "{here}" -> "{there}" [class="tree"{_EDGE_LOOK["tree"]}]'
        if isinstance(child, Group):
            yield from _branches(child, view, states, titles, width)


def _group_node(name: str, label: str, flow: str) -> str:
    second = f"\\n{escape(flow)}" if flow and flow != label else ""
    return (
        f'  "{_group_key(name)}" [id="{_group_key(name)}" class="group" '
        f'label="{escape(shorten(label, _LONGEST))}{second}" '
        f'tooltip="{escape(flow or name or label, hover=True)}" '
        'color="#8b949e" fillcolor="#8b949e14"]'
    )


def _group_key(name: str) -> str:
    return f"group-{key(name)}" if name else "group-"


# The views by the words that command lines use.
VIEWS: Mapping[str, Callable[..., str]] = {
    "both": both,
    "dataflow": dataflow,
    "hierarchy": hierarchy,
}
