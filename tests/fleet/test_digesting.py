"""Digests in real workers: a window whose worker is killed is told once, and delays no other."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from joelclaw_tasks.core.digest_records import DigestRecords
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.fleet.digesting import digests_of
from joelclaw_tasks.fleet.workers import control_app
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.digest.window import DAY_MS, HOUR_MS, Window
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.diagnosis.conftest import KEY
from tests.digest.conftest import answer, now_in
from tests.fleet.conftest import model_worker
from tests.fleet.test_observing import beat_entries


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(lambda _: answer(), keys={KEY}) as running:
        yield running


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, home=tmp_path, digest_mode="model")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry.load(settings.registry_dir)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.connect(settings)
    yield store
    store.client.close()


@pytest.fixture
def app(settings: Settings, registry: Registry) -> Iterator[Celery]:
    app = control_app(settings, registry)
    yield app
    app.close()


@pytest.fixture
def start(settings: Settings, api: MessagesApi) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a worker that runs until the test ends, or kills it."""
    with contextlib.ExitStack() as running:
        numbers = itertools.count()

        def start_one() -> subprocess.Popen[bytes]:
            number = next(numbers)
            log, more = settings.home / f"log-{number}", ("-c", "3", "-n", f"w{number}@test")
            return running.enter_context(model_worker(settings, api, log, *more, QUEUE_DIGEST_MODE="model"))

        yield start_one


def send(app: Celery, window: Window) -> str:
    return app.send_task(
        "joelclaw.digest.window", (window.name,), queue="default", task_id=f"digest-{window.name}"
    ).id


def test_a_window_whose_worker_is_killed_half_way_is_told_once_and_the_next_one_is_on_time(
    settings: Settings, registry: Registry, store: Store, app: Celery, api: MessagesApi,
    start: Callable[[], subprocess.Popen[bytes]],
) -> None:  # fmt: skip
    first, second = now_in(HOUR_MS), now_in(DAY_MS)
    Emitter(settings, registry, store).emit("content/updated", {"path": 7})
    worker = start()
    wait_until(lambda: store.dead.count() == 1, "something has happened", 20)
    records = DigestRecords(store)
    api.script(Act(fault=Fault.SLOW))

    send(app, first)
    wait_until(lambda: api.count == 1, "the model is asked about the first window", 20)
    send(app, second)
    wait_until(lambda: records.get(second.name) is not None, "the second is closed meanwhile", 20)
    assert records.get(first.name) is None
    worker.kill()
    worker.wait(10)
    start()
    send(app, first)  # as beat does every minute, while it is known
    wait_until(lambda: records.get(first.name) is not None, "the first is closed by another worker", 40)
    wait_until(lambda: not store.snapshot()["by_state"]["executing"], "nothing runs any more", 20)

    assert 3 == api.count
    assert {f"{first.name}.md", f"{second.name}.md"} == {
        path.name for path in digests_of(store, settings, registry).folder.iterdir()
    }
    assert ["haiku", "haiku"] == [records.get(window.name).by for window in (first, second)]


def test_beat_sends_a_job_for_each_window_that_has_ended_once(
    settings: Settings, store: Store, app: Celery
) -> None:
    start = now_in(HOUR_MS).start_at - 3 * HOUR_MS
    DigestRecords(store).begin(start)

    sent = [app.tasks["joelclaw.digest"].apply(throw=True).get()["sent"] for _ in range(2)]

    names = [Window(at, at + HOUR_MS).name for at in range(start, start + 3 * HOUR_MS, HOUR_MS)]
    # Just after the hour the last one is not closed yet.
    assert names[:2] == sent[0][:2]
    assert sent[0] == sent[1][: len(sent[0])]
    assert {f"digest-{name}" for name in sent[1]} == {
        job["id"] for job in store.list_jobs(10) if job["family"] == "joelclaw.digest.window"
    }


def test_beat_looks_only_when_somebody_wants_digests() -> None:
    assert "digest" not in beat_entries()
    assert {"task": "joelclaw.digest", "schedule": 60.0, "options": {"expires": 55}} == beat_entries(
        QUEUE_DIGEST_MODE="rules"
    )["digest"]


def test_a_window_that_could_not_be_written_five_times_fails_and_stays_open(
    settings: Settings, store: Store, app: Celery, tmp_path: Path
) -> None:
    settings.files_dir.mkdir()
    (settings.files_dir / "digests").write_text("a file is in the way")
    store.limit({"limit:handler/x": 1}, actor="joel", reason="something happened")
    window = now_in(HOUR_MS)

    with pytest.raises(OSError, match="exists"):
        app.tasks["joelclaw.digest.window"].apply((window.name,), {"failures": 5}, throw=True)

    assert DigestRecords(store).get(window.name) is None
