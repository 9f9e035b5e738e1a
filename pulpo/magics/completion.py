"""Completion after ``%pulpo`` and ``%%operation``: subcommands, flags and the session's names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from IPython.core.completer import SimpleCompletion, SimpleMatcherResult, context_matcher

from ..errors import PulpoError
from ..session import Session
from .arguments import Parser, operation_parser
from .commands import COMMANDS, parser_of

__all__ = ["make_matcher"]

_LINE = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?%{1,2}(?P<magic>pulpo|operation)\s+(?P<rest>.*)$")


def _nothing() -> SimpleMatcherResult:
    # A new one each time: IPython writes the word at the cursor into what a matcher returns.
    return SimpleMatcherResult(completions=[], suppress=False)


def make_matcher(session: Session) -> Callable[[Any], SimpleMatcherResult]:
    """Return the matcher for ``ip.Completer.custom_matchers``."""

    @context_matcher(identifier="pulpo")  # type: ignore[untyped-decorator, unused-ignore]
    def pulpo_matcher(context: Any) -> SimpleMatcherResult:
        match = _LINE.match(context.text_until_cursor)
        if match is None:
            return _nothing()
        *before, word = re.split(r"\s+", match["rest"])
        if match["magic"] == "operation":
            words = _options(session, operation_parser(), before, word)
        elif not before:
            words = list(COMMANDS)
        elif before[0] in COMMANDS:
            words = _options(session, parser_of(before[0]), before[1:], word)
        else:
            return _nothing()
        return SimpleMatcherResult(
            completions=[SimpleCompletion(w, type="pulpo") for w in words if w.startswith(word)],
            suppress=True,
            ordered=True,
            matched_fragment=word,
        )

    return pulpo_matcher  # type: ignore[no-any-return, unused-ignore]


def _options(session: Session, parser: Parser, before: list[str], word: str) -> list[str]:
    if word.startswith("-"):
        return [*parser.flags()]
    actions = parser.arguments()
    flags = {flag: action for action in actions for flag in action.option_strings}
    if before and before[-1] in flags and flags[before[-1]].nargs != 0:
        return _values(session, flags[before[-1]], word)
    places = [action for action in actions if not action.option_strings]
    taken = sum(1 for i, w in enumerate(before) if _is_positional(w, before[:i], flags))
    offered = _values(session, places[taken], word) if taken < len(places) else []
    return offered if word else [*offered, *parser.flags()]


def _is_positional(word: str, before: list[str], flags: dict[str, argparse.Action]) -> bool:
    if word.startswith("-"):
        return False
    return not (before and before[-1] in flags and flags[before[-1]].nargs != 0)


def _values(session: Session, action: argparse.Action, word: str) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    match action.metavar:
        case "OPERATION" | "NAME":
            return _names(session, "operations")
        case "OP":
            before, comma, _ = word.rpartition(",")
            named = before.split(",")
            names = [name for name in _names(session, "operations") if name not in named]
            return [f"{before}{comma}{name}" for name in names]
        case "FLOW":
            return _names(session, "flows")
        case "MODEL":
            return _names(session, "models")
        case "SUBCOMMAND":
            return list(COMMANDS)
        case "PORT:MODEL" | "NAME:MODEL" if ":" in word:
            port = word.partition(":")[0]
            return [f"{port}:{model}" for model in _names(session, "models")]
        case "PORT=OPERATION" if "=" in word:
            port = word.partition("=")[0]
            return [f"{port}={name}" for name in _names(session, "operations")]
        case "NAME=VALUE" if "=@" in word:
            name = word.partition("=@")[0]
            return [f"{name}=@{key}" for key in session.namespace if not key.startswith("_")]
    return []


def _names(session: Session, what: str) -> list[str]:
    if what == "operations":
        return [operation.name for operation in session.registry.list_all()]
    try:
        plan = session.plan()
    except PulpoError:  # a completion is no place to complain
        return []
    if what == "models":
        taken = (port.model for node in plan.operations for port in node.ports if port.model)
        given = (output.model for node in plan.operations for output in node.outputs)
        return list(dict.fromkeys([*taken, *given]))
    groups = (flow.hierarchy_path for flow in plan.flows if flow.hierarchy_path)
    return [*groups, *(flow.name for flow in plan.flows)]
