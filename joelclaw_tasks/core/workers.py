"""Workers: who takes jobs of which queue, and how many at once. Reads only."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.world import Crew


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process that is alive. `queues` is None when it has not said which it serves."""

    holder: str
    host: str
    pid: int | None
    queues: frozenset[str] | None
    slots: int
    running: tuple[tuple[str, int], ...]  # job id, claimed_at

    def serves(self, queue: str) -> bool:
        """Whether it takes jobs of the queue, as far as is known."""
        return self.queues is None or queue in self.queues

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "holder": self.holder,
            "host": self.host,
            "pid": self.pid,
            "queues": None if self.queues is None else sorted(self.queues),
            "slots": self.slots,
            "running": len(self.running),
        }


def read_workers(client: Any, keys: Keys, pace: Pace) -> list[Worker]:
    """Every worker that holds a lease timer now. `client` answers bytes.

    What a worker has not said of itself is taken from what it did: the queues that it claimed from and the
    most jobs that it had at once.
    """
    records = {name.decode(): json.loads(record) for name, record in client.hgetall(keys.holders).items()}
    names = sorted({*records, *pace.slots})
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.zscore(keys.timers, f"lease|{name}")
        pipe.zrange(keys.leases(name), 0, -1, withscores=True)
    replies = pipe.execute()
    workers = []
    for name, lease_until, leased in zip(names, replies[::2], replies[1::2], strict=True):
        if lease_until is None:
            continue
        record = records.get(name, {})
        queues = record.get("queues") or pace.served.get(name)
        workers.append(
            Worker(
                holder=name,
                host=str(record.get("host", "")),
                pid=record.get("pid"),
                queues=frozenset(queues) if queues else None,
                slots=int(record.get("slots") or 0) or max(pace.slots.get(name, 1), len(leased)),
                running=tuple((job_id.decode(), int(claimed_at)) for job_id, claimed_at in leased),
            )
        )
    return workers


def crews_of(workers: list[Worker]) -> tuple[tuple[Crew, ...], dict[str, int]]:
    """Workers that serve the same queues, taken together; and the crew (by position) of each holder."""
    slots: dict[frozenset[str] | None, int] = defaultdict(int)
    for worker in workers:
        slots[worker.queues] += max(worker.slots, len(worker.running))
    order = list(slots)
    return (
        tuple(Crew(queues, slots[queues]) for queues in order),
        {worker.holder: order.index(worker.queues) for worker in workers},
    )
