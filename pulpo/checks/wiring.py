"""Whose results go nowhere, and who can never run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..errors import Problem
from ..models import ModelRef
from ..names import common_groups
from ..operations import Operation, returns_a_value
from .reach import Subject, and_list, numbered

__all__ = ["passed_over", "split_models", "unconnected", "unreachable", "unused"]

#: How alike two names are that were meant to be one: RawJob and RawJobs, not RawJobs and CleanJobs.
_ALIKE = 0.8


def unreachable(subject: Subject) -> list[Problem]:
    """Find operations that cannot run, because they come after one that an error stops."""
    roots: dict[str, None] = {}
    for problem in subject.plan.problems:
        if problem.severity == "error" and problem.operation:
            several = problem.candidates if problem.code == "cycle" else (problem.operation,)
            roots.update(dict.fromkeys(several))
    feeds: dict[str, list[str]] = {}
    for edge in subject.plan.edges:
        feeds.setdefault(edge.source, []).append(edge.target)
    blockers: dict[str, list[str]] = {}
    for root in roots:
        seen, todo = {root}, [root]
        while todo:
            fresh = [t for t in feeds.get(todo.pop(), ()) if t not in seen]
            seen.update(fresh)
            todo += fresh
        for name in seen - roots.keys():
            blockers.setdefault(name, []).append(root)
    together: dict[tuple[str, ...], list[Operation]] = {}
    for operation in subject.operations:
        if operation.name in blockers:
            together.setdefault(tuple(blockers[operation.name]), []).append(operation)
    return [
        Problem(
            code="unreachable",
            severity="warning",
            message=f"{numbered(o.name for o in stuck)} can never run: "
            f"{'it comes' if len(stuck) == 1 else 'they come'} after "
            f"{and_list(repr(name) for name in behind)}, which "
            f"{'an error stops' if len(behind) == 1 else 'errors stop'}.",
            fix="Mend the errors above first.",
            operation=stuck[0].name,
            cell=stuck[0].cell,
            candidates=tuple(o.name for o in stuck),
        )
        for behind, stuck in together.items()
    ]


def split_models(subject: Subject) -> list[Problem]:
    """Find a port that misses the model of one module, while another module's is given."""
    given: dict[str, list[tuple[Operation, ModelRef]]] = {}
    for operation in subject.operations:
        for output in operation.outputs:
            if output.model.key:
                given.setdefault(output.model.name, []).append((operation, output.model))
    found = []
    for operation, ref in _missing(subject):
        others = [(o, r) for o, r in given.get(ref.name, ()) if r.key != ref.key]
        if not (ref.key and others):
            continue
        giver, other = others[0]
        found.append(
            Problem(
                code="split-model",
                severity="warning",
                message=f"operation {operation.name!r} takes the {ref.name} of "
                f"{_module(ref)}, but {giver.name!r} gives the {ref.name} of {_module(other)}: "
                "two models of one name, with no edge between them.",
                fix=f"Use one of them in both: import {ref.name} from one place, and run the cells "
                "of both operations again.",
                operation=operation.name,
                cell=operation.cell,
                candidates=(ref.key, other.key),
            )
        )
    return found


def unused(subject: Subject) -> list[Problem]:
    """Find a model that nobody takes, beside one of nearly that name which nobody gives."""
    wanted: dict[str, Operation] = {}
    for operation, ref in _missing(subject):
        wanted.setdefault(ref.name, operation)
    taken = {port.model.name for o in subject.operations for port in o.ports if port.model}
    taken |= {ref.name for o in subject.operations for ref in o.orders}
    given = {output.model.name for o in subject.operations for output in o.outputs}
    found = []
    for operation in subject.operations:
        for output in operation.outputs:
            name = output.model.name
            near = _nearest(name, wanted.keys() - given) if name not in taken else ""
            if near:
                other = wanted[near]
                found.append(
                    Problem(
                        code="unused-operation",
                        severity="warning",
                        message=f"operation {operation.name!r} gives {name}, which nobody takes; "
                        f"{other.name!r} takes {near}, which nobody gives.",
                        fix=f"If they are the same, write {near} in both signatures, or {name}.",
                        operation=operation.name,
                        cell=operation.cell,
                        candidates=(near,),
                    )
                )
    return found


def passed_over(subject: Subject) -> list[Problem]:
    """Find an operation that others are preferred to: what it gives is taken, but not from it."""
    sources = {edge.source for edge in subject.plan.edges}
    takers: dict[str, dict[str, list[str]]] = {}
    chosen = {o.name: {port for port, _ in o.options.bind} for o in subject.operations}
    for edge in subject.plan.edges:
        if edge.kind == "data" and edge.port not in chosen.get(edge.target, ()):
            takers.setdefault(edge.model, {}).setdefault(edge.target, []).append(edge.source)
    found = []
    for operation in subject.operations:
        if operation.name in sources:
            continue
        takes = {port.model.key for port in operation.ports if port.model is not None}
        for output in operation.outputs:
            users = takers.get(output.model.name, {})
            users = {
                user: givers
                for user, givers in users.items()
                if user != operation.name and _as_near(operation.name, user, givers)
            }
            if users and output.model.key not in takes:
                user, givers = next(iter(users.items()))
                found.append(
                    Problem(
                        code="unused-operation",
                        severity="note",
                        message=f"operation {operation.name!r} gives {output.model.name}, but "
                        f"{user!r} takes that of {and_list(map(repr, dict.fromkeys(givers)))}, "
                        "and nobody takes this one.",
                        fix=f"Take all of them in {user!r} by a list[{output.model.name}], say "
                        f"which by --bind, or: %pulpo remove {operation.name}.",
                        operation=operation.name,
                        cell=operation.cell,
                        candidates=tuple(users),
                    )
                )
                break
    return found


def unconnected(subject: Subject) -> list[Problem]:
    """Find an operation that takes nothing and gives nothing, beside others that do."""
    edges = subject.plan.edges
    linked = {name for edge in edges for name in (edge.source, edge.target)}
    return [
        Problem(
            code="unused-operation",
            severity="note",
            message=f"operation {operation.name!r} takes no model and gives nothing, so it runs "
            "beside all others, in no order.",
            fix=f"If others rely on it, say so there: --after {operation.name}.",
            operation=operation.name,
            cell=operation.cell,
        )
        for operation in subject.operations
        if edges
        and operation.name not in linked
        and not operation.gives_value
        and not returns_a_value(operation.function)
        and not operation.models_in
        and not operation.models_out
    ]


def _missing(subject: Subject) -> list[tuple[Operation, ModelRef]]:
    """Return the models that ports take and nobody gives, each with its operation."""
    missing = {
        (node.name, port.name)
        for node in subject.plan.operations
        for port in node.ports
        if port.missing
    }
    return [
        (operation, port.model)
        for operation in subject.operations
        for port in operation.ports
        if port.model is not None and (operation.name, port.name) in missing
    ]


def _as_near(name: str, user: str, chosen: list[str]) -> bool:
    """Return whether an operation stands as near to its taker as those that were chosen."""
    near = common_groups(name, user)
    return all(common_groups(other, user) <= near for other in chosen)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower(), {k.lower() for k in known}, 1, _ALIKE)
    return next((k for k in sorted(known) if k.lower() in close), "")


def _module(ref: ModelRef) -> str:
    module = ref.key.rpartition(".")[0]
    return "the notebook" if module == "__main__" else module
