"""The engine without Prefect: random sessions against their meaning, then one rule at a time."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import law
import pytest
from law import STYLES, Proof, Style
from prove import Case
from sessions import WORLD

from pulpo.backends import local
from pulpo.compiler import compile_graph
from pulpo.operations import Operation
from pulpo.plan import Orchestration

# --- The law --------------------------------------------------------------------------------------


class LocalProof(Proof):
    """Checks one session as this engine runs it."""

    def _flows(self, style: Style) -> tuple[Orchestration, dict[str, Any]]:
        plan = compile_graph(self.graph, flat=style.flat, selection=style.selection)
        fn = SimpleNamespace(__globals__={})
        return plan, {f.name: SimpleNamespace(plan=plan, name=f.name, fn=fn) for f in plan.flows}

    def run(self, flow: Any, given: dict[str, Any]) -> Any:
        definition = flow.plan.get_flow(flow.name)
        defaults = {p.name: eval(p.default.text, WORLD) for p in definition.parameters if p.default}
        functions = {operation.name: operation.function for operation in self.operations}
        call = local.run_flow(flow.plan, flow.name, functions, {**defaults, **given})
        try:
            return law.LOOP.run(law.alone(call))
        finally:
            unheard, law.UNHEARD[:] = law.UNHEARD[:], []
            assert not unheard, unheard


def obeys(operations: list[Operation], seen: Counter[str], seed: int) -> None:
    proof = LocalProof(operations, seen, Random(seed))
    for style in (*STYLES[:2], Style(selection=proof.selection)):
        proof.holds_for(style)


@pytest.mark.parametrize("hundred", range(3))
def test_a_hundred_sessions_are_run_as_they_are_meant(hundred: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(hundred * 100, hundred * 100 + 100):
        obeys(Case.of(seed).operations(), seen, seed)
    for kind in ("maps", "flat", "selections", "failures", "subflows", "several returned"):
        assert seen[kind], seen
    assert seen["calls"] > 1000, seen
