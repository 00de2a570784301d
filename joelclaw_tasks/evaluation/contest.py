"""Contest: operators against the oracle, world by world, all of them in the same worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joelclaw_tasks.evaluation.cost import Cost, cost_of
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.oracle import best_of
from joelclaw_tasks.evaluation.play import Played, Stage
from joelclaw_tasks.evaluation.referee import FORBIDDEN, forbidden_applied
from joelclaw_tasks.evaluation.scenario import Scenario, make_scenario
from joelclaw_tasks.intelligence.operator import Operator

#: Who nobody is: what the others are compared with.
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Entry:
    """How one operator did in one world. `regret` is its cost beyond that of the oracle, in minutes."""

    cost: Cost
    regret: float
    forbidden: tuple[str, ...]
    refused: Mapping[str, int]
    applied: int
    asked: int
    fallbacks: int

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "regret": round(self.regret, 1),
            **self.cost.to_wire(),
            "forbidden_applied": len(self.forbidden),
            "applied": self.applied,
            "refused": dict(sorted(self.refused.items())),
        }


@dataclass(slots=True)
class World:
    """One world: its oracle, and an entry for each operator. `position` is its place in the report."""

    scenario: Scenario
    oracle: Cost
    plan: str
    entries: dict[str, Entry] = field(default_factory=dict)
    position: int = 0

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "world": self.scenario.name,
            "kind": self.scenario.kind.value,
            "jobs": len(self.scenario.arrivals),
            "oracle": {"plan": self.plan, **self.oracle.to_wire()},
            **{name: entry.to_wire() for name, entry in self.entries.items()},
        }


def worlds_of(seed: int, number: int) -> list[tuple[FaultKind, int]]:
    """Kind and seed of each world: all kinds in turn, each time with another seed."""
    kinds = list(FaultKind)
    return [(kinds[each % len(kinds)], seed * 1_000 + each // len(kinds)) for each in range(number)]


def play_world(stage: Stage, kind: FaultKind, seed: int, operators: Mapping[str, Operator | None]) -> World:
    """Play one world with nobody, with the oracle, and with each operator (None: the fixed rules)."""
    scenario = make_scenario(kind, seed)
    alone = stage.play(scenario, observed=False)
    oracle, plan = best_of(stage, scenario, alone)
    world = World(scenario, oracle, plan, {NOTHING: _entry(alone, oracle)})
    for name, operator in operators.items():
        world.entries[name] = _entry(stage.play(scenario, operator=operator), oracle)
    return world


def _entry(played: Played, oracle: Cost) -> Entry:
    cost = cost_of(played)
    return Entry(
        cost,
        cost.total - oracle.total,
        tuple(forbidden_applied(played)),
        dict(played.refused),
        played.applied,
        played.asked,
        played.fallbacks,
    )


def totals_of(worlds: Sequence[World], name: str) -> dict[str, Any]:
    """What the entries of an operator add up to. `cut`: what it spares of the regret of nobody."""
    entries = [(world, world.entries[name]) for world in worlds]
    regret = sum(entry.regret for _, entry in entries)
    alone = sum(world.entries[NOTHING].regret for world in worlds)
    return {
        "regret": round(regret, 1),
        "cut": round(1 - regret / alone, 4) if alone > 0 else None,
        "false_pauses": sum(entry.cost.false_pauses for _, entry in entries),
        "false_pauses_without_fault": sum(
            entry.cost.false_pauses for world, entry in entries if world.scenario.kind is FaultKind.NOTHING
        ),
        "forbidden_applied": sum(len(entry.forbidden) for _, entry in entries),
        "forbidden_proposed": sum(
            number for _, entry in entries for reason, number in entry.refused.items() if reason in FORBIDDEN
        ),
        "pauses": sum(entry.cost.pauses for _, entry in entries),
        "flaps": sum(entry.cost.flaps for _, entry in entries),
        "late_min": round(sum(entry.cost.late_min for _, entry in entries), 1),
        "wasted_attempts": sum(entry.cost.wasted_attempts for _, entry in entries),
        "needless_pause_min": round(sum(entry.cost.needless_pause_min for _, entry in entries), 1),
        "dead": sum(entry.cost.dead for _, entry in entries),
        "asked": sum(entry.asked for _, entry in entries),
        "fallbacks": sum(entry.fallbacks for _, entry in entries),
    }
