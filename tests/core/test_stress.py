"""Eight workers at once on real time: no gate is ever passed by too many, no job is done twice."""

from __future__ import annotations

import threading
from collections import Counter

import redis

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Store
from tests.core.structure import Structure

JOBS = 5_000
LIMIT = 3
GATE = "limit:resource/nas"


def work(url: str, name: str, queues: tuple[str, ...], done: list[str], faults: list[BaseException]) -> None:
    client = redis.Redis.from_url(url)
    store = Store(client, Keys("{jc}:"))
    tags: list[str] = []
    try:
        while len(done) < JOBS:
            words, claim = store.settle(tags, queues, 2, name)
            assert set(words) <= {Word.COMPLETED}
            done.extend(tag.split("#")[0] for tag in tags)
            tags = [job.tag for job in claim.jobs]
            if not tags:
                client.brpop([store.keys.wake(queue) for queue in queues], timeout=0.05)
    except BaseException as error:
        faults.append(error)
        raise
    finally:
        client.close()


def test_eight_workers_never_pass_a_gate_by_more_than_its_limit_and_finish_each_job_once(redis_url, client):
    store = Store(redis.Redis.from_url(redis_url), Keys("{jc}:"))
    store.limit({GATE: LIMIT}, actor="t", reason="")
    done: list[str] = []
    faults: list[BaseException] = []
    workers = [
        threading.Thread(target=work, args=(redis_url, f"w{n}", queues, done, faults))
        for n, queues in enumerate([("qa",), ("qb",), ("qa", "qb"), ("qb", "qa")] * 2)
    ]
    for worker in workers:
        worker.start()
    for start in range(0, JOBS, 500):  # while they work
        store.admit([
            Job(
                id=f"j{n}", queue=f"q{'ab'[n % 2]}", family="f", handler="h", payload="",
                lane=f"q{'ab'[n % 2]}|h|{n % 40}",
                gates=(GATE,) if n % 5 < 3 else (), priority=n % 4, slack_ms=n % 4 * 100,
            )
            for n in range(start, start + 500)
        ])  # fmt: skip
    for worker in workers:
        worker.join(50)

    assert [] == faults
    assert {f"j{n}": 1 for n in range(JOBS)} == Counter(done)
    running: set[str] = set()
    most = starts = 0
    for _, entry in client.xrange(store.keys.transitions):
        if entry["verb"] in ("claim", "complete") and int(entry["job"][1:]) % 5 < 3:
            (running.add if entry["verb"] == "claim" else running.remove)(entry["job"])
            most = max(most, len(running))
            starts += entry["verb"] == "claim"
    assert (LIMIT, JOBS * 3 // 5, set()) == (most, starts, running)
    structure = Structure(client, store.keys)
    assert [] == structure.faults()
    assert not structure.jobs
    store.client.close()
