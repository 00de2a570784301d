"""Lesson 7: a failed job is in the dead letter, and can be revived.

When the last retry has failed, a worker discards the job: the whole message and the reason stay in Redis,
in the dead letter, until a person decides. Once the cause is mended, the job can be revived and runs as if
it were new.
"""

from __future__ import annotations

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.settings import Settings


def test_a_discarded_job_is_kept_with_its_failure(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    [job] = emitter.emit("content/updated", {"path": "notes/a.md"}).jobs
    [claimed] = emitter.store.claim(["default"], 1, holder="worker-1").jobs

    emitter.store.discard(claimed.tag, "OSError: the disk is gone")

    dead = emitter.store.inspect(job.job_id)
    assert ("discarded", "OSError: the disk is gone") == (dead["state"], dead["error"])
    assert {"path": "notes/a.md"} == dead["payload"]["body"][0][0]["data"]
    # jobs that failed alike have one signature, and `joelclaw dead list` shows them as one row
    [group] = emitter.store.dead.groups()
    assert (dead["signature"], 1, job.job_id) == (group["signature"], group["count"], group["sample"])
    assert [] == emitter.store.claim(["default"], 1, holder="worker-1").jobs


def test_a_revived_job_runs_again(redis_url):
    emitter = Emitter.connect(Settings(redis_url=redis_url))
    [job] = emitter.emit("content/updated", {"path": "notes/a.md"}).jobs
    [claimed] = emitter.store.claim(["default"], 1, holder="worker-1").jobs
    emitter.store.discard(claimed.tag, "OSError: the disk is gone")

    emitter.store.revive([job.job_id], actor="ada", reason="the new disk is in")

    [again] = emitter.store.claim(["default"], 1, holder="worker-1").jobs
    emitter.store.complete([again.tag])
    assert "completed" == emitter.store.inspect(job.job_id)["state"]
