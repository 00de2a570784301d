"""Lesson 1: emit an event.

An event says what happened. The registry says who handles it. `emit` makes one job for each handler, puts
the jobs into Redis in one step and returns at once: nobody has run anything yet. A worker claims the job
later, and gets the event with it.
"""

from __future__ import annotations

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.settings import Settings


def test_an_event_becomes_a_job_for_each_of_its_handlers(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))

    receipt = emitter.emit("content/updated", {"path": "notes/a.md"})

    assert [("content.validate", "admitted")] == [(job.handler, job.decision) for job in receipt.jobs]


def test_the_job_waits_in_redis_with_the_whole_event(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    receipt = emitter.emit("content/updated", {"path": "notes/a.md"}, source="tutorial")

    job = emitter.store.inspect(receipt.jobs[0].job_id)

    assert ("available", "default", "P1") == (job["state"], job["queue"], job["priority"])
    [event], _, _ = job["payload"]["body"]
    assert receipt.event_id == event["id"]
    assert {"path": "notes/a.md"} == event["data"]


def test_a_worker_claims_the_job_and_completes_it(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    receipt = emitter.emit("content/updated", {"path": "notes/a.md"})

    [claimed] = emitter.store.claim(["default"], 1, holder="worker-1").jobs
    assert "executing" == emitter.store.inspect(receipt.jobs[0].job_id)["state"]

    emitter.store.complete([claimed.tag])
    assert "completed" == emitter.store.inspect(receipt.jobs[0].job_id)["state"]
