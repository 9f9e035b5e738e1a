"""What a page has to know of a picture besides its SVG: what stands where, and what needs what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NotRequired, TypedDict

from ..plan import Node
from .dot import ident, key
from .view import (
    Collapsed,
    Group,
    View,
    count,
    drawable,
    edge_words,
    first_line,
    group_words,
    mark,
    shorten,
    signature,
    state_words,
)

__all__ = ["Scene", "SceneEdge", "SceneNode", "scene"]


class SceneNode(TypedDict):
    """Something in a picture that a person can point at.

    Parameters
    ----------
    id
        Of its element in the SVG.
    key
        What edges call it: an operation's name, ``"group.*"``, or a model that nobody gives.
    kind
        ``"operation"``, ``"group"`` (one node for all of it), ``"frame"`` (a group that is open) or
        ``"missing"``.
    name
        What a person calls it.
    lines
        What there is to know of it, a line each: its signature, its docstring's first line, where
        it stands.
    label
        All of it in one sentence, for a screen reader.
    members
        The operations in a group.
    """

    id: str
    key: str
    kind: Literal["operation", "group", "frame", "missing"]
    name: str
    lines: list[str]
    label: str
    members: NotRequired[list[str]]


class SceneEdge(TypedDict):
    """What flows from one node to another, both by their ``key``."""

    source: str
    target: str
    words: str


class Scene(TypedDict):
    """A picture's nodes, in registration order, and its edges."""

    nodes: list[SceneNode]
    edges: list[SceneEdge]


def scene(view: View, kind: str = "both", states: Mapping[str, str] | None = None) -> Scene:
    """Return what a page knows of the picture of ``view``.

    Parameters
    ----------
    kind
        The picture's, as `pulpo.backends.render.draw` takes it: only ``"both"`` and
        ``"hierarchy"`` show open groups.
    states
        What the picture was drawn with.
    """
    states = states or {}
    nodes = [_node(node, view, states) for node in view.nodes]
    nodes += [_node(node, view, states) for node in view.outside if kind != "hierarchy"]
    if kind != "dataflow":
        nodes += _frames(view.top if kind == "hierarchy" else view.tree)
    if kind != "hierarchy":
        nodes += _missing(view)
    edges = [
        SceneEdge(
            source=end_key(edge.source),
            target=end_key(edge.target),
            words=edge_words(edge, view.crowd),
        )
        for edge in drawable(view).edges
    ]
    edges += [
        SceneEdge(source=missing.label, target=end_key(end), words=missing.label)
        for missing in view.missing
        for end, _ in missing.wanted_by
        if kind != "hierarchy"
    ]
    return Scene(nodes=nodes, edges=edges)


def end_key(end: str | Node | Collapsed) -> str:
    """Return what an edge's end is called in the SVG, too."""
    if isinstance(end, Collapsed):
        return f"{end.name}.*"
    return end.name if isinstance(end, Node) else end


def _node(node: Node | Collapsed, view: View, states: Mapping[str, str]) -> SceneNode:
    _, state = state_words(node, view, states)
    if isinstance(node, Collapsed):
        names = [member.name for member in node.members]
        lines = [group_words(node), shorten(", ".join(names[:50]), 300)]
        made = _made(node, "group", node.name, lines, f"group {node.name}", state)
        made["members"] = names
        return made
    problems = [problem.message for problem in view.problems.get(node.name, ())]
    lines = [f"{mark(node)} {signature(node)}", first_line(node.doc), node.cell, *problems]
    return _made(node, "operation", node.name, lines, node.name, state)


def _made(
    node: Node | Collapsed,
    kind: Literal["operation", "group"],
    name: str,
    lines: list[str],
    called: str,
    state: str,
) -> SceneNode:
    told = [shorten(line, 300) for line in lines if line]
    said = ", ".join([called, *told[:1], *([state] if state else [])])
    return SceneNode(
        id=ident(node), key=end_key(node), kind=kind, name=name, lines=told, label=said
    )


def _frames(group: Group) -> Iterator[SceneNode]:
    for child in group.children:
        if isinstance(child, Group):
            names = list(_names(child))
            yield SceneNode(
                id=f"group-{key(child.name)}",
                key=f"{child.name}.*",
                kind="frame",
                name=child.name,
                lines=[count(len(names), "operation")],
                label=f"group {child.name}, {count(len(names), 'operation')}",
                members=names,
            )
            yield from _frames(child)


def _names(group: Group) -> Iterator[str]:
    for child in group.children:
        if isinstance(child, Group):
            yield from _names(child)
        elif isinstance(child, Collapsed):
            yield from (member.name for member in child.members)
        else:
            yield child.name


def _missing(view: View) -> Iterator[SceneNode]:
    for missing in view.missing:
        told = [f"nobody gives it: {missing.hint}" if missing.hint else "nobody gives it"]
        yield SceneNode(
            id=f"missing-{key(missing.label)}",
            key=missing.label,
            kind="missing",
            name=missing.label,
            lines=[*told, "It becomes a parameter of the flow."],
            label=f"{missing.label}, nobody gives it",
        )
