"""Lesson 2: emitting twice is harmless.

A sender that got no answer does not know whether its event arrived. So it sends the event again, under the
same id. The id of a job is derived from the id of its event and the name of its handler: the second time,
the job is known already, and nothing is queued.
"""

from __future__ import annotations

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.settings import Settings


def test_the_same_id_again_is_a_duplicate(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))

    [first] = emitter.emit("content/updated", {"path": "notes/a.md"}, id="delivery-42").jobs
    [second] = emitter.emit("content/updated", {"path": "notes/a.md"}, id="delivery-42").jobs

    assert ("admitted", "duplicate") == (first.decision, second.decision)
    assert first.job_id == second.job_id == second.duplicate_of
    assert 1 == emitter.store.snapshot()["total"]


def test_it_is_still_a_duplicate_after_the_job_has_run(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    emitter.emit("content/updated", {"path": "notes/a.md"}, id="delivery-42")
    [claimed] = emitter.store.claim(["default"], 1, holder="worker-1").jobs
    emitter.store.complete([claimed.tag])

    [again] = emitter.emit("content/updated", {"path": "notes/a.md"}, id="delivery-42").jobs

    assert "duplicate" == again.decision
    assert 0 == emitter.store.snapshot()["total"]
