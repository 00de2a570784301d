"""Snapshot: what an operator is shown of the queue at one moment. Plain values, bounded in size.

Times are epoch milliseconds (`*_at`) and milliseconds (`*_ms`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict

#: The most of each listing; what was left out is counted in `omitted`.
MOST_FAMILIES, MOST_HANDLERS, MOST_GATES, MOST_GROUPS, MOST_CONTROLS = 200, 200, 100, 20, 100
BACKLOG, BACKLOG_AGE_MS = 25, 15 * 60_000
PRESSURE, PRESSURE_AGE_MS = 5, 5 * 60_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Totals(_Part):
    """All that waits and runs, and what is in the dead letter."""

    depth: int
    by_priority: dict[str, int]
    oldest_age_ms: int | None
    executing: int
    dead: int


class FamilyNow(_Part):
    """One family. `startable` jobs wait for nothing but a turn and open gates; `priority` is its usual one.

    `held_by` says who pauses it: `observer`, `person` or nobody. `depends_on` names checks of `health`.
    """

    family: str
    total: int = 0
    by_priority: dict[str, int] = {}
    startable: int = 0
    executing: int = 0
    oldest_age_ms: int | None = None
    priority: int = 2
    protected: bool = False
    held_by: Literal["observer", "person"] | None = None
    depends_on: tuple[str, ...] = ()


class HandlerNow(_Part):
    """How the runs of one handler went lately.

    `recent_*` count the last 20 runs that began after the last act on a pause of its family, or after that
    pause ran out: what happened before is no news. `recent_failed_jobs` are the jobs that failed and have
    not gone well since, `recent_well_since` the runs that began after the first of those failures and went
    well: where there are many, payloads fail, and nothing downstream. `run_trend` is the median of the later
    half of the runs over that of the earlier half. `retry_at` is the latest time that a server has asked to
    wait for.
    """

    handler: str
    family: str
    completed: int = 0
    failed: int = 0
    error_rate: float | None = None
    recent_completed: int = 0
    recent_failed: int = 0
    recent_failed_jobs: int = 0
    recent_well_since: int = 0
    run_p50_ms: int | None = None
    run_p95_ms: int | None = None
    run_trend: float | None = None
    rate_limited: int = 0
    rate_limited_at: int | None = None
    retry_at: int | None = None
    last_error: str = ""


class GateNow(_Part):
    """A limit or a rate: its value, and how many places are taken."""

    gate: str
    value: str
    taken: int
    shut: bool


class DeadGroup(_Part):
    """Jobs in the dead letter that failed alike."""

    signature: str
    count: int
    last_at: int
    place: str
    error: str


class ControlNow(_Part):
    """What is in force, or an act of the past. `family`: the one that it is about, if it is about one."""

    id: str
    verb: str
    target: str
    actor: str
    reason: str
    at: int
    until_at: int | None = None
    family: str | None = None
    by_person: bool = False
    undone_at: int | None = None
    undone_by_person: bool = False


class Drainer(_Part):
    """Whether work moves: `down` when something could start and nothing does."""

    state: Literal["healthy", "degraded", "down"]
    recent_dispatches: int
    recent_failures: int
    throughput_per_minute: float


class HealthNow(_Part):
    """One check of the health pulse. Unknown: the check itself died."""

    name: str
    status: Literal["healthy", "degraded", "unknown", "down"]
    detail: str


class RestateNow(_Part):
    """Invocations in Restate that are not over. `answers` False: its admin API did not, so nobody knows."""

    answers: bool
    waiting: int = 0
    scheduled: int = 0
    running: int = 0
    retrying: int = 0
    suspended: int = 0


class PassDone(_Part):
    """What an earlier pass applied: (kind of action, family)."""

    number: int
    at: int
    applied: tuple[tuple[str, str], ...]


class Findings(_Part):
    """What the figures say by fixed rules, without any judgement."""

    queue_pressure: Literal["healthy", "degraded", "backlogged"]
    downstream_state: Literal["healthy", "degraded", "down"]
    summary: str


class Snapshot(_Part):
    """See the parts. `number` is that of the pass; `window_ms` is how far back runs were looked at."""

    snapshot_id: str
    number: int
    taken_at: int
    window_ms: int
    totals: Totals
    families: tuple[FamilyNow, ...]
    handlers: tuple[HandlerNow, ...] = ()
    gates: tuple[GateNow, ...] = ()
    dead_groups: tuple[DeadGroup, ...] = ()
    controls: tuple[ControlNow, ...] = ()
    acts: tuple[ControlNow, ...] = ()
    passes: tuple[PassDone, ...] = ()
    drainer: Drainer
    quiet_until_at: int | None = None
    health: tuple[HealthNow, ...] = ()
    restate: RestateNow | None = None
    omitted: dict[str, int] = {}

    def family(self, name: str) -> FamilyNow | None:
        """The family of that name, None when it is not here."""
        return self._by_name.get(name)

    def needs_down(self, family: FamilyNow) -> HealthNow | None:
        """The first check that is down and that the family depends on."""
        return next(
            (each for each in self.health if each.status == "down" and each.name in family.depends_on), None
        )

    def handlers_of(self, family: str) -> list[HandlerNow]:
        """The handlers of a family that ran lately."""
        return [each for each in self.handlers if each.family == family]

    def controls_of(self, family: str) -> list[ControlNow]:
        """What is in force for a family itself."""
        return [each for each in self.controls if each.family == family]

    def hold_of(self, family: str) -> ControlNow | None:
        """The pause that holds a family, None when none does."""
        target = f"pause:family/{family}"
        return next((each for each in self.controls if (each.verb, each.target) == ("pause", target)), None)

    @cached_property
    def _by_name(self) -> dict[str, FamilyNow]:
        return {each.family: each for each in self.families}

    @cached_property
    def digest(self) -> str:
        """The same for two moments between which nothing has happened that an operator could act on."""
        state = [
            [[each.family, each.total, each.executing, each.held_by] for each in self.families],
            [[each.handler, each.recent_failed, each.rate_limited] for each in self.handlers],
            [[each.signature, each.count] for each in self.dead_groups],
            [each.id for each in self.controls],
            [[each.name, each.status] for each in self.health],
            self.quiet_until_at,
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]

    @cached_property
    def findings(self) -> Findings:
        """Pressure and downstream by the rules; what the observer itself holds back is no trouble."""
        depth, oldest = self.totals.depth, self.totals.oldest_age_ms or 0
        open_jobs = sum(each.total for each in self.families if each.held_by is None)
        if open_jobs == 0:
            pressure: Literal["healthy", "degraded", "backlogged"] = "healthy"
        elif depth >= BACKLOG or oldest >= BACKLOG_AGE_MS:
            pressure = "backlogged"
        else:
            pressure = "degraded" if depth >= PRESSURE or oldest >= PRESSURE_AGE_MS else "healthy"
        down = self.drainer.state
        held = sum(1 for each in self.families if each.held_by is not None)
        summary = (
            f"{depth} waiting, {self.totals.executing} running, {self.drainer.recent_failures} failures"
            f" in {self.window_ms // 60_000} min, {held} families held"
        )
        return Findings(queue_pressure=pressure, downstream_state=down, summary=summary)
