"""Lesson 4: a delayed event waits in Redis.

Stock Celery hands a task with a countdown to a worker, which keeps it in memory until its time. Here it
waits in Redis, in a sorted set of timers: no worker holds it, and none has to live that long. When it is due,
the next worker that asks for work moves it into its lane and may claim it.
"""

from __future__ import annotations

import time

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings


def test_a_delayed_job_is_scheduled_and_no_worker_gets_it(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))

    [job] = emitter.emit("content/updated", {"path": "notes/a.md"}, delay_s=600).jobs

    assert "scheduled" == job.decision
    assert [] == emitter.store.claim(["default"], 1, holder="worker-1").jobs
    assert "scheduled" == emitter.store.inspect(job.job_id)["state"]


def test_it_can_be_claimed_when_its_time_has_come(redis_url):
    later_ms = {"ms": 0}
    settings = Settings(redis_url=redis_url)
    store = Store.connect(settings, now_ms=lambda: int(time.time() * 1000) + later_ms["ms"])
    emitter = Emitter(settings, Registry.load(settings.registry_dir), store)
    [job] = emitter.emit("content/updated", {"path": "notes/a.md"}, delay_s=600).jobs

    later_ms["ms"] = 600_000
    [claimed] = store.claim(["default"], 1, holder="worker-1").jobs

    assert job.job_id == claimed.tag.partition("#")[0]
