"""A worker that stands still while jobs are ready ends itself; one that rightly does nothing lives on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.fleet.watchdog import STALLED
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until

ROOT = Path(__file__).resolve().parents[2]
STALL_S = 2
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    for name, extra in {
        "plain": {},
        "paused": {},
        "limited": {"concurrency": [{"limit": 1}]},
        "rated": {"rate": [{"limit": 1, "period_s": 3600}]},
    }.items():
        handler = {
            "name": f"{name}.run", "type": "task", "target": "hanging_app:slow", "queue": "default", **extra
        }  # fmt: skip
        event = {"name": f"test/{name}", "description": "A test.", "priority": "P1", "handlers": [handler]}
        (events / f"test-{name}.json").write_text(json.dumps(event))
    return Settings(home=tmp_path, redis_url=redis_url, registry_dir=tmp_path / "registry")


@pytest.fixture
def emitter(settings: Settings) -> Iterator[Emitter]:
    emitter = Emitter(settings, Registry.load(settings.registry_dir), Store.connect(settings))
    yield emitter
    emitter.store.client.close()


@pytest.fixture
def start(settings: Settings, tmp_path: Path, client: redis.Redis) -> Iterator[Start]:
    running = []

    def begin(pool: str, size: int = 2) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
            "REDIS_URL": str(settings.redis_url),
            "JOELCLAW_HOME": str(tmp_path),
            "JOELCLAW_REGISTRY_DIR": str(settings.registry_dir),
            "JOELCLAW_STALL_S": str(STALL_S),
        }
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "hanging_app:app", "worker", "-P", pool,
                 "-c", str(size), "-Q", "default", "-l", "INFO", "--without-gossip", "--without-mingle"],
                cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        running.append(worker)
        wait_until(lambda: " ready." in (tmp_path / "log").read_text(), "it is ready", 30)
        return worker

    yield begin
    for worker in running:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_worker_whose_event_loop_hangs_ends_and_its_job_runs_elsewhere_with_no_attempt_burned(
    start: Start, emitter: Emitter, tmp_path: Path, pool: str
):
    worker = start(pool)
    worker.send_signal(signal.SIGUSR2)
    # The loop notices the signal when it turns.
    wait_until(lambda: "hangs from now on" in (tmp_path / "log").read_text(errors="replace"), "it hangs", 10)
    job_id = emitter.emit("test/plain", {"seconds": 0}).jobs[0].job_id

    assert STALLED == worker.wait(STALL_S + 10)

    log = (tmp_path / "log").read_text()
    assert f"stood still for {STALL_S} s while jobs were ready" in log
    assert "hanging_app.py" in log  # where it hangs
    job = emitter.store.inspect(job_id)
    assert ("available", 0) == (job["state"], job["kills"])
    start(pool)
    wait_until(lambda: "completed" == emitter.store.inspect(job_id)["state"], "the next worker runs it", 15)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_what_is_paused_limited_rated_or_occupied_is_no_stall(
    start: Start, emitter: Emitter, tmp_path: Path, pool: str
):
    emitter.store.pause("pause:family/test/paused", actor="test", reason="test", ttl_ms=None)
    seconds = 4.0 * STALL_S
    worker = start(pool)
    emitter.emit("test/paused", {"seconds": 0})
    for _ in range(2):
        emitter.emit("test/rated", {"seconds": 0})
    # One of these takes a place for long, the others wait for it; and then all places are taken.
    for _ in range(3):
        emitter.emit("test/limited", {"seconds": seconds})
    for _ in range(3):
        emitter.emit("test/plain", {"seconds": seconds})
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3 * STALL_S, "time passes", 30)
    assert worker.poll() is None, (tmp_path / "log").read_text()[-2000:]
    assert "stood still" not in (tmp_path / "log").read_text()


def test_an_idle_worker_and_one_that_only_has_shut_gates_live_on(
    start: Start, emitter: Emitter, tmp_path: Path
):
    emitter.store.pause("pause:queue/default", actor="test", reason="test", ttl_ms=None)
    worker = start("threads")
    for _ in range(5):
        emitter.emit("test/plain", {"seconds": 0})
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3 * STALL_S, "time passes", 30)
    assert worker.poll() is None, (tmp_path / "log").read_text()[-2000:]
    worker.terminate()
    assert 0 == worker.wait(15)
