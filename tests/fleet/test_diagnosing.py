"""Diagnosis in a real worker: a job fails, beat's task finds it, a model is asked, a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from joelclaw_tasks.broker.install import install
from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.fleet.observing import observer_of
from joelclaw_tasks.intelligence.actions import Escalate
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.conftest import wait_until
from tests.diagnosis.conftest import KEY, said
from tests.fleet.conftest import model_worker
from tests.fleet.test_observing import beat_entries


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(lambda _: said(), keys={KEY}) as running:
        yield running


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path, diagnosis_mode="on")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.connect(settings)
    yield store
    store.client.close()


@pytest.fixture
def log(settings: Settings, api: MessagesApi) -> Iterator[Path]:
    """The log of a worker that runs as long as the test."""
    path = settings.home / "log"
    with model_worker(settings, api, path, "-c", "2", QUEUE_DIAGNOSIS_MODE="on"):
        yield path


def test_what_failed_is_diagnosed_by_the_task_that_beat_sends(
    settings: Settings, store: Store, api: MessagesApi, log: Path
) -> None:
    emitter = Emitter(settings, Registry.load(settings.registry_dir), store)
    emitter.emit("content/updated", {"path": 7, "password": "correct-horse-battery"})
    wait_until(lambda: store.dead.count() == 1, "the job has failed for good", 20)
    app = install(Celery("beat", broker=str(settings.redis_url), set_as_current=False))
    diagnoses = Diagnoses(store)

    for _ in range(2):
        app.send_task("joelclaw.diagnose", queue="default", ignore_result=True)
    wait_until(lambda: [each for each in diagnoses.recent() if each["diagnosis"]], "it is diagnosed", 30)
    wait_until(lambda: not store.snapshot()["by_state"]["executing"], "both tasks are done", 20)
    app.close()

    [record] = diagnoses.recent()
    assert ("diagnosed", store.dead.signatures()) == (record["state"], record["evidence"]["signatures"])
    [asked] = api.requests
    assert "password" in asked.per_call
    assert "correct-horse-battery" not in asked.per_call
    wait_until(lambda: b"joelclaw diagnosis show d1" in log.read_bytes(), "a person is told")
    assert 1 == log.read_bytes().count(b"warning: Mail fails because")


def test_beat_sends_it_only_when_somebody_wants_it() -> None:
    assert "diagnosis" not in beat_entries()
    assert {"task": "joelclaw.diagnose", "schedule": 300.0, "options": {"expires": 295}} == beat_entries(
        QUEUE_DIAGNOSIS_MODE="on"
    )["diagnosis"]


def test_where_it_is_off_the_task_does_nothing(redis_url: str, tmp_path: Path) -> None:
    app = make_app(Settings(redis_url=redis_url, home=tmp_path))

    assert {"id": None, "state": "disabled"} == app.tasks["joelclaw.diagnose"].apply(throw=True).get()
    app.close()


@pytest.mark.parametrize(("mode", "wanted"), [("on", ["content/updated"]), ("off", [])])
def test_what_the_observer_escalates_is_wanted_where_it_is_on(
    redis_url: str, tmp_path: Path, store: Store, mode: str, wanted: list[str]
) -> None:
    settings = Settings(redis_url=redis_url, home=tmp_path, diagnosis_mode=mode)
    hands = observer_of(Queue(store, settings), settings, None)._hands
    assert hands is not None

    hands.carry_out(Escalate(family="content/updated", message="It fails."))
    hands.carry_out(Escalate(message="The queue is slow."))

    assert wanted == Diagnoses(store).suspects()
