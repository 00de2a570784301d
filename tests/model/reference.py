"""What the core must do, in plain Python: written from the design, knows nothing of Redis or Lua.

Where lanes have equal ranks, or jobs of a lane have, the order between them is free: `start` is
told which job Redis chose and says whether it was allowed to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from joelclaw_tasks.core.states import FINAL, State, Word
from joelclaw_tasks.core.store import Job


@dataclass
class Entry:
    """One job: what was asked for, and where it is in its life."""

    job: Job
    admitted_at: int
    state: State = State.AVAILABLE
    rank: int = 0
    claims: int = 0
    kills: int = 0
    holder: str = ""
    held: tuple[str, ...] = ()  # gates in which it has a place
    successor: Job | None = None


@dataclass
class Reference:
    """All jobs and gates. Times are epoch milliseconds."""

    lease_ms: int
    max_kills: int
    jobs: dict[str, Entry] = field(default_factory=dict)
    lane_gates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pauses: dict[str, int | None] = field(default_factory=dict)  # gate -> expires at
    limits: dict[str, int] = field(default_factory=dict)
    expiries: dict[str, int] = field(default_factory=dict)  # holder -> its leases expire at
    known: set[str] = field(default_factory=set)  # holders that have renewed
    seen_at: int | None = None
    finished: Counter[State] = field(default_factory=Counter)

    def admit(self, job: Job, now: int) -> Word:
        entry = self.jobs.get(job.id)
        if entry and entry.state in FINAL and not job.keep_ms:
            entry = None
        if entry and entry.state is State.EXECUTING and job.retries > entry.job.retries:
            entry.successor = job
            return Word.SUCCEEDED
        if entry:
            return Word.DUPLICATE
        self.jobs[job.id] = Entry(job, now)
        return Word.SCHEDULED if self._begin(self.jobs[job.id], State.SCHEDULED, now) else Word.ADMITTED

    def _begin(self, entry: Entry, later: State, now: int) -> bool:
        """Available, or waiting for its time; answers whether it waits."""
        if entry.job.due_ms > now:
            entry.state = later
            return True
        self._enter_lane(entry, now + entry.job.slack_ms, is_new=True)
        return False

    def _enter_lane(self, entry: Entry, rank: int, *, is_new: bool) -> None:
        if is_new or not self.lane(entry.job.lane):
            self.lane_gates[entry.job.lane] = entry.job.gates
        entry.state, entry.rank = State.AVAILABLE, rank

    def lane(self, name: str) -> list[Entry]:
        return [e for e in self.jobs.values() if e.state is State.AVAILABLE and e.job.lane == name]

    def room(self, gate: str) -> float:
        if gate.startswith("pause:"):
            return 0 if gate in self.pauses else float("inf")
        limit = self.limits.get(gate, self.limits.get(gate.partition("=")[0]))
        return float("inf") if limit is None else limit - sum(gate in e.held for e in self.jobs.values())

    def startable(self, queues: Sequence[str]) -> dict[str, int]:
        """Every job that may start now -> its rank: the first of each lane behind no shut gate."""
        lanes: dict[str, list[Entry]] = {}
        for entry in self.jobs.values():
            if entry.state is State.AVAILABLE and entry.job.queue in queues:
                lanes.setdefault(entry.job.lane, []).append(entry)
        found = {}
        for name, entries in lanes.items():
            job = entries[0].job
            pauses = (f"pause:queue/{job.queue}", f"pause:family/{job.family}", f"pause:handler/{job.handler}")
            if all(self.room(gate) > 0 for gate in (*pauses, *self.lane_gates[name])):
                best = min(e.rank for e in entries)
                found.update({e.job.id: best for e in entries if e.rank == best})
        return found

    def start(self, id: str, queues: Sequence[str], holder: str, now: int) -> bool:
        """A claim chose this job; answers whether it was one of the best."""
        startable = self.startable(queues)
        entry = self.jobs[id]
        entry.held = self.lane_gates[entry.job.lane]
        entry.state, entry.claims, entry.holder = State.EXECUTING, entry.claims + 1, holder
        self.expiries[holder] = now + self.lease_ms
        return startable.get(id) == min(startable.values(), default=None)

    def leased(self, tag: str) -> Entry | None:
        id, admitted_at, claims = tag.rsplit("#", 2)
        entry = self.jobs.get(id)
        right = entry and (entry.state, entry.admitted_at, entry.claims) == (State.EXECUTING, int(admitted_at), int(claims))
        return entry if right else None

    def stop(self, entry: Entry, word: Word, now: int, *, killed: bool = False) -> Word:
        """It stops executing: COMPLETED, DISCARDED or RELEASED, if it has no successor."""
        entry.held, entry.holder = (), ""
        if entry.successor:
            entry.successor.keep_ms = entry.job.keep_ms
            entry.job, entry.successor = entry.successor, None
            self._begin(entry, State.RETRYABLE, now)
            return Word.RETRIED
        entry.kills += killed
        if killed and entry.kills >= self.max_kills:
            word = Word.DISCARDED
        if word is Word.RELEASED:
            self._enter_lane(entry, entry.rank, is_new=False)
        else:
            self.end(entry, State.COMPLETED if word is Word.COMPLETED else State.DISCARDED)
        return word

    def end(self, entry: Entry, state: State) -> None:
        entry.state = state
        self.finished[state] += state is not State.DISCARDED
        if not entry.job.keep_ms and state is not State.DISCARDED:
            del self.jobs[entry.job.id]

    def cancel(self, id: str) -> Word:
        entry = self.jobs.get(id)
        if entry is None:
            return Word.MISSING
        if entry.state not in (State.AVAILABLE, State.SCHEDULED, State.RETRYABLE):
            return Word.WRONG_STATE
        self.end(entry, State.CANCELLED)
        return Word.CANCELLED

    def revive(self, id: str, now: int) -> Word:
        entry = self.jobs.get(id)
        if entry is None or entry.state is not State.DISCARDED:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.kills = 0
        self._enter_lane(entry, now + entry.job.slack_ms, is_new=False)
        return Word.REVIVED

    def expire(self, holders: Iterable[str], now: int) -> int:
        taken = 0
        for holder in holders:
            self.expiries.pop(holder, None)
            self.known.discard(holder)
            for entry in [e for e in self.jobs.values() if e.holder == holder]:
                self.stop(entry, Word.RELEASED, now, killed=True)
                taken += 1
        return taken

    def look(self, holder: str, now: int, *, renews: bool = False) -> None:
        """Whoever claims or renews keeps its own leases first, then fires what is due."""
        if renews or holder in self.expiries:
            self.expiries[holder] = now + self.lease_ms
        if renews:
            self.known.add(holder)
        away, self.seen_at = self.seen_at is not None and now - self.seen_at > self.lease_ms / 2, now
        for other, due in self.expiries.items():
            if away and (other in self.known or due <= now):
                self.expiries[other] = max(due, now + self.lease_ms)
        for entry in self.jobs.values():
            if entry.state in (State.SCHEDULED, State.RETRYABLE) and entry.job.due_ms <= now:
                self._enter_lane(entry, entry.job.due_ms + entry.job.slack_ms, is_new=False)
        self.pauses = {gate: due for gate, due in self.pauses.items() if due is None or due > now}
        self.expire([h for h, due in self.expiries.items() if due <= now], now)
