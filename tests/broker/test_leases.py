"""Who is dead, and who was only cut off for a moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis

from chaos.proxy import FaultProxy
from joelclaw_tasks.broker import leases
from joelclaw_tasks.broker.leases import LeaseKeeper
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store, single_shot_retry
from tests.conftest import wait_until


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    store = Store(redis.Redis.from_url(redis_url), Keys("{jc}:"))
    yield store
    store.client.close()


@pytest.fixture
def keeper(store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    """A keeper that looks a hundred times a second."""
    monkeypatch.setattr(leases, "DETECT_INTERVAL_S", 0.01)
    client = redis.Redis.from_url(redis_url, single_connection_client=True)
    keeper = LeaseKeeper("looker", store, client, lambda *_: None, lambda: None)
    yield keeper
    keeper.stop()
    keeper.join(5)
    client.close()


def other_holder(store: Store, client_id: int) -> None:
    run_id = store.client.info("server")["run_id"]
    record = {"client_id": client_id, "run_id": run_id, "host": "h", "pid": 1}
    store.client.hset(store.keys.holders, "other", json.dumps(record))


def test_a_worker_whose_connection_is_cut_again_and_again_is_not_dead(
    store: Store, keeper: LeaseKeeper, redis_url: str
):
    store.admit([Job(id="1", queue="q", family="f", handler="h", lane="q|h|", payload="{}")])
    store.claim(["q"], 1, "other")
    keeper.start()
    for number in range(4):  # absent for half a second, four times: longer than a death in all
        other_holder(store, 999_000 + number)
        absent_until = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > absent_until, "half a second")  # noqa: B023
        other_holder(store, store.client.client_id())
    assert "executing" == store.inspect("1")["state"]
    other_holder(store, 999_999)
    wait_until(lambda: store.inspect("1")["state"] == "available", "its job was taken back", 3)


@pytest.mark.timing
def test_a_worker_is_back_sooner_than_the_others_miss_it_however_long_redis_was_away(
    store: Store, redis_url: str
):
    proxy = FaultProxy(int(redis_url.split(":")[2].split("/", maxsplit=1)[0]))
    client = redis.Redis(port=proxy.port, single_connection_client=True, retry=single_shot_retry())
    keeper = LeaseKeeper("returning", store, client, lambda *_: None, lambda: None)
    record = lambda: json.loads(store.client.hget(store.keys.holders, "returning") or "{}")  # noqa: E731
    try:
        keeper.start()
        wait_until(record, "it has introduced itself")
        for _ in range(3):
            before = record()["client_id"]
            proxy.refuse(True)
            proxy.reset_all()
            away_until = time.monotonic() + 3.0  # so many tries that a growing pause would be at its longest
            wait_until(lambda: time.monotonic() > away_until, "three seconds")  # noqa: B023
            proxy.refuse(False)
            back_at = time.monotonic()
            wait_until(lambda: record()["client_id"] != before, "it is back")  # noqa: B023
            assert time.monotonic() - back_at < leases.ABSENT_FOR_S * 0.7
    finally:
        keeper.stop()
        keeper.join(5)
        client.close()
        proxy.close()


def test_scripts_that_redis_forgets_twice_are_loaded_twice(store: Store, monkeypatch: pytest.MonkeyPatch):
    loads = []
    load = store._load

    def load_and_forget(names: list[str]) -> None:
        load(names)
        loads.append(names)
        if len(loads) == 1:
            store.client.script_flush()

    monkeypatch.setattr(store, "_load", load_and_forget)
    store.client.script_flush()
    assert ["ADMITTED"] == store.admit(
        [Job(id="1", queue="q", family="f", handler="h", lane="q|h|", payload="{}")]
    )
    assert [["admit"], ["admit"]] == loads
