"""What a worker says of itself, and what can be foretold from it."""

from __future__ import annotations

import pytest
from workers import Site

from joelclaw_tasks.core.audit import Audit
from joelclaw_tasks.core.explain import Explainer
from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.workers import read_workers
from tests.conftest import wait_until


def _workers(site: Site) -> list:
    return read_workers(site.store.client, site.store.keys, Pace())


def test_a_worker_says_which_queues_it_serves_and_how_many_jobs_it_runs_at_once(own: Site):
    worker = own.start("threads", concurrency=3, queues="stranger,other").wait_ready()

    wait_until(lambda: [one.slots for one in _workers(own)] == [3], "the worker has said what it serves")

    [seen] = _workers(own)
    assert {"stranger", "other"} == seen.queues
    assert worker.process.pid == seen.pid
    assert () == seen.running


def test_without_a_worker_for_its_queue_a_job_says_so(own: Site):
    own.start("solo", queues="other").wait_ready()
    wait_until(lambda: [one.queues for one in _workers(own)] == [{"other"}], "the worker has said so")
    job_id = own.add.delay(1, 2).id

    found = Explainer(own.store).job(job_id)

    assert 0 == found["workers"]["count"]
    assert "no worker serves the queue stranger now" == found["estimated_start"]["basis"]


@pytest.mark.timing
def test_on_a_steady_queue_the_estimate_is_within_a_quarter_of_the_wait(own: Site):
    own.start("threads", concurrency=4).wait_ready()
    for number in range(120):
        own.work.delay("steady", 0.05 if number % 3 else 0.15)
    last = own.work.delay("steady", 0).id
    wait_until(lambda: len(own.effects("steady:finished")) >= 30, "a quarter is done")

    found = Explainer(own.store).job(last)
    estimated_ms = found["estimated_start"]["at"] - found["asked_at"]
    own.wait_idle()

    [claimed] = own.store.history.read(job=last, verbs=("claim",))
    waited_ms = claimed.at - found["asked_at"]
    assert waited_ms > 500
    assert abs(estimated_ms - waited_ms) <= waited_ms / 4, (estimated_ms, waited_ms)


def test_an_audit_while_workers_work_and_after_finds_nothing(own: Site):
    for concurrency in (2, 3):
        own.start("threads", concurrency=concurrency).wait_ready()
    for number in range(150):
        own.note.apply_async(("audit", number), priority=number % 10)
        if number % 10 == 0:
            own.flaky.delay(2)
            own.fail.delay("on purpose")
            own.work.delay("audit", 0.02)

    while True:
        found = Audit(own.store).run()
        assert [] == found.violations
        if not any(own.states().get(state) for state in ("scheduled", "available", "executing", "retryable")):
            break

    assert 15 == own.states()["discarded"]
    assert [] == Audit(own.store).run().violations
