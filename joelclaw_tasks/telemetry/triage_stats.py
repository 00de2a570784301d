"""Triage stats: what the scores in a span of the transitions stream add up to."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.telemetry.spread import spread, success_rate

_SAMPLES = 5


@dataclass(slots=True)
class _Counts:
    """What is counted for all families and for each."""

    attempts: int = 0
    completed: int = 0
    disagreements: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class TriageTally:
    """Adds the entries of `score`, and of jobs that waited for one in vain, up.

    A *disagreement* is a score whose suggested priority is not the job's own, that calls the job a duplicate,
    or that says the event is not what its family says.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._all = _Counts()
        self._families: dict[str, _Counts] = {}
        self._counts: Counter[str] = Counter()
        self._latencies_ms: list[int] = []
        self._cost_usd = 0.0
        self._mismatches: deque[dict[str, Any]] = deque(maxlen=_SAMPLES)
        self._fallbacks: deque[dict[str, Any]] = deque(maxlen=_SAMPLES)

    def add(self, entry: Entry) -> None:
        """Count one entry, the oldest first; those of other verbs are nothing to it."""
        if entry.verb == Verb.STAGE and entry.from_state == State.HELD:
            self._counts["deadline_passed"] += 1
        note = _note_of(entry)
        if entry.verb != Verb.SCORE or note is None or not entry.family:
            return
        family = self._families.setdefault(entry.family, _Counts())
        for counts in (self._all, family):
            counts.attempts += 1
        self._cost_usd += float(note.get("cost_usd") or 0)
        if note.get("cached"):
            self._counts["cached"] += 1
        elif "latency_ms" in note:
            self._latencies_ms.append(int(note["latency_ms"]))
        if "fallback" in note:
            self._add_fallback(entry, family, str(note["fallback"]))
        else:
            self._add_score(entry, family, note)

    def _add_fallback(self, entry: Entry, family: _Counts, reason: str) -> None:
        for counts in (self._all, family):
            counts.reasons[reason] += 1
        self._fallbacks.append(
            {"at": entry.at, "id": entry.job, "family": entry.family, "reason": reason},
        )

    def _add_score(self, entry: Entry, family: _Counts, note: Mapping[str, Any]) -> None:
        changes = note.get("suggested") != note.get("was")
        is_mismatch = note.get("route_check") == "mismatch"
        for counts in (self._all, family):
            counts.completed += 1
            counts.disagreements += bool(changes or is_mismatch or note.get("duplicate_of"))
        # Of what was no longer held, or has a priority of somebody's choice, a score is only noted.
        applied = entry.text("was") != ""
        self._counts["applied"] += applied
        if changes:
            self._counts["applied_changes" if applied else "suggested_not_applied"] += 1
        if is_mismatch:
            self._counts["route_mismatches"] += 1
            reasoning = str(note.get("reasoning", ""))
            self._mismatches.append(
                {"at": entry.at, "id": entry.job, "family": entry.family, "reasoning": reasoning},
            )

    def result(self) -> dict[str, Any]:
        """The figures; times in milliseconds, cost in US dollars, null where there is nothing to say."""
        every = self._all
        by_use = sorted(
            self._families.items(), key=lambda each: (-each[1].attempts, -each[1].disagreements, each[0])
        )
        return {
            "attempts": every.attempts,
            "completed": every.completed,
            "fallbacks": every.reasons.total(),
            "success_rate": success_rate(every.completed, every.reasons.total()),
            "disagreements": every.disagreements,
            **{
                name: self._counts[name]
                for name in (
                    "applied", "applied_changes", "suggested_not_applied", "route_mismatches", "cached",
                    "deadline_passed",
                )
            },
            "fallback_by_reason": dict(every.reasons.most_common()),
            "latency_ms": spread(self._latencies_ms),
            "cost_usd": round(self._cost_usd, 6),
            "families": [
                {
                    "name": name, "attempts": counts.attempts, "completed": counts.completed,
                    "fallbacks": counts.reasons.total(), "disagreements": counts.disagreements,
                    "success_rate": success_rate(counts.completed, counts.reasons.total()),
                }
                for name, counts in by_use[: self._limit]
            ],
            "recent_mismatches": list(reversed(self._mismatches)),
            "recent_fallbacks": list(reversed(self._fallbacks)),
        }  # fmt: skip


def _note_of(entry: Entry) -> Mapping[str, Any] | None:
    try:
        note = json.loads(entry.text("triage") or "null")
    except ValueError:
        return None
    return note if isinstance(note, dict) else None
