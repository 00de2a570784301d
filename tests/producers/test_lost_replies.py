"""The producer is cut off after its jobs were admitted and before it heard so: they are not queued twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
import redis
from celery import Celery

import joelclaw_tasks
from joelclaw_tasks.broker import resending
from joelclaw_tasks.broker.resending import admit_once
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.replay import replay
from joelclaw_tasks.settings import Settings
from tests.producers.reply_cutter import ReplyCutter


@pytest.fixture
def cutter(redis_url: str, store: Store) -> Iterator[ReplyCutter]:
    store.load_scripts()
    cutter = ReplyCutter(int(redis_url.split(":")[2].split("/", maxsplit=1)[0]))
    yield cutter
    cutter.close()


def admitted(client: redis.Redis) -> list[str]:
    """Jobs that became available, an entry for each time."""
    entries = [entry for _, entry in client.xrange("{jc}:transitions")]
    return [entry["job"] for entry in entries if entry.get("to") == "available"]


def test_emit_asks_again_and_the_answer_is_duplicate(
    cutter: ReplyCutter, settings: Settings, client: redis.Redis
):
    emitter = Emitter.connect(replace(settings, redis_url=f"redis://127.0.0.1:{cutter.port}/0", spool=None))
    emitter.emit("discovery/noted", {"url": "http://first"})
    cutter.cuts = 1
    receipt = emitter.emit("discovery/noted", {"url": "http://second"})
    assert 1 == cutter.has_cut
    assert ["duplicate"] == [job.decision for job in receipt.jobs]
    assert 2 == len(admitted(client))
    assert receipt.jobs[0].job_id == admitted(client)[1]


def test_emit_whose_every_reply_is_lost_fails_and_is_safe_to_repeat_with_its_id(
    cutter: ReplyCutter, settings: Settings, client: redis.Redis, spool: Path
):
    settings = replace(settings, redis_url=f"redis://127.0.0.1:{cutter.port}/0")
    cutter.cuts = 99
    [spooled] = Emitter.connect(settings).emit_many([NewEvent("discovery/noted", {"url": "http://a"})])
    assert ["spooled"] == [job.decision for job in spooled.jobs]
    assert [spooled.jobs[0].job_id] == admitted(client)

    cutter.cuts = 0
    assert {"duplicate": 1} == replay(settings).decisions
    assert [spooled.jobs[0].job_id] == admitted(client)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_delay_asks_again_under_the_same_id_and_queues_one_job(cutter: ReplyCutter, client: redis.Redis):
    app = Celery("producer", broker=f"redis://127.0.0.1:{cutter.port}/0", set_as_current=False)
    joelclaw_tasks.install(app)
    app.conf.task_ignore_result = True
    app.send_task("anything", task_id="first")
    for number in range(3):
        cutter.cuts += 1
        app.send_task("anything", task_id=f"cut-{number}")
    assert 3 == cutter.has_cut
    assert ["first", "cut-0", "cut-1", "cut-2"] == admitted(client)
    app.close()


class CutOffWhileItRuns(Store):
    """A producer's store. Between its tries a worker runs what was admitted."""

    worker: Store

    def was_admitted(self, job_id: str, since: float) -> bool:
        self.let_it_run()
        return super().was_admitted(job_id, since)

    def let_it_run(self) -> None:
        for claimed in self.worker.claim(["q"], 10, "worker").jobs:
            self.worker.complete([claimed.tag])


def plain(**values: object) -> Job:
    return Job("again", "q", "plain", "plain", "q|plain|", "{}", **values)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_call_that_ran_before_it_is_sent_again_does_not_run_twice(
    cutter: ReplyCutter, client: redis.Redis, store: Store
):
    producer = CutOffWhileItRuns.connect(Settings(redis_url=f"redis://127.0.0.1:{cutter.port}/0"))
    producer.worker = store
    cutter.cuts = 1

    admit_once(producer, plain())

    assert (1, ["again"], 0) == (cutter.has_cut, admitted(client), store.snapshot()["total"])
    # The same id on purpose, once the first call was answered, is a new call: as on stock Celery.
    admit_once(producer, plain())
    assert ["again", "again"] == admitted(client)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_producer_that_never_hears_may_try_again_much_later(
    cutter: ReplyCutter, client: redis.Redis, store: Store
):
    producer = CutOffWhileItRuns.connect(Settings(redis_url=f"redis://127.0.0.1:{cutter.port}/0"))
    producer.worker = store
    cutter.cuts = 1
    with pytest.raises(CoreUnreachable):
        producer.admit([plain()], repeatable=False)
    resending._remember("again", monotonic() - 1)
    producer.let_it_run()

    admit_once(producer, plain())

    assert ["again"] == admitted(client)
    assert "again" not in resending._tried_at
