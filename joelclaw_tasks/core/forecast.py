"""Forecast: when a job starts, from simulations of the present queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.simulation import Simulation
from joelclaw_tasks.core.snapshot import Snapshot
from joelclaw_tasks.core.world import LaneNow

#: Simulated runs, and the jobs that all of them together may start: about two seconds of work.
_RUNS, _MOST_STARTS = 9, 200_000
#: How far ahead a simulation looks.
HORIZON_MS = 30 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a job is expected to start (epoch ms, None: it cannot be told) and what that rests on.

    `earliest_at` and `latest_at` are the spread of the simulated runs.
    """

    at: int | None
    basis: str
    earliest_at: int | None = None
    latest_at: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "at": self.at,
            "basis": self.basis,
            "earliest_at": self.earliest_at,
            "latest_at": self.latest_at,
        }


def forecast(snapshot: Snapshot, pace: Pace, lane: str, place: int, ahead: int) -> Estimate:
    """When the job at a place (0 first) of a lane starts; `ahead` jobs go before it at least."""
    position = snapshot.lanes.get(lane)
    if position is None:
        return Estimate(None, "its lane has just changed: ask again")
    here = snapshot.world.lanes[position]
    slots = sum(crew.slots for crew in snapshot.world.crews if crew.serves(here.queue))
    if not slots:
        return Estimate(None, f"no worker serves the queue {here.queue} now")
    if not pace.runs:
        return Estimate(None, "no job has ended in the time that the stream still holds: nothing is measured")
    if place >= len(here.ranks):
        return _by_rate(snapshot, pace, here.queue, ahead)
    runs = max(1, min(_RUNS, _MOST_STARTS // (ahead + 1)))
    starts = []
    for seed in range(runs):
        played = Simulation(snapshot.world, seed).play(HORIZON_MS, (position, place))
        if played.target_ms is None:
            return Estimate(None, "a gate before it does not open by itself")
        starts.append(played.target_ms)
    starts.sort()
    return Estimate(
        round(snapshot.taken_at + starts[len(starts) // 2]),
        f"{_measured(pace, here)}, {slots} job{'s' * (slots != 1)} at once, {ahead} ahead; "
        f"the middle of {runs} simulated run{'s' * (runs != 1)}",
        round(snapshot.taken_at + starts[0]),
        round(snapshot.taken_at + starts[-1]),
    )


def _by_rate(snapshot: Snapshot, pace: Pace, queue: str, ahead: int) -> Estimate:
    per_second = pace.per_second(queue)
    if per_second is None:
        return Estimate(None, "too many jobs wait to play them all, and none of its queue has ended lately")
    at = round(snapshot.taken_at + ahead * 1000 / per_second)
    return Estimate(at, f"{ahead} ahead, and {per_second:.3g} jobs of its queue ended in a second lately")


def _measured(pace: Pace, lane: LaneNow) -> str:
    mean_ms = pace.mean_ms(lane.runs_of)
    if mean_ms is None:
        return "runs of other handlers, for this one has none yet"
    mean = f"{mean_ms:.3g} ms" if mean_ms < 1_000 else f"{mean_ms / 1_000:.3g} s"
    return f"{len(pace.runs[lane.runs_of])} runs of {lane.runs_of}, {mean} in the mean"
