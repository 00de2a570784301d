"""What the core must do, in plain Python: written from the design, knows nothing of Redis or Lua.

Between equal ranks the order is free: `start` is told which job Redis chose, and says whether it might.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from math import floor

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.rules import Rules
from joelclaw_tasks.core.states import FINAL, WAITING, State, Word
from tests.core.structure import split_line


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
    asked: bool = False  # to stop
    held_from: State = State.AVAILABLE
    hold_until: int = 0  # while a score is sought
    is_steered: bool = False  # somebody has set its priority: that of its own retries does not count


@dataclass
class Reference:  # all jobs and gates; times are epoch milliseconds
    lease_ms: int
    max_kills: int
    jobs: dict[str, Entry] = field(default_factory=dict)
    lane_gates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pauses: dict[str, int | None] = field(default_factory=dict)  # gate -> expires at
    limits: dict[str, int] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)  # gate -> what is set for it
    tats: dict[str, float] = field(default_factory=dict)  # rate gate -> when its next job is expected
    turns: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # share -> served at, jobs left of its turn
    now: int = 0
    expiries: dict[str, int] = field(default_factory=dict)  # holder -> its leases expire at
    unscored: dict[str, int] = field(default_factory=dict)  # job that wants a score, not taken yet -> since
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
        triage = Rules.decode(job.rules).triage if job.rules else None
        if triage and job.due_ms <= now:
            self.unscored[job.id] = now
            if triage.hold_ms:
                entry.state, entry.rank = State.HELD, now + job.slack_ms
                entry.hold_until = now + triage.hold_ms
                return Word.HELD
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
        if gate.startswith("rate:"):
            if (rate := self._rate(gate)) is None:
                return float("inf")
            return floor((self.now - self._tat(gate, rate)) * rate.limit / rate.period_ms + rate.burst + 1e-6)
        limit = self.limits.get(gate, self.limits.get(gate.partition("=")[0]))
        held = (split_line(line) for e in self.jobs.values() for line in e.held)
        return float("inf") if limit is None else limit - sum(weight for name, weight in held if name == gate)

    def _rate(self, gate: str) -> Rate | None:
        return self.rates.get(gate, self.rates.get(gate.partition("=")[0]))

    def _tat(self, gate: str, rate: Rate) -> float:
        """A bucket that empties at the rate; see Rate."""
        full = self.now + rate.burst * rate.period_ms / rate.limit
        return max(self.now, min(self.tats.get(gate, 0), full))

    def startable(self, queues: Collection[str]) -> dict[str, int]:
        available = [e for e in self.jobs.values() if e.state is State.AVAILABLE and e.job.queue in queues]
        best = {e.job.lane: e.rank for e in sorted(available, key=lambda e: -e.rank)}
        first = [e for e in available if e.rank == best[e.job.lane] and not self._is_second(e, available)]
        return {e.job.id: self._score(e) for e in first if self._is_open(e.job)}

    def _is_second(self, entry: Entry, available: list[Entry]) -> bool:
        """Whether a lane that takes turns has another job of the same rank before this one."""
        lane = entry.job.lane
        return self._share(lane) is not None and any(
            e.job.lane == lane and e.rank == entry.rank and e.job.id < entry.job.id for e in available
        )

    def _share(self, lane: str) -> tuple[str, int] | None:
        lines = [split_line(line) for line in self.lane_gates[lane] if line.startswith("share:")]
        return lines[0] if lines else None

    def _score(self, entry: Entry) -> int:
        """The rank; after a turn of its share, a job counts as admitted when that ended."""
        share = self._share(entry.job.lane)
        served_at = self.turns.get(share[0], (0, 0))[0] if share else 0
        return max(entry.rank, served_at + entry.job.slack_ms if served_at else 0)

    def _is_open(self, job: Job) -> bool:
        names = (f"queue/{job.queue}", f"family/{job.family}", f"handler/{job.handler}")
        lines = map(split_line, (*[f"pause:{n}" for n in names], *self.lane_gates[job.lane]))
        return all(self.room(gate) >= weight for gate, weight in lines if not gate.startswith("share:"))

    def may_give_way(self, id: str) -> bool:
        """Whether a job of a better rank may be waiting for more places of a gate than this one needs."""
        job, score = self.jobs[id].job, self._score(self.jobs[id])
        own = dict(map(split_line, self.lane_gates[job.lane]))
        return any(
            gate.startswith("limit:") and weight > own.get(gate, weight)
            for e in self.jobs.values()
            if e.state is State.AVAILABLE and e.job.queue == job.queue and self._score(e) < score
            for gate, weight in map(split_line, self.lane_gates[e.job.lane])
        )

    def start(self, id: str, queues: Collection[str], holder: str, now: int) -> bool:
        startable, entry = self.startable(queues), self.jobs[id]
        sure = [score for other, score in startable.items() if other == id or not self.may_give_way(other)]
        entry.held = entry.job.gates = self.lane_gates[entry.job.lane]  # it comes back with what it took
        entry.state, entry.claims, entry.holder = State.EXECUTING, entry.claims + 1, holder
        self.expiries[holder] = now + self.lease_ms
        for gate in entry.held:
            if gate.startswith("rate:") and (rate := self._rate(gate)):
                self.tats[gate] = self._tat(gate, rate) + rate.period_ms / rate.limit
        if share := self._share(entry.job.lane):
            served_at, left = self.turns.get(share[0], (0, 0))
            left = min(left, share[1]) or share[1]
            self.turns[share[0]] = (now if left == 1 else served_at, left - 1)
        return startable.get(id) == min(sure, default=None)

    def leased(self, tag: str) -> Entry | None:
        id, admitted_at, claims = tag.rsplit("#", 2)
        same = (entry := self.jobs.get(id)) and (entry.admitted_at, entry.claims) == (
            int(admitted_at),
            int(claims),
        )
        return entry if entry and same and entry.state is State.EXECUTING else None

    def stop(self, entry: Entry, word: Word, now: int, *, killed: bool = False) -> Word:
        entry.held, entry.holder = (), ""
        if entry.asked:
            self.end(entry, State.CANCELLED)
            return Word.CANCELLED
        if entry.successor:
            entry.successor.keep_ms = entry.job.keep_ms
            if entry.is_steered:
                entry.successor.slack_ms = entry.job.slack_ms
                entry.successor.priority = entry.job.priority
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
        if (entry := self.jobs.get(id)) is None or entry.state in FINAL:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        if entry.state is State.EXECUTING:
            entry.asked = True
            return Word.ASKED
        if entry.hold_until:
            self.unscored.pop(id, None)
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
        entry.is_steered = True
        if not moved and job.priority == level:
            return Word.UNCHANGED
        job.slack_ms, job.priority, entry.rank = slack_ms, level, entry.rank + moved
        return Word.PRIORITIZED

    def stage(self, id: str, now: int) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in (State.SCHEDULED, State.RETRYABLE):
            return Word.MISSING if entry is None else Word.WRONG_STATE
        self._enter_lane(entry, now + entry.job.slack_ms, is_new=False)
        return Word.STAGED

    def take_unscored(self, most: int) -> list[str]:
        """The ids; those of jobs that are over are left out, as their messages are gone."""
        taken = sorted(self.unscored, key=lambda id: (self.unscored[id], id))[:most]
        for id in taken:
            del self.unscored[id]
        return taken

    def score(self, id: str, slack_ms: int | None, level: int | None) -> Word:
        entry = self.jobs.get(id)
        if entry is None or not entry.hold_until or entry.state is not State.HELD:
            return Word.MISSING if entry is None else Word.NOTED
        if slack_ms is not None and level is not None and not entry.is_steered:
            entry.rank += slack_ms - entry.job.slack_ms
            entry.job.slack_ms, entry.job.priority = slack_ms, level
            was_steered, entry.is_steered = False, True
        else:
            was_steered = entry.is_steered
        self._let_go(entry)
        return Word.HELD_BY_PERSON if was_steered else Word.SCORED

    def _let_go(self, entry: Entry) -> None:
        entry.hold_until = 0
        self.unscored.pop(entry.job.id, None)
        self._enter_lane(entry, entry.rank, is_new=False)

    def shed(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state not in WAITING - {State.HELD}:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.held_from, entry.state = entry.state, State.HELD
        return Word.SHED

    def unshed(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state is not State.HELD or entry.hold_until:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        entry.state = entry.held_from
        if entry.state is State.AVAILABLE:
            entry.state = State.HELD  # while it looks whether its lane is there
            self._enter_lane(entry, entry.rank, is_new=False)
        return Word.UNSHED

    def purge(self, id: str) -> Word:
        if (entry := self.jobs.get(id)) is None or entry.state is not State.DISCARDED:
            return Word.MISSING if entry is None else Word.WRONG_STATE
        self.end(entry, State.CANCELLED)
        return Word.PURGED

    def expire(self, holders: Collection[str], now: int) -> int:
        lost = [e for e in self.jobs.values() if e.holder and e.holder in holders]
        self.expiries = {holder: due for holder, due in self.expiries.items() if holder not in holders}
        self.known -= set(holders)
        return len([self.stop(entry, Word.RELEASED, now, killed=True) for entry in lost])

    def look(self, holder: str, now: int, *, renews: bool = False) -> None:
        """Whoever claims or renews keeps its own leases first, then fires what is due."""
        self.now = now
        if renews or holder in self.expiries:
            self.expiries[holder] = now + self.lease_ms
        self.known |= {holder} if renews else set()
        silence_ms = 0 if self.seen_at is None else now - self.seen_at
        if self.seen_at is None or not 0 <= silence_ms <= self.lease_ms / 6:
            self.seen_at = now
        for other, due in self.expiries.items():
            if silence_ms > self.lease_ms / 2 and (other in self.known or due <= now):
                self.expiries[other] = max(due, now + self.lease_ms)
        for entry in sorted(self.jobs.values(), key=lambda e: (e.hold_until or e.job.due_ms, e.job.id)):
            if entry.state is State.HELD and entry.hold_until and entry.hold_until <= now:
                self._let_go(entry)
            if entry.state in (State.SCHEDULED, State.RETRYABLE) and entry.job.due_ms <= now:
                self._enter_lane(entry, entry.job.due_ms + entry.job.slack_ms, is_new=False)
        self.pauses = {gate: due for gate, due in self.pauses.items() if due is None or due > now}
        self.expire([h for h, due in self.expiries.items() if due <= now], now)
