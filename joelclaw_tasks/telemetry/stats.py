"""Stats: what a span of the transitions stream adds up to. A pure function of its entries."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.telemetry.spread import percentile, spread, success_rate
from joelclaw_tasks.telemetry.triage_stats import TriageTally

#: A job should start within this of becoming startable, in 95 of 100 cases.
TARGET_WAIT_P95_MS = 5_000
_ENDS_A_RUN = {Verb.COMPLETE, Verb.DISCARD, Verb.RETRY}


@dataclass(slots=True)
class _Family:
    """What one family did in the span."""

    verbs: Counter[str] = field(default_factory=Counter)
    waits_ms: list[int] = field(default_factory=list)
    runs_ms: list[int] = field(default_factory=list)


def stats(entries: Iterable[Entry], *, slack_ms: Sequence[int], limit: int) -> dict[str, Any]:
    """Dispatches, waits, runs, promotions, families, failures and scores of the entries, the oldest first.

    `slack_ms` is the slack of P0 to P3, `limit` the most families and failures that are listed. A
    promotion is a start after so long a wait that the job went before new ones of the next better
    priority; its priority is known when its admission is among the entries.
    """
    tally = _Tally(slack_ms, limit)
    for entry in entries:
        tally.add(entry)
    return tally.result()


class _Tally:
    """Adds entries up."""

    def __init__(self, slack_ms: Sequence[int], limit: int) -> None:
        # How long a job of each priority waits before it goes before new ones of the next better one.
        self._ages_ms = [math.inf, *(b - a for a, b in pairwise(slack_ms))]
        self._limit = limit
        self._found = 0
        self._verbs: Counter[str] = Counter()
        self._turned_away: Counter[str] = Counter()
        self._families: dict[str, _Family] = {}
        self._priorities: dict[str, int] = {}
        self._promotions = 0
        self._failures: deque[dict[str, Any]] = deque(maxlen=limit)
        self._triage = TriageTally(limit)

    def add(self, entry: Entry) -> None:
        self._found += 1
        if not entry.job:
            return
        self._triage.add(entry)
        if not entry.to_state:
            if entry.verb == Verb.ADMIT:
                self._turned_away[entry.text("reason") or "duplicate"] += 1
            return
        family = self._families.setdefault(entry.family, _Family())
        verb = entry.verb
        if verb == Verb.ADMIT and entry.to_state == State.DISCARDED:
            verb = "refuse"
        self._verbs[verb] += 1
        family.verbs[verb] += 1
        self._follow(entry)
        if verb == Verb.CLAIM and entry.wait_ms is not None:
            family.waits_ms.append(entry.wait_ms)
        if verb in _ENDS_A_RUN and entry.run_ms is not None:
            family.runs_ms.append(entry.run_ms)
        if entry.to_state == State.DISCARDED:
            self._failures.append(_failure(entry))

    def _follow(self, entry: Entry) -> None:
        """Keep the priority of each job that is on its way, and see whether age has promoted it."""
        priority = entry.number("priority")
        if priority is not None:
            self._priorities[entry.job] = priority
        if entry.verb == Verb.CLAIM and entry.wait_ms is not None:
            known = self._priorities.get(entry.job, 0)
            if known < len(self._ages_ms) and entry.wait_ms >= self._ages_ms[known]:
                self._promotions += 1
        elif entry.to_state in {State.COMPLETED, State.CANCELLED}:
            self._priorities.pop(entry.job, None)

    def result(self) -> dict[str, Any]:
        verbs = self._verbs
        completed, failed = verbs[Verb.COMPLETE], verbs[Verb.DISCARD]
        waits = spread(ms for family in self._families.values() for ms in family.waits_ms)
        families = sorted(self._families.items(), key=lambda each: (-each[1].verbs[Verb.CLAIM], each[0]))
        return {
            "found": self._found,
            "admissions": {
                "admitted": verbs[Verb.ADMIT],
                "refused": verbs["refuse"],
                "turned_away": dict(self._turned_away.most_common(20)),
            },
            "dispatches": {
                "started": verbs[Verb.CLAIM],
                "completed": completed,
                "failed": failed,
                "retried": verbs[Verb.RETRY],
                "released": verbs[Verb.RELEASE],
                "expired": verbs[Verb.EXPIRE],
                "cancelled": verbs[Verb.CANCEL],
                "terminal": completed + failed,
                "success_rate": success_rate(completed, failed),
            },
            "queue_latency_ms": {
                **waits,
                "target_p95": TARGET_WAIT_P95_MS,
                "within_target": None if waits["p95"] is None else waits["p95"] <= TARGET_WAIT_P95_MS,
            },
            "dispatch_duration_ms": spread(ms for each in self._families.values() for ms in each.runs_ms),
            "promotions": self._promotions,
            "event_families": [_family(name, family) for name, family in families[: self._limit]],
            "more_families": max(0, len(families) - self._limit),
            "recent_failures": list(reversed(self._failures)),
            "triage": self._triage.result(),
        }


def _family(name: str, family: _Family) -> Mapping[str, Any]:
    completed, failed = family.verbs[Verb.COMPLETE], family.verbs[Verb.DISCARD]
    return {
        "name": name,
        "count": family.verbs[Verb.CLAIM],
        "completed": completed,
        "failed": failed,
        "success_rate": success_rate(completed, failed),
        "wait_p95_ms": percentile(sorted(family.waits_ms), 0.95),
        "run_p95_ms": percentile(sorted(family.runs_ms), 0.95),
    }


def _failure(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "id": entry.job,
        "family": entry.family,
        "handler": entry.text("handler"),
        "error": entry.text("reason"),
        "attempt": entry.number("attempt"),
        "run_ms": entry.run_ms,
    }
