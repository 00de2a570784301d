"""Which job starts first: rank over all queues of a worker, whatever is ahead in the line."""

from __future__ import annotations

import time

import pytest
from workers import Site

from joelclaw_tasks.errors import HeldByPerson
from joelclaw_tasks.steering.queue import Queue
from tests.conftest import wait_until


def _order(site: Site, key: str, count: int) -> list[str]:
    site.wait_idle(30)
    found = site.effects(key)
    assert count == len(found)
    return found


def test_celerys_priority_option_orders_what_waits(own: Site):
    for priority in (9, 6, 3, 0):
        for number in (1, 2):
            own.note.apply_async(("order", f"{priority}.{number}"), priority=priority)
    own.note.apply_async(("order", "none"))  # without a priority: as kombu's default, 0
    own.start("solo").wait_ready()
    assert ["0.1", "0.2", "none", "3.1", "3.2", "6.1", "6.2", "9.1", "9.2"] == _order(own, "order", 9)


def test_jobs_of_one_priority_start_in_the_order_in_which_they_were_sent(own: Site):
    with own.app.producer_or_acquire() as producer, producer.batch(max_size=100):
        for number in range(100):
            own.note.apply_async(("order", number), producer=producer)
    own.start("solo").wait_ready()
    assert list(map(str, range(100))) == _order(own, "order", 100)


def test_a_job_of_low_priority_that_waited_longer_than_the_slack_goes_first(own: Site):
    own.app.conf.broker_transport_options = {"slack_ms": (0, 100, 200, 300)}
    own.note.apply_async(("order", "old P3"), priority=9)
    time.sleep(0.4)  # time itself is the subject
    own.note.apply_async(("order", "new P0"), priority=0)
    own.start("solo").wait_ready()
    assert ["old P3", "new P0"] == _order(own, "order", 2)


def test_the_best_job_over_all_queues_of_the_worker_goes_first(own: Site):
    own.note.apply_async(("order", "a9"), queue="a", priority=9)
    own.note.apply_async(("order", "b6"), queue="b", priority=6)
    own.note.apply_async(("order", "a3"), queue="a", priority=3)
    own.note.apply_async(("order", "b0"), queue="b", priority=0)
    own.note.apply_async(("order", "c0"), queue="c", priority=0)
    own.start("solo", queues="a,b").wait_ready()
    wait_until(lambda: 4 == len(own.effects("order")), "a and b are done")
    assert ["b0", "a3", "b6", "a9"] == own.effects("order")
    wait_until(lambda: {"available": 1} == own.states(), "only the job of the other queue is left")


def test_a_priority_set_by_a_person_holds_at_the_retries_of_the_job(own: Site):
    queue = Queue(own.store, actor="joel")
    # Its second retry is far off, so that the job can be looked at between two runs.
    steered = own.flaky.apply_async((2, 60), priority=9)
    plain = own.flaky.apply_async((1, 60), priority=9)
    assert 1 == queue.priority(steered.id, "P0").changed
    worker = own.start("threads")
    worker.wait_ready()

    for retries in (1, 2):
        wait_until(
            lambda retries=retries: (
                (own.job(steered.id)["state"], own.job(steered.id)["retries"]) == ("retryable", retries)
            ),
            f"it waits for retry {retries}",
        )
        job = own.job(steered.id)
        assert ("P0", 0, "P3") == (job["priority"], job["slack_ms"], job["own_priority"])
        with pytest.raises(HeldByPerson):
            queue.priority(steered.id, "P3", actor="observer")
        queue.retry(steered.id)
    assert 2 == steered.get(timeout=10)

    wait_until(lambda: "retryable" == own.job(plain.id)["state"], "the other waits for its retry")
    assert "P3" == own.job(plain.id)["priority"]
    queue.retry(plain.id)
    assert 1 == plain.get(timeout=10)
    own.wait_idle()


@pytest.mark.timing
def test_a_paused_family_ahead_delays_nobody(own: Site):
    own.start("threads").wait_ready()
    assert 2 == own.add.delay(1, 1).get(timeout=10)
    own.store.pause("pause:family/note", actor="test", reason="to be out of the way")
    for number in range(300):
        own.note.apply_async(("paused", number), priority=9)
    sent_at = time.time()
    started_at = own.clock.apply_async(priority=6).get(timeout=10)
    assert started_at - sent_at < 0.1
    assert [] == own.effects("paused")
    own.store.resume("pause:family/note", actor="test")
    wait_until(lambda: 300 == len(own.effects("paused")), "all of the family ran", 20)
    own.wait_idle()
    assert {} == own.states()


def test_a_pause_of_a_queue_ends_by_itself(own: Site):
    own.start("threads").wait_ready()
    own.store.pause("pause:queue/stranger", actor="test", reason="a short one", ttl_ms=700)
    paused_at = time.time()
    started_at = own.clock.delay().get(timeout=10)
    assert 0.65 < started_at - paused_at < 1.5
