"""Workers that die, freeze, lose their connection, or lose Redis itself."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import redis
from workers import Site

from chaos.proxy import FaultProxy
from tests.conftest import free_port, start_redis, wait_until


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_the_jobs_of_a_killed_worker_start_elsewhere_within_5_s(own: Site, pool: str):
    doomed = own.start(pool).wait_ready()
    job = own.work.delay("work", 2.0)
    wait_until(lambda: own.effects("work:started"), "it started")
    own.start("threads").wait_ready()
    doomed.kill()
    killed_at = time.monotonic()
    wait_until(lambda: 2 == len(own.effects("work:started")), "it started elsewhere", 5)
    assert time.monotonic() - killed_at < 5
    assert 1 == own.job(job.id)["kills"]
    own.wait_gone(job.id)
    assert [job.id] == own.effects("work:finished")
    assert {} == own.states()


def test_a_job_that_kills_three_workers_is_in_the_dead_letter(own: Site):
    job = own.dies.delay("work", 99)
    for kills in (1, 2, 3):
        worker = own.start("solo")  # the task kills the whole worker
        wait_until(lambda: worker.process.poll() is not None, "the worker died", 20)  # noqa: B023
        assert str(kills) == own.client.get("work")
    own.start("threads").wait_ready()
    dead = own.wait_dead(job.id, 10)
    assert 3 == dead["kills"]
    assert "3" == own.client.get("work")


def test_a_frozen_worker_that_wakes_up_finishes_nothing_that_runs_elsewhere(own: Site):
    options = {"broker_transport_options": {"lease_ms": 3000, "socket_timeout": 10}}
    frozen = own.start("threads", **options).wait_ready()
    job = own.work.delay("work", 2.0)
    wait_until(lambda: own.effects("work:started"), "it started")
    frozen.send(signal.SIGSTOP)
    try:
        own.start("threads", **options).wait_ready()
        wait_until(lambda: 2 == len(own.effects("work:started")), "it started elsewhere", 8)
    finally:
        frozen.send(signal.SIGCONT)
    wait_until(lambda: 2 == len(own.effects("work:finished")), "both copies ran to their end")
    own.wait_gone(job.id)
    wait_until(lambda: "lost their lease" in frozen.log, "the zombie was refused")
    verbs = [
        entry["verb"] for _, entry in own.client.xrange("{jc}:transitions") if entry.get("job") == job.id
    ]
    assert ["admit", "claim", "expire", "claim", "complete"] == verbs
    assert {} == own.states()
    assert 3 == own.add.delay(1, 2).get(timeout=10)
    frozen.send(signal.SIGTERM)
    assert 0 == frozen.wait_end()


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo", "gevent"])
def test_connection_resets_lose_nothing_and_start_nothing_twice(own: Site, proxy: FaultProxy, pool: str):
    # Effects go past the proxy: only the broker's connections break.
    worker = own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    for _ in range(200):
        own.work.delay("work", 0.02 if pool in ("solo", "prefork") else 0.1)
    for number in range(10):
        wait_until(lambda: len(own.effects("work:started")) > number * 18, "jobs go on", 20)  # noqa: B023
        wait_until(proxy.reset_all, "there is a connection to reset")
    wait_until(lambda: len(set(own.effects("work:finished"))) == 200, "all finished", 30)
    own.wait_idle()
    started = own.effects("work:started")
    assert 200 == len(set(started))
    assert sorted(set(started)) == sorted(started)
    assert {} == own.states()
    assert worker.process.poll() is None
    wait_until(lambda: {} == {holder: n for holder, n in own.leases().items() if n}, "no lease is left")


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_task_that_runs_through_a_reset_is_not_started_twice(own: Site, proxy: FaultProxy, pool: str):
    own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    job = own.work.delay("work", 2.0)
    wait_until(lambda: own.effects("work:started"), "it started")
    for _ in range(3):
        proxy.reset_all()
        other = own.note.delay("other", "ran")
        own.wait_gone(other.id)
    assert "executing" == own.job(job.id)["state"]
    own.wait_gone(job.id)
    assert [job.id] == own.effects("work:started")
    assert [job.id] == own.effects("work:finished")


def test_a_worker_cut_off_for_a_while_goes_on_by_itself(own: Site, proxy: FaultProxy):
    worker = own.start(
        "threads", url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    job = own.work.delay("work", 0.5)
    wait_until(lambda: own.effects("work:started"), "it started")
    proxy.refuse(True)
    proxy.reset_all()
    wait_until(lambda: own.effects("work:finished"), "it finished while cut off")
    proxy.refuse(False)
    own.wait_gone(job.id, 8)
    later = own.note.delay("later", "ran")
    own.wait_gone(later.id, 8)
    assert [job.id] == own.effects("work:started")
    assert worker.process.poll() is None


@pytest.mark.parametrize("pool", ["prefork"])
def test_what_fails_or_is_rejected_while_cut_off_is_told_when_redis_is_back(
    own: Site, proxy: FaultProxy, pool: str
):
    # The result backend is reached past the proxy: it is not what this is about.
    worker = own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, result_backend=own.url
    ).wait_ready()
    failing, requeued = own.fails_late.delay("ended", 0.5), own.rejected_late.delay("ended", 0.5)
    # A lease is not a start: what a cut finds delivered and not started is given back.
    wait_until(lambda: 2 == len(own.effects("ended:started")), "both run")
    proxy.refuse(True)
    proxy.reset_all()
    wait_until(lambda: 2 == len(own.effects("ended")), "both ended while cut off")
    proxy.refuse(False)
    assert "ValueError: late" == own.wait_dead(failing.id, 10)["error"]
    own.wait_gone(requeued.id, 10)
    assert 3 == len(own.effects("ended"))
    wait_until(lambda: {} == {holder: n for holder, n in own.leases().items() if n}, "no lease is left")
    assert worker.process.poll() is None


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_retry_that_cannot_be_sent_is_no_failure_the_task_runs_again(
    own: Site, proxy: FaultProxy, pool: str
):
    own.start(
        pool, url=f"redis://127.0.0.1:{proxy.port}/0", effects_url=own.url, task_ignore_result=True
    ).wait_ready()
    job = own.retries_late.delay("ended", 0.5)
    wait_until(lambda: own.effects("ended:started"), "it runs")
    proxy.refuse(True)
    proxy.reset_all()
    wait_until(lambda: own.effects("ended"), "it asked for its retry while cut off")
    time.sleep(1.5)  # longer than a publish is tried
    proxy.refuse(False)
    own.wait_gone(job.id, 15)
    assert "0" == own.effects("ended")[1]  # again, with the retry still to come
    assert {} == own.states()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_restart_of_redis_loses_nothing_and_needs_no_hand(tmp_path: Path, broker_redis: int, pool: str):
    port = free_port()
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    server = start_redis(tmp_path, port, *durable)
    effects_url = f"redis://127.0.0.1:{broker_redis}/11"
    site = Site(f"redis://127.0.0.1:{port}/0")
    effects = redis.Redis.from_url(effects_url, decode_responses=True)
    effects.flushdb()
    try:
        worker = site.start(pool, effects_url=effects_url).wait_ready()
        for _ in range(60):
            site.work.delay("work", 0.1)
        late = site.work.apply_async(("late", 0.0), countdown=2)
        wait_until(lambda: effects.llen("work:started") > 5, "it runs")
        server.kill()
        server.wait(10)
        server = start_redis(tmp_path, port, *durable)
        back_at = time.monotonic()
        before = effects.llen("work:started")
        wait_until(lambda: effects.llen("work:started") > before, "jobs start again", 5)
        assert time.monotonic() - back_at < 5
        wait_until(lambda: len(set(effects.lrange("work:finished", 0, -1))) == 60, "all finished", 20)
        wait_until(lambda: effects.lrange("late:finished", 0, -1) == [late.id], "the scheduled one ran too")
        site.wait_idle()
        started = effects.lrange("work:started", 0, -1)
        assert sorted(set(started)) == sorted(started)
        assert {} == site.states()
        assert worker.process.poll() is None
        assert 5 == site.add.delay(2, 3).get(timeout=5)
    finally:
        effects.close()
        site.close()
        server.kill()
        server.wait(10)
