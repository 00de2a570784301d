"""fleet: a worker in this process, on a Redis and a clock of its own."""

from __future__ import annotations

import threading
import time

import psutil
import pytest
from celery import Celery

import joelclaw_tasks
from joelclaw_tasks import testing
from tests.testing.acts import BARRIER

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def fleet(registry, tmp_path):
    with testing.fleet(registry, data_dir=tmp_path) as fleet:
        yield fleet


@pytest.fixture
def shop():
    """A Celery app that has never heard of us."""
    app = Celery(
        "shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False
    )

    @app.task(name="add", shared=False)
    def add(a, b):
        return a + b

    @app.task(name="pay", shared=False, bind=True, max_retries=1, default_retry_delay=60)
    def pay(self):
        raise self.retry(exc=ValueError("no money"))

    return app


def order(fleet):
    return [run.data["n"] for run in fleet.runs()]


@pytest.mark.timing
def test_it_is_ready_within_two_seconds(registry):
    began_at = time.monotonic()
    with testing.fleet(registry):
        assert time.monotonic() - began_at < 2


def test_events_pass_real_admission_and_run_in_worker_threads(fleet):
    receipt = fleet.emit("test/start", {"count": 2}, id="one")
    fleet.wait_idle()

    assert ["admitted"] == [job.decision for job in receipt.jobs]
    assert ["test.done", "test.done", "test.start"] == sorted(run.handler for run in fleet.runs())
    fleet.assert_completed("test.done", {"number": 1})
    fleet.assert_emitted("test/done", times=2)
    assert ["followed"] == [one.text for one in fleet.notified()]
    assert ["duplicate"] == [job.decision for job in fleet.emit("test/start", {"count": 2}, id="one").jobs]
    assert "completed" == fleet.store.inspect(receipt.jobs[0].job_id)["state"]


def test_the_public_emit_goes_to_it(fleet):
    joelclaw_tasks.emit("test/done", {"by": "the app"})
    fleet.wait_idle()
    fleet.assert_completed("test.done", {"by": "the app"})


def test_what_waits_for_the_clock_runs_when_it_is_moved(fleet):
    fleet.emit("test/done", {}, delay_s=86_400)
    fleet.wait_idle()
    fleet.advance(86_000)
    assert [] == fleet.runs()
    fleet.advance(400)
    fleet.assert_completed("test.done")


def test_retries_take_the_time_of_the_test_and_end_in_the_dead_letter(fleet):
    fleet.emit("test/broken", {"id": 7})
    fleet.wait_idle()
    [first] = fleet.runs()
    assert ("retried", 1) == (first.outcome, first.attempt)
    assert 0 <= first.retry_in_s <= 10

    fleet.advance()
    assert [("retried", 1), ("retried", 2), ("discarded", 3)] == [
        (r.outcome, r.attempt) for r in fleet.runs()
    ]
    fleet.assert_discarded("test.broken", {"id": 7}, error="the shop is closed")


def test_time_passes_step_by_step_also_for_handlers(fleet):
    began_at = fleet.clock.now().timestamp()
    for open_in_s in (30, 10, 20):
        fleet.emit("test/early", {"open_at": began_at + open_in_s}, delay_s=open_in_s)
    fleet.advance(3600)
    assert [10, 20, 30] == [round(run.data["open_at"] - began_at) for run in fleet.runs()]
    assert {("completed", 1)} == {(run.outcome, run.attempt) for run in fleet.runs()}


def test_moving_the_clock_far_does_not_end_the_lease_of_a_running_job(fleet):
    BARRIER["lease"] = threading.Event()
    fleet.emit("test/slow", {"name": "lease"})
    with pytest.raises(AssertionError, match=r"not idle within 0\.2 s: running: 1 of test/slow"):
        fleet.wait_idle(timeout_s=0.2)
    fleet.clock.move_to(fleet.clock.now_ms() + 30 * 86_400_000)
    fleet.emit("test/done", {})
    BARRIER["lease"].set()
    fleet.wait_idle()
    assert 1 == fleet.assert_completed("test.slow").attempt


def test_limits_of_the_registry_hold(fleet):
    BARRIER["limit"] = threading.Event()
    for _ in range(3):
        fleet.emit("test/slow", {"name": "limit"})
    with pytest.raises(AssertionError, match="running: 1 of test/slow"):
        fleet.wait_idle(timeout_s=0.2)
    BARRIER["limit"].set()
    fleet.wait_idle()
    assert 3 == len(fleet.runs("test.slow"))


def test_a_paused_family_is_idle_until_it_is_resumed(fleet):
    fleet.store.pause("pause:family/test/done", actor="test", reason="to see")
    fleet.emit("test/done", {})
    fleet.wait_idle()
    fleet.advance()
    assert [] == fleet.runs()
    fleet.store.resume("pause:family/test/done", actor="test")
    fleet.wait_idle()
    fleet.assert_completed("test.done")


def test_a_pause_that_ends_by_itself_ends_when_its_time_has_passed(fleet):
    fleet.store.pause("pause:family/test/done", actor="test", reason="to see", ttl_ms=600_000)
    fleet.emit("test/done", {})
    fleet.advance(599)
    assert [] == fleet.runs()
    fleet.advance(1)
    fleet.assert_completed("test.done")


def test_a_debounced_event_runs_once_it_has_been_quiet_for_long_enough(fleet):
    for n in range(3):
        fleet.emit("test/settled", {"n": n})
        fleet.advance(9)
    assert [] == fleet.runs()
    fleet.advance(1)
    assert [2] == order(fleet)


def test_a_throttled_event_is_let_through_again_after_its_window(fleet):
    decisions = []
    for seconds in (0, 3_500, 200):
        fleet.advance(seconds)
        decisions.append(fleet.emit("test/first", {}).jobs[0].decision)
    assert ["admitted", "throttled", "admitted"] == decisions


def test_a_job_that_has_not_started_when_it_expires_never_does(fleet):
    fleet.store.pause("pause:family/test/short", actor="test", reason="to see", ttl_ms=120_000)
    fleet.emit("test/short", {})
    fleet.advance(121)
    assert [] == [run for run in fleet.runs() if run.outcome == "completed"]


def test_a_rate_holds_in_the_time_of_the_test(fleet):
    for n in range(3):
        fleet.emit("test/rated", {"n": n})
    fleet.wait_idle()
    assert 1 == len(fleet.runs())
    fleet.advance(59)
    assert 1 == len(fleet.runs())
    fleet.advance(2)
    assert 2 == len(fleet.runs())
    fleet.advance()
    assert [0, 1, 2] == order(fleet)


def test_jobs_run_by_priority_and_else_in_the_order_of_their_arrival(registry):
    with testing.fleet(registry, concurrency=1) as fleet:
        fleet.store.pause("pause:family/test/done", actor="test", reason="to gather")
        for n in range(5):
            fleet.emit("test/done", {"n": n})
        fleet.emit("test/done", {"n": "urgent"}, priority="P0")
        fleet.store.resume("pause:family/test/done", actor="test")
        fleet.wait_idle()
    assert ["urgent", 0, 1, 2, 3, 4] == order(fleet)


def test_a_celery_app_is_borrowed_and_given_back(shop):
    assert shop.conf.broker_url == NOWHERE  # from now on the configuration is read
    before = dict(shop.conf.changes)
    for _ in range(2):
        with testing.fleet(app=shop) as fleet:
            assert 3 == shop.tasks["add"].delay(1, 2).get(timeout=5)
            shop.tasks["add"].apply_async((1, 2), countdown=3600)
            shop.tasks["pay"].delay()
            fleet.wait_idle()
            assert 1 == len(fleet.runs("add"))

            fleet.advance(3600)
            assert 2 == len(fleet.runs("add"))
            assert 2 == fleet.assert_discarded("pay", error="no money").attempt
        assert before == shop.conf.changes
        assert NOWHERE == shop.conf.broker_url
        assert shop.now().year == time.gmtime().tm_year


def test_tasks_that_were_made_before_the_fleet_fail_as_they_should(shop):
    shop.finalize()
    assert not shop.tasks["pay"].acks_late
    with testing.fleet(app=shop) as fleet:
        shop.tasks["pay"].delay()
        fleet.advance()
        fleet.assert_discarded("pay", error="no money")
    assert not shop.tasks["pay"].acks_late


def test_a_job_that_failed_for_good_fails_the_test_unless_it_was_expected(registry):
    expected = pytest.raises(AssertionError, match=r"test\.refused.* discarded.* no such order")
    with expected, testing.fleet(registry) as fleet:
        fleet.emit("test/refused", {})
        fleet.wait_idle()


def test_nothing_is_left_of_it(registry):
    threads = set(threading.enumerate())
    children = set(psutil.Process().children(recursive=True))
    with testing.fleet(registry) as fleet:
        fleet.emit("test/done", {})
        fleet.wait_idle()
    assert set() == set(threading.enumerate()) - threads
    assert set() == set(psutil.Process().children(recursive=True)) - children
