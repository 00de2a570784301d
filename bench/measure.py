"""Measure both sides once: every pool, publishing, latency, with and without the proxy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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

    @property
    def records(self) -> Path:
        """The file in which the tasks of the side note that they ran."""
        return self.home / f"records-{self.side}"

    def drained(self) -> bool:
        """Whether the side holds no unfinished task: nothing queued, nothing delivered and unacknowledged."""
        if self.side == "stock":
            return self.client.llen("celery") == 0 and self.client.hlen("unacked") == 0
        return unfinished_jobs(self.client) == 0


def unfinished_jobs(client: redis.Redis) -> int:
    """How many jobs our core still holds in a state that is not final."""
    counts = client.hgetall(Keys(Settings().key_prefix).counts)
    return sum(int(n) for field, n in counts.items() if field.rpartition(b"|")[2] in _UNFINISHED)


def measure_round(sides: Sequence[Side], plan: Plan, redis_port: int, home: Path) -> dict[Side, Measured]:
    """Run everything once for these sides, in this order. Raises BenchFailed."""
    with _lines(sides, redis_port, redis_port, home) as lines:
        measured = _measure_pools(lines, plan, plan.tasks)
        for line in lines:
            if line.side == "ours":
                # As often as the publish rate, which it is compared with, and its median likewise.
                emitted = [line.publisher.do("emit_many", count=plan.emitted_events) for _ in POOLS]
                measured["ours"]["emit_many"] = statistics.median(
                    answer["count"] / answer["seconds"] for answer in emitted
                )
    with proxy(redis_port, plan.rtt_ms) as port, _lines(sides, port, redis_port, home) as lines:
        slow = _measure_pools(lines, plan, plan.proxied_tasks)
    return {
        side: measured[side] | {f"rtt2ms_{name}": value for name, value in slow[side].items()}
        for side in sides
    }


@contextmanager
def _lines(sides: Sequence[Side], port: int, redis_port: int, home: Path) -> Iterator[list[Line]]:
    """A line for each side through this port, on empty databases: one for each side."""
    with ExitStack() as stack:
        lines = []
        for database, side in enumerate(sides):
            client = stack.enter_context(redis.Redis(port=redis_port, db=database))
            client.flushdb()
            url = f"redis://127.0.0.1:{port}/{database}"
            lines.append(Line(side, url, stack.enter_context(producer(side, url, home)), client, home))
        yield lines


def _measure_pools(lines: Sequence[Line], plan: Plan, tasks: int) -> dict[Side, Measured]:
    """Publish, consume and latency for every pool: each side's worker in turn, and then both side by side."""
    measured: dict[Side, Measured] = {line.side: {} for line in lines}
    publish_rates: dict[Side, list[float]] = {line.side: [] for line in lines}
    for pool in POOLS:
        with ExitStack() as stack:
            running = []
            for line in lines:
                line.records.unlink(missing_ok=True)
                line.publisher.do("publish", count=_WARM_UP)
                answer = line.publisher.do("publish", count=tasks)
                publish_rates[line.side].append(tasks / answer["seconds"])
                check = stack.enter_context(worker(line.side, pool, line.url, line.records, line.home))
                records = _finished(line, tasks + _WARM_UP, check)
                measured[line.side][pool] = consume_rate(records)
                running.append((line, check))
            for side, waits in _measure_waits(running, plan, tasks + _WARM_UP).items():
                for percent in (50, 95, 99):
                    measured[side][f"p{percent}_{pool}"] = percentile(waits, percent)
    for side, rates in publish_rates.items():
        measured[side]["publish"] = statistics.median(rates)
    return measured


def _measure_waits(
    running: Sequence[tuple[Line, Callable[[], None]]], plan: Plan, done: int
) -> dict[Side, list[float]]:
    """The waits of paced calls: a part on one side, a part on the other, so that both meet the same machine.

    How fast an idle CPU wakes changes from minute to minute where it is shared, more than the sides differ.
    `done` is how many tasks each side has run before.
    """
    waits: dict[Side, list[float]] = {line.side: [] for line, _ in running}
    for turn in range(plan.paced_turns):
        for line, check in running if turn % 2 == 0 else reversed(running):
            count = plan.paced_tasks // plan.paced_turns
            answer = line.publisher.do("pace", count=count, per_s=plan.paced_per_s)
            records = _finished(line, done + (turn + 1) * count, check)
            sent = [record for record in records if record.sent_at_ns >= answer["first_sent_at_ns"]]
            waits[line.side] += waits_ms(sent)
    return waits


def _finished(line: Line, count: int, check: Callable[[], None]) -> list[Record]:
    """The records once `count` tasks ran and the side holds none of them any more, each run exactly once."""

    def all_ran() -> bool:
        check()
        return count_records(line.records) >= count

    wait_for(all_ran, f"{count} tasks ran on {line.side}", 30 + count / _SLOWEST_PER_S)
    wait_for(line.drained, f"{line.side} has acknowledged {count} tasks", 10)
    records = read_records(line.records)
    if len(records) != count or len({record.sent_at_ns for record in records}) != count:
        raise BenchFailed(f"{count} tasks were published on {line.side}, {len(records)} ran")
    return records
