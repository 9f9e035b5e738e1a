"""Cells with ``@operation``: what they declare, and what they give on the stand-in for Prefect."""

from __future__ import annotations

import asyncio
import hashlib
import linecache
from typing import Any

import fake_prefect
from declared import MODELS

import pulpo
from pulpo.backends.prefect import PrefectCodeGenerator
from pulpo.compiler import compile_plan
from pulpo.operations import Operation
from pulpo.registry import default_registry

HEAD = """
import dataclasses, functools
from collections.abc import *
from typing import *
from pydantic import BaseModel
from pulpo import operation
T = TypeVar("T")
"""


def cell(source: str) -> tuple[dict[str, Any], list[Operation]]:
    """Run source as a notebook does, and so that its text can be found; return what it declared.

    Functions, and whatever else is called, are declared by ``operation(name=…)``.
    """
    file = f"<cell {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope = {**MODELS, "pulpo": pulpo, "__name__": "__main__"}
    registry = default_registry()
    before = registry.list_all()
    registry.clear()
    try:
        exec(compile(HEAD, "<head>", "exec", dont_inherit=True), scope)
        exec(compile(source, file, "exec", dont_inherit=True), scope)
        return scope, registry.list_all()
    finally:
        registry.clear()
        for one in before:
            registry.register(one)


def gives(source: str, **given: Any) -> Any:
    """Return what the main flow of a cell gives, as its generated code says."""
    scope, operations = cell(source)
    plan = compile_plan(operations)
    assert plan.is_valid, plan.problems
    texts = PrefectCodeGenerator().generate_all_flows(plan)
    functions = {operation.name: operation.function for operation in operations}
    flows = fake_prefect.load(texts, {**scope, "OPERATIONS": functions})
    return asyncio.run(flows["main_flow"](**given))
