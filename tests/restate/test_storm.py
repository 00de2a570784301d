"""Workers and server are killed in the middle of many jobs: none is lost, and none has its effect twice."""

from __future__ import annotations

import os

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.new_event import NewEvent
from tests.conftest import wait_until
from tests.restate.conftest import Durable, Workers

JOBS = int(os.environ.get("RESTATE_DRILL_JOBS", "200"))


@pytest.mark.timeout(300)
def test_each_effect_happens_once_though_workers_and_server_are_killed(
    emitter: Emitter, store: Store, workers: Workers, durable: Durable
):
    """RESTATE_DRILL_JOBS=1000 for the whole drill."""
    victims = [workers.start(pool="prefork", size=2), workers.start(size=4)]
    names = [f"storm {number}" for number in range(JOBS)]
    events = ("thing/counted", "thing/counted-call")
    receipts = emitter.emit_many(
        [NewEvent(events[number % 2], {"name": name, "user": name}) for number, name in enumerate(names)]
    )
    jobs = [job.job_id for receipt in receipts for job in receipt.jobs]

    def effects() -> int:
        return len([line for line in durable.effects if line.startswith("storm ")])

    for share, victim in zip((0.15, 0.5), victims, strict=True):
        wait_until(lambda share=share: effects() >= share * JOBS, f"{share:.0%} of the effects", 120)
        durable.kill()
        workers.kill(victim)
        durable.start()
        workers.start(wait=False)
    wait_until(lambda: 0 == store.snapshot()["total"], "the queue is empty", 120)
    wait_until(lambda: effects() >= JOBS, "every effect", 60)
    wait_until(lambda: JOBS == len(durable.counts("storm")), "Restate knows of each")
    assert dict.fromkeys(names, 1) == durable.counts("storm")
    reasons = b"".join(entry.get(b"reason", b"") for _, entry in store.client.xrange(store.keys.transitions))
    assert b"RestateAway" in reasons  # it was under way when the server was killed
    ends = moves_of(store)
    assert [] == [job for job in jobs if ends.get(job) != ["complete"]]


def moves_of(store: Store) -> dict[str, list[str]]:
    """How each job ended."""
    ends: dict[str, list[str]] = {}
    for _, entry in store.client.xrange(store.keys.transitions):
        if entry[b"verb"] in (b"complete", b"discard", b"cancel"):
            ends.setdefault(entry[b"job"].decode(), []).append(entry[b"verb"].decode())
    return ends
