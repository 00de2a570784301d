"""The static operator beside a simulated downstream: outages, rate limits, backlogs, nights, and calm."""

from __future__ import annotations

from datetime import UTC, datetime

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
