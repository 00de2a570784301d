"""View: what waits, where and why. Reads only; never changes a key."""

from __future__ import annotations

import base64
import heapq
import json
from collections import defaultdict
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.states import FINAL, WAITING, State
from joelclaw_tasks.errors import UnknownJob

_WAITING = {state.value for state in WAITING}
_FINAL = {state.value for state in FINAL}
#: Oldest ages are read from the first jobs of this many lanes of each queue.
_LANES_LOOKED_AT = 500
_NUMBERS = (
    "priority", "slack_ms", "keep_ms", "claims", "kills", "retries", "rank", "admitted_at", "available_at",
    "due_at", "claimed_at", "finished_at", "discarded_at",
)  # fmt: skip


class View:
    """Reads the core. `client` answers bytes."""

    def __init__(self, client: Any, keys: Keys) -> None:  # redis-py types every reply as str | bytes | None
        self._client = client
        self._keys = keys

    def now_ms(self) -> int:
        """Redis's time in epoch milliseconds."""
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def snapshot(self, lanes: int = _LANES_LOOKED_AT) -> dict[str, Any]:
        """Depth by family, priority, state and queue, ages, gates and pauses, as plain values.

        `total` counts waiting jobs; ages are milliseconds since a job became startable, the oldest in up
        to `lanes` lanes of each queue.
        """
        # No transaction: a full Redis queues no command of one, not even to read.
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(self._keys.counts)
        pipe.hgetall(self._keys.pauses)
        pipe.hgetall(self._keys.limits)
        pipe.hgetall(self._keys.rates)
        pipe.zrange(self._keys.parked_gates, 0, 999)
        pipe.time()
        counts, pauses, limits, rates, spots, clock = pipe.execute()
        now_ms = clock[0] * 1000 + clock[1] // 1000
        families: dict[str, dict[str, Any]] = {}
        queues: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        by_state: dict[str, int] = {state.value: 0 for state in State}
        by_priority = dict.fromkeys(PRIORITIES, 0)
        for field, jobs in sorted(counts.items()):
            queue, rest = field.decode().split("\n")
            family, level, state = rest.rsplit("|", 2)
            count = int(jobs)
            entry = families.setdefault(family, _family(family))
            by_state[state] += count
            entry["by_state"][state] += count
            queues[queue][state] += count
            if state in _WAITING:
                by_priority[PRIORITIES[int(level)]] += count
                entry["by_priority"][PRIORITIES[int(level)]] += count
                entry["total"] += count
        ages = self.oldest_ages(sorted(queues), now_ms, lanes)
        for family, age_ms in ages.items():
            if family in families:
                families[family]["oldest_age_ms"] = age_ms
        return {
            "taken_at_ms": now_ms,
            "total": sum(by_state[state] for state in _WAITING),
            "by_priority": by_priority,
            "by_state": by_state,
            "oldest_age_ms": max(ages.values(), default=None),
            "families": sorted(families.values(), key=lambda entry: (-entry["total"], entry["family"])),
            "queues": {queue: dict(states) for queue, states in sorted(queues.items())},
            "gates": self._gates(pauses, limits, rates, spots, now_ms),
            "pauses": [json.loads(record) for _, record in sorted(pauses.items())],
        }

    def queue_size(self, queue: str) -> int:
        """How many jobs of a queue wait, for whatever they wait, messages of stock producers included."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hgetall(self._keys.counts)
        pipe.llen(self._keys.inbox(queue))
        counts, waiting = pipe.execute()
        for field, jobs in counts.items():
            if field.startswith(queue.encode() + b"\n") and field.rpartition(b"|")[2].decode() in _WAITING:
                waiting += int(jobs)
        return int(waiting)

    def list_jobs(self, limit: int = 10) -> list[dict[str, Any]]:
        """The first `limit` jobs in lanes, in the order in which they would start if all gates were open."""
        if limit < 1:
            return []
        places: list[tuple[str, str | None]] = [
            (self._keys.ready(queue.decode()), None) for queue in self._client.smembers(self._keys.queues)
        ]
        spots = [spot.decode() for spot in self._client.zrange(self._keys.parked_gates, 0, 999)]
        places.extend((self._keys.parked(spot), _gate_of(spot)) for spot in spots)
        lanes = [
            (rank, lane.decode(), gate)
            for key, gate in places
            for lane, rank in self._client.zrange(key, 0, limit - 1, withscores=True)
        ]
        best = heapq.nsmallest(limit, lanes, key=itemgetter(0, 1))
        jobs = [
            (rank, job_id.decode(), gate)
            for _, lane, gate in best
            for job_id, rank in self._client.zrange(self._keys.lane(lane), 0, limit - 1, withscores=True)
        ]
        now_ms = self.now_ms()
        found = []
        for rank, job_id, gate in heapq.nsmallest(limit, jobs, key=itemgetter(0, 1)):
            job = self._read(job_id)
            if job is not None:
                found.append(
                    {
                        "id": job_id,
                        "family": job["family"],
                        "handler": job["handler"],
                        "queue": job["queue"],
                        "state": job["state"],
                        "priority": PRIORITIES[job["priority"]],
                        "rank_ms": int(rank),
                        "age_ms": now_ms - job.get("available_at", now_ms),
                        "lane": job["lane"],
                        "gate": gate,
                    }
                )
        return found

    def inspect(self, job_id: str) -> dict[str, Any]:
        """Everything known of one job; its message decoded under `payload`. Raises UnknownJob.

        Of a call that became part of a job it answers that job, with the call's id as `call`.
        """
        job = self._read(job_id)
        if job is None:
            into = self._client.get(self._keys.alias(job_id))
            if into is None or not self._client.exists(self._keys.job(into.decode())):
                raise UnknownJob(f"no job has the id {job_id!r}")
            return {"call": job_id, **self.inspect(into.decode())}
        if "gathered" in job:
            job["elements"] = [one.decode() for one in self._client.hkeys(self._keys.elements(job_id))]
        if job["state"] == State.AVAILABLE:
            meta = self._client.hgetall(self._keys.lane_meta(job["lane"]))
            job["gate"] = _gate_of(meta.get(b"parked", b"").decode()) or None
            job["parked_at"] = int(meta.get(b"parked_at") or 0) or None
        if job["state"] != State.EXECUTING:
            job.pop("holder", None)
        lines = [line.partition("\t") for line in job.get("gates", "").split("\n") if line]
        job["gates"] = [name for name, _, _ in lines if not name.startswith("share:")]
        job["places"] = {n: int(weight) for n, _, weight in lines if weight and n.startswith("limit:")}
        shares = [name.removeprefix("share:") for name, _, _ in lines if name.startswith("share:")]
        job["share"] = shares[0] if shares else None
        job["priority"] = PRIORITIES[job["priority"]]
        if "own_priority" in job:
            job["own_priority"] = PRIORITIES[int(job["own_priority"].partition("|")[2])]
        if "triage" in job:
            job["triage"] = json.loads(job["triage"])
        job["payload"] = _decoded(job.get("payload"))
        job.pop("next_payload", None)
        return {"id": job_id, **job}

    def _read(self, job_id: str) -> dict[str, Any] | None:
        fields = self._client.hgetall(self._keys.job(job_id))
        if not fields:
            return None
        job: dict[str, Any] = {
            name.decode(): value.decode(errors="replace") for name, value in fields.items()
        }
        for name in _NUMBERS:
            if name in job:
                job[name] = int(float(job[name]))  # a rank has a fraction
        return job

    def _gates(
        self,
        pauses: dict[bytes, bytes],
        limits: dict[bytes, bytes],
        rates: dict[bytes, bytes],
        spots: list[bytes],
        now_ms: int,
    ) -> list[dict[str, Any]]:
        parked: dict[str, int] = dict.fromkeys([name.decode() for name in (*pauses, *limits, *rates)], 0)
        pipe = self._client.pipeline(transaction=False)
        for spot in spots:
            pipe.zcard(self._keys.parked(spot.decode()))
        for spot, lanes in zip(spots, pipe.execute(), strict=True):
            gate = _gate_of(spot.decode())
            parked[gate] = parked.get(gate, 0) + lanes
        names = sorted(parked)
        for gate in names:
            pipe.zcard(self._keys.running(gate))
        for gate in names:
            pipe.get(self._keys.tat(gate))
        found = pipe.execute()
        gates = []
        for gate, running, tat in zip(names, found, found[len(names) :], strict=False):
            default = b"1" if gate.startswith("limit:singleton/") else None
            limit = limits.get(gate.encode(), limits.get(gate.partition("=")[0].encode(), default))
            most = None if limit is None else int(limit)
            text = rates.get(gate.encode(), rates.get(gate.partition("=")[0].encode()))
            rate = None if text is None else Rate.decode(text.decode())
            gates.append(
                {
                    "gate": gate,
                    "kind": gate.partition(":")[0],
                    "shut": gate.encode() in pauses
                    or (most is not None and running >= most)
                    or (rate is not None and rate.tokens(float(tat or 0), now_ms) < 1),
                    "limit": most,
                    **({} if rate is None else {"rate": asdict(rate)}),
                    "running": running,
                    "parked_lanes": parked[gate],
                }
            )
        return gates

    def oldest_ages(self, queues: list[str], now_ms: int, most: int = _LANES_LOOKED_AT) -> dict[str, int]:
        """Age of the oldest first job of each family, in ms; a lane's first is the oldest of its priority."""
        pipe = self._client.pipeline(transaction=False)
        for queue in queues:
            pipe.srandmember(self._keys.lanes(queue), most)
        lanes = [lane.decode() for found in pipe.execute() for lane in found]
        for lane in lanes:
            pipe.zrange(self._keys.lane(lane), 0, 0)
        heads = [head[0].decode() for head in pipe.execute() if head]
        for job_id in heads:
            pipe.hmget(self._keys.job(job_id), "family", "available_at")
        ages: dict[str, int] = {}
        for family, available_at in pipe.execute():
            if family and available_at:
                age_ms = max(0, now_ms - int(available_at))
                ages[family.decode()] = max(age_ms, ages.get(family.decode(), 0))
        return ages


def _gate_of(spot: str) -> str:
    """A spot is where the lanes of one queue and weight wait at a gate (see shared/parking.lua)."""
    return spot.partition("\n")[0].partition("\t")[0]


def _family(name: str) -> dict[str, Any]:
    return {
        "family": name,
        "total": 0,
        "by_priority": dict.fromkeys(PRIORITIES, 0),
        "by_state": {state.value: 0 for state in State},
        "oldest_age_ms": None,
    }


def _decoded(payload: str | None) -> Any:
    """The Celery message with its body decoded, as far as that is possible."""
    if payload is None:
        return None
    try:
        message = json.loads(payload)
        for one in message.get("jc_batch", [message]):
            if one["properties"].get("body_encoding") == "base64":
                one["body"] = json.loads(base64.b64decode(one["body"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return payload
    return message
