"""Audit: checks the invariants I1 to I8 of the design on the live Redis. Reads only, in bounded steps.

Work goes on meanwhile, so what looks wrong is looked at again before it is reported: a job that moved
between two reads is not a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import redis

from joelclaw_tasks.core.audit_counts import CountCheck, count_violation
from joelclaw_tasks.core.audit_history import audit_history
from joelclaw_tasks.core.audit_jobs import JobChecks
from joelclaw_tasks.core.audit_lanes import LaneChecks
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.keys import KEYS
from joelclaw_tasks.core.states import Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.unended import Unended
from joelclaw_tasks.core.violation import Violation

#: Keys or members that one step reads; what one audit reports at most.
_STEP, MOST_VIOLATIONS = 500, 1_000
#: A suspicion that stands this often, so far apart, is a fault.
_LOOKS, _BETWEEN_LOOKS_S = 3, 0.03

Subject = TypeVar("Subject")
Check = Callable[[Sequence[Subject]], Iterator[tuple[Subject, Violation]]]


@dataclass(slots=True)
class Findings:
    """What an audit found. `unchecked` names what could not be checked, and why."""

    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    lanes: int = 0
    keys: int = 0
    entries: int = 0
    unchecked: list[str] = field(default_factory=list)

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        looked_at = {"keys": self.keys, "jobs": self.jobs, "lanes": self.lanes, "entries": self.entries}
        return {
            "violations": [violation.to_wire() for violation in self.violations],
            "looked_at": looked_at,
            "unchecked": self.unchecked,
        }


class Audit:
    """One audit of one core. `run` it once; raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._client: Any = _text_client(store.client)
        self._found = Findings()
        self._seen: set[tuple[str, str, str]] = set()

    def run(self) -> Findings:
        """Check everything."""
        try:
            self._store.ask(self._run)
        finally:
            self._client.close()
        return self._found

    def _run(self) -> None:
        now_ms = int(self._store._call("explain", [self._store._head()[0]], repeatable=True)[0])
        counts = CountCheck(self._client, self._keys, self._store.history)
        self._jobs = JobChecks(self._client, self._keys, now_ms, counts.note)
        self._lanes = LaneChecks(self._client, self._keys, now_ms, self._shut_gates, self._limited_at)
        pattern = "".join(f"\\{each}" if each in "*?[]\\" else each for each in self._keys.prefix) + "*"
        for names in _steps(self._client.scan_iter(pattern, _STEP)):
            self._found.keys += len(names)
            self._check_keys(names)
        self._check_singles()
        self._check_counts(counts)
        self._check_history()
        for queues in _steps(sorted(self._client.smembers(self._keys.queues))):
            self._stands(self._overtaken, queues)

    # -- steps ----------------------------------------------------------------------------------

    def _check_keys(self, names: Sequence[str]) -> None:
        by_kind: dict[str, list[str]] = {}
        for name in names:
            kind, _, rest = name.removeprefix(self._keys.prefix).partition(":")
            by_kind.setdefault(kind, []).append(rest)
        for kind, rests in by_kind.items():
            if kind not in KEYS:
                self._stands(self._unknown, [f"{kind}:{rest}" if rest else kind for rest in rests])
        jobs, lanes = by_kind.get("job", []), by_kind.get("lane", [])
        self._found.jobs += len(jobs)
        self._found.lanes += len(lanes)
        self._stands(self._jobs.job, jobs)
        self._stands(self._lanes.lane, lanes)
        self._stands(self._lanes.lane_meta, by_kind.get("lane_meta", []))
        self._stands(self._lanes.spot, by_kind.get("parked", []))
        self._stands(self._lanes.limit, by_kind.get("running", []))
        self._stands(self._lanes.holder, by_kind.get("leases", []))
        for kind, check in (
            ("lane", self._jobs.lane_member), ("running", self._jobs.place), ("leases", self._jobs.lease),
        ):  # fmt: skip
            for rest in by_kind.get(kind, ()):
                for members in _steps(self._members(kind, rest)):
                    self._stands(check, [(rest, member) for member in members])
        for kind in ("lanes", "ready", "parked"):
            for rest in by_kind.get(kind, ()):
                key = f"{self._keys.prefix}{kind}:{rest}"
                for members in _steps(self._members(kind, rest)):
                    self._stands(self._lanes.listed, [(key, member) for member in members])

    def _check_singles(self) -> None:
        for names in _steps(self._zscan(self._keys.timers)):
            self._stands(self._jobs.timer, names)
            ends = [name.partition("|")[2] for name in names if name.startswith("control|")]
            self._stands(self._lanes.control, ends)
        for names in _steps(self._zscan(self._keys.dead)):
            self._stands(self._jobs.dead_letter, names)
        for names in _steps(self._zscan(self._keys.parked_gates)):
            self._stands(self._lanes.spot, names)
        self._stands(self._lanes.control, self._client.hkeys(self._keys.controls))

    def _check_counts(self, counts: CountCheck) -> None:
        wrong = counts.compare()
        for _ in range(_LOOKS - 1):
            if not wrong:
                break
            time.sleep(_BETWEEN_LOOKS_S)
            counts.look_again(wrong)
            again = counts.compare()
            wrong = (
                None
                if again is None
                else {name: off for name, off in wrong.items() if again.get(name) == off}
            )
        if wrong is None:
            self._found.unchecked.append("counts: more moved meanwhile than the transitions stream holds")
        for name, off in sorted((wrong or {}).items()):
            self._add(count_violation(self._keys, name, off))

    def _check_history(self) -> None:
        entries = self._store.history.read()
        rates = self._client.hgetall(self._keys.rates)
        unended = Unended(self._client, self._keys)
        for violation in audit_history(self._counted(entries, unended), rates):
            self._add(violation)
        for last in unended.gone(self._store.history):
            detail = f"it was {last.to_state} at {last.at}, has not ended, and has no record any more"
            advice = "Its message is lost: emit its event, or call its task, again under the same id."
            self._add(Violation("I1", "JOB_GONE", last.job, detail, advice=advice))

    def _overtaken(self, queues: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Queues whose best ready job, with no gate before it, saw jobs start that came after its rank."""
        for queue in queues:
            lane = next(iter(self._client.zrange(self._keys.ready(queue), 0, 0)), "")
            head = next(iter(self._client.zrange(self._keys.lane(lane), 0, 0, withscores=True)), None)
            gates = self._client.hget(self._keys.lane_meta(lane), "gates")
            if head is None or gates != "":
                continue
            job_id, rank = head
            since_at = int(self._client.hget(self._keys.job(job_id), "available_at") or 0)
            history = self._store.history
            steered = any(True for _ in history.read(since_at=since_at, acts=True))
            moved = len(list(history.read(since_at=since_at, job=job_id))) > 1
            if not since_at or steered or moved:
                continue  # it may have been held back, or given another rank
            for entry in history.read(since_at=since_at, verbs=(Verb.CLAIM,)):
                came_at = entry.at - (entry.wait_ms or 0)
                if entry.text("queue") == queue and entry.number("attempt") == 1 and came_at > rank:
                    detail = f"{entry.job} came {came_at - rank:.0f} ms after its rank and started before it"
                    advice = "Find the worker that claimed it: its release may order jobs in another way."
                    yield queue, Violation("I6", "OVERTAKEN", job_id, detail, advice=advice)
                    break

    def _counted(self, entries: Iterable[Entry], unended: Unended) -> Iterator[Entry]:
        for entry in entries:
            self._found.entries += 1
            unended.note(entry)
            yield entry

    # -- suspicions -----------------------------------------------------------------------------

    def _stands(self, check: Check[Subject], subjects: Sequence[Subject]) -> None:
        """Check; what looks wrong is looked at again, and reported when it stands."""
        if not subjects or len(self._found.violations) >= MOST_VIOLATIONS:
            return
        wrong = list(check(subjects))
        for _ in range(_LOOKS):
            if not wrong:
                return
            time.sleep(_BETWEEN_LOOKS_S)
            codes = {(subject, violation.code) for subject, violation in wrong}
            doubted = list(dict.fromkeys(subject for subject, _ in wrong))
            # One by one: so few commands reach Redis together, and no other client comes between them.
            again = [found for subject in doubted for found in check([subject])]
            wrong = [(subject, each) for subject, each in again if (subject, each.code) in codes]
        for _, violation in wrong:
            self._add(violation)

    def _add(self, violation: Violation) -> None:
        name = (violation.code, violation.subject, violation.detail)
        if name not in self._seen and len(self._found.violations) < MOST_VIOLATIONS:
            self._seen.add(name)
            self._found.violations.append(violation)

    def _unknown(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        for name in names:
            if self._client.exists(self._keys.prefix + name):
                advice = "Something else wrote it, or a newer release: find out before deleting it."
                yield (
                    name,
                    Violation("I8", "KEY_UNKNOWN", name, "no part of the core has such a key", advice=advice),
                )

    # -- reading --------------------------------------------------------------------------------

    def _members(self, kind: str, rest: str) -> Iterator[str]:
        key = f"{self._keys.prefix}{kind}:{rest}"
        if kind == "lanes":
            return iter(self._client.sscan_iter(key, count=_STEP))
        return self._zscan(key)

    def _zscan(self, key: str) -> Iterator[str]:
        return (member for member, _ in self._client.zscan_iter(key, count=_STEP))

    def _shut_gates(self, lanes: Sequence[str]) -> list[str]:
        reply = self._store._call("explain", [self._store._head()[0], *lanes], repeatable=True)
        return [gate.decode() for gate in reply[1:]]

    def _limited_at(self, gate: str) -> int | None:
        """When the limit of a gate was last set; None when that cannot be told."""
        names = {gate, gate.partition("=")[0]}
        history = self._store.history
        acts = history.read(verbs=(Verb.LIMIT, Verb.UNDO, Verb.RESUME), acts=True, newest_first=True)
        found = next(
            (entry.at for entry in acts if (entry.text("gate") or entry.text("target")) in names), None
        )
        extent = history.extent()
        return found if found is not None or not extent.is_full else extent.first_at


def _text_client(client: redis.Redis) -> redis.Redis:
    pool = client.connection_pool
    kwargs = {**pool.connection_kwargs, "decode_responses": True, "encoding_errors": "surrogateescape"}
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **kwargs))


def _steps(names: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(names)
    while step := list(islice(remaining, _STEP)):
        yield step
