"""Pace: how fast work goes, measured from what the transitions stream still holds.

Service times are kept as they were measured, not as a mean: a forecast draws from them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from joelclaw_tasks.core.history import Entry, History
from joelclaw_tasks.core.states import State, Verb

#: Claims and ends that are looked at: two for each job.
ENTRIES = 20_000
#: Runs remembered of each handler: the newest.
_RUNS = 2_000
_ENDS = {Verb.COMPLETE, Verb.RETRY, Verb.RELEASE, Verb.EXPIRE, Verb.DISCARD}
#: Ends that say how long the work itself takes; a job given back was cut off.
_MEASURED = {Verb.COMPLETE, Verb.RETRY, Verb.DISCARD}


class Run(NamedTuple):
    """One measured run: how long, and in how many milliseconds the job ran again (None: it was over)."""

    ms: int
    again_ms: int | None = None


@dataclass(slots=True)
class Pace:
    """What was measured. A handler without a name (a plain task) goes by its family.

    `slots` and `served`: the most jobs that a holder had at once, and the queues it claimed from.
    `ended` counts ends by queue. `since_at` and `until_at` (epoch ms) are equal when nothing was seen.
    """

    runs: dict[str, deque[Run]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=_RUNS)))
    slots: dict[str, int] = field(default_factory=dict)
    served: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ended: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    since_at: int = 0
    until_at: int = 0

    def typical_ms(self, handler: str) -> tuple[int, int] | None:
        """p50 and p95 of the runs of a handler, nearest rank; None when none was measured."""
        ordered = sorted(run.ms for run in self.runs.get(handler, ()))
        if not ordered:
            return None
        return ordered[(len(ordered) - 1) // 2], ordered[-(-len(ordered) * 95 // 100) - 1]

    def mean_ms(self, handler: str) -> float | None:
        """Mean run of a handler; None when none was measured."""
        runs = self.runs.get(handler)
        return sum(run.ms for run in runs) / len(runs) if runs else None

    def per_second(self, queue: str) -> float | None:
        """Jobs of a queue that ended in a second, over the time measured; None when that is too short."""
        span_ms = self.until_at - self.since_at
        return self.ended[queue] * 1000 / span_ms if span_ms > 0 and self.ended.get(queue) else None


def measure(history: History) -> Pace:
    """The pace of the newest `ENTRIES` claims and ends in the stream. Raises CoreUnreachable."""
    newest = list(islice(history.read(newest_first=True, verbs=(Verb.CLAIM, *_ENDS)), ENTRIES))
    return pace_of(reversed(newest))


def pace_of(entries: Iterable[Entry]) -> Pace:
    """The pace of these entries, the oldest first."""
    pace = Pace()
    held: dict[str, set[str]] = defaultdict(set)
    holder_of: dict[str, str] = {}
    for entry in entries:
        pace.since_at = pace.since_at or entry.at
        pace.until_at = max(pace.until_at, entry.at)
        if entry.verb == Verb.CLAIM:
            holder = entry.text("holder")
            holder_of[entry.job] = holder
            held[holder].add(entry.job)
            pace.served[holder].add(entry.text("queue"))
            pace.slots[holder] = max(pace.slots.get(holder, 0), len(held[holder]))
        elif entry.verb in _ENDS and entry.run_ms is not None:
            held[holder_of.pop(entry.job, "")].discard(entry.job)
            if entry.verb in _MEASURED:
                pace.ended[entry.text("queue")] += 1
                pace.runs[entry.text("handler") or entry.family].append(_run(entry, entry.run_ms))
    return pace


def _run(entry: Entry, run_ms: int) -> Run:
    if entry.verb != Verb.RETRY:
        return Run(run_ms)
    due_at = entry.number("due_at") if entry.to_state == State.RETRYABLE else None
    return Run(run_ms, max(0, due_at - entry.at) if due_at else 0)
