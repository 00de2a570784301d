"""Lesson 5: a limit holds for all workers together.

The registry says of `content.validate`: never two jobs for the same path at once. The limit lives in Redis,
where every worker claims, so it does not matter how many workers there are. Jobs behind a full limit wait
aside, in a lane of their own, and cost the other jobs nothing.
"""

from __future__ import annotations

from joelclaw_tasks.admission import limits_of
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.settings import Settings


def test_two_jobs_of_one_path_never_run_at_once(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    store = emitter.store
    # Every worker of the fleet does this when it starts.
    store.limit(limits_of(emitter.registry), actor="tutorial", reason="lesson 5")
    for path in ("a.md", "a.md", "b.md"):
        emitter.emit("content/updated", {"path": path})

    # The first worker has room for ten. It gets one job of each path, and the second worker gets none.
    running = store.claim(["default"], 10, holder="worker-1").jobs
    assert 2 == len(running)
    assert [] == store.claim(["default"], 10, holder="worker-2").jobs

    # The path is free again as soon as its job is done, for whoever asks next.
    store.complete([job.tag for job in running])
    assert 1 == len(store.claim(["default"], 10, holder="worker-2").jobs)


def test_a_waiting_job_names_the_gate_that_stops_it(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    emitter.store.limit(limits_of(emitter.registry), actor="tutorial", reason="lesson 5")
    [one] = emitter.emit("content/updated", {"path": "a.md"}).jobs
    [other] = emitter.emit("content/updated", {"path": "a.md"}).jobs

    [running] = emitter.store.claim(["default"], 10, holder="worker-1").jobs

    waiting = other.job_id if running.tag.startswith(one.job_id) else one.job_id
    assert "limit:key/content.validate=a.md" == emitter.store.inspect(waiting)["gate"]
