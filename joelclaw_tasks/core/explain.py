"""Explain: why a job is not running, when it will, and where its time went. Reads only."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from joelclaw_tasks.core.forecast import Estimate, forecast
from joelclaw_tasks.core.gate_facts import GateFacts, gate_facts
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.moment import Moment
from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.core.spent import summed, time_spent
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import UnknownJob

#: Lanes that are looked at for a family, and for the place of a job in its queue.
_MOST_LANES = 20_000
_STEP = 500
#: What waits for a clock, and for which.
_CLOCKS = {
    State.SCHEDULED: "its time comes",
    State.RETRYABLE: "the pause before its next try is over",
    State.HELD: "it is scored or let go, at the latest when its time is over",
}


class Explainer:
    """Answers for one moment: make a new one for the next question."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None
        self._keys = store.keys
        self._moment = Moment(store)

    def knows(self, name: str) -> str | None:
        """Whether this is a `job` or a `family` that the core knows now; None for neither."""
        found: str | None = self._store.ask(lambda: self._knows(name))
        return found

    def _knows(self, name: str) -> str | None:
        if self._client.exists(self._keys.job(name), self._keys.alias(name)):
            return "job"
        families = {
            field.partition(b"\n")[2].rsplit(b"|", 2)[0] for field in self._client.hkeys(self._keys.counts)
        }
        return "family" if name.encode() in families else None

    def job(self, job_id: str) -> dict[str, Any]:
        """Everything that answers why, when and where for one job. Raises UnknownJob, CoreUnreachable."""
        return dict(self._store.ask(lambda: self._job(job_id)))

    def family(self, family: str) -> dict[str, Any]:
        """What waits of a family, gate by gate, and the answer for its next job. Raises UnknownJob."""
        return dict(self._store.ask(lambda: self._family(family)))

    # -- one job ------------------------------------------------------------------------------

    def _job(self, job_id: str) -> dict[str, Any]:
        merged = self._client.get(self._keys.alias(job_id))
        if merged is not None and not self._client.exists(self._keys.job(job_id)):
            return {**self._job(merged.decode()), "asked_for": job_id, "merged_into": merged.decode()}
        admitted_at = self._client.hget(self._keys.job(job_id), "admitted_at")
        moves = _last_life(list(self._store.history.read(job=job_id, since_at=int(admitted_at or 0))))
        try:
            job = self._store.view.inspect(job_id)
        except UnknownJob:
            if not any(move.to_state for move in moves):
                raise
            job = _remembered(job_id, moves)  # a plain task leaves nothing behind but its moves
        state = State(job["state"])
        answer: dict[str, Any] = {
            "id": job_id,
            "state": state.value,
            "family": job["family"],
            "handler": job.get("handler") or None,
            "queue": job["queue"],
            "priority": job.get("priority"),
            "lane": job.get("lane"),
            "rank": job.get("rank"),
            "expires_at": json.loads(job.get("rules") or "{}").get("expires_at"),
            "waiting_on": None,
            "estimated_start": None,
            "asked_at": self._moment.now,
        }
        if state is State.AVAILABLE:
            answer |= self._available(job)
        elif state in _CLOCKS:
            answer |= self._waits_for_clock(job, state)
        elif state is State.EXECUTING:
            answer |= self._executing(job)
        elif job.get("error"):
            answer["error"] = job["error"]
        history = self._store.history
        spans = time_spent(history, moves, job.get("gates", ()), self._moment.gate_times, self._moment.now)
        answer["spent"] = summed([span for span in spans if span.what != "dead"])
        answer["timeline"] = [span.to_wire() for span in spans[-100:]]
        return answer

    def _available(self, job: dict[str, Any]) -> dict[str, Any]:
        lane, queue, job_id = job["lane"], job["queue"], job["id"]
        pipe = self._client.pipeline(transaction=False)
        pipe.zrank(self._keys.lane(lane), job_id)
        pipe.zcard(self._keys.lane(lane))
        pipe.zrange(self._keys.lane(lane), 0, 0)
        pipe.zscore(self._keys.lane(lane), job_id)
        place, jobs, head, rank = pipe.execute()
        if place is None:
            return {}  # it has just started
        gate = self._moment.shut_gates([lane])[0]
        facts = gate_facts(self._client, self._keys, gate) if gate else None
        ahead, lanes_ahead = self._moment.ahead(queue, lane, rank, place)
        parked, parked_at = self._client.hmget(self._keys.lane_meta(lane), "parked", "parked_at")
        since = int(parked_at) if gate and parked == gate.encode() else None
        return {
            "waiting_since": job.get("available_at"),
            "waited_ms": self._moment.now - job.get("available_at", self._moment.now),
            "position": {
                "in_lane": place + 1,
                "lane_jobs": jobs,
                "in_queue": ahead + 1,
                "lanes_ahead": lanes_ahead,
            },
            "waiting_on": None if facts is None else {**facts.to_wire(), "parked_since": since},
            "behind": {
                "jobs": ahead,
                "of_its_lane": place,
                "first_of_its_lane": head[0].decode() if place and head else None,
            },
            "workers": self._moment.workers_of(queue),
            "estimated_start": self._estimate(lane, place, ahead, facts).to_wire(),
        }

    def _waits_for_clock(self, job: dict[str, Any], state: State) -> dict[str, Any]:
        workers = self._moment.workers_of(job["queue"])
        at: int | None = job.get("due_at")
        more: dict[str, Any] = {}
        gate, kind, opens = "clock", state.value, _CLOCKS[state]
        if job.get("held_for") == "triage":
            gate, kind, opens = "triage", "triage", "it is scored, or its time for that is over"
        elif job.get("held_for") == "shed":
            gate, kind, opens, at = (
                "shed",
                "shed",
                "somebody brings it back, or the time of the shedding is over",
                None,
            )
            act = json.loads(self._client.hget(self._keys.acts, job.get("held_by", "")) or b"{}")
            at = act.get("until")
            more = {"actor": act.get("actor"), "reason": act.get("reason")}
        elif job.get("gathered"):
            kind, opens = "batch", "it is full, or its time is over"
            more = {"gathered": int(job["gathered"])}
        elif job.get("gathers"):
            kind, opens = "debounce", "no newer call of its key came for a while, or its longest wait is over"
        basis = "its time, if a worker is free then"
        if not workers["slots"]:
            basis = f"no worker serves the queue {job['queue']} now"
        elif at is None:
            basis = f"not before {opens}"
        since = job.get("held_at") or job.get("admitted_at")
        return {
            "waiting_since": since,
            "waited_ms": self._moment.now - int(since or self._moment.now),
            "waiting_on": {
                "gate": gate,
                "kind": kind,
                "since": None if since is None else int(since),
                "opens_when": opens,
                "opens_at": at,
                **more,
            },
            "workers": workers,
            "estimated_start": Estimate(at if workers["slots"] else None, basis).to_wire(),
        }

    def _executing(self, job: dict[str, Any]) -> dict[str, Any]:
        holder = job.get("holder", "")
        worker = next((one for one in self._moment.snapshot.workers if one.holder == holder), None)
        lease_until = self._client.zscore(self._keys.timers, f"lease|{holder}")
        asked_at = job.get("cancel_asked_at")
        typical = self._moment.pace.typical_ms(job.get("handler") or job["family"])
        return {
            "running": {
                "holder": holder,
                "host": worker.host if worker else None,
                "pid": worker.pid if worker else None,
                "since": job.get("claimed_at"),
                "ran_ms": self._moment.now - job.get("claimed_at", self._moment.now),
                "lease_until": None if lease_until is None else int(lease_until),
                "attempt": job.get("claims"),
                "cancel_asked_at": None if asked_at is None else int(asked_at),
                "typical_run_ms": None if typical is None else {"p50": typical[0], "p95": typical[1]},
            }
        }

    def _estimate(self, lane: str, place: int, ahead: int, facts: GateFacts | None) -> Estimate:
        estimate = forecast(self._moment.snapshot, self._moment.pace, lane, place, ahead)
        if (
            estimate.at is None
            and facts is not None
            and self._moment.workers_of(self._queue_of(lane))["slots"]
        ):
            if facts.opens_at is not None:
                return Estimate(facts.opens_at, f"{facts.gate} opens then; {estimate.basis}")
            return Estimate(None, f"not before {facts.opens_when}; {estimate.basis}")
        return estimate

    def _queue_of(self, lane: str) -> str:
        position = self._moment.snapshot.lanes.get(lane)
        return self._moment.snapshot.world.lanes[position].queue if position is not None else ""

    # -- a family -----------------------------------------------------------------------------

    def _family(self, family: str) -> dict[str, Any]:
        snapshot = self._store.view.snapshot()
        entry = next((one for one in snapshot["families"] if one["family"] == family), None)
        if entry is None:
            raise UnknownJob(f"no job and no family of waiting or past jobs is named {family!r}")
        lanes = self._lanes_of(family)
        shut = self._moment.shut_gates([name for name, _, _ in lanes])
        by_gate: dict[str, dict[str, int]] = defaultdict(Counter)
        for (_, jobs, _), gate in zip(lanes, shut, strict=True):
            by_gate[gate]["jobs"] += jobs
            by_gate[gate]["lanes"] += 1
        following = self._next_of(lanes, shut)
        gates = sorted(by_gate.items(), key=lambda pair: -pair[1]["jobs"])
        return {
            "family": family,
            "by_state": entry["by_state"],
            "by_gate": [
                {
                    **(gate_facts(self._client, self._keys, gate).to_wire() if gate else {"gate": None}),
                    "jobs": sums["jobs"],
                    "lanes": sums["lanes"],
                }
                for gate, sums in gates
            ],
            "next": None if following is None else self._job(following),
        }

    def _lanes_of(self, family: str) -> list[tuple[str, int, float]]:
        """(lane, jobs, rank of its first job) of each lane of a family."""
        found = []
        for queue in self._client.smembers(self._keys.queues):
            names = [
                lane.decode()
                for lane in self._client.sscan_iter(self._keys.lanes(queue.decode()), count=_STEP)
            ]
            for start in range(0, min(len(names), _MOST_LANES), _STEP):
                step = names[start : start + _STEP]
                pipe = self._client.pipeline(transaction=False)
                for name in step:
                    pipe.hget(self._keys.lane_meta(name), "family")
                    pipe.zcard(self._keys.lane(name))
                    pipe.zrange(self._keys.lane(name), 0, 0, withscores=True)
                replies = pipe.execute()
                for name, of, jobs, head in zip(
                    step, replies[::3], replies[1::3], replies[2::3], strict=True
                ):
                    if of == family.encode() and head:
                        found.append((name, jobs, head[0][1]))
        return found

    def _next_of(self, lanes: Sequence[tuple[str, int, float]], shut: Sequence[str]) -> str | None:
        """The job of these lanes that starts next: the best rank at open gates, or else of all."""
        if not lanes:
            return None
        _, _, name = min((bool(gate), rank, name) for (name, _, rank), gate in zip(lanes, shut, strict=True))
        head = self._client.zrange(self._keys.lane(name), 0, 0)
        return head[0].decode() if head else None


def _last_life(moves: list[Entry]) -> list[Entry]:
    """The moves since an id was last admitted: a plain task may be sent again under its id."""
    births = [number for number, move in enumerate(moves) if move.to_state and not move.from_state]
    return moves[births[-1] :] if births else moves


def _remembered(job_id: str, moves: Sequence[Entry]) -> dict[str, Any]:
    last = next(move for move in reversed(moves) if move.to_state)
    priority = next((move.number("priority") for move in moves if move.number("priority") is not None), None)
    return {
        "id": job_id,
        "state": last.to_state,
        "family": last.family,
        "handler": last.text("handler"),
        "queue": last.text("queue"),
        "lane": last.text("lane") or None,
        "priority": None if priority is None else PRIORITIES[priority],
        "error": last.text("reason"),
    }
