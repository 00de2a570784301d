"""Measure one side once: every pool, publishing, latency, with and without the proxy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.plan import POOLS, Plan, Side
from bench.processes import BenchFailed, Producer, producer, proxy, wait_for, worker
from bench.records import Record, count_records, read_records
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.settings import Settings

#: Name of a measurement -> value: tasks a second, or milliseconds for p50, p95 and p99.
Measured = dict[str, float]

#: Published before the clock runs: connections, declarations, script caches.
_WARM_UP = 20

#: The states of a job that still has something before it.
_UNFINISHED = {b"scheduled", b"held", b"available", b"executing", b"retryable"}

#: Slower than this, a consumer is taken to hang.
_SLOWEST_PER_S = 20


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, interpolated between neighbours."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def consume_rate(records: Sequence[Record]) -> float:
    """Tasks a second between the first start and the last: start-up of the worker is not in it."""
    starts = [record.started_at_ns for record in records]
    return (len(starts) - 1) * 1e9 / (max(starts) - min(starts))


def waits_ms(records: Sequence[Record]) -> list[float]:
    """From just before the call of `.delay()` to the first line of the task, in milliseconds."""
    return [(record.started_at_ns - record.sent_at_ns) / 1e6 for record in records]


@dataclass(frozen=True)
class Line:
    """One way from a producer of a side to its workers: straight to Redis, or through the proxy."""

    side: Side
    url: str
    publisher: Producer
    client: redis.Redis
    home: Path

    def drained(self) -> bool:
        """Whether the side holds no unfinished task: nothing queued, nothing delivered and unacknowledged."""
        if self.side == "stock":
            return self.client.llen("celery") == 0 and self.client.hlen("unacked") == 0
        return unfinished_jobs(self.client) == 0


def unfinished_jobs(client: redis.Redis) -> int:
    """How many jobs our core still holds in a state that is not final."""
    counts = client.hgetall(Keys(Settings().key_prefix).counts)
    return sum(int(n) for field, n in counts.items() if field.rpartition(b"|")[2] in _UNFINISHED)


def measure_side(side: Side, plan: Plan, redis_port: int, home: Path) -> Measured:
    """Run everything once for one side, on an empty database. Raises BenchFailed."""
    client = redis.Redis(port=redis_port)
    url = f"redis://127.0.0.1:{redis_port}/0"
    client.flushall()
    with producer(side, url, home) as publisher:
        measured = _measure_pools(Line(side, url, publisher, client, home), plan, plan.tasks)
        if side == "ours":
            answer = publisher.do("emit_many", count=plan.emitted_events)
            measured["emit_many"] = answer["count"] / answer["seconds"]
    client.flushall()
    with proxy(redis_port, plan.rtt_ms) as port:
        slow_url = f"redis://127.0.0.1:{port}/0"
        with producer(side, slow_url, home) as publisher:
            slow = _measure_pools(Line(side, slow_url, publisher, client, home), plan, plan.proxied_tasks)
    client.close()
    return measured | {f"rtt2ms_{name}": value for name, value in slow.items()}


def _measure_pools(line: Line, plan: Plan, tasks: int) -> Measured:
    """Publish, consume and latency for every pool over one line."""
    measured: Measured = {}
    publish_rates = []
    for pool in POOLS:
        path = line.home / "records"
        path.unlink(missing_ok=True)
        line.publisher.do("publish", count=_WARM_UP)
        answer = line.publisher.do("publish", count=tasks)
        publish_rates.append(tasks / answer["seconds"])
        with worker(line.side, pool, line.url, path, line.home) as check:
            records = _finished(line, path, tasks + _WARM_UP, check)
            measured[pool] = consume_rate(records)
            answer = line.publisher.do("pace", count=plan.paced_tasks, per_s=plan.paced_per_s)
            records = _finished(line, path, tasks + _WARM_UP + plan.paced_tasks, check)
            waits = waits_ms([r for r in records if r.sent_at_ns >= answer["first_sent_at_ns"]])
            for percent in (50, 95, 99):
                measured[f"p{percent}_{pool}"] = percentile(waits, percent)
    measured["publish"] = statistics.median(publish_rates)
    return measured


def _finished(line: Line, path: Path, count: int, check: Callable[[], None]) -> list[Record]:
    """The records once `count` tasks ran and the side holds none of them any more, each run exactly once."""

    def all_ran() -> bool:
        check()
        return count_records(path) >= count

    wait_for(all_ran, f"{count} tasks ran on {line.side}", 30 + count / _SLOWEST_PER_S)
    wait_for(line.drained, f"{line.side} has acknowledged {count} tasks", 10)
    records = read_records(path)
    if len(records) != count or len({record.sent_at_ns for record in records}) != count:
        raise BenchFailed(f"{count} tasks were published on {line.side}, {len(records)} ran")
    return records
