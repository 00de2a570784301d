"""What the core must do, in plain Python: written from the design, knows nothing of Redis or Lua.

Between equal ranks the order is free: `start` is told which job Redis chose, and says whether it might.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.states import FINAL, WAITING, State, Word


@dataclass
class Entry:  # one job: what was asked for, and where it is in its life
    job: Job
    admitted_at: int
    state: State = State.AVAILABLE
    rank: int = 0
    claims: int = 0
    kills: int = 0
    holder: str = ""
    held: tuple[str, ...] = ()  # gates in which it has a place
    successor: Job | None = None
    held_from: State = State.AVAILABLE


@dataclass
class Reference:  # all jobs and gates; times are epoch milliseconds
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
        if entry:
            other = not job.keep_ms and job.family != entry.job.family  # a replacement
            successor = entry.state is State.EXECUTING and (job.retries > entry.job.retries or other)
            entry.successor = job if successor else entry.successor
            return Word.SUCCEEDED if successor else Word.DUPLICATE
        entry = self.jobs[job.id] = Entry(job, now)
        return Word.SCHEDULED if self._begin(entry, State.SCHEDULED, now) else Word.ADMITTED

    def _begin(self, entry: Entry, later: State, now: int) -> bool:
        entry.state = later
        if entry.job.due_ms <= now:
            self._enter_lane(entry, now + entry.job.slack_ms, is_new=True)
        return entry.state is later

    def _enter_lane(self, entry: Entry, rank: int, *, is_new: bool) -> None:
        lane = entry.job.lane
        if is_new or not any(e.state is State.AVAILABLE and e.job.lane == lane for e in self.jobs.values()):
            self.lane_gates[lane] = entry.job.gates
        entry.state, entry.rank = State.AVAILABLE, rank

    def room(self, gate: str) -> float:
        if gate.startswith("pause:"):
            return 0 if gate in self.pauses else float("inf")
        limit = self.limits.get(gate, self.limits.get(gate.partition("=")[0]))
        return float("inf") if limit is None else limit - sum(gate in e.held for e in self.jobs.values())

    def startable(self, queues: Collection[str]) -> dict[str, int]:
        available = [e for e in self.jobs.values() if e.state is State.AVAILABLE and e.job.queue in queues]
        best = {e.job.lane: e.rank for e in sorted(available, key=lambda e: -e.rank)}
        first = [e for e in available if e.rank == best[e.job.lane]]
        return {e.job.id: e.rank for e in first if self._is_open(e.job)}

    def _is_open(self, job: Job) -> bool:
        names = (f"queue/{job.queue}", f"family/{job.family}", f"handler/{job.handler}")
        return all(self.room(g) > 0 for g in (*[f"pause:{n}" for n in names], *self.lane_gates[job.lane]))

    def start(self, id: str, queues: Collection[str], holder: str, now: int) -> bool:
        startable, entry = self.startable(queues), self.jobs[id]
        entry.held = entry.job.gates = self.lane_gates[entry.job.lane]  # it comes back with what it took
        entry.state, entry.claims, entry.holder = State.EXECUTING, entry.claims + 1, holder
        self.expiries[holder] = now + self.lease_ms
        return startable.get(id) == min(startable.values(), default=None)

    def leased(self, tag: str) -> Entry | None:
        id, admitted_at, claims = tag.rsplit("#", 2)
        same = (entry := self.jobs.get(id)) and (entry.admitted_at, entry.claims) == (
            int(admitted_at),
            int(claims),
        )
        return entry if entry and same and entry.state is State.EXECUTING else None

    def stop(self, entry: Entry, word: Word, now: int, *, killed: bool = False) -> Word:
        entry.held, entry.holder = (), ""
        if entry.successor:
            entry.successor.keep_ms = entry.job.keep_ms
            entry.job, entry.successor = entry.successor, None
            self._begin(entry, State.RETRYABLE, now)
            return Word.RETRIED
        entry.kills += killed
        word = Word.DISCARDED if killed and entry.kills >= self.max_kills else word
        if word is Word.RELEASED:
            self._enter_lane(entry, entry.rank, is_new=False)
        else:
            self.end(entry, State.COMPLETED if word is Word.COMPLETED else State.DISCARDED)
        return word

    def end(self, entry: Entry, state: State) -> None:
        entry.state = state
        if state is not State.DISCARDED:
            self.finished[state] += 1
            self.jobs = {id: e for id, e in self.jobs.items() if e is not entry or entry.job.keep_ms}

    def cancel(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in WAITING:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        self.end(entry, State.CANCELLED)
        return Word.CANCELLED

    def revive(self, id: str, now: int) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state is not State.DISCARDED:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.kills = 0
        self._enter_lane(entry, now + entry.job.slack_ms, is_new=False)
        return Word.REVIVED

    def priority(self, id: str, slack_ms: int, level: int) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in WAITING:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        job, moved = entry.job, slack_ms - entry.job.slack_ms
        if not moved and job.priority == level:
            return Word.UNCHANGED
        job.slack_ms, job.priority, entry.rank = slack_ms, level, entry.rank + moved
        return Word.PRIORITIZED

    def stage(self, id: str, now: int) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in (State.SCHEDULED, State.RETRYABLE):
            return Word.MISSING if entry is None else Word.WRONG_STATE
        self._enter_lane(entry, now + entry.job.slack_ms, is_new=False)
        return Word.STAGED

    def shed(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in WAITING - {State.HELD}:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.held_from, entry.state = entry.state, State.HELD
        return Word.SHED

    def unshed(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state is not State.HELD:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.state = entry.held_from
        if entry.state is State.AVAILABLE:
            entry.state = State.HELD  # while it looks whether its lane is there
            self._enter_lane(entry, entry.rank, is_new=False)
        return Word.UNSHED

    def expire(self, holders: Collection[str], now: int) -> int:
        lost = [e for e in self.jobs.values() if e.holder and e.holder in holders]
        self.expiries = {holder: due for holder, due in self.expiries.items() if holder not in holders}
        self.known -= set(holders)
        return len([self.stop(entry, Word.RELEASED, now, killed=True) for entry in lost])

    def look(self, holder: str, now: int, *, renews: bool = False) -> None:
        """Whoever claims or renews keeps its own leases first, then fires what is due."""
        if renews or holder in self.expiries:
            self.expiries[holder] = now + self.lease_ms
        self.known |= {holder} if renews else set()
        away, self.seen_at = self.seen_at is not None and now - self.seen_at > self.lease_ms / 2, now
        for other, due in self.expiries.items():
            if away and (other in self.known or due <= now):
                self.expiries[other] = max(due, now + self.lease_ms)
        for entry in sorted(self.jobs.values(), key=lambda e: (e.job.due_ms, e.job.id)):
            if entry.state in (State.SCHEDULED, State.RETRYABLE) and entry.job.due_ms <= now:
                self._enter_lane(entry, entry.job.due_ms + entry.job.slack_ms, is_new=False)
        self.pauses = {gate: due for gate, due in self.pauses.items() if due is None or due > now}
        self.expire([h for h, due in self.expiries.items() if due <= now], now)
