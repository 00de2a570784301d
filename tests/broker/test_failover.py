"""Redis fails over behind sentinels: everybody finds the new master, and nothing is lost."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sentinels import MASTER_NAME, Pair
from workers import POOLS, Site

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


@pytest.fixture
def site(pair: Pair) -> Iterator[Site]:
    site = Site(pair.url)
    yield site
    site.close()


def _holders(site: Site) -> dict[str, dict]:
    return {name: json.loads(record) for name, record in site.client.hgetall("{jc}:holders").items()}


@pytest.mark.parametrize(
    ("pool", "harm"),
    [
        *((pool, signal.SIGKILL) for pool in POOLS),
        ("threads", signal.SIGSTOP),
        ("prefork", signal.SIGSTOP),
    ],
)  # fmt: skip
def test_a_worker_follows_a_failover_with_its_running_job(
    pair: Pair, site: Site, broker_redis: int, pool: str, harm: signal.Signals
):
    effects_url = f"redis://127.0.0.1:{broker_redis}/0"
    effects = Site(effects_url)
    effects.client.flushdb()
    options = {"broker_transport_options": {"master_name": MASTER_NAME, "lease_ms": 30_000}}
    worker = site.start(pool, effects_url=effects_url, **options).wait_ready()
    wait_until(lambda: _holders(site), "it is announced")
    [before] = _holders(site).values()
    job = site.work.delay("work", 8.0)
    wait_until(lambda: effects.effects("work:started"), "it started")
    waiting = [site.note.apply_async(("noted", n), countdown=1) for n in range(20)]
    wait_until(lambda: site.all_states().get("scheduled") == 20, "the others are in Redis")
    time.sleep(0.2)  # replication is asynchronous: what was accepted in the last moment is not promised

    pair.signal_master(harm)
    harmed_at = time.monotonic()
    pair.wait_failed_over()
    failed_over_s = time.monotonic() - harmed_at

    wait_until(lambda: len(set(effects.effects("noted"))) == 20, "the others ran", 25)
    recovered_s = time.monotonic() - harmed_at
    for client in (site.client, site.store.client):
        client.connection_pool.disconnect()  # the test itself may still wait for the old master
    site.store = Store.connect(Settings(redis_url=pair.url))
    site.wait_gone(job.id, 25)
    assert [job.id] == effects.effects("work:started") == effects.effects("work:finished")
    assert sorted(str(n) for n in range(20)) == sorted(effects.effects("noted"))
    wait_until(
        lambda: [before["run_id"]] != [r["run_id"] for r in _holders(site).values()], "it is announced anew"
    )
    [after] = _holders(site).values()
    assert before["pid"] == after["pid"]
    assert worker.process.poll() is None
    assert len(waiting) == 20
    site.wait_idle()
    assert {} == site.states()
    print(f"{pool} {harm.name}: failed over after {failed_over_s:.1f} s, all ran after {recovered_s:.1f} s")
    if pool != "solo":  # its one process was busy
        assert recovered_s < failed_over_s + 10
    effects.close()


def test_a_master_that_steps_down_is_left_at_once(pair: Pair, site: Site):
    worker = site.start("threads").wait_ready()
    assert 3 == site.add.delay(1, 2).get(timeout=10)
    pair.sentinel.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)
    pair.wait_failed_over()
    assert 7 == site.add.delay(3, 4).get(timeout=15)
    assert 11 == site.add.delay(5, 6).get(timeout=10)
    assert worker.process.poll() is None


def test_a_store_writes_to_the_new_master_by_itself(pair: Pair):
    store = Store.connect(Settings(redis_url=pair.url), timeout_s=2.0)
    assert 0 == store.renew("me", {"run_id": "x", "client_id": 1})
    assert 1 <= store.client.wait(1, 5_000)  # the replica has it
    pair.signal_master(signal.SIGKILL)
    pair.wait_failed_over()

    def written() -> bool:
        try:
            store.renew("you", {"run_id": "x", "client_id": 2})
        except Exception:  # noqa: BLE001  # the switch takes a moment
            return False
        return True

    wait_until(written, "the new master is written to", 5)
    assert {"me", "you"} == set(store.holders())
    store.client.close()
