"""What one transition costs, without Celery: `python -m bench.core`.

For every verb on the path of a task: microseconds of Redis (from INFO commandstats), of this
process's CPU, and of wall time, per job. Redis is a single thread, so one divided by its part of
admit, claim and complete together is the most jobs a second that one Redis can carry.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import redis

from bench.processes import redis_server
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store

_PAYLOAD = "x" * 700  # about what Celery's message of a small task takes
_QUEUE = "celery"
_T = TypeVar("_T")


def jobs(count: int) -> list[Job]:
    """Jobs as a plain Celery call makes them: one lane, no gates."""
    lane = f"{_QUEUE}/bench.noop"
    return [
        Job(str(uuid.uuid4()), _QUEUE, "bench.noop", "bench.noop", lane, _PAYLOAD, slack_ms=300_000)
        for _ in range(count)
    ]


def batches(values: Sequence[_T], size: int) -> list[Sequence[_T]]:
    """The values in slices of `size`."""
    return [values[i : i + size] for i in range(0, len(values), size)]


class Meter:
    """Measures a call: wall, client CPU and Redis, in microseconds for each of `count` jobs."""

    def __init__(self, client: redis.Redis, count: int) -> None:
        self._client = client
        self._count = count

    def _redis_us(self) -> float:
        stats = self._client.info("commandstats")
        return sum(stats[name]["usec"] for name in stats if name in ("cmdstat_evalsha", "cmdstat_eval"))

    def run(self, name: str, call: Callable[[], object]) -> None:
        """Run the call once and print its row."""
        redis_us, cpu_at, started_at = self._redis_us(), time.process_time(), time.perf_counter()
        call()
        wall_us = (time.perf_counter() - started_at) * 1e6
        cpu_us = (time.process_time() - cpu_at) * 1e6
        parts = [value / self._count for value in (self._redis_us() - redis_us, cpu_us, wall_us)]
        print(f"{name:28} {parts[0]:9.1f} {parts[1]:9.1f} {parts[2]:9.1f}")


def main() -> None:
    """Run every verb over the same number of jobs."""
    parser = argparse.ArgumentParser(prog="python -m bench.core", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000)
    count = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, redis_server(Path(directory)) as port:
        client = redis.Redis(port=port)
        store = Store(client, Keys("{jc}:"))
        store.load_scripts()
        meter = Meter(client, count)
        print(f"{'µs per job':28} {'redis':>9} {'client':>9} {'wall':>9}")

        def claim_all(size: int) -> list[str]:
            tags: list[str] = []
            while claimed := store.claim([_QUEUE], size, "bench").jobs:
                tags += [job.tag for job in claimed]
            return tags

        for size in (1, 8):
            made = batches(jobs(count), size)
            meter.run(f"admit, {size} a call", lambda made=made: [store.admit(some) for some in made])
            tags: list[str] = []
            meter.run(f"claim, {size} a call", lambda size=size, tags=tags: tags.extend(claim_all(size)))
            done = batches(tags, size)
            meter.run(f"complete, {size} a call", lambda done=done: [store.complete(some) for some in done])
        made = batches(jobs(count), 1)
        meter.run(
            "admit_many, 100 in flight", lambda: [store.admit_many(some) for some in batches(made, 100)]
        )

        def settle_all(size: int) -> None:
            finished: list[str] = []
            while True:
                _, claim = store.settle(finished, [_QUEUE], size, "bench")
                finished = [job.tag for job in claim.jobs]
                if not finished:
                    return

        meter.run("settle, 1 a call", lambda: settle_all(1))
        store.admit_many(batches(jobs(count), 1))
        meter.run("settle, 8 a call", lambda: settle_all(8))
        client.close()


if __name__ == "__main__":
    main()
