"""Lesson 3: priorities are deadlines.

A job's rank is the time at which it arrived plus the slack of its priority: none for P0, 1 minute for P1,
5 minutes for P2, 15 minutes for P3. The lowest rank starts first. So an urgent job goes ahead of the others,
but only of those that have not waited long: nothing starves, and nobody has to raise old jobs.
"""

from __future__ import annotations

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

NOON_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def test_the_urgent_job_starts_first(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    [can_wait] = emitter.emit("content/updated", {"path": "a.md"}, priority="P3").jobs
    [urgent] = emitter.emit("content/updated", {"path": "b.md"}, priority="P0").jobs

    claimed = emitter.store.claim(["default"], 2, holder="worker-1").jobs

    assert [urgent.job_id, can_wait.job_id] == [job.tag.partition("#")[0] for job in claimed]


def test_a_job_that_has_waited_longer_than_its_slack_is_not_overtaken_any_more(redis_url):
    # The scripts take Redis's clock, unless a test hands them another.
    clock = {"now_ms": NOON_MS}
    settings = Settings(redis_url=redis_url)
    store = Store.connect(settings, now_ms=lambda: clock["now_ms"])
    emitter = Emitter(settings, Registry.load(settings.registry_dir), store)

    [patient] = emitter.emit("content/updated", {"path": "a.md"}, priority="P3").jobs
    clock["now_ms"] = NOON_MS + 16 * MINUTE_MS
    [urgent] = emitter.emit("content/updated", {"path": "b.md"}, priority="P0").jobs
    claimed = store.claim(["default"], 2, holder="worker-1").jobs

    assert [patient.job_id, urgent.job_id] == [job.tag.partition("#")[0] for job in claimed]
