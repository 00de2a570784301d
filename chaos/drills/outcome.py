"""Outcome: the figures of one drill, and each promise that did not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.history import History
from chaos.verdict import Verdict, percentile
from joelclaw_tasks.core.violation import Violation

Say = Callable[[str], None]
_MOST_VIOLATIONS = 20


@dataclass(slots=True)
class Outcome:
    """`figures` are printed as they are; `broken` has a sentence for each promise that did not hold."""

    drill: str
    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def at_most(self, name: str, value: float | None, most: float) -> None:
        """Note a figure and that it may not be higher. None was never measured, and that is a fault."""
        self.figures[name] = value
        if value is None:
            self.broken.append(f"{name} was not measured")
        elif value > most:
            self.broken.append(f"{name} is {value}, and {most} is promised")

    def at_least(self, name: str, value: float, least: float) -> None:
        """Note a figure without which the drill has proved nothing."""
        self.figures[name] = value
        if value < least:
            self.broken.append(f"{name} is {value}: the drill needs {least} to prove anything")

    def judge(self, verdict: Verdict) -> None:
        """Take in what the checker of chaos runs says of the history."""
        wire = verdict.to_wire()
        self.figures |= {name: wire[name] for name in ("accepted", "lost", "double_finishes", "starts")}
        self.broken += [_sentence(each) for each in verdict.violations[:_MOST_VIOLATIONS]]
        if (more := len(verdict.violations) - _MOST_VIOLATIONS) > 0:
            self.broken.append(f"and {more} more violations")

    def to_wire(self) -> dict[str, Any]:
        """As plain values: the last line of a drill."""
        verdict = "red" if self.broken else "green"
        return {"drill": self.drill, "verdict": verdict, **self.figures, "broken": self.broken}


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum, in seconds."""
    return {
        "p50": percentile(seconds, 50),
        "p99": percentile(seconds, 99),
        "max": round(max(seconds), 3) if seconds else None,
    }


def second_starts(history: History) -> int:
    """How many starts were not the first of their job, and not asked for by it."""
    return sum(
        max(0, sum(each.started_at is not None for each in attempts) - 1 - retries(history, job))
        for job, attempts in history.attempts_of.items()
    )


def retries(history: History, job: str) -> int:
    """How often the task of a job asked to run again."""
    return history.tales[job].retries() if job in history.tales else 0


def expired(history: History) -> int:
    """How many leases were taken from their holders."""
    return sum(move["verb"] == "expire" for move in history.moves)


def _sentence(violation: Violation) -> str:
    return f"{violation.invariant} {violation.code} {violation.subject}: {violation.detail}"
