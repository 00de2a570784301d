"""History: all that was recorded of one run, joined so that a checker can ask about it.

Lines by kind (times in seconds of the monotonic clock, but for `move`):

    run      seed, build, limits {gate: most}, rates {family: [limit, period_s, burst]}, fails [family],
             ungated [family], deadly [family], workers [role], max_kills,
             epoch_s (what to add to a time to get the epoch)
    asked    job, family, by: a producer is about to send it
    accepted job: the call returned
    failed   job, error: the call raised, so it may have been accepted or not
    start    job, tag, family, gates, worker, pid: written by the task itself
    end      tag: written by the task itself, as its last act
    control  verb, gate, value, asked_at, acked_at (null: it raised), changed (it did something)
    fault    name, target, until, workers, pids, kills, outlasts_lease, everywhere
    move     one entry of the transitions stream, its `at` in epoch milliseconds
    broken   invariant, code, subject, detail: what a fault itself saw that must not be
    rest     quiet, by_state, left {key: members}, violations [of the audit]: what Redis holds at the end
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

Line = dict[str, Any]
_LAST_WILL_S = 0.5
_JUST_BEFORE_S = 1.0
#: Faults after which every client has to connect anew.
_CUTS = {"resets", "cut-answers", "restart-redis", "kill-redis"}


@dataclass(slots=True)
class Attempt:
    """One delivery of a job, from its claim to the end of its lease. None: it did not happen, or not yet.

    `worker` is empty when nobody knows: it did not start, and nothing else of its `holder` did.

    `started_at` and `ended_at` are the task's own; `claimed_at` and `settled_at` come from the stream, as
    does `settled_by`: the verb that ended the lease.
    """

    tag: str
    job: str
    family: str = ""
    gates: tuple[str, ...] = ()
    worker: str = ""
    pid: int = 0
    holder: str = ""
    claimed_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    settled_at: float | None = None
    settled_by: str = ""

    @property
    def over_at(self) -> float:
        """When it stopped to count as running: its end, or the loss of its lease before that."""
        ended_at = math.inf if self.ended_at is None else self.ended_at
        if self.settled_at is not None and (self.settled_by in {"expire", "release"} or ended_at == math.inf):
            return min(ended_at, self.settled_at)
        return ended_at


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, from `at` to `until`.

    `workers` and `pids` are whom it hit, `everywhere` says that it hit everybody's connection. `kills`: what
    it hit is gone. `outlasts_lease`: it lasted so long that leases were lost.
    """

    name: str
    at: float
    until: float
    target: str = ""
    workers: frozenset[str] = frozenset()
    pids: frozenset[int] = frozenset()
    kills: bool = False
    outlasts_lease: bool = False
    everywhere: bool = False

    def hits(self, attempt: Attempt) -> bool:
        """Whether it hit the process that an attempt ran in."""
        if self.everywhere or attempt.worker in self.workers or attempt.pid in self.pids:
            return True
        return attempt.holder.partition("-")[0] in {str(pid) for pid in self.pids}  # died before it started

    def interrupts(self, attempt: Attempt) -> bool:
        """Whether it may have cost an attempt its lease."""
        if not (self.kills or self.outlasts_lease) or not self.hits(attempt):
            return False
        began_at = _first(attempt.claimed_at, attempt.started_at, default=math.inf)
        # What the dead asked of Redis just before may be done a moment later.
        until = self.until + (_LAST_WILL_S if self.kills else 0.0)
        return began_at <= until and _first(attempt.settled_at, default=math.inf) >= self.at


@dataclass(slots=True)
class Tale:
    """What the stream says of one job, in its order."""

    moves: list[Line] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Where it is at the end."""
        return str(self.moves[-1]["to"])

    def retries(self) -> int:
        """How often the task asked to run again: by a retry, or by a reject when none could be sent."""
        return sum(
            move["verb"] == "retry" or (move["verb"] == "release" and move.get("reason") == "rejected")
            for move in self.moves
        )


class History:
    """One run. Makes no judgement."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)
        of: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            of[line["kind"]].append(line)
        self.run: Line = of["run"][0] if of["run"] else {}
        self.asked = of["asked"]
        self.accepted = {line["job"] for line in of["accepted"]}
        self.controls = sorted(of["control"], key=lambda line: float(line["asked_at"]))
        faults = [_fault(line) for line in of["fault"]]
        self.faults = sorted([*faults, *_cut_off(faults)], key=lambda fault: fault.at)
        self.rests = of["rest"]
        self.moves = of["move"]
        self.broken = of["broken"]
        self._runs = of["start"] + of["end"]

    @classmethod
    def read(cls, *paths: Path) -> History:
        """The history in some files. A last line that was cut off by a kill is left out."""
        lines = []
        for path in paths:
            for text in path.read_bytes().split(b"\n"):
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    continue
        return cls(lines)

    @cached_property
    def tales(self) -> dict[str, Tale]:
        """Every job that moved, by id."""
        tales: dict[str, Tale] = defaultdict(Tale)
        for move in self.moves:
            if move.get("job") and move.get("to"):
                tales[move["job"]].moves.append(move)
        return dict(tales)

    @cached_property
    def attempts(self) -> dict[str, Attempt]:
        """Every attempt by its delivery tag."""
        attempts: dict[str, Attempt] = {}
        for job, tale in self.tales.items():
            life = ""
            for move in tale.moves:
                if not move.get("from"):
                    life = f"{job}#{move['at']}"
                if move.get("attempt"):
                    tag = f"{life}#{move['attempt']}"
                    attempt = attempts.setdefault(tag, Attempt(tag, job, move.get("family", "")))
                    if move["verb"] == "claim":
                        attempt.claimed_at, attempt.holder = self.monotonic(move), move.get("holder", "")
                    elif move["from"] == "executing" != move["to"]:
                        attempt.settled_at, attempt.settled_by = self.monotonic(move), move["verb"]
        for line in self._runs:
            attempt = attempts.setdefault(line["tag"], Attempt(line["tag"], line["tag"].rsplit("#", 2)[0]))
            if line["kind"] == "end":
                attempt.ended_at = line["at"]
            elif attempt.started_at is None or line["at"] < attempt.started_at:
                attempt.started_at, attempt.family = line["at"], line["family"]
                attempt.gates, attempt.worker, attempt.pid = tuple(line["gates"]), line["worker"], line["pid"]
        # What was claimed and never started was in the hands of a worker that started something else.
        workers = {each.holder: each.worker for each in attempts.values() if each.holder and each.worker}
        for attempt in attempts.values():
            attempt.worker = attempt.worker or workers.get(attempt.holder, "")
        return attempts

    @cached_property
    def starts(self) -> list[Attempt]:
        """The attempts that started, in the order of the tasks' own clocks."""
        started = [each for each in self.attempts.values() if each.started_at is not None]
        return sorted(started, key=lambda each: each.started_at or 0.0)

    def starts_between(self, family: str, since: float, until: float) -> list[Attempt]:
        """The attempts of a family that started between two times, neither of them included."""
        times, attempts = self._starts_of.get(family, ([], []))
        return attempts[bisect_right(times, since) : bisect_left(times, until)]

    @cached_property
    def _starts_of(self) -> dict[str, tuple[list[float], list[Attempt]]]:
        found: dict[str, tuple[list[float], list[Attempt]]] = defaultdict(lambda: ([], []))
        for attempt in self.starts:
            times, attempts = found[attempt.family]
            times.append(attempt.started_at or 0.0)
            attempts.append(attempt)
        return dict(found)

    @cached_property
    def attempts_of(self) -> dict[str, list[Attempt]]:
        """The attempts of each job."""
        found: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts.values():
            found[attempt.job].append(attempt)
        return dict(found)

    def monotonic(self, move: Line) -> float:
        """The time of a move on the clock of everything else."""
        return int(move["at"]) / 1000 - float(self.run.get("epoch_s", 0.0))

    def interruptions(self, job: str) -> int:
        """How many attempts of a job a fault may have cost their lease."""
        return sum(
            any(fault.interrupts(attempt) for fault in self.faults)
            for attempt in self.attempts_of.get(job, ())
        )

    def is_delayed(self, attempt: Attempt) -> bool:
        """Whether a fault lay between the claim of an attempt and its start: it could not know better."""
        claimed_at, started_at = attempt.claimed_at, attempt.started_at
        if claimed_at is None or started_at is None:
            return False
        return any(
            fault.hits(attempt) and fault.at <= started_at and fault.until >= claimed_at
            for fault in self.faults
        )


def _cut_off(faults: list[Fault]) -> Iterator[Fault]:
    """Where a worker stood still, or ended, while its connection was cut: it could not say that it lives."""
    for own in faults:
        if (own.workers or own.pids) and not own.kills:
            for cut in faults:
                if cut.name in _CUTS and cut.at <= own.until and cut.until >= own.at - _JUST_BEFORE_S:
                    yield replace(own, until=max(own.until, cut.until), outlasts_lease=True)


def _fault(line: Line) -> Fault:
    known = {name: line[name] for name in ("kills", "outlasts_lease", "everywhere", "target") if name in line}
    return Fault(
        line["name"],
        line["at"],
        _first(line.get("until"), default=line["at"]),
        workers=frozenset(line.get("workers", ())),
        pids=frozenset(line.get("pids", ())),
        **known,
    )


def _first(*times: float | None, default: float) -> float:
    return next((time for time in times if time is not None), default)
