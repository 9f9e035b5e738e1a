"""A small session for the runner's tests: two fetchers, a merge, a group that needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pulpo.backends.prefect import generate_modules
from pulpo.compiler import compile_plan
from pulpo.operations import make_operation
from pulpo.plan import Orchestration, TaskOptions


class RawJobs(BaseModel):
    titles: list[str]


class CleanedJobs(BaseModel):
    titles: list[str]


async def stepstone(query: str, pages: int = 1) -> RawJobs:
    await asyncio.sleep(0.05)
    return RawJobs(titles=[f"{query} dev"] * pages)


def linkedin(query: str) -> RawJobs:
    time.sleep(0.05)
    return RawJobs(titles=[f"{query} ops"])


def merge(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
    return RawJobs(titles=stepstone.titles + linkedin.titles)


def clean(data: RawJobs) -> CleanedJobs:
    return CleanedJobs(titles=sorted(data.titles))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "scraping.stepstone.fetch": stepstone,
    "scraping.linkedin.fetch": linkedin,
    "scraping.merge": merge,
    "parsing.clean": clean,
}
NAMES = list(FUNCTIONS)


@dataclass(frozen=True)
class Sample:
    """What `run_flow` needs, by its parameters' names."""

    plan: Orchestration
    functions: dict[str, Callable[..., Any]]
    modules: dict[str, str]
    namespace: Mapping[str, Any]

    def arguments(
        self, flow: str = "main_flow", /, **parameters: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = (self.plan, flow, self.functions, self.namespace, parameters)
        return given, {"modules": self.modules}


def sample(
    replaced: Mapping[str, Callable[..., Any]] | None = None,
    options: Mapping[str, TaskOptions] | None = None,
    namespace: Mapping[str, Any] | None = None,
) -> Sample:
    functions = {**FUNCTIONS, **(replaced or {})}
    operations = [
        make_operation(
            function, name=name, options=(options or {}).get(name), inputs=None, outputs=None
        )
        for name, function in functions.items()
    ]
    plan = compile_plan(operations)
    return Sample(plan, functions, generate_modules(plan), namespace or {})
