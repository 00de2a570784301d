"""What a Celery app expects of any broker, asked of the admission layer with a worker of every pool."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from workers import CONCURRENCY, Site, close_app

from tests.conftest import wait_until


def key() -> str:
    return f"effect:{uuid.uuid4().hex}"


def test_a_call_is_run_and_its_result_comes_back(site: Site):
    assert 5 == site.add.delay(2, 3).get(timeout=10)
    assert 7 == site.add.apply_async((3, 4)).get(timeout=10)


def test_a_finished_call_leaves_nothing_behind(site: Site):
    result = site.add.delay(1, 1)
    result.get(timeout=10)
    site.wait_gone(result.id)
    site.wait_idle()
    assert {} == site.leases()


def test_a_countdown_starts_within_200_ms_of_its_time(site: Site):
    site.add.delay(0, 0).get(timeout=10)
    due = time.time() + 0.8
    result = site.clock.apply_async(countdown=0.8)
    assert "scheduled" == site.job(result.id)["state"]
    assert 0 <= result.get(timeout=10) - due + 0.005 < 0.2


def test_an_eta_in_any_time_zone_starts_within_200_ms_of_its_time(site: Site):
    due = datetime.now(UTC) + timedelta(seconds=0.8)
    tokyo = site.clock.apply_async(eta=due.astimezone(timezone(timedelta(hours=9))))
    plain = site.clock.apply_async(eta=due.replace(tzinfo=None))
    assert 0 <= tokyo.get(timeout=10) - due.timestamp() + 0.005 < 0.2
    assert 0 <= plain.get(timeout=10) - due.timestamp() + 0.005 < 0.25


def test_scheduled_calls_wait_in_redis_and_never_in_a_worker(site: Site):
    count, countdown = (1000, 3) if site.pool in ("prefork", "threads") else (200, 1.5)
    where = key()
    with site.app.producer_or_acquire() as producer, producer.batch(max_size=100):
        for number in range(count):
            site.note.apply_async((where, number), countdown=countdown, producer=producer)
    assert count == site.states()["scheduled"]
    inspect = site.app.control.inspect(timeout=1, destination=[site.workers[0].name])
    (scheduled,) = inspect.scheduled().values()
    (reserved,) = inspect.reserved().values()
    assert [] == scheduled
    assert [] == reserved
    assert [] == site.effects(where)
    wait_until(lambda: len(site.effects(where)) >= count, "all ran", 20)
    site.wait_idle()
    assert sorted(map(str, range(count))) == sorted(site.effects(where))


def test_a_chain_of_50(site: Site):
    steps = [site.add.s(1) for _ in range(49)]
    assert 51 == chain(site.add.s(1, 1), *steps)().get(timeout=20)


def test_a_group_of_100(site: Site):
    result = group(site.add.s(n, n) for n in range(100)).apply_async()
    assert [2 * n for n in range(100)] == result.get(timeout=20)


def test_a_chord_of_200(site: Site):
    result = chord((site.add.s(n, n) for n in range(200)), site.total.s())()
    assert 39800 == result.get(timeout=20)


def test_a_chord_with_a_failing_header_fails(site: Site):
    failing = site.fail.s("the header failed")
    result = chord([site.add.s(1, 1), failing, site.add.s(2, 2)], site.total.s())()
    with pytest.raises((ChordError, ValueError), match="the header failed"):
        result.get(timeout=10)
    wait_until(lambda: result.state == "FAILURE", "the chord has failed")


def test_a_retry_comes_back_after_its_countdown_under_the_same_id(site: Site):
    started = time.monotonic()
    result = site.flaky.delay(2, 0.3)
    assert 2 == result.get(timeout=10)
    assert 0.6 <= time.monotonic() - started < 1.6
    site.wait_gone(result.id)


def test_a_retry_without_a_countdown_comes_back_at_once(site: Site):
    assert 3 == site.flaky.delay(3, 0).get(timeout=10)


def test_a_task_out_of_retries_is_in_the_dead_letter_and_its_result_is_a_failure(site: Site):
    where = key()
    if site.pool in ("solo", "gevent"):
        pytest.skip("takes 3 s, and the two other pools have shown it")
    result = site.divide.delay(1, 0, where)
    with pytest.raises(ZeroDivisionError):
        result.get(timeout=15)
    dead = site.wait_dead(result.id)
    assert "ZeroDivisionError: division by zero" == dead["error"]
    starts = [float(at) for at in site.effects(where)]
    assert 3 == len(starts)
    # retry_backoff: 1 s, then 2 s
    assert 0.95 < starts[1] - starts[0] < 1.4
    assert 1.95 < starts[2] - starts[1] < 2.4


def test_a_failed_task_is_in_the_dead_letter_with_its_error(site: Site):
    result = site.fail.delay("no such file")
    with pytest.raises(ValueError, match="no such file"):
        result.get(timeout=10)
    dead = site.wait_dead(result.id)
    assert "ValueError: no such file" == dead["error"]
    assert 0 == dead["kills"]
    assert [["no such file"], {}] == dead["payload"]["body"][:2]


def test_a_replaced_task_gives_the_result_of_its_replacement(site: Site):
    result = site.replaced.delay(5)
    assert 1005 == result.get(timeout=10)
    site.wait_gone(result.id)


def test_a_task_replaced_by_a_chord_gives_the_result_of_the_chord(site: Site):
    result = site.replaced_by_chord.delay(10)
    assert 90 == result.get(timeout=10)


def test_a_task_may_publish_many_others(site: Site):
    where = key()
    assert 20 == site.fan_out.delay(20, where).get(timeout=10)
    wait_until(lambda: 20 == len(site.effects(where)), "all of the group ran")


def test_an_ignored_task_is_finished_and_has_no_result(site: Site):
    result = site.ignored.delay()
    site.wait_gone(result.id)
    assert "PENDING" == result.state


def test_a_rejected_task_is_in_the_dead_letter(site: Site):
    where = key()
    result = site.rejected.delay(where, requeue=False)
    dead = site.wait_dead(result.id)
    assert "1" == site.client.get(where)
    assert "Reject: not now" == dead["error"]
    wait_until(lambda: result.state == "FAILURE", "the result is a failure")


def test_a_task_rejected_for_requeue_runs_again(site: Site):
    where = key()
    result = site.rejected.delay(where, requeue=True)
    assert "second run" == result.get(timeout=10)
    assert "2" == site.client.get(where)
    site.wait_gone(result.id)


def test_an_expired_task_is_revoked_and_not_run(site: Site):
    where = key()
    result = site.note.apply_async((where, "ran"), countdown=0.6, expires=0.2)
    tracked = site.add.apply_async((1, 1), countdown=0.6, expires=0.2)
    with pytest.raises(TaskRevokedError, match="expired"):
        tracked.get(timeout=10)
    site.wait_gone(result.id)
    site.wait_gone(tracked.id)
    assert [] == site.effects(where)


def test_a_task_that_does_not_expire_in_time_runs(site: Site):
    assert 2 == site.add.apply_async((1, 1), expires=30).get(timeout=10)


def test_a_scheduled_task_that_is_revoked_does_not_run(site: Site):
    where = key()
    note = site.note.apply_async((where, "ran"), countdown=0.8)
    tracked = site.add.apply_async((1, 1), countdown=0.8)
    site.app.control.revoke([note.id, tracked.id])
    with pytest.raises(TaskRevokedError, match="revoked"):
        tracked.get(timeout=10)
    site.wait_gone(note.id)
    assert [] == site.effects(where)


def test_a_queued_task_that_is_revoked_does_not_run(site: Site):
    if site.pool == "solo":
        pytest.skip("a solo worker hears nothing while it runs a task, on any broker")
    where = key()
    slots = CONCURRENCY[site.pool]
    blockers = [site.work.delay(where, 0.6) for _ in range(slots)]
    wait_until(lambda: slots == len(site.effects(where + ":started")), "the worker is full")
    queued = site.add.delay(1, 1)
    site.app.control.revoke(queued.id)
    with pytest.raises(TaskRevokedError, match="revoked"):
        queued.get(timeout=10)
    for blocker in blockers:
        site.wait_gone(blocker.id)
    site.wait_gone(queued.id)


def test_an_unknown_task_is_in_the_dead_letter_with_the_reason(site: Site):
    result = site.app.send_task("stranger.nobody_knows_me", (1,))
    dead = site.wait_dead(result.id)
    assert "unknown task: this worker has no task 'stranger.nobody_knows_me'" == dead["error"]
    assert 3 == site.add.delay(1, 2).get(timeout=10)


def test_a_task_may_be_sent_by_an_app_that_does_not_have_it(site: Site):
    from celery import Celery

    import joelclaw_tasks

    other = joelclaw_tasks.install(Celery("other", broker=site.url, backend=site.url, set_as_current=False))
    result = other.send_task("add", (20, 22), queue="stranger")
    assert 42 == result.get(timeout=10)
    close_app(other)


def test_calls_of_a_publish_batch_all_run(site: Site):
    where = key()
    with site.app.producer_or_acquire() as producer, producer.batch(max_size=30):
        for number in range(100):
            site.note.apply_async((where, number), producer=producer)
    wait_until(lambda: 100 == len(site.effects(where)), "all ran")
    assert sorted(map(str, range(100))) == sorted(site.effects(where))


def test_a_call_with_a_known_id_may_be_repeated_after_it_is_over(site: Site):
    task_id, where = str(uuid.uuid4()), key()
    for run in (1, 2):
        site.note.apply_async((where, run), task_id=task_id)
        wait_until(lambda: run == len(site.effects(where)), "it ran")  # noqa: B023
        site.wait_gone(task_id)
    assert ["1", "2"] == site.effects(where)


def test_a_task_sees_itself_as_on_any_broker(site: Site):
    result = site.request_of.delay()
    request = result.get(timeout=10)
    assert result.id == request["id"] == request["correlation_id"]
    assert 0 == request["retries"]
    assert request["redelivered"] in (False, None)


def test_large_and_unusual_arguments_arrive_unchanged(site: Site):
    text = "ü€😀\x00\n" * 20_000
    assert text * 2 == site.add.delay(text, text).get(timeout=10)


def test_links_and_errbacks_are_called(site: Site):
    where, errors = key(), key()
    site.add.apply_async((1, 2), link=site.note.si(where, "linked"))
    wait_until(lambda: ["linked"] == site.effects(where), "the link ran")
    site.fail.apply_async(("text",), link_error=site.note.si(errors, "called"))
    wait_until(lambda: ["called"] == site.effects(errors), "the errback ran")
