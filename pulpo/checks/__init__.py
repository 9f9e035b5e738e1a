"""What a session should hear about itself: each check is a pure function that gives problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from ..errors import SEVERITIES, Problem
from ..plan import Orchestration
from .blocking import blocking
from .reach import Parts, Subject
from .shadowed import shadowed
from .signatures import bare_types, late_models, lost_results, twin_models, untold_data
from .stale import stale
from .wiring import passed_over, split_models, unconnected, unreachable, unused

__all__ = ["Subject", "check", "hints", "in_order", "stale"]

Check = Callable[[Subject], list[Problem]]

#: What ``compile`` says too, because it changes what flows come out.
HINTS: tuple[Check, ...] = (lost_results, bare_types, late_models)
CHECKS: tuple[Check, ...] = (
    unreachable,
    split_models,
    twin_models,
    unused,
    passed_over,
    unconnected,
    untold_data,
)
#: Those that look into the functions, and share what they find there.
DEEP: tuple[Callable[[Subject, Parts], list[Problem]], ...] = (shadowed, blocking)


def hints(subject: Subject) -> tuple[Problem, ...]:
    """Return what the signatures lose, such as a result without an annotation."""
    return tuple(chain.from_iterable(check(subject) for check in HINTS))


def check(subject: Subject) -> tuple[Problem, ...]:
    """Return every problem that the plan itself does not hold, staleness aside."""
    parts = Parts(subject.operations, subject.recorder)
    found = [check(subject) for check in (*HINTS, *CHECKS)]
    found += [check(subject, parts) for check in DEEP]
    return tuple(chain.from_iterable(found))


def in_order(plan: Orchestration, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems by severity, then in the order of the operations; the session's own last."""
    places = {node.name: place for place, node in enumerate(plan.operations)}
    return tuple(
        sorted(
            problems,
            key=lambda p: (SEVERITIES.index(p.severity), places.get(p.operation, len(places))),
        )
    )
