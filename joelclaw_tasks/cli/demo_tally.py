"""What became of every job, counted from the transitions stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_FINAL = {"completed": "completed", "discarded": "failed", "cancelled": "failed"}


@dataclass(slots=True)
class FamilyTally:
    """Jobs of one family, and how long each waited and ran, in milliseconds."""

    started: set[str] = field(default_factory=set)
    completed: int = 0
    failed: int = 0
    waits_ms: list[int] = field(default_factory=list)
    runs_ms: list[int] = field(default_factory=list)


class Tally:
    """Reads transitions; knows which jobs are still open."""

    def __init__(self) -> None:
        self.families: dict[str, FamilyTally] = {}
        self.open: set[str] = set()
        self.reasons: list[str] = []

    def read(self, entries: Iterable[Mapping[str, str]]) -> None:
        """Take in transitions, oldest first."""
        for entry in entries:
            job, to = entry.get("job"), entry.get("to")
            if job is not None and to is not None:
                self._take(entry, job, to)

    def _take(self, entry: Mapping[str, str], job: str, to: str) -> None:
        family = self.families.setdefault(entry.get("family", "?"), FamilyTally())
        if to == "executing":
            if job not in family.started:
                family.waits_ms.append(int(float(entry.get("wait_ms", 0))))
            family.started.add(job)
        if to not in _FINAL:
            self.open.add(job)
            return
        self.open.discard(job)
        if to == "completed":
            family.completed += 1
            family.runs_ms.append(int(float(entry.get("run_ms", 0))))
        else:
            family.failed += 1
            self.reasons.append(f"{entry.get('family')} {job}: {entry.get('reason', to)}")

    def totals(self) -> dict[str, Any]:
        """Jobs started, completed and failed, and how long they waited before they started."""
        families = self.families.values()
        waits = [wait for family in families for wait in family.waits_ms]
        return {
            "started": sum(len(family.started) for family in families),
            "completed": sum(family.completed for family in families),
            "failed": sum(family.failed for family in families),
            "queue_latency_ms": {"p50": percentile(waits, 50), "p95": percentile(waits, 95)},
        }


def percentile(values: Iterable[float], percent: int) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None
