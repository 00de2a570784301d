"""The other end is silently gone: every client notices within 10 s and goes on over a new connection."""

from __future__ import annotations

import threading
import time

import pytest
from stranger_app import make_app
from workers import POOLS, Site, close_app

from chaos.proxy import FaultProxy
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until

NOTICED_WITHIN_S = 10


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_goes_on_within_10_s(own: Site, proxy: FaultProxy, pool: str, busy: bool):
    worker = own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    stop = threading.Event()

    def produce() -> None:
        number = 0
        while not stop.wait(0.05):
            own.note.delay("flow", number)
            number += 1

    producer = threading.Thread(target=produce)
    if busy:
        producer.start()
        wait_until(lambda: len(own.effects("flow")) > 20, "it works")
    else:
        assert own.note.delay("flow", "first")
        wait_until(lambda: own.effects("flow"), "it works")
        time.sleep(1.5)  # it waits for work, and its kept connections are no longer trusted
    try:
        assert 3 <= proxy.half_open()
        cut_at = time.monotonic()
        own.note.delay("after", "ran")
        wait_until(lambda: own.effects("after"), "the next job ran", NOTICED_WITHIN_S)
    finally:
        stop.set()
        if busy:
            producer.join()
    print(f"{pool}: {time.monotonic() - cut_at:.1f} s")
    own.wait_idle()
    assert worker.process.poll() is None
    wait_until(lambda: {} == {holder: n for holder, n in own.leases().items() if n}, "no lease is left")
    started = own.effects("flow")
    assert sorted(set(started)) == sorted(started)
    # Remote control has a connection of its own.
    left_s = NOTICED_WITHIN_S + 2 - (time.monotonic() - cut_at)
    wait_until(
        lambda: own.app.control.ping(destination=[worker.name], timeout=0.5), "it hears again", max(left_s, 1)
    )


def test_a_running_job_keeps_its_lease(own: Site, proxy: FaultProxy):
    own.start(
        "threads", url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    own.start("threads", effects_url=own.url, task_ignore_result=True).wait_ready()
    jobs = [own.work.delay("work", 12.0) for _ in range(9)]
    wait_until(lambda: 9 == len(own.effects("work:started")), "all run, on both workers")
    proxy.half_open()
    for job in jobs:
        own.wait_gone(job.id, 25)
    assert sorted(job.id for job in jobs) == sorted(own.effects("work:started"))
    verbs = {entry["verb"] for _, entry in own.client.xrange("{jc}:transitions")}
    assert "expire" not in verbs


def test_a_producer_goes_on_within_10_s(own: Site, proxy: FaultProxy):
    app = make_app(f"redis://127.0.0.1:{proxy.port}/0", installed=True)
    first = app.tasks["note"].delay("noted", 1)
    proxy.half_open()
    cut_at = time.monotonic()
    second = app.tasks["note"].delay("noted", 2)
    assert time.monotonic() - cut_at < NOTICED_WITHIN_S
    assert {first.id, second.id} == {job["id"] for job in own.store.list_jobs()}
    close_app(app)


def test_a_store_says_so_and_goes_on(own: Site, proxy: FaultProxy):
    store = Store.connect(Settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0"))
    store.renew("me", {})
    proxy.half_open()
    cut_at = time.monotonic()
    with pytest.raises(CoreUnreachable, match="Timeout"):
        store.renew("me", {})
    store.renew("me", {})
    assert {"me"} == set(store.holders())
    assert time.monotonic() - cut_at < NOTICED_WITHIN_S
    store.client.close()


@pytest.mark.parametrize("pool", POOLS)
def test_results_are_stored_within_10_s(own: Site, proxy: FaultProxy, pool: str):
    own.start(pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url).wait_ready()
    assert 2 == own.add.delay(1, 1).get(timeout=10)
    proxy.half_open()
    cut_at = time.monotonic()
    assert 3 == own.add.delay(1, 2).get(timeout=NOTICED_WITHIN_S)
    print(f"{pool}: {time.monotonic() - cut_at:.1f} s")
