"""One worker-like process for test_fire.py: claims, takes a moment over each job, finishes, claims again."""

from __future__ import annotations

import random
import sys
import time

import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store

QUEUES = ("qa", "qb")


def work(url: str, name: str, lease_ms: int) -> None:
    """Until nothing is left: a worker that hears nothing for a while and finds no job is done."""
    client = redis.Redis.from_url(url)
    store = Store(client, Keys("{jc}:"), lease_ms=lease_ms, transitions_max=1_000_000)
    tags: list[str] = []
    while True:
        _, claim = store.settle(tags, QUEUES, random.randint(1, 4), name)
        tags = [job.tag for job in claim.jobs]
        if tags:
            time.sleep(random.random() * 0.004)
        elif client.get("stop"):
            return
        else:
            client.brpop([store.keys.wake(queue) for queue in QUEUES], timeout=0.05)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
