"""Redis comes back without the last that it was told: its append-only file or its replica lagged behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from workers import Site

from joelclaw_tasks.broker.holder import Holder, end_holder
from joelclaw_tasks.core.job import Job


@pytest.fixture
def holder(own: Site) -> Iterator[Holder]:
    pool = own.store.client.connection_pool
    keeper = redis.Redis.from_pool(redis.ConnectionPool(**pool.connection_kwargs, max_connections=1))
    holder = Holder(own.store, keeper)
    yield holder
    end_holder(holder)
    keeper.close()


def test_what_was_finished_before_is_told_again_and_what_was_claimed_unseen_is_given_back(
    own: Site, holder: Holder
):
    client = own.store.client
    jobs = [
        Job(id=f"j{n}", queue="q", family="f", handler="h", lane=f"q/h/{n}", payload=b"{}", slack_ms=0)
        for n in range(4)
    ]
    own.store.admit(jobs)
    running = [job.tag for job in holder.exchange(["q"], 3).jobs]
    assert 3 == len(running)
    unseen = own.store.claim(["q"], 1, holder.id).jobs[0].tag
    saved = {key: client.dump(key) for key in client.keys("{jc}:*") if b"holders" not in key}
    for tag in running[:2]:
        holder.finish(tag)
    holder.exchange()
    assert {"executing": 2, "completed": 2} == own.all_states()

    for key, content in saved.items():
        client.restore(key, 0, content, replace=True)
    assert {"executing": 4} == own.all_states()
    holder.doubt()
    holder.exchange()

    assert {"executing": 1, "available": 1, "completed": 2} == own.all_states()
    assert [running[2]] == own.store.held_by(holder.id)
    assert holder.owns(running[2])
    assert not holder.owns(unseen)
