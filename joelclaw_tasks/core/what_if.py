"""What if: the present queue played forward under a change, beside the same queue without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from typing import Any

from joelclaw_tasks.core.forecast import HORIZON_MS
from joelclaw_tasks.core.pace import Pace, measure
from joelclaw_tasks.core.simulation import Simulation
from joelclaw_tasks.core.snapshot import Snapshot, take_snapshot
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.world import Arrivals, LaneNow, Played, World, with_gates
from joelclaw_tasks.errors import NothingMeasured

#: Simulated runs of each world, and the jobs that all runs of one together may start.
_MOST_RUNS, _FEWEST_RUNS, _MOST_STARTS = 20, 3, 300_000
#: Events that one run plays at most for each job: with arrivals it might never end.
_EVENTS_PER_JOB, _EVENTS_AT_LEAST = 20, 100_000


@dataclass(frozen=True, slots=True)
class Change:
    """What is tried: gates paused, limits set, and jobs of families that come in (a second, on average)."""

    pauses: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    arrivals: Mapping[str, float] = field(default_factory=dict)


class WhatIf:
    """One snapshot of the queue, and answers about it. Reads only; raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._pace: Pace = measure(store.history)
        now_ms = int(store._call("explain", [store._head()[0]], repeatable=True)[0])
        self._snapshot: Snapshot = store.ask(
            lambda: take_snapshot(store.client, store.keys, self._pace, now_ms)
        )

    @property
    def lanes(self) -> Sequence[LaneNow]:
        """The lanes that wait or run now."""
        return self._snapshot.world.lanes

    @property
    def gates(self) -> set[str]:
        """Every gate of these lanes."""
        return {gate for lane in self.lanes for gate, _ in lane.gates}

    def simulate(self, change: Change, slack_ms: float = 300_000) -> dict[str, Any]:
        """When the queue drains, and who waits how much longer, as plain values.

        Beside a pause or a limit, arrivals come in with and without it; alone they are the change.
        `slack_ms` is that of what comes in. Waits count from now. Raises NothingMeasured.
        """
        if not self._pace.runs:
            raise NothingMeasured("no job has ended in the time that the stream still holds")
        world = self._snapshot.world
        expected = tuple(
            Arrivals(self._lanes_of(family), per_second, slack_ms)
            for family, per_second in change.arrivals.items()
            if per_second > 0
        )
        before = replace(world, arrivals=expected if change.pauses or change.limits else ())
        after = replace(_changed(world, change), arrivals=expected)
        jobs = sum(len(lane.ranks) for lane in world.lanes) + len(world.running)
        runs = max(_FEWEST_RUNS, min(_MOST_RUNS, _MOST_STARTS // (jobs + 1)))
        baseline, changed = (self._play(each, jobs, runs) for each in (before, after))
        return {
            "taken_at": self._snapshot.taken_at,
            "waiting": self._snapshot.total,
            "running": len(world.running),
            "slots": sum(crew.slots for crew in world.crews),
            "baseline": self._drain(baseline),
            "changed": self._drain(changed),
            "families": _families(baseline, changed),
            "error": {
                "runs": runs,
                "is_whole": self._snapshot.is_whole,
                "played": self._snapshot.read,
                "measured_runs": sum(map(len, self._pace.runs.values())),
                "unmeasured": sorted(
                    {lane.runs_of for lane in world.lanes if lane.ranks} - set(self._pace.runs)
                ),
            },
        }

    def _lanes_of(self, family: str) -> tuple[int, ...]:
        lanes = tuple(position for position, lane in enumerate(self.lanes) if lane.family == family)
        if not lanes:
            raise KeyError(family)
        return lanes

    def _play(self, world: World, jobs: int, runs: int) -> list[Played]:
        most = max(_EVENTS_AT_LEAST, jobs * _EVENTS_PER_JOB)
        return [Simulation(world, seed).play(HORIZON_MS, most_events=most) for seed in range(runs)]

    def _drain(self, runs: Sequence[Played]) -> dict[str, Any]:
        """When the last of what waits and runs now is done; None when some of it never starts."""
        # Of a queue too long to read, the rest is taken to go as fast as what was read.
        scale = self._snapshot.total / self._snapshot.read if self._snapshot.read else 1.0
        times = [run.drained_ms * scale for run in runs if run.drained_ms is not None]
        left = runs[0].left
        if len(times) < len(runs):
            looked_ms = min(run.ended_ms for run in runs)
            return {
                "drained_at": None,
                "drained_ms": None,
                "left": dict(left),
                "is_stuck": all(run.is_stuck for run in runs),
                "looked_ahead_ms": round(looked_ms),
            }
        middle = fmean(times)
        return {
            "drained_at": round(self._snapshot.taken_at + middle),
            "drained_ms": round(middle),
            "earliest_ms": round(min(times)),
            "latest_ms": round(max(times)),
            "spread": round(pstdev(times) / middle, 4) if middle else 0.0,
            "left": {},
        }


def _changed(world: World, change: Change) -> World:
    gates: dict[str, dict[str, float | None] | None] = {gate: {"until_ms": None} for gate in change.pauses}
    lanes = list(world.lanes)
    for gate, most in change.limits.items():
        found = False
        for position, lane in enumerate(lanes):
            for name, _ in lane.gates:
                # A limit of a keyed gate holds for each of its keys.
                if gate in (name, name.partition("=")[0]):
                    gates[name] = {"most": float(most)}
                    found = True
            if not found and gate == f"limit:handler/{lane.handler or lane.family}":
                lanes[position] = replace(lane, gates=(*lane.gates, (gate, 1)))
                gates[gate] = {"most": float(most)}
    return with_gates(replace(world, lanes=tuple(lanes)), gates)


def _families(baseline: Sequence[Played], changed: Sequence[Played]) -> list[dict[str, Any]]:
    """What each family waits in both, those that lose most first. Of a family that is held back: how many."""
    names = {family for run in (*baseline, *changed) for family in (*run.waits, *run.left)}
    found: list[dict[str, Any]] = []
    for family in names:
        before, after = _waits(baseline, family), _waits(changed, family)
        longer_ms = (
            None
            if before["mean_wait_ms"] is None or after["mean_wait_ms"] is None
            else after["mean_wait_ms"] - before["mean_wait_ms"]
        )
        found.append({"family": family, "baseline": before, "changed": after, "longer_ms": longer_ms})
    found.sort(key=lambda one: (-one["changed"]["left"], -(one["longer_ms"] or 0), one["family"]))
    return found


def _waits(runs: Sequence[Played], family: str) -> dict[str, Any]:
    waits = sorted(wait for run in runs for wait in run.waits.get(family, ()))
    return {
        "started": round(len(waits) / len(runs)),
        "mean_wait_ms": round(fmean(waits)) if waits else None,
        "p95_wait_ms": round(waits[-(-len(waits) * 95 // 100) - 1]) if waits else None,
        "left": runs[0].left.get(family, 0),
    }
