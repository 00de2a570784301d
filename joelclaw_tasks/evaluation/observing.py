"""Observing: one world with every operator, and what all the worlds add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from joelclaw_tasks.evaluation.bench import PATIENCE_MS, Bench
from joelclaw_tasks.evaluation.contest import NOTHING, World, play_world, totals_of
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.scripted import operate
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.intelligence.operator import Operator

STATIC, SCRIPTED, LIVE = "static", "scripted", "live"
#: A world, and what each model has cost in it (US dollars).
PlayedWorld = tuple[World, dict[str, float]]


def play_everybody(bench: Bench, position: int, kind: FaultKind, seed: int, scripted: bool) -> PlayedWorld:
    """The world of that position with nobody, the oracle, the rules, and the models that are wanted."""
    operators: dict[str, Operator | None] = {STATIC: None}
    if scripted:
        bench.scripted.warm_up()
        operators[SCRIPTED] = ModelOperator(bench.scripted, budget_ms=PATIENCE_MS)
    if bench.live is not None:
        operators[LIVE] = ModelOperator(bench.live)
    models = [name for name in operators if name != STATIC]
    before = {name: bench.cost_usd(name) for name in models}
    bench.api.rule = operate
    world = play_world(bench.stage, kind, seed, operators)
    world.position = position
    return world, {name: bench.cost_usd(name) - before[name] for name in models}


def summary_of(played: Sequence[PlayedWorld]) -> dict[str, Any]:
    """The totals of each operator over its worlds, and a line for each world."""
    result: dict[str, Any] = {LIVE: None}
    for name in (NOTHING, STATIC, SCRIPTED, LIVE):
        of = [world for world, _ in played if name in world.entries]
        if not of:
            continue
        result[name] = {"worlds": len(of), **totals_of(of, name)}
        if name in (SCRIPTED, LIVE):
            result[name]["cost_usd"] = round(sum(cost.get(name, 0) for _, cost in played), 4)
    result["worlds"] = [world.to_wire() for world, _ in played]
    return result
