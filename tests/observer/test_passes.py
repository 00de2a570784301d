"""A pass: made once, recorded before its effect, applied for real, and cut short when nothing is wrong."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.intelligence.actions import (
    Batch,
    Escalate,
    Noop,
    Reprioritize,
    Shed,
    Throttle,
)
from joelclaw_tasks.intelligence.hands import Hands, Verbs
from tests.observer.conftest import (
    HOUR,
    Asks,
    Meanwhile,
    applied,
    asked,
    busy,
    pause,
    refused,
)


def test_off_and_dry_run_change_nothing(world):
    busy(world)
    before = world.store.acts()

    off = asked(world, pause("note"), mode="off")
    dry = asked(world, pause("note"), Escalate(message="look"), mode="dry-run")

    assert ("disabled", "disabled") == (off.status, off.shortcut)
    assert ["dry_run", "dry_run"] == [str(verdict.outcome) for verdict in dry.verdicts]
    assert (before, []) == (world.store.acts(), world.told)


def test_every_action_is_applied_for_real_and_can_be_taken_back(world):
    world.store.limit({"limit:handler/mail.do": 4}, actor="registry", reason="")
    busy(world)
    world.work(50)
    busy(world)

    done = asked(
        world,
        Throttle(family="mail", gate="limit:handler/mail.do", most=1, reason="slow", ttl_ms=HOUR),
        Reprioritize(family="feed", priority=0, reason="wanted", ttl_ms=HOUR),
        Shed(family="digest", reason="later", ttl_ms=HOUR),
        Batch(family="note", size=5, reason="in one go", ttl_ms=HOUR),
        Escalate(message="look at this", severity="info"),
        Noop(reason="that is all"),
    )

    assert 5 == len(applied(done))
    assert ("look at this", "observer.queue", "info") == world.told[-1]
    assert [("observer.digest.shed", "warning")] == [(cause, how) for _, cause, how in world.told[:-1]]
    seen = world.snapshot()
    assert 3 == seen.family("feed").by_priority["P0"]
    assert 0 == seen.family("digest").startable
    assert 1 == int(world.store.client.hget(world.store.keys.limits, "limit:handler/mail.do"))
    assert {"note": "observer"} == world.pauses()
    for verdict in done.verdicts[:4]:
        world.queue.undo(verdict.control)
    assert [] == world.store.controls()
    assert 3 == world.snapshot().family("digest").startable


def test_a_rate_can_be_lowered_too(world):
    world.store.rate({"rate:handler/mail.do": Rate(10, 1_000, 1)}, actor="registry", reason="")
    busy(world)
    world.work(50)
    busy(world)
    lower = Throttle(
        family="mail", gate="rate:handler/mail.do", most=1, period_ms=1_000, reason="429", ttl_ms=HOUR
    )

    assert [("throttle", "mail")] == applied(asked(world, lower))
    assert ["flip"] == refused(asked(world, lower))
    asked(world)
    assert ["nothing_to_do"] == refused(asked(world, lower))


def test_a_batch_goes_in_one_go_when_it_is_full(world):
    busy(world)
    asked(world, Batch(family="note", size=5, reason="in one go", ttl_ms=HOUR))
    assert not [id for id in world.work(50) if id.startswith("note")]

    world.admit("note", 2)
    done = asked(world)

    assert [("resume", "note")] == applied(done)
    assert 5 == len([id for id in world.work(50) if id.startswith("note")])


def test_of_two_observers_at_once_one_makes_the_pass(world):
    busy(world)
    observers = [world.observer(Asks(pause("note"))) for _ in range(2)]
    passes: list[Any] = []
    threads = [threading.Thread(target=lambda one=one: passes.append(one.make_pass())) for one in observers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["enforce", "skipped"] == sorted(one.status for one in passes)
    assert 1 == len([act for act in world.store.acts() if act["verb"] == "pause"])


def test_a_pass_that_comes_too_early_says_when_the_next_is(world):
    busy(world)
    observer = world.observer(Asks())
    begun_at = world.clock.now_ms()
    observer.make_pass()

    early = world.pass_after(observer, 20)

    assert ("skipped", "cadence", begun_at + 60_000) == (early.status, early.shortcut, early.next_at)


def test_a_pass_that_was_overtaken_stops(world):
    busy(world)

    def overtake() -> None:
        world.wait(60)
        world.observer(Asks()).make_pass()

    done = world.observer(Meanwhile(overtake, pause("note"))).make_pass()

    assert (["superseded"], {}) == (refused(done), world.pauses())


def test_an_operator_that_fails_is_stood_in_for_by_the_rules(world):
    world.admit("note", 20)
    world.work(6, error="boom")

    done = world.observer(Meanwhile(lambda: 1 / 0)).make_pass()

    assert ("static", "ZeroDivisionError: division by zero") == (done.operator, done.fallback)
    assert [("pause", "note")] == applied(done)


def test_a_pass_is_recorded_before_its_effect(world):
    busy(world)

    def broken(*_: Any, **__: Any) -> None:
        raise CoreUnreachable("gone")

    verbs = Verbs.of(world.queue)
    observer = world.observer(Asks(pause("note")))
    observer._hands = Hands(Verbs(**dict.fromkeys(Verbs.__slots__, broken)), world._tell)
    with pytest.raises(CoreUnreachable):
        observer.make_pass()

    (record,) = observer._passes.recent()
    assert ("allowed", 1) == (record["verdicts"][0]["outcome"], record["number"])
    assert verbs.pause("note").id


def test_shortcuts_ask_no_operator(world):
    operator = Asks(pause("note"))
    observer = world.observer(operator)

    empty = observer.make_pass()
    world.admit("note", 3)
    world.queue.pause("note", ttl="1h")
    held = world.pass_after(observer)

    assert ("empty", "held_by_person", 0) == (empty.shortcut, held.shortcut, operator.asked)


def test_where_nothing_is_wrong_no_operator_is_asked_however_much_goes_on(world):
    operator = Asks()
    observer = world.observer(operator)
    shortcuts = []
    for number in range(3):
        world.admit("note", 2 + number)
        world.work(1 + number)
        shortcuts.append(world.pass_after(observer).shortcut)

    assert (["nothing_wrong"] * 3, 0) == (shortcuts, operator.asked)


def test_one_job_that_fails_is_no_reason_to_ask_and_two_are(world):
    operator = Asks()
    observer = world.observer(operator)
    for _ in range(2):
        world.admit("note", 1)
        world.work(1, error="boom")
        world.admit("note", 1)
        world.pass_after(observer)

    assert 1 == operator.asked


def test_a_look_changes_nothing_and_shows_what_would_be_done(world):
    busy(world)
    world.work(50, error="boom", retry=False)
    for _ in range(3):
        busy(world)
        world.work(50, error="boom")
    before = {name: world.store.client.dump(name) for name in world.store.client.keys("*")}

    seen = world.observer(mode="off").look()

    assert {"dry_run"} == {str(verdict.outcome) for verdict in seen.verdicts if verdict.reason is None}
    assert before == {name: world.store.client.dump(name) for name in world.store.client.keys("*")}


def test_a_snapshot_is_bounded(world):
    for number in range(250):
        world.admit(f"task{number:03}", 1, priority=2)

    seen = world.snapshot()

    assert (200, {"families": 55}) == (len(seen.families), seen.omitted)
    assert 250 == seen.totals.depth
