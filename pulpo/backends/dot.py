"""A view as DOT text, for Graphviz: the dataflow, the hierarchy, or both in one picture."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, unquote

from ..plan import Edge, Node
from .view import (
    Collapsed,
    End,
    Group,
    Merged,
    Missing,
    More,
    View,
    drawable,
    edge_class,
    edge_words,
    first_line,
    group_words,
    in_brief,
    is_dense,
    mark,
    more_words,
    shorten,
    state_words,
    summary,
    words,
)

__all__ = [
    "DIRECTIONS",
    "VIEWS",
    "both",
    "dataflow",
    "escape",
    "hierarchy",
    "ident",
    "key",
    "name_of",
]

# Half-transparent fills suit any page, light or dark; SVG gets its themes in render.py.
# Verdana is the widest of the common sans-serif fonts: text laid out in it fits in all of them.
_HEAD = """\
digraph pulpo {{
  graph [{settings} bgcolor="transparent" pad=0.1 fontname="Verdana" fontsize=12 \
fontcolor="#57606a" labeljust=l tooltip="{summary}"{note}]
  node [shape=box style="rounded,filled" fontname="Verdana" fontsize=12 margin="0.14,0.08" \
height=0.5 color="#4c8dd6" fillcolor="#4c8dd624" fontcolor="#1f2328" penwidth=1.2]
  edge [fontname="Verdana" fontsize=11 color="#7d8590" fontcolor="#57606a" arrowsize=0.7]"""
# Without newrank, Graphviz ranks each frame by itself, and fails at frames that need each other.
_DATAFLOW = "rankdir={} newrank=true nodesep=0.3"
_HIERARCHY = "rankdir={} nodesep=0.12 ranksep=0.7 splines=line"
_CLUSTER = 'style="rounded,filled" color="#8b949e66" fillcolor="#8b949e14" penwidth=1 margin=14'
_GREY = ' color="#8b949e" fillcolor="#8b949e14"'
_PALE = 'style="rounded,dashed" color="#8b949e" fontcolor="#8b949e"'

_LOOKS: Mapping[str, str] = {
    "": "",
    "problem": ' color="#d97706" penwidth=2',
    "stale": ' color="#b58407" fillcolor="#d4a01724" style="rounded,filled,dashed"',
    "running": ' color="#0e8a8a" penwidth=2',
    "done": ' color="#2da44e" fillcolor="#2da44e24"',
    "cached": ' color="#2da44e" style="rounded,dashed"',
    "failed": ' color="#d1242f" fillcolor="#d1242f24" penwidth=2',
    "cancelled": ' color="#8b949e" style="rounded,dashed"',
    "not-reached": ' color="#8b949e" style="rounded,dashed"',
}
_EDGE_LOOK: Mapping[str, str] = {
    "data": "",
    "each": " arrowhead=normalnormal",
    "order": " style=dashed arrowhead=vee",
    "candidate": ' style=dashed color="#d97706" fontcolor="#b45309"',
    "missing": ' style=dashed color="#d1242f"',
    "more": ' style=dotted color="#8b949e" arrowhead=vee',
    "tree": " arrowhead=none",
}
_LONGEST = 44  # characters of a name; its tooltip has them all
_LONG = 24
# Above this number of nodes, or of edges, Graphviz is told to look for a good layout, not for the
# best one. Where there are many nodes, or an edge from nearly each to nearly each, the words on
# edges, which it lays out like nodes, go to their tooltips.
_MANY, _MANY_EDGES = 300, 400
_CHEAPER = " mclimit=0.1 nslimit=1"
_CHEAPEST = " splines=line mclimit=0.01 nslimit=0.1 nslimit1=0.1"

# Inches that hold a name of so many characters in bold, and its mark, whatever font the reader has.
_WIDTHS = tuple(f"{length * 0.115 + 0.8:.2f}" for length in range(_LONGEST + 1))

_UNSAFE = re.compile(
    # controls, surrogates, marks that reorder text, and what XML cannot hold
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)

States = Mapping[str, str]
#: Where a picture goes on, in Graphviz's words.
DIRECTIONS: Mapping[str, str] = {"down": "TB", "right": "LR"}


def dataflow(view: View, states: States | None = None, direction: str = "down") -> str:
    """Return operations as nodes and what flows between them as edges.

    Parameters
    ----------
    states
        What each operation's run came to, as in ``Run.states``.
    direction
        One of `DIRECTIONS`.
    """
    canvas = _Canvas(drawable(view), states or {})
    lines = [_head(canvas, "Dataflow", _settings(canvas, direction))]
    lines += [_leaf(canvas, node, node.name) for node in canvas.view.nodes]
    return _close(canvas, lines)


def both(view: View, states: States | None = None, direction: str = "down") -> str:
    """Return the dataflow with each group as a frame around its operations."""
    canvas = _Canvas(drawable(view), states or {})
    lines = [_head(canvas, "Dataflow and groups", _settings(canvas, direction))]
    _clusters(canvas, view.tree, "  ", lines)
    return _close(canvas, lines)


def hierarchy(view: View, states: States | None = None, direction: str = "right") -> str:
    """Return the tree of names: the main flow, its groups, their operations."""
    canvas = _Canvas(view, states or {})
    tree, root = view.top, view.flow.name if view.flow else "main_flow"
    settings = _HIERARCHY.format(DIRECTIONS[direction])
    settings += _CHEAPER if len(view.nodes) > _MANY else ""
    ports = " tailport=e headport=w" if direction == "right" else ""
    lines = [_head(canvas, "Hierarchy", settings), _group_node(tree.name, tree.name or root, root)]
    # Boxes of one width: a straight line to a narrow box would run through its wider neighbour.
    briefs = [in_brief(*words(node)[1:]) for node in view.nodes if isinstance(node, Node)]
    width = max(map(len, briefs), default=0) * 0.088 + 0.35
    names = [node.name.rpartition(".")[2] for node in view.nodes]
    name = min(max(map(len, names), default=0), _LONGEST)
    if name > _LONG:  # the frontend's letters may be wider than Graphviz takes them for
        width = max(width, float(_WIDTHS[name]))
    lines += _branches(canvas, tree, f"{width:.2f}", ports)
    return "\n".join(lines) + "\n}\n"


def escape(text: str, *, hover: bool = False) -> str:
    r"""Return ``text`` as the inside of a quoted DOT string that shows exactly it.

    Backslashes are doubled, so ``\N`` and ``\l`` mean nothing (``hover``: twice, as Graphviz reads
    tooltips two times), and ampersands too are written out, as Graphviz reads ``&lt;`` as ``<``.
    The one place where users' words enter DOT.
    """
    if is_plain(text):
        return text
    text = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    text = text.replace("\\", "\\" * (4 if hover else 2)).replace('"', '\\"')
    return text.replace("&", "&amp;").replace("\n", "\\n").replace("\t", " ")


def is_plain(text: str) -> bool:
    """Return whether a text needs no escape; nearly all do, and a picture has thousands."""
    return text.isprintable() and '"' not in text and "\\" not in text and "&" not in text


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


def ident(end: Node | End) -> str:
    """Return the id of the element that a node has in a picture."""
    if isinstance(end, Collapsed):
        return _group_key(end.name)
    return f"op-{key(end.name if isinstance(end, Node) else end)}"


class _Keys(dict[End, str]):
    """The key of each end, made when it is first asked for."""

    def __missing__(self, end: End) -> str:
        made = self[end] = key(end) if isinstance(end, str) else _group_key(end.name)
        return made


class _Canvas:
    """What is drawn, and how."""

    def __init__(self, view: View, states: States) -> None:
        self.view, self.states, self.keys = view, states, _Keys()
        self.remarkable = view.problems.keys() | states.keys() | {view.around}
        nodes = len(view.nodes) + len(view.outside)
        self.dense = is_dense(view)
        # Else the words of an edge are in its tooltip.
        self.has_labels = (
            nodes <= _MANY and nodes + _frames(view.tree) <= _MANY + 50 and not self.dense
        )


def _frames(group: Group) -> int:
    return sum(1 + _frames(child) for child in group.children if isinstance(child, Group))


def _settings(canvas: _Canvas, direction: str) -> str:
    settings = _DATAFLOW.format(DIRECTIONS[direction])
    if canvas.has_labels:
        cheaper = _CHEAPER if len(canvas.view.edges) > _MANY_EDGES else ""
        return f"{settings} ranksep=0.45{cheaper}"
    # Where edges have no labels, the space that these took keeps the edges apart.
    return f"{settings} ranksep=1{_CHEAPEST if canvas.dense else _CHEAPER}"


def _head(canvas: _Canvas, kind: str, settings: str) -> str:
    view = canvas.view
    note = "".join(f"{escape(line)}\\l" for line in textwrap.wrap(view.note, 90))
    note = f' label="{note}" labelloc=t' if note else ""
    told = escape(summary(view, kind), hover=True)
    return _HEAD.format(settings=settings, summary=told, note=note)


def _close(canvas: _Canvas, lines: list[str]) -> str:
    """Add what stands outside of every frame: stubs, missing inputs, edges."""
    view = canvas.view
    lines += [_stub(canvas, node) for node in view.outside]
    for missing in view.missing:
        lines += _missing(canvas, missing)
    lines += _edges(canvas)
    for more in view.more:
        lines += _more(canvas, more)
    lines.append("}\n")
    return "\n".join(lines)


def _leaf(
    canvas: _Canvas, node: Node | Collapsed, label: str, indent: str = "  ", width: str = ""
) -> str:
    if isinstance(node, Collapsed):
        return indent + _collapsed(canvas, node, label)
    takes, brief, gives = words(node)
    name, doc, cell = node.name, node.doc, node.cell
    ident = canvas.keys[name]
    called = classes = "async" if node.is_async else "sync"
    if len(label) > _LONGEST:
        label = shorten(label, _LONGEST)
    if not width:
        width = _WIDTHS[len(label)]
    brief, arrow = in_brief(brief, gives), f" → {gives}" if gives else ""
    about = sign = looks = ""
    if doc:
        doc = shorten(first_line(doc), 200)
    hover = name
    if not is_plain(f"{name}{takes}{gives}{doc}{cell}"):
        label, brief = escape(label), escape(brief)
        hover, takes, arrow, doc, cell = (
            escape(text, hover=True) for text in (name, takes, arrow, doc, cell)
        )
    if doc or cell:
        about = f"\\n{doc}\\n{cell}"
    if node.stale or name in canvas.remarkable:
        classes, looks, sign, told = _remarks(canvas, node)
        about += told
    if brief:
        brief = f"\\n{brief}"
    return (
        f'{indent}"{ident}" [id="op-{ident}" class="operation {classes}" '
        f'label="{label} {called}{brief}{sign}" width={width} '
        f'tooltip="{hover} ({called})\\n({takes}){arrow}{about}"{looks}]'
    )


def _remarks(canvas: _Canvas, node: Node) -> tuple[str, str, str, str]:
    """Return classes, looks, and what label and tooltip say more of a node that is no usual one."""
    state, said = state_words(node, canvas.view, canvas.states)
    classes, looks = f"{mark(node)} {state}".rstrip(), _LOOKS[state]
    if node.name == canvas.view.around:
        classes, looks = f"{classes} around", f"{looks} penwidth=3"
    problems = canvas.view.problems.get(node.name, ())
    told = "".join(f"\\n{escape(problem.message, hover=True)}" for problem in problems)
    return classes, looks, f"\\n{escape(said)}" if said else "", told


def _collapsed(canvas: _Canvas, group: Collapsed, label: str) -> str:
    state, said = state_words(group, canvas.view, canvas.states)
    label = shorten(label, _LONGEST)
    lines = "\n".join([label, group_words(group), *([said] if said else [])])
    flow = canvas.view.titles.get(group.name)
    told = f"{group.name} ({flow})" if flow else group.name
    told += "\n" + shorten(", ".join(member.name for member in group.members[:50]), 400)
    ident = canvas.keys[group]
    return (
        f'"{ident}" [id="{ident}" class="{f"group collapsed {state}".rstrip()}" '
        f'label="{escape(lines)}" width={_WIDTHS[len(label)]} '
        f'tooltip="{escape(told, hover=True)}" '
        f"peripheries=2{_LOOKS[state] or _GREY}]"
    )


def _stub(canvas: _Canvas, node: Node | Collapsed) -> str:
    if isinstance(node, Collapsed):
        ident = canvas.keys[node]
        what = f'"{ident}" [id="{ident}" class="group'
    else:
        ident = canvas.keys[node.name]
        what = f'"{ident}" [id="op-{ident}" class="operation'
    return (
        f'  {what} outside" label="{escape(shorten(node.name, _LONGEST))}" '
        f'tooltip="{escape(node.name, hover=True)} (in another flow)" {_PALE} height=0.3]'
    )


def _missing(canvas: _Canvas, missing: Missing) -> Iterator[str]:
    # A hyphen cannot stand in a key, so this one is no operation's.
    ident = f"missing-{key(missing.label)}"
    told = f"nobody gives {missing.label}: it becomes a parameter of the flow\n{missing.hint}"
    yield (
        f'  "{ident}" [id="{ident}" class="missing" '
        f'label="{escape(shorten(missing.label, _LONGEST))} ?\\nnobody gives it" '
        f'tooltip="{escape(told, hover=True)}" '
        'style="rounded,dashed" color="#d1242f" fontcolor="#d1242f"]'
    )
    for end, port in missing.wanted_by:
        label = f' label=" {escape(port)} "' if port else ""
        yield (
            f'  "{ident}" -> "{canvas.keys[end]}" [class="missing"{label}{_EDGE_LOOK["missing"]}]'
        )


def _more(canvas: _Canvas, more: More) -> Iterator[str]:
    """Yield what stands for the operations behind a cut, and the edge that is cut."""
    end = canvas.keys[more.end]
    ident = f"more-{'before' if more.before else 'after'}-{end}"
    yield _more_node(ident, more_words(more), shorten(", ".join(more.names[:50]), 400))
    ends = f'"{ident}" -> "{end}"' if more.before else f'"{end}" -> "{ident}"'
    yield f'  {ends} [class="more"{_EDGE_LOOK["more"]}]'


def _more_node(ident: str, label: str, told: str) -> str:
    return (
        f'  "{ident}" [id="{ident}" class="more" label="… {label}" '
        f'tooltip="{escape(told or label, hover=True)}" '
        'shape=plain style="" fontcolor="#57606a" height=0.2]'
    )


def _edges(canvas: _Canvas) -> list[str]:
    keys, crowd = canvas.keys, canvas.view.crowd
    special = {operation for operation, _ in (*crowd.several, *crowd.mapped)}
    known: dict[tuple[str, str, bool], str] = {}  # models are fewer than edges
    lines = []
    for edge in canvas.view.edges:
        if isinstance(edge, Merged) or (special and edge.target in special):
            rest = _edge_attributes(canvas, edge)
            lines.append(f'  "{keys[edge.source]}" -> "{keys[edge.target]}" {rest}')
            continue
        source, target, port, model, kind, _, many = edge
        what = (kind, model, many) if model else (kind, port, False)
        rest = known.get(what, "")
        if not rest:
            rest = known[what] = _edge_attributes(canvas, edge)
        lines.append(f'  "{keys[source]}" -> "{keys[target]}" {rest}')
    return lines


def _edge_attributes(canvas: _Canvas, edge: Edge | Merged) -> str:
    kind = classes = edge_class(edge, canvas.view.crowd)
    look = _EDGE_LOOK[kind]
    if kind == "each":
        classes = "data each"
    if isinstance(edge, Merged):
        classes, look = f"{classes} merged", f"{look} penwidth=1.8"
    said = edge_words(edge, canvas.view.crowd)
    if not said:
        return f'[class="{classes}"{look}]'
    if canvas.has_labels:
        return f'[class="{classes}" label=" {escape(said)} "{look}]'
    # Ends and words are put together when the SVG is finished.
    return f'[class="{classes}" tooltip="{escape(said, hover=True)}"{look}]'


def _clusters(canvas: _Canvas, group: Group, indent: str, lines: list[str]) -> None:
    cut = len(group.name) + 1 if group.name else 0
    for child in group.children:
        if not isinstance(child, Group):
            lines.append(_leaf(canvas, child, child.name[cut:], indent))
            continue
        ident, told = key(child.name), escape(child.name, hover=True)
        lines.append(
            f'{indent}subgraph "cluster_{ident}" {{\n{indent}  graph [id="group-{ident}" '
            f'class="group" label="{escape(child.name)}" tooltip="{told}" {_CLUSTER}]'
        )
        _clusters(canvas, child, indent + "  ", lines)
        lines.append(f"{indent}}}")


def _branches(canvas: _Canvas, group: Group, width: str, ports: str) -> Iterator[str]:
    cut = len(group.name) + 1 if group.name else 0
    here = _group_key(group.name)
    for child in group.children:
        label = child.name[cut:]
        if isinstance(child, Group):
            there = _group_key(child.name)
            yield _group_node(child.name, label, canvas.view.titles.get(child.name, ""))
        else:
            there = canvas.keys[child if isinstance(child, Collapsed) else child.name]
            yield _leaf(canvas, child, label, width=width)
        yield f'  "{here}" -> "{there}" [class="tree"{_EDGE_LOOK["tree"]}{ports}]'
        if isinstance(child, Group):
            yield from _branches(canvas, child, width, ports)
    if group.hidden:
        there = f"more-in-{here}"
        yield _more_node(there, f"{group.hidden:,} more", "")
        yield f'  "{here}" -> "{there}" [class="tree"{_EDGE_LOOK["tree"]}{ports} style=dotted]'


def _group_node(name: str, label: str, flow: str) -> str:
    second = f"\\n{escape(flow)}" if flow and flow != label else ""
    return (
        f'  "{_group_key(name)}" [id="{_group_key(name)}" class="group" '
        f'label="{escape(shorten(label, _LONGEST))}{second}" '
        f'tooltip="{escape(flow or name or label, hover=True)}"{_GREY}]'
    )


def _group_key(name: str) -> str:
    return f"group-{key(name)}" if name else "group-"


# The views by the words that command lines use.
VIEWS: Mapping[str, Callable[..., str]] = {
    "both": both,
    "dataflow": dataflow,
    "hierarchy": hierarchy,
}
