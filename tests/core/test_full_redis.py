"""A Redis that is full refuses new jobs whole, and lets the workers drain it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import ResponseError

from joelclaw_tasks.core.caller import _refuse_read_only
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import CoreReadOnly


@pytest.fixture
def full(core) -> Iterator:
    """A core with two running jobs and two waiting ones, on a Redis at its memory limit."""
    core.store.limit({"limit:resource/nas": 3}, actor="t", reason="")
    for id in "abcd":
        core.admit(id, lane=f"q|h|{id}", gates=("limit:resource/nas",), keep_ms=60_000)
    core.admit("later", due_ms=core.clock.now + 1_000)
    core.store.renew("w1", {"pid": 1})
    core.tags = [one.tag for one in core.claim(most=2).jobs]
    core.text.config_set("maxmemory", "1mb")
    yield core
    core.text.config_set("maxmemory", "0")


def test_admit_is_refused_with_a_clear_error_and_nothing_is_written(full):
    before, entries = full.image(), full.entries()

    for call in (
        lambda: full.store.admit([full.job("new")]),
        lambda: full.store.admit([full.job("new"), full.job("newer", due_ms=full.clock.now + 9)]),
        lambda: full.store.admit([full.job("new", refusal="unreadable")]),
        lambda: full.store.admit_many([[full.job("new")], [full.job("newer")]]),
    ):
        with pytest.raises(CoreReadOnly, match="its memory is full"):
            call()

    assert before == full.image()
    assert entries == full.entries()


def test_workers_drain_what_is_there(full):
    a, b = full.tags
    assert [Word.COMPLETED] == full.store.complete([a])
    assert [Word.RELEASED] == full.store.release([b])
    assert ["b", "c", "d"] == full.claim_ids(most=9)
    c = next(tag for tag in full.store.held_by("w1") if tag.startswith("c#"))
    assert Word.DISCARDED == full.store.discard(c, "broken")
    assert 2 == full.store.renew("w1", {"pid": 1})
    assert 2 == full.store.expire(["w1"], reason="gone")
    full.clock.advance(1_000)
    words, claim = full.store.settle([], ["q"], 9, "w2")
    assert [] == words
    assert {"b", "d", "later"} == {one.tag.split("#")[0] for one in claim.jobs}


def test_a_running_job_may_ask_for_its_retry(full):
    (a, b) = full.tags
    assert Word.SUCCEEDED == full.store.retry(full.job("a", lease_tag=a, retries=1))
    assert [Word.SUCCEEDED] == full.store.admit([full.job("b", retries=1)])
    assert [Word.RETRIED, Word.RETRIED] == full.store.complete([a, b])


def test_people_stay_in_control(full):
    assert full.store.pause("pause:queue/q", actor="t", reason="full")
    assert full.store.resume("pause:queue/q", actor="t")
    assert 1 == full.store.limit({"limit:resource/nas": 1}, actor="t", reason="")
    assert [Word.CANCELLED, Word.CANCELLED] == full.store.cancel(["c", "later"], actor="t", reason="")
    assert 1 == full.store.cancel_queue("q", actor="t", reason="")
    assert 2 == full.store.snapshot()["by_state"]["executing"]
    assert ([], 0) == (full.store.list_jobs(), full.store.queue_size("q"))
    assert "executing" == full.store.inspect("a")["state"]


def test_people_can_steer_what_waits(full):
    steered = {"actor": "t", "reason": "full", "target": "chosen"}
    assert [Word.PRIORITIZED] == full.store.priority(["c"], 0, 0, **steered)[1]
    assert [Word.STAGED] == full.store.stage(["later"], **steered)[1]
    act, words = full.store.shed(["c", "d"], **steered)
    assert [Word.SHED, Word.SHED] == words
    assert [Word.UNSHED] == full.store.unshed(["d"], **steered)[1]
    assert full.store.drain("pause:queue/q", actor="t", reason="full")
    assert (1, 0) == full.store.undo(act, actor="t")[1:]


def test_a_replica_is_named(core):
    core.store.client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(CoreReadOnly, match="it is a replica"):
            core.store.admit([core.job()])
    finally:
        core.store.client.replicaof("NO", "ONE")

    assert 0 == core.store.snapshot()["total"]


def test_a_disk_that_cannot_be_saved_to_is_named():
    with pytest.raises(CoreReadOnly, match="it cannot save to its disk"):
        _refuse_read_only(ResponseError("MISCONF Redis is configured to save RDB snapshots"))
