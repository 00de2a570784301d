"""What must hold of every job, and of every place that names one: in exactly the index of its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.snapshot import parse_gates
from joelclaw_tasks.core.states import FINAL, State
from joelclaw_tasks.core.violation import Violation

#: The fields of a job that are read, as text; None where it has none.
Job = dict[str, Any]
_FIELDS = (
    "state", "queue", "family", "priority", "handler", "lane", "rank", "gates", "holder", "claimed_at",
    "due_at", "discarded_at", "held_for", "held_by",
)  # fmt: skip
_PLACE = ("state", "lane", "holder")
_STATES = {state.value for state in State}
_ON_A_CLOCK = {State.SCHEDULED, State.RETRYABLE, State.HELD}


class JobChecks:
    """Checks batches of subjects; each yields the subject with what is wrong. `client` answers text."""

    def __init__(self, client: Any, keys: Keys, now_ms: int, note: Callable[[str, Job], None]) -> None:
        self._client = client
        self._keys = keys
        self._now_ms = now_ms
        self._note = note

    def job(self, ids: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Jobs by their hash: is each where its state says? Each is noted as well."""
        jobs = {
            job_id: job for job_id, job in zip(ids, self._read(ids), strict=True) if job["state"] is not None
        }
        pipe = self._client.pipeline(transaction=False)
        asked: list[tuple[str, list[str]]] = []
        for job_id, job in jobs.items():
            self._note(job_id, job)
            asked.append((job_id, self._ask(pipe, job_id, job)))
        replies = iter(pipe.execute())
        for job_id, names in asked:
            found = {name: next(replies) for name in names}
            violations = list(self._of_job(job_id, jobs[job_id], found))
            if violations and self._read([job_id]) == [jobs[job_id]]:  # else it moved while it was looked up
                for violation in violations:
                    yield job_id, violation

    def _ask(self, pipe: Any, job_id: str, job: Job) -> list[str]:
        """Look where the job should be, by its state; answers the names of the replies in their order."""
        state, names = job["state"], []
        if state == State.AVAILABLE:
            pipe.zscore(self._keys.lane(job["lane"] or ""), job_id)
            pipe.hget(self._keys.lane_meta(job["lane"] or ""), "parked")
            names = ["rank", "parked"]
        elif state == State.EXECUTING:
            names = [name for name, _ in parse_gates(job["gates"] or "") if name.startswith("limit:")]
            for gate in names:
                pipe.zscore(self._keys.running(gate), job_id)
            pipe.zscore(self._keys.leases(job["holder"] or ""), job_id)
            names.append("lease")
        elif state in _ON_A_CLOCK:
            pipe.zscore(self._keys.timers, f"job|{job_id}")
            pipe.zscore(self._keys.touched(job["held_by"] or ""), job_id)
            names = ["timer", "lot"]
        elif state == State.DISCARDED:
            pipe.zscore(self._keys.dead, job_id)
            names = ["dead"]
        return names

    def _of_job(self, job_id: str, job: Job, found: dict[str, Any]) -> Iterator[Violation]:
        state, lane, queue, rank = job["state"], job["lane"], job["queue"], found.get("rank")
        if state not in _STATES:
            yield Violation(
                "I1",
                "STATE_UNKNOWN",
                job_id,
                f"its state is {state!r}",
                advice="Inspect it; cancel or delete it.",
            )
        elif state == State.AVAILABLE and rank is None:
            yield Violation(
                "I1", "JOB_IN_NO_LANE", job_id, f"it is available, but not in its lane {lane}",
                self._into_lane(job_id, job, found["parked"]),
            )  # fmt: skip
        elif state == State.AVAILABLE and job["rank"] is not None and rank != float(job["rank"]):
            yield Violation(
                "I6", "RANK_DIFFERS", job_id, f"its rank is {job['rank']}, in its lane {rank:.0f}",
                (("ZADD", self._keys.lane(lane), job["rank"], job_id),),
            )  # fmt: skip
        elif state == State.EXECUTING:
            yield from self._of_running(job_id, job, found)
        elif state in (State.SCHEDULED, State.RETRYABLE) and found["timer"] is None:
            yield Violation(
                "I1", "TIMER_MISSING", job_id, f"it is {state} and no timer will wake it",
                (("ZADD", self._keys.timers, job["due_at"] or self._now_ms, f"job|{job_id}"),),
            )  # fmt: skip
        elif state == State.HELD and found["timer"] is None and found["lot"] is None:
            yield Violation(
                "I1", "HELD_BY_NOBODY", job_id, "it is held, and nothing lets it go",
                advice="Let it go with `joelclaw queue unshed`.",
            )  # fmt: skip
        elif state == State.DISCARDED and found["dead"] is None:
            yield Violation(
                "I1", "DEAD_LETTER_MISSING", job_id, "it is discarded, but not in the dead letter",
                (("ZADD", self._keys.dead, job["discarded_at"] or self._now_ms, job_id),),
            )  # fmt: skip
        if state in _STATES and state not in FINAL and queue is None:
            yield Violation("I1", "QUEUE_MISSING", job_id, "its hash names no queue", advice="Inspect it.")

    def _into_lane(self, job_id: str, job: Job, parked: str | None) -> tuple[Any, ...]:
        lane, queue, rank = job["lane"], job["queue"], job["rank"] or self._now_ms
        into = ("ZADD", self._keys.lane(lane), rank, job_id)
        if parked:
            return (into, ("ZADD", self._keys.parked(f"{parked}\n{queue}"), "LT", rank, lane))
        meta = [part for name in ("queue", "family", "handler", "gates") for part in (name, job[name] or "")]
        return (
            into,
            ("HSET", self._keys.lane_meta(lane), *meta, "parked", ""),
            ("SADD", self._keys.lanes(queue), lane),
            ("SADD", self._keys.queues, queue),
            ("ZADD", self._keys.ready(queue), "LT", rank, lane),
        )

    def _of_running(self, job_id: str, job: Job, found: dict[str, Any]) -> Iterator[Violation]:
        holder, claimed_at = job["holder"] or "", job["claimed_at"] or self._now_ms
        if found.pop("lease") is None:
            yield Violation(
                "I1", "LEASE_MISSING", job_id, f"it runs, but {holder} holds no lease of it",
                (
                    ("ZADD", self._keys.leases(holder), claimed_at, job_id),
                    ("ZADD", self._keys.timers, "NX", self._now_ms, f"lease|{holder}"),
                ),
            )  # fmt: skip
        for gate, since in found.items():
            if since is None:
                yield Violation(
                    "I3", "PLACE_NOT_TAKEN", job_id, f"it runs without its place at {gate}",
                    (("ZADD", self._keys.running(gate), claimed_at, job_id),),
                )  # fmt: skip

    # -- places that name jobs ------------------------------------------------------------------

    def lane_member(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Violation]]:
        """(lane, job): each job of a lane is available and belongs there."""
        for (lane, job_id), job in self._with_jobs(pairs, self._keys.lane):
            out = (("ZREM", self._keys.lane(lane), job_id),)
            if job["state"] != State.AVAILABLE:
                yield (lane, job_id), _stray("I2", "LANE_HOLDS_STRANGER", lane, job_id, job, out)
            elif job["lane"] != lane:
                detail = f"{job_id} is in this lane too, but belongs to {job['lane']}: it would start twice"
                yield (lane, job_id), Violation("I2", "IN_TWO_LANES", lane, detail, out)

    def place(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Violation]]:
        """(limit gate, member): each taken place belongs to a job that runs."""
        for (gate, member), job in self._with_jobs(pairs, self._keys.running):
            if job["state"] != State.EXECUTING:
                free = (
                    ("ZREM", self._keys.running(gate), member),
                    ("ZADD", self._keys.timers, self._now_ms, f"unpark|{gate}"),
                )
                yield (gate, member), _stray("I8", "PLACE_LEAKED", gate, member, job, free)

    def lease(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Violation]]:
        """(holder, job): each leased job runs, and at this holder."""
        for (holder, job_id), job in self._with_jobs(pairs, self._keys.leases):
            if job["state"] != State.EXECUTING or job["holder"] != holder:
                out = (("ZREM", self._keys.leases(holder), job_id),)
                yield (holder, job_id), _stray("I8", "LEASE_LEAKED", holder, job_id, job, out)

    def timer(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Timers of jobs: each belongs to a job that waits for a clock."""
        pairs = [("job|", name.removeprefix("job|")) for name in names if name.startswith("job|")]
        for (_, job_id), job in self._with_jobs(pairs, lambda _: self._keys.timers):
            if job["state"] not in _ON_A_CLOCK:
                out = (("ZREM", self._keys.timers, f"job|{job_id}"),)
                yield f"job|{job_id}", _stray("I2", "TIMER_LEAKED", "timers", job_id, job, out)

    def dead_letter(self, ids: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """The dead letter: each job of it is discarded."""
        pairs = [("", job_id) for job_id in ids]
        for (_, job_id), job in self._with_jobs(pairs, lambda _: self._keys.dead):
            if job["state"] != State.DISCARDED:
                out = (("ZREM", self._keys.dead, job_id),)
                yield job_id, _stray("I8", "DEAD_LETTER_LEAKED", "dead", job_id, job, out)

    def _with_jobs(
        self, pairs: Sequence[tuple[str, str]], key_of: Callable[[str], str]
    ) -> Iterator[tuple[tuple[str, str], Job]]:
        """Each pair that is still in its sorted set, with the job that it names."""
        pipe = self._client.pipeline(transaction=False)
        for place, job_id in pairs:
            member = f"job|{job_id}" if place == "job|" else job_id
            pipe.zscore(key_of(place), member)
            # The further places of a job that takes several are "<job id>\t<n>".
            pipe.hmget(self._keys.job(job_id.partition("\t")[0]), *_PLACE)
        replies = pipe.execute()
        for pair, score, values in zip(pairs, replies[::2], replies[1::2], strict=True):
            if score is not None:
                yield pair, dict(zip(_PLACE, values, strict=True))

    def _read(self, ids: Sequence[str]) -> list[Job]:
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self._keys.job(job_id), *_FIELDS)
        return [dict(zip(_FIELDS, values, strict=True)) for values in pipe.execute()]


def _stray(invariant: str, code: str, place: str, job_id: str, job: Job, mend: tuple[Any, ...]) -> Violation:
    if job["state"] is None:
        detail = f"{job_id} is here, but there is no such job"
    else:
        where = f" at {job['holder']}" if job["state"] == State.EXECUTING else ""
        detail = f"{job_id} is here, but it is {job['state']}{where}"
    return Violation(invariant, code, place, detail, mend)
