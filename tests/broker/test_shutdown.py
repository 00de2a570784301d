"""A worker that is told to stop finishes or gives back what it has, and leaves nothing behind."""

from __future__ import annotations

import signal
import time

import pytest
from workers import CONCURRENCY, POOLS, Site

from chaos.proxy import FaultProxy
from tests.conftest import wait_until


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_stop_finishes_what_runs_and_gives_the_rest_back(own: Site, pool: str):
    worker = own.start(pool).wait_ready()
    slots = CONCURRENCY[pool]
    jobs = [own.work.delay("work", 1.5) for _ in range(slots + 3)]
    scheduled = own.add.apply_async((1, 2), countdown=3)
    wait_until(lambda: slots == len(own.effects("work:started")), "the worker is full")
    worker.send(signal.SIGTERM)
    stopped_at = time.monotonic()

    assert 0 == worker.wait_end()
    assert time.monotonic() - stopped_at < 6
    finished = own.effects("work:finished")
    assert sorted(own.effects("work:started")) == sorted(finished)
    left = [job for job in jobs if job.id not in finished]
    assert 3 >= len(left)
    for job in left:
        assert "available" == own.job(job.id)["state"]
        assert 0 == own.job(job.id)["kills"]
    assert "executing" not in own.states()
    assert {} == own.leases()
    assert worker.process.pid not in [record["pid"] for record in own.store.holders().values()]

    own.start("threads").wait_ready()
    assert 3 == scheduled.get(timeout=10)
    own.wait_idle()
    assert len(jobs) == len(own.effects("work:finished"))
    assert len(jobs) == len(own.effects("work:started"))
    assert {} == own.states()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_stop_of_an_idle_worker_is_quick(own: Site, pool: str):
    worker = own.start(pool).wait_ready()
    assert 2 == own.add.delay(1, 1).get(timeout=10)
    stopped_at = time.monotonic()
    worker.send(signal.SIGTERM)
    assert 0 == worker.wait_end()
    assert time.monotonic() - stopped_at < 6  # a grace would take longer


def test_a_cold_stop_puts_running_jobs_back_at_once(own: Site):
    worker = own.start("prefork").wait_ready()
    jobs = [own.work.delay("work", 8.0) for _ in range(2)]
    wait_until(lambda: 2 == len(own.effects("work:started")), "both started")
    worker.send(signal.SIGQUIT)
    wait_until(
        lambda: {"available"} == {(own.job(job.id) or {}).get("state") for job in jobs}, "both are back", 5
    )
    worker.wait_end()
    for job in jobs:
        assert "available" == own.job(job.id)["state"]
        assert 0 == own.job(job.id)["kills"]
    assert {} == own.leases()
    assert [] == own.effects("work:finished")


def test_a_cold_stop_of_threads_which_nobody_can_end_runs_nothing_twice(own: Site):
    worker = own.start("threads").wait_ready()
    job = own.work.delay("work", 1.5)
    wait_until(lambda: own.effects("work:started"), "it started")
    worker.send(signal.SIGQUIT)
    other = own.start("threads").wait_ready()
    worker.wait_end()
    own.wait_gone(job.id)
    assert [job.id] == own.effects("work:started")
    assert [job.id] == own.effects("work:finished")
    assert {} == own.states()
    assert other.process.poll() is None


def test_soft_shutdown_finishes_short_jobs_and_gives_long_ones_back(own: Site):
    worker = own.start("prefork", worker_soft_shutdown_timeout=2.0).wait_ready()
    short, long = own.work.delay("short", 1.0), own.work.delay("long", 20.0)
    wait_until(lambda: own.effects("short:started") and own.effects("long:started"), "both started")
    worker.send(signal.SIGQUIT)
    worker.wait_end()
    assert [short.id] == own.effects("short:finished")
    assert own.job(short.id) is None
    assert "available" == own.job(long.id)["state"]
    assert 0 == own.job(long.id)["kills"]


def test_a_solo_worker_that_stops_in_the_middle_of_a_burst_loses_nothing(own: Site):
    worker = own.start("solo").wait_ready()
    for number in range(300):
        own.note.delay("burst", number)
    wait_until(lambda: own.effects("burst"), "it has begun")
    worker.send(signal.SIGTERM)
    assert 0 == worker.wait_end()
    done = len(own.effects("burst"))
    waiting = own.states().get("available", 0)
    assert 300 == done + waiting
    own.start("solo").wait_ready()
    own.wait_idle()
    assert sorted(map(str, range(300))) == sorted(own.effects("burst"))


@pytest.mark.parametrize("pool", POOLS)
def test_what_still_runs_when_the_grace_is_over_starts_elsewhere_with_no_attempt_burned(own: Site, pool: str):
    worker = own.start(pool, broker_transport_options={"stop_grace_s": 1.5}).wait_ready()
    long = own.work.delay("long", 30.0)
    wait_until(lambda: own.effects("long:started"), "it started")
    worker.send(signal.SIGTERM)
    stopped_at = time.monotonic()
    assert 0 == worker.wait_end()
    assert 1.4 < time.monotonic() - stopped_at < 6
    job = own.job(long.id)
    assert ("available", 0) == (job["state"], job["kills"])
    assert [] == own.effects("long:finished")
    assert {} == own.leases()


def test_what_has_not_started_is_given_back_at_once(own: Site):
    worker = own.start("prefork", concurrency=2, worker_prefetch_multiplier=1).wait_ready()
    jobs = [own.work.delay("work", 3.0) for _ in range(6)]
    wait_until(lambda: 2 == len(own.effects("work:started")), "the worker is full")
    worker.send(signal.SIGTERM)
    wait_until(lambda: 4 == own.states().get("available"), "the others are back", 1)
    assert 2 == own.states().get("executing")
    assert worker.process.poll() is None
    assert 0 == worker.wait_end()
    assert 2 == len(own.effects("work:finished"))
    assert 4 == len([job for job in jobs if own.job(job.id)])


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_rolling_restarts_under_load_burn_no_attempt_and_lose_nothing(own: Site, pool: str):
    options = {"broker_transport_options": {"stop_grace_s": 2.0}, "task_ignore_result": True}
    workers = [own.start(pool, concurrency=2, **options).wait_ready() for _ in range(2)]
    jobs = [own.work.delay("work", 3.0 if number % 10 == 0 else 0.15) for number in range(60)]
    for turn in range(3):
        wait_until(lambda: len(own.effects("work:started")) > turn * 8, "jobs go on", 30)  # noqa: B023
        old = workers.pop(0)
        old.send(signal.SIGTERM)
        asked_at = time.monotonic()
        assert 0 == old.wait_end()
        assert time.monotonic() - asked_at < 2.0 + 3
        workers.append(own.start(pool, concurrency=2, **options).wait_ready())
    own.wait_idle(40)
    assert {job.id for job in jobs} == set(own.effects("work:finished"))
    entries = [entry for _, entry in own.client.xrange("{jc}:transitions")]
    assert [] == [entry for entry in entries if entry["verb"] == "expire"]
    assert [] == [entry for entry in entries if entry.get("kills") not in (None, "", "0")]


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_stops_while_redis_is_away_gives_back_what_it_has_when_that_returns(
    own: Site, proxy: FaultProxy, pool: str
):
    worker = own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url,
        broker_transport_options={"stop_grace_s": 1.5}, task_ignore_result=True,
    ).wait_ready()  # fmt: skip
    long = own.work.delay("long", 30.0)
    wait_until(lambda: own.effects("long:started"), "it started")
    proxy.refuse(True)
    proxy.reset_all()
    wait_until(lambda: "trying again" in worker.log, "it has noticed")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "start again elsewhere" in worker.log, "the grace is over")
    proxy.refuse(False)
    worker.wait_end()
    job = own.job(long.id)
    assert ("available", 0) == (job["state"], job["kills"])
    assert {} == own.leases()
