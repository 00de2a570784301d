"""Jobs of type restate: real workers ask a real server, and wait for it without holding a place."""

from __future__ import annotations

import time

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from tests.conftest import wait_until
from tests.restate.conftest import Durable, Workers, emit, ended, moves, result_of


def failure_of(store: Store, job: str) -> str:
    return store.client.hget(store.keys.job(job), "error").decode()


def test_send_is_done_once_restate_has_taken_it(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    job = emit(emitter, "thing/sent", {"name": "sent"})
    wait_until(ended(store, job), "it ended")
    result = result_of(store, job)
    assert ("Accepted", None) == (result["status"], result["output"])
    assert result["invocation_id"].startswith("inv_")
    wait_until(lambda: 1 == durable.effects["sent"], "its effect")


def test_every_kind_of_handler_answers_its_call(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    called = emit(emitter, "thing/called", {"name": "called"})
    kept = emit(emitter, "thing/kept", {"name": "kept", "user": "a/../b ü?#"})
    flowed = emit(emitter, "thing/flowed", {"name": "flowed"})
    pinged = emit(emitter, "thing/pinged", {"name": "not given"})
    stumbled = emit(emitter, "thing/stumbled", {"name": "stumbled on"})
    jobs = (called, kept, flowed, pinged, stumbled)
    wait_until(ended(store, *jobs), "they ended", 20)
    assert [
        {"added": "called"},
        {"key": "a/../b ü?#", "count": 1},
        {"workflow": flowed, "answer": {}},  # the key of a workflow is the id of its job
        "pong",
        {"added": "stumbled on"},  # what fails as code does is tried again by Restate itself
    ] == [result_of(store, job)["output"] for job in jobs]
    assert 1 == durable.effects["a/../b ü?# kept"]


def test_a_call_that_takes_long_holds_no_worker_and_burns_no_attempt(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    slow = [emit(emitter, "thing/slow", {"name": f"slow {n}", "seconds": 5}) for n in range(3)]
    wait_until(lambda: all(moves(store, job, "retry") for job in slow), "all were sent")
    began = time.monotonic()
    quick = emit(emitter, "thing/sent", {"name": "quick"})
    wait_until(ended(store, quick), "the quick one ended")
    assert time.monotonic() - began < 3
    assert not ended(store, *slow)()

    wait_until(ended(store, *slow), "the slow ones ended", 20)
    assert ["Accepted"] * 3 == [result_of(store, job)["status"] for job in slow]
    assert [1, 1, 1, 1] == [durable.effects[name] for name in ("slow 0", "slow 1", "slow 2", "quick")]
    looks = moves(store, slow[0], "retry")
    assert 3 <= len(looks) <= 15  # further apart each time
    assert {"0"} == {entry.get("retries", "0") for entry in looks}
    assert all("waits for the output of inv_" in entry["reason"] for entry in looks)


def test_the_same_event_twice_has_one_effect(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    jobs = [emit(emitter, "thing/called", {"name": "twice"}, id="event-1") for _ in range(2)]
    wait_until(ended(store, jobs[0]), "it ended")
    assert jobs[0] == jobs[1]
    assert 1 == durable.effects["twice"]


def test_a_job_that_is_delivered_twice_is_previously_accepted(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    job = emit(emitter, "thing/called", {"name": "again"}, id="event-2")
    wait_until(ended(store, job), "it ended")
    first = result_of(store, job)
    # Redis has lost its memory, of which Celery's result is part. Restate has not.
    store.client.delete(store.keys.job(job), f"celery-task-meta-{job}")
    emit(emitter, "thing/called", {"name": "again"}, id="event-2")
    wait_until(lambda: 2 == len(moves(store, job, "complete")), "it ended again")
    second = result_of(store, job)
    assert ("PreviouslyAccepted", first["invocation_id"]) == (second["status"], second["invocation_id"])
    assert first["output"] == second["output"]
    assert 1 == durable.effects["again"]


@pytest.mark.parametrize("code", [400, 500])
def test_what_the_service_gives_up_is_in_the_dead_letter_with_its_words(
    emitter: Emitter, store: Store, worker: Workers, code: int
):
    job = emit(emitter, "thing/refused", {"message": "no such customer", "code": code})
    wait_until(ended(store, job), "it ended")
    assert f"RestateFailed: {code}: no such customer" == failure_of(store, job)
    reasons = [entry["reason"] for entry in moves(store, job, "retry")]
    assert all("waits for the output" in reason for reason in reasons)


def test_what_restate_never_takes_is_in_the_dead_letter_at_once(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    unknown = emit(emitter, "thing/unknown", {"name": "never"})
    keyless = emit(emitter, "thing/kept", {"name": "never"})
    wait_until(ended(store, unknown, keyless), "they ended")
    assert "RestateRefused: Restate answered 404: service 'Nobody' not found" in failure_of(store, unknown)
    expected = "PermanentFailure: the event has nothing at data.user, which is the key of Tally"
    assert expected == failure_of(store, keyless)
    assert [] == moves(store, unknown, "retry") + moves(store, keyless, "retry")
    assert 0 == durable.effects["never"]


def test_a_call_that_is_late_says_so_and_goes_on_in_restate(
    emitter: Emitter, store: Store, worker: Workers, durable: Durable
):
    job = emit(emitter, "thing/late", {"name": "late", "seconds": 1.5})
    wait_until(ended(store, job), "it ended")
    assert "has not ended within 0.5 s" in failure_of(store, job)
    assert 0 == durable.effects["late"]
    over = f"SELECT id FROM sys_invocation WHERE idempotency_key = '{job}' AND status = 'completed'"
    wait_until(lambda: durable.client.query(over), "it went on", 20)
    assert 1 == durable.effects["late"]

    store.revive([job], actor="tester", reason="look again")
    wait_until(lambda: moves(store, job, "complete"), "it is done", 30)
    assert {"added": "late"} == result_of(store, job)["output"]
    assert 1 == durable.effects["late"]


def test_a_delay_is_kept_by_restate(emitter: Emitter, store: Store, worker: Workers, durable: Durable):
    job = emit(emitter, "thing/later", {"name": "later"})
    wait_until(lambda: moves(store, job, "retry"), "it was sent")
    assert 0 == durable.effects["later"]
    wait_until(ended(store, job), "it ended")
    [sent, *_], [done] = moves(store, job, "retry"), moves(store, job, "complete")
    assert int(done["at"]) - int(sent["at"]) >= 900
    assert 1 == durable.effects["later"]
