"""What only a pool of processes can do: end a task, and survive one that kills its process."""

from __future__ import annotations

import time
import uuid

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from celery.result import AsyncResult
from workers import Site

from tests.conftest import wait_until


@pytest.fixture
def key() -> str:
    return f"effect:{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def prefork(broker_redis: int):
    site = Site(f"redis://127.0.0.1:{broker_redis}/9")
    site.wait_reachable(site.start("prefork", gossip=True).wait_ready())
    yield site
    site.close()


def test_a_soft_time_limit_sends_the_task_to_the_dead_letter(prefork: Site, key: str):
    result = prefork.soft_limited.delay(key)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=10)
    assert "SoftTimeLimitExceeded" in prefork.wait_dead(result.id)["error"]
    assert ["soft"] == prefork.effects(key)


def test_a_hard_time_limit_sends_the_task_to_the_dead_letter(prefork: Site):
    result = prefork.hard_limited.delay()
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=10)
    dead = prefork.wait_dead(result.id)
    assert dead["error"].startswith("TimeLimitExceeded")
    assert 0 == dead["kills"]
    assert 3 == prefork.add.delay(1, 2).get(timeout=10)


def test_a_running_task_that_is_revoked_with_terminate_is_ended(prefork: Site, key: str):
    result = prefork.work.apply_async((key, 20), ignore_result=False)
    wait_until(lambda: prefork.effects(key + ":started"), "it started")
    prefork.app.control.revoke(result.id, terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=10)
    prefork.wait_gone(result.id)
    wait_until(lambda: {} == prefork.leases(), "no lease is left")
    assert [] == prefork.effects(key + ":finished")
    assert 3 == prefork.add.delay(1, 2).get(timeout=10)


def test_a_task_whose_process_died_runs_again_and_takes_no_other_with_it(prefork: Site, key: str):
    other = prefork.work.delay(key, 6)
    result = prefork.exits.delay(key + ":exits", 1)
    assert 2 == result.get(timeout=15)
    assert "2" == prefork.client.get(key + ":exits")
    prefork.wait_gone(result.id)
    prefork.wait_gone(other.id)
    assert [other.id] == prefork.effects(key + ":started")
    assert [other.id] == prefork.effects(key + ":finished")


@pytest.fixture(scope="module")
def deadly(prefork: Site) -> tuple[str, AsyncResult]:
    """A task under which its process dies each time; Celery notices that within 5 s, on any broker."""
    where = f"effect:{uuid.uuid4().hex}"
    result = prefork.dies.delay(where, 9)
    prefork.wait_dead(result.id, 25)
    return where, result


def test_a_task_whose_process_died_three_times_is_in_the_dead_letter(prefork: Site, deadly):
    where, result = deadly
    dead = prefork.wait_dead(result.id)
    assert "3" == prefork.client.get(where)
    assert 3 == dead["kills"]
    assert "its worker died under it 3 times" == dead["error"]
    assert {} == {holder: n for holder, n in prefork.leases().items() if n}


def test_a_task_whose_process_died_three_times_has_failed(prefork: Site, deadly):
    _, result = deadly
    with pytest.raises(WorkerLostError):
        result.get(timeout=1)


def test_a_pool_process_that_has_run_its_number_of_tasks_is_replaced_without_loss(own: Site):
    own.start("prefork", options=("--max-tasks-per-child", "5")).wait_ready()
    started = time.monotonic()
    for number in range(40):
        own.note.delay("numbers", number)
    own.wait_idle()
    assert sorted(map(str, range(40))) == sorted(own.effects("numbers"))
    assert time.monotonic() - started < 15
    assert {} == own.states()
