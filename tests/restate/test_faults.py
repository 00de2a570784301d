"""Restate is away at first, or in the middle: each effect still happens, and happens once."""

from __future__ import annotations

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from tests.conftest import wait_until
from tests.restate.conftest import Durable, Workers, emit, ended, moves, result_of


def test_a_server_that_is_away_at_first_gets_the_job_when_it_is_there(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    durable.kill()
    jobs = [
        emit(emitter, "thing/sent", {"name": "early"}),
        emit(emitter, "thing/called", {"name": "call"}),
    ]
    wait_until(lambda: all(len(moves(store, job, "retry")) > 1 for job in jobs), "both were tried twice")
    reason = moves(store, jobs[0], "retry")[0]["reason"]
    assert "RestateAway: Restate cannot be reached: no connection" == reason
    durable.start()
    wait_until(ended(store, *jobs), "they ended", 20)
    wait_until(lambda: durable.effects["early"], "its effect")
    assert (1, 1) == (durable.effects["early"], durable.effects["call"])


def test_a_call_outlives_a_server_that_is_killed_while_it_waits(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    job = emit(emitter, "thing/slow", {"name": "outlived", "seconds": 2})
    wait_until(lambda: moves(store, job, "retry"), "it was sent")
    durable.kill()
    looked = len(moves(store, job, "retry"))
    # More looks than its policy has retries: none of them is one.
    wait_until(
        lambda: len(moves(store, job, "retry")) > looked + 4, "it looked for a server that is away", 20
    )
    durable.start()
    wait_until(ended(store, job), "it ended", 30)
    assert {"added": "outlived"} == result_of(store, job)["output"]
    assert 1 == durable.effects["outlived"]
