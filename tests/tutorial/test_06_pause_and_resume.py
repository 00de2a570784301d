"""Lesson 6: pause and resume.

A family, a handler or a queue can be paused while its jobs are queued. What runs already goes on. Nothing
else of it starts, while everything beside it flows as before. A pause says who did it and why, and it may
end by itself. `joelclaw queue pause` and `joelclaw queue resume` do the same from a shell.
"""

from __future__ import annotations

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.settings import Settings

PAUSE = "pause:family/content/updated"


def test_a_paused_family_waits_and_the_others_do_not(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    store = emitter.store
    [paused] = emitter.emit("content/updated", {"path": "a.md"}, priority="P0").jobs
    [other] = emitter.emit("discovery/captured", {"url": "https://example.org"}, priority="P3").jobs

    store.pause(PAUSE, actor="ada", reason="the disk is being replaced", ttl_ms=60_000)

    claimed = store.claim(["default"], 10, holder="worker-1").jobs
    assert [other.job_id] == [job.tag.partition("#")[0] for job in claimed]
    assert PAUSE == store.inspect(paused.job_id)["gate"]


def test_resuming_lets_everything_go_again(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    store = emitter.store
    store.pause(PAUSE, actor="ada", reason="the disk is being replaced")
    [job] = emitter.emit("content/updated", {"path": "a.md"}).jobs
    assert [] == store.claim(["default"], 10, holder="worker-1").jobs

    ended = store.resume(PAUSE, actor="ada", reason="the new disk is in")

    assert "the disk is being replaced" == ended["reason"]
    [claimed] = store.claim(["default"], 10, holder="worker-1").jobs
    assert job.job_id == claimed.tag.partition("#")[0]
