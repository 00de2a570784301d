"""Snapshot: the queue at one moment, as a simulation can play it. Reads only, in bounded steps."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.workers import Worker, crews_of, read_workers
from joelclaw_tasks.core.world import LaneNow, Running, World

#: Jobs that are read at most; of more, each lane gives its first ones.
MOST_JOBS = 100_000
#: Jobs waiting for a clock that are read at most: those that are due first.
_MOST_DUE = 10_000
_STEP = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A world and what it stands for: the position of each lane; `read` jobs of the `total` in lanes."""

    world: World
    taken_at: int
    lanes: Mapping[str, int]
    workers: tuple[Worker, ...]
    total: int
    read: int

    @property
    def is_whole(self) -> bool:
        """Whether every job of every lane is in the world."""
        return self.read == self.total


def take_snapshot(client: Any, keys: Keys, pace: Pace, now_ms: int, most_jobs: int = MOST_JOBS) -> Snapshot:
    """Read lanes, gates, workers and what waits for a clock. `client` answers bytes."""
    lanes: dict[str, LaneNow] = {}
    total = read = 0
    for queue in sorted(client.smembers(keys.queues)):
        for names in _steps(client.sscan_iter(keys.lanes(queue.decode()), count=_STEP)):
            found, waiting = _read_lanes(client, keys, names, now_ms, most_jobs - read)
            lanes.update(found)
            total += waiting
            read += sum(len(lane.ranks) for lane in found.values())
    workers = read_workers(client, keys, pace)
    crews, crew_of = crews_of(workers)
    running = _read_running(client, keys, workers, lanes, crew_of, now_ms)
    due = _read_due(client, keys, lanes, now_ms)
    listed = tuple(lanes.values())
    positions = {name: position for position, name in enumerate(lanes)}
    world = World(
        lanes=listed,
        running=tuple(Running(positions[lane], crew, elapsed) for lane, crew, elapsed in running),
        due=tuple((due_ms, positions[lane], slack_ms) for due_ms, lane, slack_ms in due),
        crews=crews,
        gates=_read_gates(client, keys, listed, now_ms),
        runs={name: tuple(runs) for name, runs in pace.runs.items()},
    )
    return Snapshot(world, now_ms, positions, tuple(workers), max(total, read), read)


def parse_gates(text: str) -> tuple[tuple[str, int], ...]:
    """Gates as a lane keeps them: one a line, with a weight after a tab."""
    pairs = [line.partition("\t") for line in text.split("\n") if line]
    return tuple((name, int(weight or 1)) for name, _, weight in pairs)


def _steps(names: Iterator[bytes]) -> Iterator[list[str]]:
    step: list[str] = []
    for name in names:
        step.append(name.decode())
        if len(step) == _STEP:
            yield step
            step = []
    if step:
        yield step


def _read_lanes(
    client: Any, keys: Keys, names: Collection[str], now_ms: int, most: int
) -> tuple[dict[str, LaneNow], int]:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hmget(keys.lane_meta(name), "queue", "family", "handler", "gates")
        pipe.zcard(keys.lane(name))
    replies = pipe.execute()
    metas, sizes = replies[::2], replies[1::2]
    last = -1 if sum(sizes) <= most else max(0, most // len(names) - 1)
    for name in names:
        pipe.zrange(keys.lane(name), 0, last, withscores=True)
    found = pipe.execute()
    heads = {
        name: jobs[0][0].decode()
        for name, meta, jobs in zip(names, metas, found, strict=True)
        if jobs and (meta[3] or b"").startswith(b"share:")
    }
    for head in heads.values():
        pipe.hget(keys.job(head), "slack_ms")
    slack_ms = dict(zip(heads, pipe.execute(), strict=True))
    lanes: dict[str, LaneNow] = {}
    for name, meta, jobs in zip(names, metas, found, strict=True):
        if meta[0] is None:
            continue  # gone meanwhile
        queue, family, handler, gates = ((value or b"").decode() for value in meta)
        ranks = tuple(rank - now_ms for _, rank in jobs)
        lanes[name] = LaneNow(
            name, queue, family, handler, parse_gates(gates), ranks, float(slack_ms.get(name) or 300_000)
        )
    return lanes, sum(sizes)


def _lane_of(job: list[bytes | None], lanes: dict[str, LaneNow]) -> str:
    """The lane of a job, by its lane, queue, family, handler and gates; an empty one is added if need be."""
    name, queue, family, handler, gates = ((value or b"").decode() for value in job[:5])
    if name not in lanes:
        lanes[name] = LaneNow(name, queue, family, handler, parse_gates(gates))
    return name


def _read_running(
    client: Any,
    keys: Keys,
    workers: list[Worker],
    lanes: dict[str, LaneNow],
    crew_of: Mapping[str, int],
    now_ms: int,
) -> list[tuple[str, int, int]]:
    pipe = client.pipeline(transaction=False)
    held = [(worker.holder, *job) for worker in workers for job in worker.running]
    for _, job_id, _ in held:
        pipe.hmget(keys.job(job_id), "lane", "queue", "family", "handler", "gates")
    return [
        (_lane_of(job, lanes), crew_of[holder], max(0, now_ms - claimed_at))
        for (holder, _, claimed_at), job in zip(held, pipe.execute(), strict=True)
        if job[0] is not None
    ]


def _read_due(
    client: Any, keys: Keys, lanes: dict[str, LaneNow], now_ms: int
) -> list[tuple[float, str, float]]:
    timers = client.zrange(keys.timers, 0, _MOST_DUE, withscores=True)
    waiting = [(name.decode()[4:], due_at) for name, due_at in timers if name.startswith(b"job|")]
    due = []
    for start in range(0, len(waiting), _STEP):
        step = waiting[start : start + _STEP]
        pipe = client.pipeline(transaction=False)
        for job_id, _ in step:
            pipe.hmget(keys.job(job_id), "lane", "queue", "family", "handler", "gates", "slack_ms")
        for (_, due_at), job in zip(step, pipe.execute(), strict=True):
            if job[0] is not None:
                due.append((max(0.0, due_at - now_ms), _lane_of(job, lanes), float(job[5] or 0)))
    return due


def _read_gates(
    client: Any, keys: Keys, lanes: tuple[LaneNow, ...], now_ms: int
) -> dict[str, dict[str, float | None]]:
    gates: dict[str, dict[str, float | None]] = {}
    for gate, record in client.hgetall(keys.pauses).items():
        expires_at = json.loads(record).get("expires_at")
        gates[gate.decode()] = {"until_ms": None if expires_at is None else float(expires_at) - now_ms}
    limits = {gate.decode(): int(most) for gate, most in client.hgetall(keys.limits).items()}
    rates = {gate.decode(): rate.decode() for gate, rate in client.hgetall(keys.rates).items()}
    for gate in {name for lane in lanes for name, _ in lane.gates}:
        base = gate.partition("=")[0]
        most = limits.get(gate, limits.get(base, 1 if gate.startswith("limit:singleton/") else None))
        rate = rates.get(gate, rates.get(base))
        if gate.startswith("limit:") and most is not None:
            gates[gate] = {"most": float(most)}
        elif gate.startswith("rate:") and rate is not None:
            bucket = read_bucket(client, keys, gate, rate)
            gates[gate] = {**bucket, "tat_ms": bucket["tat_ms"] - now_ms}
    return gates


def read_bucket(client: Any, keys: Keys, gate: str, rate: str) -> dict[str, float]:
    """The bucket of a rate gate, as a RateModel takes it; `tat_ms` is an epoch time (0: none yet)."""
    limit, period_ms, burst = map(int, rate.split(" "))
    return {
        "interval_ms": period_ms / limit,
        "burst": float(burst),
        "tat_ms": float(client.get(keys.tat(gate)) or 0),
    }
