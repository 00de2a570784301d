"""Cost: what a played world has cost, in minutes. The less, the better it was operated.

    cost = lateness by priority + wasted attempts + needless minutes of pause

A job is late from its deadline on: its admission, its slack, and twice the time that a run of its family
takes. Each minute counts 8, 4, 2 or 1 for P0 to P3. What is unfinished when the world ends is late until
then; what is in the dead letter an hour longer, for a person has to bring it back. A run that fails counts
one minute. A minute of pause counts one while the downstream of its family is well. What a person pauses
counts for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.evaluation.family import family
from joelclaw_tasks.evaluation.holds import flaps_of, holds_of, is_false, needless_ms
from joelclaw_tasks.evaluation.play import PERSON, Played, Record
from joelclaw_tasks.evaluation.scenario import LENGTH_MS, MINUTE_MS
from joelclaw_tasks.settings import Settings

WEIGHTS = (8, 4, 2, 1)
#: How much longer a dead job waits than the world lasts.
REVIVED_AFTER_MS = 60 * MINUTE_MS
_SLACK_MS = Settings().slack_ms


@dataclass(frozen=True, slots=True)
class Cost:
    """The parts of a cost in minutes, and what else is told of a world. `dead`: jobs in the dead letter."""

    late_min: float
    wasted_attempts: int
    needless_pause_min: float
    false_pauses: int
    flaps: int
    pauses: int
    dead: int

    @property
    def total(self) -> float:
        """The sum, in minutes."""
        return self.late_min + self.wasted_attempts + self.needless_pause_min

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "cost": round(self.total, 1),
            "late_min": round(self.late_min, 1),
            "wasted_attempts": self.wasted_attempts,
            "needless_pause_min": round(self.needless_pause_min, 1),
            "pauses": self.pauses,
            "false_pauses": self.false_pauses,
            "flaps": self.flaps,
            "dead": self.dead,
        }


def cost_of(played: Played) -> Cost:
    """What a world has cost. Acts of a person count for nobody."""
    holds = [hold for hold in holds_of(played) if hold.by != PERSON]
    jobs = played.jobs.values()
    return Cost(
        late_min=sum(WEIGHTS[job.priority] * _late_ms(job) for job in jobs) / MINUTE_MS,
        wasted_attempts=sum(job.failed for job in jobs),
        needless_pause_min=sum(needless_ms(hold, played.scenario.faults) for hold in holds) / MINUTE_MS,
        false_pauses=sum(is_false(hold, played) for hold in holds),
        flaps=flaps_of(holds),
        pauses=len(holds),
        dead=sum(job.is_dead for job in jobs),
    )


def _late_ms(job: Record) -> int:
    due_ms = job.admitted_ms + _SLACK_MS[job.priority] + 2 * family(job.family).run_ms
    if job.is_dead:
        return max(0, LENGTH_MS + REVIVED_AFTER_MS - due_ms)
    done_ms = LENGTH_MS if job.done_ms is None else job.done_ms
    return max(0, done_ms - due_ms)
