"""Triage in a real worker: admission rings, the model is asked by HTTP, no job waits longer than it may."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
KEY = "sk-" + "ant-test-0123456789abcdefghijklmnopqrstuvwxyz"
HOLD_MS = 2_000
#: One of each kind; all eight are in `python -m bench.triage`.
FAULTS = [Fault.SLOW, Fault.DRIP, Fault.RATE_LIMITED, Fault.HTML]


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    store = Store(redis.Redis.from_url(redis_url), Keys("{jc}:"))
    yield store
    store.client.close()


@pytest.fixture
def emitter(redis_url: str, store: Store) -> Emitter:
    settings = Settings(redis_url=redis_url, triage_mode="enforce", triage_hold_ms=HOLD_MS)
    return Emitter(settings, Registry.load(settings.registry_dir), store)


@pytest.fixture
def worker(redis_url: str, tmp_path: Path, api: MessagesApi) -> Iterator[subprocess.Popen[bytes]]:
    log = (tmp_path / "log").open("wb")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url, "JOELCLAW_HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url, "QUEUE_TRIAGE_MODE": "enforce",
        "JOELCLAW_TRIAGE_HOLD_MS": str(HOLD_MS),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", "threads", "-c", "4",
         "-Q", "default", "-l", "INFO", "--without-gossip", "--without-mingle"],
        cwd=ROOT, env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        wait_until(lambda: b" ready." in (tmp_path / "log").read_bytes(), "the worker is ready", 40)
        yield process
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def emit(emitter: Emitter, name: str) -> str:
    receipt = emitter.emit("discovery/captured", {"url": f"https://example.com/{name}"})
    assert ["held"] == [job.decision for job in receipt.jobs]
    return receipt.jobs[0].job_id


def moves(store: Store, job_id: str) -> list[dict[str, str]]:
    found = store.client.xrange(store.keys.transitions)
    entries = [{name.decode(): value.decode() for name, value in entry.items()} for _, entry in found]
    return [entry for entry in entries if entry.get("job") == job_id]


def waited_ms(store: Store, job_id: str) -> int:
    """From its admission to its first start."""
    at = {entry["verb"]: int(entry["at"]) for entry in reversed(moves(store, job_id))}
    return at["claim"] - at["admit"]


def started(store: Store, job_id: str) -> Callable[[], bool]:
    return lambda: any(entry["verb"] == "claim" for entry in moves(store, job_id))


def high(_asked: Any) -> Any:
    fields = {"route_check": "confirm", "duplicate_of": None, "reasoning": "Soon."}
    return {"scores": [{"event": "e1", "score": 90, **fields}]}


def test_a_held_event_is_scored_by_the_worker_that_runs_it(
    worker: subprocess.Popen[bytes], emitter: Emitter, store: Store, api: MessagesApi
):
    api.rule = high
    emit(emitter, "warm")  # the first call imports the SDK
    wait_until(lambda: api.count, "the model was asked", 20)
    job = emit(emitter, "scored")
    wait_until(started(store, job), "it started")
    [scored] = [entry for entry in moves(store, job) if entry["verb"] == "score"]
    assert ("held", "available", "2", "1") == tuple(
        scored[name] for name in ("from", "to", "was", "priority")
    )
    assert waited_ms(store, job) < HOLD_MS


@pytest.mark.timing
@pytest.mark.parametrize("fault", FAULTS)
def test_no_held_job_starts_later_than_its_deadline_and_a_little(
    worker: subprocess.Popen[bytes], emitter: Emitter, store: Store, api: MessagesApi, fault: Fault
):
    api.rule = lambda _: Act(fault=fault)
    jobs = [emit(emitter, str(number)) for number in range(8)]
    for job in jobs:
        wait_until(started(store, job), "it started")
    assert [] == [ms for job in jobs if (ms := waited_ms(store, job)) > HOLD_MS + 200]
    notes = [
        entry.get("triage", "") for job in jobs for entry in moves(store, job) if entry["verb"] == "score"
    ]
    assert all("fallback" in note for note in notes)


def test_a_model_that_is_away_costs_an_emit_nothing_and_the_queue_empties(
    worker: subprocess.Popen[bytes], emitter: Emitter, store: Store, api: MessagesApi
):
    api.rule = lambda _: Act(fault=Fault.SLOW)
    jobs = [emit(emitter, str(number)) for number in range(30)]
    wait_until(lambda: all(started(store, job)() for job in jobs), "all started", 15)
    wait_until(lambda: 0 == store.snapshot()["total"], "the queue is empty", 15)
