"""The steering verbs as Celery tasks: the same acts, with an actor, answered as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.errors import HeldByPerson, UnknownJob, UnknownTarget
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.conftest import wait_until
from tests.steering.conftest import job

ROOT = Path(__file__).parents[2]
VERBS = {
    "pause", "resume", "limit", "rate", "drain", "priority", "cancel", "retry", "shed", "unshed", "undo",
    "dead", "revive", "purge",
}  # fmt: skip


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path)


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    app = make_app(settings)
    yield app
    app.close()


@pytest.fixture
def queue(settings: Settings) -> Iterator[Queue]:
    queue = Queue.connect(settings, actor="joel")
    yield queue
    queue.store.client.close()


def call(app: Celery, verb: str, *args: Any, **options: Any) -> Any:
    """Carry a task out here; what it answers must be JSON."""
    task = app.tasks[f"joelclaw.queue.{verb}"]
    return json.loads(json.dumps(task.apply(args, {"actor": "beat", **options}, throw=True).get()))


def test_every_verb_is_a_task_of_the_fleet(app: Celery) -> None:
    named = {name.removeprefix("joelclaw.queue.") for name in app.tasks if name.startswith("joelclaw.queue.")}
    assert VERBS == named


def test_gates_are_steered_by_tasks(app: Celery, queue: Queue) -> None:
    assert "pause:queue/io" == call(app, "pause", "io", ttl="10m", reason="nightly")["target"]
    (control,) = queue.controls()
    assert ("beat", "nightly") == (control.actor, control.reason)
    assert "resume" == call(app, "resume", "io")["verb"]
    queue.store.limit({"limit:resource/disk": 2}, actor="registry", reason="")
    queue.store.rate({"rate:handler/x": Rate(1, 1_000)}, actor="registry", reason="")
    assert "7" == call(app, "limit", "disk", 7, ttl="10m")["value"]
    assert "100 10000 20" == call(app, "rate", "handler/x", 100, 10, burst=20)["value"]
    assert "" == call(app, "rate", "handler/x", None)["value"]
    assert call(app, "drain", "io")["done"]
    assert "rate" == call(app, "undo")["control"]["verb"]


def test_jobs_are_steered_by_tasks(app: Celery, queue: Queue) -> None:
    queue.store.admit([job("a"), job("b"), job("due", due_ms=queue.store.now_ms() + 60_000)])
    assert ["pause:family/note"] == [each["target"] for each in call(app, "pause", where="id=a")]
    assert 1 == len(call(app, "resume", where="actor=beat"))
    assert 1 == call(app, "retry", "due")["changed"]
    assert 3 == call(app, "priority", "note", "P0")["changed"]
    assert 3 == call(app, "shed", "note", dry_run=True)["matched"]
    assert 3 == call(app, "shed", where="family=note")["changed"]
    assert 1 == call(app, "unshed", "a")["changed"]
    assert 1 == call(app, "cancel", "a")["changed"]
    assert 1 == call(app, "undo")["jobs"]


def fail(queue: Queue, *ids: str) -> str:
    """Jobs of the queue `notes` that failed alike: their signature."""
    queue.store.admit([job(id) for id in ids])
    for one in queue.store.claim(["notes"], len(ids), "w").jobs:
        queue.store.discard(one.tag, "ValueError: no number")
    [group] = queue.dead()
    return str(group["signature"])


def test_the_dead_letter_is_seen_revived_and_purged_by_tasks(app: Celery, queue: Queue) -> None:
    signature = fail(queue, "a", "b", "c", "d", "e")

    [group] = call(app, "dead", limit=3)
    assert (signature, 5) == (group["signature"], group["count"])
    assert ("revive", 1) == ((done := call(app, "revive", "c"))["verb"], done["changed"])
    assert 1 == call(app, "revive", signature=signature, sample=1, reason="fixed")["changed"]
    assert {"actor": "beat", "reason": "fixed", "job": "a"}.items() <= last(queue, "revive").items()
    assert 1 == call(app, "purge", "b", reason="spam")["changed"]
    assert {"actor": "beat", "reason": "spam", "job": "b"}.items() <= last(queue, "purge").items()

    assert ["available", "available"] == [queue.inspect(id)["state"] for id in "ac"]
    assert ["discarded", "discarded"] == [queue.inspect(id)["state"] for id in "de"]
    assert (2, 2) == ((done := call(app, "purge", signature=signature))["matched"], done["changed"])
    assert [] == call(app, "dead")


def last(queue: Queue, verb: str) -> dict[str, str]:
    [(_, entry), *_] = [
        each for each in queue.store.client.xrevrange(queue.store.keys.transitions)
        if each[1][b"verb"] == verb.encode()
    ]  # fmt: skip
    return {name.decode(): value.decode() for name, value in entry.items()}


def test_a_task_fails_as_the_method_does_and_names_its_actor(app: Celery, queue: Queue) -> None:
    with pytest.raises(UnknownTarget):
        call(app, "pause", "nobody")
    with pytest.raises(TypeError, match="actor"):
        app.tasks["joelclaw.queue.pause"].apply(("io",), {}, throw=True)
    queue.pause("io")
    with pytest.raises(HeldByPerson):
        call(app, "resume", "io", actor="observer")
    assert ["joel"] == [each.actor for each in queue.controls()]
    fail(queue, "a")
    for verb in ("dead", "revive", "purge"):
        with pytest.raises(TypeError, match="actor"):
            app.tasks[f"joelclaw.queue.{verb}"].apply((), {}, throw=True)
        if verb != "dead":
            with pytest.raises(UnknownJob):
                call(app, verb, "nobody")
    assert 1 == len(queue.dead())


def test_a_worker_of_the_fleet_carries_them_out(
    app: Celery, queue: Queue, redis_url: str, tmp_path: Path
) -> None:
    fail(queue, "a", "b", "c")
    log = (tmp_path / "log").open("wb")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": redis_url,
        "JOELCLAW_HOME": str(tmp_path),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", "solo", "-Q", "default",
         "--without-gossip", "--without-mingle"],
        cwd=ROOT, env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        program = (
            "from joelclaw_tasks import app\n"
            "for verb, name in (('revive', 'a'), ('purge', 'b'), ('pause', 'io')):\n"
            "    app.send_task('joelclaw.queue.' + verb, [name], {'actor': 'ops'}, queue='default')\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
        wait_until(queue.controls, "a worker has paused the queue", 30)
    finally:
        worker.terminate()
        worker.wait(20)
        log.close()
    assert ["available", "discarded"] == [queue.inspect(id)["state"] for id in "ac"]
    assert [1] == [group["count"] for group in queue.dead()]
    assert ["ops", "ops"] == [last(queue, verb)["actor"] for verb in ("revive", "purge")]
    assert [("pause", "pause:queue/io", "ops")] == [(e.verb, e.target, e.actor) for e in queue.controls()]
