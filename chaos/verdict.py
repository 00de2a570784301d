"""Verdict: the figures of one or several checked histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from chaos.checker import check, pauses
from chaos.history import History
from joelclaw_tasks.core.violation import Violation


@dataclass(slots=True)
class Verdict:
    """What one run came to. `recovery_s`: from a kill to the next start of each job that it interrupted.

    `repeats` counts jobs whose task came to its end more than once: what exactly-once would forbid, and
    nobody can promise once a worker may die between its effect and its word of it.
    """

    violations: list[Violation] = field(default_factory=list)
    accepted: int = 0
    uncertain: int = 0
    starts: int = 0
    kills: int = 0
    repeats: int = 0
    faults: int = 0
    recovery_s: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, history: History) -> Verdict:
        """Check one history."""
        repeats = sum(
            sum(each.ended_at is not None for each in attempts) > 1 + history.tales[job].retries()
            for job, attempts in history.attempts_of.items()
            if job in history.tales
        )
        return cls(
            violations=check(history),
            accepted=len(history.accepted | history.tales.keys()),
            uncertain=len({line["job"] for line in history.asked} - history.accepted),
            starts=len(history.starts),
            kills=sum(fault.kills for fault in history.faults),
            repeats=repeats,
            faults=len(history.faults),
            recovery_s=list(recoveries(history)),
        )

    def add(self, other: Verdict) -> None:
        """Take the figures of another run in."""
        self.violations += other.violations
        self.recovery_s += other.recovery_s
        for name in ("accepted", "uncertain", "starts", "kills", "repeats", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_wire(self) -> dict[str, Any]:
        """As plain values: the last line of a run."""
        codes = [violation.code for violation in self.violations]
        limits = sum(violation.invariant in {"I3", "I4", "I5"} for violation in self.violations)
        return {
            "verdict": "red" if self.violations else "green",
            "accepted": self.accepted,
            "lost": codes.count("LOST") + codes.count("STRANDED"),
            "double_finishes": codes.count("FINISHED_TWICE") + codes.count("FINISHED_EARLY"),
            "limit_violations": limits,
            "recovery_s": {"p50": percentile(self.recovery_s, 50), "p99": percentile(self.recovery_s, 99)},
            "violations": len(self.violations),
            "recoveries": len(self.recovery_s),
            "faults": self.faults,
            "kills": self.kills,
            "starts": self.starts,
            "uncertain": self.uncertain,
            "repeats": self.repeats,
        }


def recoveries(history: History) -> Iterator[float]:
    """How long each job that a kill interrupted waited for its next start, in seconds.

    What a pause or a fault of Redis held up meanwhile says nothing of recovery, and is left out.
    """
    held_up = [(fault.at, fault.until, "") for fault in history.faults if fault.everywhere]
    held_up += pauses(history)
    cut_short = [each for each in history.starts if each.ended_at is None]
    for fault in history.faults:
        if not fault.kills:
            continue
        for attempt in cut_short:
            if not fault.interrupts(attempt):
                continue
            later = [
                each.started_at
                for each in history.attempts_of[attempt.job]
                if each.started_at is not None and each.started_at > fault.at
            ]
            if later and not any(
                family in {"", attempt.family} and began_at < min(later) and until > fault.at
                for began_at, until, family in held_up
            ):
                yield min(later) - fault.at


def percentile(values: Sequence[float], percent: int) -> float | None:
    """A percentile, rounded to milliseconds; None of nothing."""
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 3)
    return round(quantiles(values, n=100, method="inclusive")[percent - 1], 3)
