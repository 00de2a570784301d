"""The static operator beside a simulated downstream: outages, rate limits, backlogs, nights, and calm."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from joelclaw_tasks.core.audit import Audit
from joelclaw_tasks.quiet import QuietHours
from joelclaw_tasks.testing.clock import Clock
from tests.observer.conftest import World, applied


def test_a_downstream_that_fails_is_paused_within_two_passes_and_tried_until_it_is_well(world):
    world.admit("note", 30)
    observer = world.observer()
    observer.make_pass()

    world.work(6, error="ConnectionError: the disks are away", retry=True)
    passes = [world.pass_after(observer)]

    assert [("pause", "note")] == applied(passes[0])
    (pause,) = world.store.controls()
    assert ("observer", 300_000) == (pause["actor"], pause["until"] - pause["at"])
    assert [] == world.work()  # nothing of it starts

    tried = []
    for _ in range(3):  # still down: one job is tried, the pause grows
        passes.append(world.pass_after(observer))
        tried.append(len(world.work(error="ConnectionError: the disks are away", retry=True)))
    assert [1, 0, 0] == tried
    assert [[("resume", "note")], [("pause", "note")], []] == [applied(one) for one in passes[1:]]

    for _ in range(12):  # it is back
        passes.append(world.pass_after(observer))
        world.work()
    assert 0 == world.snapshot().totals.depth
    assert {} == world.pauses()
    assert [
        ("observer.note", "warning", "held back"), ("observer.note", "warning", "held back"),
        ("observer.note", "info", "goes again"),
    ] == [
        (cause, how, next(each for each in ("held back", "goes again") if each in text))
        for text, cause, how in world.told
    ]  # fmt: skip
    assert ["told", "told"] == [entry["word"] for entry in world.notifier.notices.log()]
    back = [applied(one) for one in passes[4:] if applied(one)]
    assert [[("resume", "note")], [("resume", "note")]] == back  # one to try, then all
    assert [] == Audit(world.store).run().to_wire()["violations"]


def test_failures_from_before_a_pause_do_not_pause_again_what_is_well_now(world):
    world.admit("note", 30)
    observer = world.observer()
    world.work(8, error="boom")
    assert [("pause", "note")] == applied(observer.make_pass())

    done = []
    for _ in range(8):
        done.extend(applied(world.pass_after(observer)))
        world.work(3)

    assert [("resume", "note"), ("resume", "note")] == done
    assert {} == world.pauses()
    assert 0.0 < world.snapshot().handlers_of("note")[0].error_rate  # it is still known


#: The stream has the time of Redis: what is played for longer than a survey looks back is played in the past.
LONG_AGO = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fail_again(world: World, times: int) -> None:
    """The jobs that run first fail, and fail again: the same ones each time."""
    for _ in range(times):
        world.work(2, error="ValueError: no field 'amount'", retry=True)


def test_payloads_that_nobody_can_take_do_not_hold_back_those_that_go_well(world):
    world.admit("note", 2)
    observer = world.observer()
    fail_again(world, 4)  # 8 runs, of 2 jobs

    assert [] == applied(world.pass_after(observer))

    world.admit("note", 1)
    world.work(3, error="ValueError: no field 'amount'", retry=True)  # of a third one, too
    world.admit("note", 6)
    world.work(2)
    world.work(9)
    handler = world.snapshot().handlers_of("note")[0]
    assert handler.recent_failed > handler.recent_completed
    assert [] == applied(world.pass_after(observer))


def test_what_went_well_before_an_outage_does_not_hide_it(world):
    world.admit("note", 17)
    observer = world.observer()
    for _ in range(5):
        world.work(4)
    world.admit("note", 3)
    for _ in range(2):
        world.work(3, error="ConnectTimeout: no answer", retry=True)

    handler = world.snapshot().handlers_of("note")[0]
    assert (6, 14) == (handler.recent_failed, handler.recent_completed)
    assert (3, 0) == (handler.recent_failed_jobs, handler.recent_well_since)
    assert [("pause", "note")] == applied(world.pass_after(observer))


def test_however_long_an_outage_lasts_a_pause_is_not_left_alone_for_longer_than_three_minutes(
    settings, client
):
    world = World(settings, Clock(LONG_AGO))
    world.admit("note", 30)
    observer = world.observer()
    world.work(8, error="ConnectTimeout: no answer")
    tried_at = []
    for _ in range(45):
        if ("resume", "note") in applied(world.pass_after(observer)):
            tried_at.append(world.clock.now_ms())
        world.work(1, error="ConnectTimeout: no answer", retry=True)

    waits = [(after - before) // 60_000 for before, after in pairwise(tried_at)]
    assert len(tried_at) > 8
    assert max(waits) <= 4  # three, and the pass after the try
    assert max(act["until"] - act["at"] for act in world.store.acts() if act["verb"] == "pause") == 3_600_000


def test_a_dependency_that_flaps_is_let_go_after_as_many_good_tries_as_it_has_failed(settings, client):
    world = World(settings, Clock(LONG_AGO))
    world.admit("note", 60)
    observer = world.observer()
    world.work(8, error="ConnectTimeout: no answer")
    good = []
    for outage in range(3):
        assert [("pause", "note")] == applied(world.pass_after(observer)), outage
        tries = 0
        while world.pauses():
            world.pass_after(observer)
            tries += len(world.work(1)) if world.pauses() else 0
        good.append(tries)
        world.wait(180)  # a pass may not turn around what the last two did
        observer.make_pass()
        observer.make_pass()
        world.wait(60)
        observer.make_pass()
        world.work(2, error="ConnectTimeout: no answer")  # two are enough now

    assert [1, 2, 3] == good


def test_a_paused_family_that_does_not_move_is_no_failure(world):
    world.admit("note", 30)
    world.store.pause("pause:family/note", actor="observer", reason="circuit: x", ttl_ms=86_400_000)

    world.wait(1_800)
    seen = world.snapshot()

    assert ("healthy", "healthy") == (seen.findings.downstream_state, seen.findings.queue_pressure)


def test_work_that_could_start_and_does_not_is_seen(world):
    world.admit("note", 30)
    world.wait(60)

    assert "down" == world.snapshot().findings.downstream_state


def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(world):
    world.admit("feed", 10)
    observer = world.observer()
    world.work(1, error="RateLimited: the server answered 429 and asks to wait 600 s", retry=True)
    seen_at = world.clock.now_ms()

    done = world.pass_after(observer, 5)

    assert [("pause", "feed")] == applied(done)
    (pause,) = world.store.controls()
    assert seen_at + 600_000 == pause["until"]
    quiet = [world.pass_after(observer) for _ in range(9)]
    assert [[]] * 9 == [applied(one) for one in quiet]  # nothing is tried before
    assert [] == world.work()
    world.wait(60)
    assert 10 == len(world.work(4) + world.work(4) + world.work(4))
    assert [] == applied(world.pass_after(observer))


def test_a_server_that_says_nothing_of_when_is_left_alone_for_longer_each_time(world):
    world.admit("feed", 10)
    observer = world.observer()
    lasted = []
    for _ in range(3):
        world.work(1, error="HTTPStatusError: 429 Too Many Requests", retry=True)
        world.pass_after(observer, 54)
        (pause,) = world.store.controls()
        lasted.append(pause["until"] - pause["at"])
        world.wait(lasted[-1] / 1_000)

    assert [60_000, 120_000, 240_000] == lasted


def test_a_server_that_asks_for_too_little_again_and_again_is_left_alone_for_longer_each_time(world):
    world.admit("feed", 10)
    observer = world.observer()
    lasted = []
    for _ in range(3):
        world.work(1, error="RateLimited: the server answered 429 and asks to wait 100 s", retry=True)
        world.pass_after(observer, 5)
        (pause,) = world.store.controls()
        lasted.append(round((pause["until"] - pause["at"]) / 1_000))
        world.wait(lasted[-1] + 60)

    assert [95, 120, 240] == lasted


def test_what_can_wait_gets_less_room_while_urgent_work_is_late(world):
    world.store.limit({"limit:handler/digest.do": 4}, actor="registry", reason="")
    world.admit("digest", 8)
    world.store.complete([world.store.claim(["q"], 1, "w").jobs[0].tag])  # it has run
    world.store.claim(["q"], 3, "w")
    world.admit("mail", 30)

    done = world.pass_after(world.observer(), 61)

    assert [("throttle", "digest")] == applied(done)
    assert 2 == int(world.store.client.hget(world.store.keys.limits, "limit:handler/digest.do"))
    assert [] == applied(world.pass_after(world.observer()))


def test_families_of_the_night_rest_until_the_quiet_hours_are_over(settings, client):
    world = World(settings, Clock(datetime(2026, 3, 1, 23, 30, tzinfo=UTC)))
    quiet = QuietHours.parse("23:00-07:00 UTC")
    observer = world.observer(night=frozenset({"digest"}), quiet=quiet)
    world.admit("digest", 3)
    world.admit("note", 3)

    assert [("pause", "digest")] == applied(observer.make_pass())

    (pause,) = world.store.controls()
    assert datetime(2026, 3, 2, 7, tzinfo=UTC).timestamp() * 1000 == pause["until"]
    assert [] == world.told  # what is planned is no news
    assert {"note"} == {id.partition("-")[0] for id in world.work()}
    assert [] == applied(world.pass_after(observer, 3_600))
    world.wait(7 * 3_600)
    assert 3 == len(world.work())
    assert [] == applied(world.pass_after(observer))


@pytest.mark.parametrize(("hour", "until"), [(22, None), (23, 31), (6, 7), (7, None)])
def test_quiet_hours_go_over_midnight(hour, until):
    now = int(datetime(2026, 3, 1, hour, tzinfo=UTC).timestamp() * 1000)
    ends = QuietHours.parse("23:00-07:00 UTC").until_at(now)
    assert until == (None if ends is None else (ends // 1000 - 1772323200) // 3600)


def test_protected_families_are_never_paused_but_told_of_once_a_day(world):
    world.admit("pay", 30)
    observer = world.observer()
    world.work(8, error="boom")

    first, second = observer.make_pass(), None
    world.work(8, error="boom")
    second = world.pass_after(observer)

    assert [("escalate", "pay")] == applied(first)
    assert [] == applied(second)
    assert [("observer.pay", "error")] == [(cause, severity) for _, cause, severity in world.told]
    assert world.told[0][0].endswith(
        "(protected: not paused). Proposed: pause pay for an hour, and look at it."
    )
    assert {} == world.pauses()


def test_over_a_healthy_week_the_observer_does_nothing_at_all(world):
    observer = world.observer(quiet=QuietHours.parse("23:00-07:00 UTC"))
    before = len(world.store.acts())
    for number in range(7 * 24 * 12):  # a pass every five minutes
        for family in ("mail", "note", "feed", "digest"):
            world.admit(family, 1 + number % 3)
        world.work(50, run_ms=200)
        if number % 97 == 0:
            world.admit("note", 1)
            world.work(1, error="ValueError: one bad event")
        observer.make_pass()
        world.wait(300)

    assert before == len(world.store.acts())
    assert [] == world.told
    assert [] == world.notifier.notices.log()
    assert 0 == world.store.client.xlen(world.store.keys.passes)
