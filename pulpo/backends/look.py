"""From a plan to the view that is drawn: a flow, what is around an operation, groups as nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import Problem, UnknownNameError, UsageError, did_you_mean
from ..plan import Edge, FlowDefinition, Node, Orchestration
from .view import (
    FEW,
    Collapsed,
    Crowd,
    End,
    Group,
    Merged,
    Missing,
    More,
    View,
    count,
    model_words,
    shorten,
)

__all__ = [
    "MOST",
    "READABLE",
    "closed_at_first",
    "closed_in",
    "collapse",
    "group_tree",
    "look",
    "shallower",
    "toggled",
]

# Above this number of nodes groups are collapsed, to the deepest level that leaves no more than can
# be read.
MOST = 1000
READABLE = 300
# A group of more operations than this opens one level at a time.
_AT_ONCE = 60
_STANDALONES = "standalones"
_IsClosed = Callable[[Group, int], bool]


def look(
    plan: Orchestration,
    flow: str | FlowDefinition | None = None,
    *,
    depth: int | None = None,
    around: str | None = None,
    hops: int | None = None,
    closed: Collection[str] | None = None,
) -> View:
    """Return what is drawn of a plan.

    Parameters
    ----------
    flow
        Only this flow (itself, its name or its group), with its neighbours as pale stubs.
    depth
        Draw so many levels of names below the flow: a group at the last one is one node. When left
        out all of them, but above 1,000 operations no more than can be read.
    around
        Only this operation, with what it needs and what needs it. Its own groups stay open.
    hops
        How many steps away from ``around``, each way; 1 when left out.
    closed
        Draw just these groups as one node each, whatever the number of nodes. ``"standalones"`` are
        the operations without a group. When left out ``depth`` decides.

    Raises
    ------
    UnknownNameError
        When there is no such flow, or no such operation in it.
    UsageError
        For a depth below 1, a negative number of hops, or hops around nothing.
    """
    _check(depth, around, hops)
    chosen = _find_flow(plan, flow)
    nodes, outside, edges = _restrict(plan, chosen)
    tree = group_tree(nodes)
    view = View(
        nodes=nodes,
        outside=outside,
        edges=edges,
        problems=_problems(plan),
        tree=tree,
        top=_top(tree, chosen),
        titles={each.hierarchy_path: each.name for each in plan.flows if each.hierarchy_path},
        flow=chosen,
        around=around or "",
        total=len(nodes),
    )
    if around is not None:
        _find_operation(plan, view, around)
        view = _cut(view, edges, around, 1 if hops is None else hops)
    missing, crowd = _ports(_operations(view.nodes))
    view = replace(view, missing=missing, crowd=crowd)
    if closed is not None:
        shut = frozenset(closed)
        standalones = _STANDALONES in shut and not view.flow
        return _collapsed(view, lambda group, _: group.name in shut, standalones=standalones)
    if depth is not None:
        return collapse(view, depth)
    return _readable(view) if len(view.nodes) > MOST else view


def group_tree(nodes: Iterable[Node]) -> Group:
    """Return the groups as they are drawn, and as they get flows.

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
    return groups[""]


def collapse(view: View, depth: int, *, standalones: bool = False) -> View:
    """Return the view with each group at level ``depth`` below its flow as one node.

    Parameters
    ----------
    standalones
        Draw the operations without a group as one node too.
    """
    deepest = _level(view) + depth
    return _collapsed(view, lambda _, level: level >= deepest, standalones=standalones)


def _collapsed(view: View, is_closed: _IsClosed, *, standalones: bool) -> View:
    view = view.whole or view
    tree = _collapse_tree(view.tree, 1, is_closed, view.around)
    if standalones:
        tree = _collapse_standalones(tree, view.around)
    path = view.flow.hierarchy_path if view.flow else ""
    groups = [*_collapsed_in(tree), *_outside_groups(_operations(view.outside), path)]
    home = {member.name: group for group in groups for member in group.members}
    return replace(
        view,
        nodes=_at_home(view.nodes, home),
        outside=_at_home(view.outside, home),
        edges=tuple(_merge((e for e in view.edges if isinstance(e, Edge)), home)),
        missing=tuple(_missing_at_home(view.missing, home)),
        more=tuple(_more_at_home(view.more, home)),
        tree=tree,
        top=_top(tree, view.flow),
        whole=view,
    )


def closed_at_first(plan: Orchestration) -> list[str]:
    """Return the groups to close so that a picture of the plan can be read at once."""
    return closed_in(look(plan, closed=()))


def closed_in(view: View) -> list[str]:
    """Return the groups to close so that this, with all open, can be read at once."""
    if len(view.nodes) > READABLE:
        view = _readable(view)
    return [node.name for node in view.nodes if isinstance(node, Collapsed)]


def toggled(view: View, group: str, closed: Iterable[str] | None = None) -> list[str]:
    """Return the groups that are closed when ``group`` is opened, if it is closed, or closed.

    A large group opens one level at a time. ``closed`` are those that are closed by now, where the
    view is an older one.
    """
    if closed is None:
        closed = (node.name for node in view.nodes if isinstance(node, Collapsed))
    closed = list(closed)
    if group not in closed:
        return [*(each for each in closed if not each.startswith(f"{group}.")), group]
    closed.remove(group)
    inside = _find_group((view.whole or view).tree, group)
    if inside is not None and sum(1 for _ in _below(inside)) > _AT_ONCE:
        closed += [child.name for child in inside.children if isinstance(child, Group)]
    return closed


def _find_group(tree: Group, name: str) -> Group | None:
    for child in tree.children:
        if isinstance(child, Group) and f"{name}.".startswith(f"{child.name}."):
            return child if child.name == name else _find_group(child, name)
    return None


def shallower(view: View) -> Iterator[View]:
    """Yield the view with fewer and fewer levels of groups, down to as few nodes as can be."""
    view, level = view.whole or view, _level(view)
    for depth in range(max(_levels(view.tree)[1], default=0) - level, 0, -1):
        yield collapse(view, depth)
    yield _smallest(view)


# --- Which flow, which operation -----------------------------------------------------------------


def _check(depth: int | None, around: str | None, hops: int | None) -> None:
    for name, number, least in (("depth", depth, 1), ("hops", hops, 0)):
        if number is not None and (type(number) is not int or number < least):
            raise UsageError(f"{name} takes a whole number from {least}, not {number!r}.")
    if hops is not None and around is None:
        raise UsageError(
            "hops are counted from an operation: name it with around (--around OPERATION)."
        )


def _find_flow(plan: Orchestration, wanted: str | FlowDefinition | None) -> FlowDefinition | None:
    if wanted is None or isinstance(wanted, FlowDefinition):
        return wanted
    for flow in plan.flows:
        if wanted in (flow.name, flow.hierarchy_path) and wanted:
            return flow
    known = tuple(flow.name for flow in plan.flows)
    raise UnknownNameError(
        f"no flow is called {wanted!r}.{did_you_mean(wanted, known)}", candidates=known
    )


def _find_operation(plan: Orchestration, view: View, name: str) -> None:
    known = tuple(node.name for node in view.nodes)
    if name in known:
        return
    if view.flow and plan.get_operation(name):
        raise UnknownNameError(
            f"operation {name!r} does not run in {view.flow.name}: draw another flow, or "
            "everything.",
            candidates=known,
        )
    if name and any(each.startswith(f"{name}.") for each in known):
        inside = [each for each in known if each.startswith(f"{name}.")]
        raise UnknownNameError(
            f"{name!r} is a group, and a picture is drawn around an operation, such as "
            f"{inside[0]!r}.",
            candidates=tuple(inside),
        )
    raise UnknownNameError(
        f"there is no operation {name!r}.{did_you_mean(name, known)}", candidates=known
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


def _operations(nodes: Iterable[Node | Collapsed]) -> tuple[Node, ...]:
    return tuple(node for node in nodes if isinstance(node, Node))


def _problems(plan: Orchestration) -> Mapping[str, tuple[Problem, ...]]:
    problems: dict[str, tuple[Problem, ...]] = {}
    for problem in plan.problems:
        if problem.severity == "error" and problem.operation:
            problems[problem.operation] = (*problems.get(problem.operation, ()), problem)
    return problems


def _ports(nodes: Iterable[Node]) -> tuple[tuple[Missing, ...], Crowd]:
    """Return what nobody gives, and the ports whose edges have to say more than the model."""
    wanted: dict[str, list[tuple[End, str]]] = {}
    hints: dict[str, str] = {}
    several: set[tuple[str, str]] = set()
    mapped: set[tuple[str, str]] = set()
    for node in nodes:
        models = []
        for name, kind, model, _, _, _, _, _, missing, hint, is_mapped in node.ports:
            if kind != "data":
                continue
            models.append(model)
            if is_mapped:
                mapped.add((node.name, name))
            if missing:
                label = model_words(model) or name
                wanted.setdefault(label, []).append((node.name, name))
                hints[label] = hints.get(label) or hint
        if len(models) > 1 and len(set(models)) < len(models):
            several.update((node.name, model) for model in models if models.count(model) > 1)
    nobody = (
        Missing(label=label, wanted_by=tuple(by), hint=hints[label]) for label, by in wanted.items()
    )
    return tuple(nobody), Crowd(frozenset(several), frozenset(mapped))


# --- Groups --------------------------------------------------------------------------------------


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


def _top(tree: Group, flow: FlowDefinition | None) -> Group:
    """Return the flow's own group in the tree, or all of it."""
    for prefix in _prefixes(flow.hierarchy_path if flow else ""):
        for child in tree.children:
            if isinstance(child, Group) and child.name == prefix:
                tree = child
    return tree


def _level(view: View) -> int:
    """Return how deep the flow's own group stands; 0 when there is none."""
    path = view.flow.hierarchy_path if view.flow else ""
    return path.count(".") + 1 if path else 0


def _below(group: Group) -> Iterator[Node]:
    for child in group.children:
        if isinstance(child, Group):
            yield from _below(child)
        elif isinstance(child, Node):
            yield child


def _hidden(group: Group) -> int:
    return group.hidden + sum(_hidden(c) for c in group.children if isinstance(c, Group))


# --- Around an operation -------------------------------------------------------------------------


def _cut(view: View, edges: tuple[Edge, ...], around: str, hops: int) -> View:
    kept = _reach(edges, around, hops)
    nodes = tuple(node for node in _operations(view.nodes) if node.name in kept)
    more: dict[tuple[str, bool], dict[str, None]] = {}
    for edge in edges:
        if edge.source in kept and edge.target not in kept:
            more.setdefault((edge.source, False), {})[edge.target] = None
        elif edge.target in kept and edge.source not in kept:
            more.setdefault((edge.target, True), {})[edge.source] = None
    tree = _prune(view.tree, kept)
    shown = count(view.total, "operation", f"{len(nodes):,} of ")
    rest = f", and what is within {count(hops, 'hop')} of it" if hops else " alone"
    note = f"{shown}: {around}{rest}."
    return replace(
        view,
        nodes=nodes,
        outside=tuple(node for node in view.outside if node.name in kept),
        edges=tuple(e for e in edges if e.source in kept and e.target in kept),
        more=tuple(
            More(end=end, before=before, names=tuple(names))
            for (end, before), names in more.items()
        ),
        tree=tree,
        top=_top(tree, view.flow),
        note=note if len(nodes) < view.total else "",
    )


def _reach(edges: Iterable[Edge], start: str, hops: int) -> frozenset[str]:
    """Return the operation, what it needs and what needs it, each at most ``hops`` edges away."""
    needs: dict[str, list[str]] = defaultdict(list)
    feeds: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        needs[edge.target].append(edge.source)
        feeds[edge.source].append(edge.target)
    return frozenset(_walk(needs, start, hops) | _walk(feeds, start, hops))


def _walk(steps: Mapping[str, list[str]], start: str, hops: int) -> set[str]:
    seen, last = {start}, {start}
    for _ in range(hops):
        last = {name for each in last for name in steps.get(each, ())} - seen
        if not last:
            break
        seen |= last
    return seen


def _prune(group: Group, kept: Container[str]) -> Group:
    """Return the group with what is kept; what is gone is counted where it was."""
    pruned = Group(group.name)
    for child in group.children:
        if isinstance(child, Group):
            inner = _prune(child, kept)
            if inner.children:
                pruned.children.append(inner)
            else:
                pruned.hidden += _hidden(inner)
        elif child.name in kept:
            pruned.children.append(child)
        else:
            pruned.hidden += 1
    return pruned


# --- Groups as single nodes ----------------------------------------------------------------------


def _readable(view: View) -> View:
    """Collapse groups to the deepest level that leaves a picture for people."""
    level, total = _level(view), len(view.nodes)
    at, groups = _levels(view.tree)
    why = f"because {count(total, 'operation')} cannot be read at once. For more:"
    for depth in range(max(groups, default=0) - level, 0, -1):
        nodes = sum(n for home, n in at.items() if home < level + depth) + groups[level + depth]
        if nodes <= (READABLE if depth > 1 else MOST):
            said = f"Groups are collapsed at depth {depth}, {why} --depth {depth + 1}, one flow, "
            return replace(
                collapse(view, depth), note=_joined(view.note, f"{said}or --around OPERATION.")
            )
    said = f"All is collapsed that can be, {why} --around OPERATION; all of it: --depth 1."
    return replace(_smallest(view), note=_joined(view.note, said))


def _smallest(view: View) -> View:
    return collapse(view, 0 if _level(view) else 1, standalones=True)


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _levels(tree: Group) -> tuple[Counter[int], Counter[int]]:
    """Return how many operations stand directly in groups of each level, and how many groups."""
    operations: Counter[int] = Counter()
    groups: Counter[int] = Counter()
    todo = [(tree, 0)]
    while todo:
        group, level = todo.pop()
        for child in group.children:
            if isinstance(child, Group):
                groups[level + 1] += 1
                todo.append((child, level + 1))
            else:
                operations[level] += 1
    return operations, groups


def _collapse_tree(group: Group, level: int, is_closed: _IsClosed, around: str) -> Group:
    """Return the group with the closed ones below it as single nodes, but not around's own."""
    made = Group(group.name, hidden=group.hidden)
    for child in group.children:
        if not isinstance(child, Group):
            made.children.append(child)
        elif around.startswith(f"{child.name}.") or not is_closed(child, level):
            made.children.append(_collapse_tree(child, level + 1, is_closed, around))
        else:
            members = tuple(_below(child))
            total = len(members) + _hidden(child)
            made.children.append(Collapsed(name=child.name, members=members, total=total))
    return made


def _collapse_standalones(tree: Group, around: str) -> Group:
    members = tuple(c for c in tree.children if isinstance(c, Node) and c.name != around)
    if len(members) < 2:
        return tree
    total = len(members) + tree.hidden
    one = Collapsed(name=_STANDALONES, members=members, total=total, standalone=True)
    rest = [c for c in tree.children if not isinstance(c, Node) or c.name == around]
    return Group(tree.name, [one, *rest])


def _collapsed_in(group: Group) -> Iterator[Collapsed]:
    for child in group.children:
        if isinstance(child, Collapsed):
            yield child
        elif isinstance(child, Group):
            yield from _collapsed_in(child)


def _outside_groups(outside: Iterable[Node], path: str) -> Iterator[Collapsed]:
    """Yield the siblings of the flow, and of the groups that hold it, that have its neighbours."""
    members: dict[str, list[Node]] = {}
    for node in outside:
        outer = (p for p in _prefixes(node.name) if not f"{path}.".startswith(f"{p}."))
        sibling = next(outer, node.name)
        if sibling != node.name:
            members.setdefault(sibling, []).append(node)
    for name, inside in members.items():
        yield Collapsed(name=name, members=tuple(inside), total=len(inside))


def _at_home(
    nodes: Iterable[Node | Collapsed], home: Mapping[str, Collapsed]
) -> tuple[Node | Collapsed, ...]:
    """Return each group in the place of its first operation."""
    # By identity: the hash of a node is that of all its fields.
    found = {id(at): at for at in (home.get(node.name, node) for node in nodes)}
    return tuple(found.values())


def _merge(edges: Iterable[Edge], home: Mapping[str, Collapsed]) -> Iterator[Edge | Merged]:
    merged: dict[tuple[Any, Any, Any] | int, list[Edge]] = {}
    for place, edge in enumerate(edges):
        source, target = home.get(edge.source), home.get(edge.target)
        if source is None and target is None:
            merged[place] = [edge]
        elif source is not target:
            ends = (source or edge.source, target or edge.target, edge.kind)
            merged.setdefault(ends, []).append(edge)
    for where, each in merged.items():
        if isinstance(where, int):
            yield each[0]
        else:
            yield Merged(source=where[0], target=where[1], kind=where[2], edges=tuple(each))


def _missing_at_home(
    missing: Iterable[Missing], home: Mapping[str, Collapsed]
) -> Iterator[Missing]:
    """Yield what is missing, as groups want it; what many models one group lacks is one."""
    own: dict[Collapsed, list[Missing]] = {}
    for each in missing:
        ports: dict[End, list[str]] = {}
        for end, port in each.wanted_by:
            ports.setdefault(home.get(end, end) if isinstance(end, str) else end, []).append(port)
        wanted = tuple((end, names[0] if len(names) == 1 else "") for end, names in ports.items())
        end = wanted[0][0]
        if len(wanted) == 1 and isinstance(end, Collapsed):
            own.setdefault(end, []).append(replace(each, wanted_by=wanted))
        else:
            yield replace(each, wanted_by=wanted)
    for group, lacks in own.items():
        if len(lacks) <= FEW:
            yield from lacks
            continue
        names = shorten(", ".join(each.label for each in lacks), 200)
        label = f"{len(lacks):,} models for {group.name}"
        yield Missing(label=label, wanted_by=((group, ""),), hint=names)


def _more_at_home(more: Iterable[More], home: Mapping[str, Collapsed]) -> Iterator[More]:
    names: dict[tuple[End, bool], dict[str, None]] = {}
    for each in more:
        end = home.get(each.end, each.end) if isinstance(each.end, str) else each.end
        names.setdefault((end, each.before), {}).update(dict.fromkeys(each.names))
    for (end, before), hidden in names.items():
        yield More(end=end, before=before, names=tuple(hidden))
