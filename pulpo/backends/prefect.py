"""Plan → Prefect code: one module for each flow, as a Prefect user would write it by hand."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from importlib import resources

from ..errors import BlockedFlowError, Problem, PulpoError, UnknownNameError, did_you_mean
from ..plan import Orchestration, Text
from .flow_code import FlowWriter, bootstrap, cache_seconds, literal
from .submit_code import RUNNERS, SubmitWriter

__all__ = [
    "PrefectCodeGenerator",
    "cache_seconds",
    "generate_flow",
    "generate_modules",
    "generate_registry",
    "literal",
    "names_in_signatures",
    "packages_of",
]

PACKAGE = "run_cache"


class PrefectCodeGenerator:
    """Generates Prefect code from an `Orchestration`; holds no state but the package's name.

    Parameters
    ----------
    package
        The importable name of the export folder.
    """

    def __init__(self, package: str = PACKAGE) -> None:
        self.package = package

    def generate_flow(self, orchestration: Orchestration, name: str) -> str:
        """Return the code of one flow; see `generate_flow`."""
        return generate_flow(orchestration, name, package=self.package)

    def generate_all_flows(self, orchestration: Orchestration) -> dict[str, str]:
        """Return the code of each flow by name; flows that an error blocks are left out."""
        return {
            flow.name: generate_flow(orchestration, flow.name, package=self.package)
            for flow in orchestration.flows
            if not flow.blocked
        }

    def generate_flow_registry(self, orchestration: Orchestration) -> str:
        """Return the code of ``registry.py``, which holds ``flows_by_name``."""
        return generate_registry(orchestration, package=self.package)


def generate_modules(orchestration: Orchestration, package: str = PACKAGE) -> dict[str, str]:
    """Return every generated module by its dotted name, without ``operations``.

    Flows that an error blocks are left out.
    """
    runtime = resources.files(__package__).joinpath("prefect_runtime.py").read_text("utf-8")
    flows = PrefectCodeGenerator(package).generate_all_flows(orchestration)
    return {
        package: f'"""Prefect flows that pulpo exported; see {package}/orchestration/."""\n',
        f"{package}.orchestration": runtime,
        **{f"{package}.orchestration.{name}": code for name, code in flows.items()},
        f"{package}.orchestration.registry": generate_registry(orchestration, package),
    }


def generate_flow(orchestration: Orchestration, name: str, package: str = PACKAGE) -> str:
    """Return the code of one flow, parsed before it is given.

    Raises
    ------
    UnknownNameError
        When there is no such flow.
    BlockedFlowError
        When an error blocks it.
    """
    flow = orchestration.get_flow(name)
    if flow is None:
        known = tuple(each.name for each in orchestration.flows)
        raise UnknownNameError(
            f"there is no flow {name!r}.{did_you_mean(name, known)} "
            f"The flows are: {', '.join(known) or 'none yet'}.",
            candidates=known,
        )
    if flow.blocked:
        raise blocked_error(flow.name, flow.blocked)
    writer = FlowWriter if orchestration.runner == "async" else SubmitWriter
    return _parsed(writer(orchestration, flow, package).text(), name)


def blocked_error(name: str, problems: Sequence[Problem]) -> BlockedFlowError:
    """Return the error for a flow that has problems."""
    why = " ".join(f"{problem.message} {problem.fix}".strip() for problem in problems[:3])
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return BlockedFlowError(f"{name} cannot be made: {why}{more}", problems=tuple(problems))


def generate_registry(orchestration: Orchestration, package: str = PACKAGE) -> str:
    """Return the code of ``registry.py``: ``flows_by_name``."""
    names = [flow.name for flow in orchestration.flows if not flow.blocked]
    lines = ['"""The flows of this export, by name."""', ""]
    lines += bootstrap(package)
    lines += [f"from {package}.orchestration.{name} import {name}" for name in names]
    lines += ["", "flows_by_name = {", *(f"    {literal(name)}: {name}," for name in names), "}"]
    return _parsed("\n".join(lines) + "\n", "registry")


def names_in_signatures(orchestration: Orchestration) -> tuple[str, ...]:
    """Return the names that the generated modules import from ``operations``, sorted."""
    texts: list[Text | None] = []
    for node in orchestration.operations:
        texts.append(node.returns)
        texts.extend(output.annotation for output in node.outputs)
        texts.extend(port.annotation for port in node.ports)
    for flow in orchestration.flows:
        for parameter in flow.parameters:
            texts += [parameter.annotation, parameter.default]
    found = {name for text in texts if text for name, module in text.names if not module}
    return tuple(sorted(found))


def packages_of(orchestrations: Iterable[Orchestration]) -> tuple[str, ...]:
    """Return the top-level modules that generated ones import, and that have to be installed.

    Prefect's server starts with some versions of fastapi only, and Prefect names no limit.
    """
    runners = [RUNNERS.get(each.runner) for each in orchestrations]
    modules = [runner.module.split(".")[0] for runner in runners if runner is not None]
    return tuple(dict.fromkeys(["prefect", "fastapi", *modules]))


def _parsed(code: str, name: str) -> str:
    try:
        ast.parse(code)
    except SyntaxError as error:  # pragma: no cover - a defect of the generator
        raise PulpoError(
            f"the code generated for {name} is no Python (line {error.lineno}: {error.msg}). "
            "This is a defect of pulpo; please report it with the operation's signature."
        ) from error
    return code
