"""What policy lets through, clamps and refuses, and that the core refuses once more."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from joelclaw_tasks.intelligence.actions import (
    ACTION,
    Escalate,
    Resume,
    Shed,
)
from tests.observer.conftest import (
    FAMILIES,
    HOUR,
    MINUTE,
    Meanwhile,
    applied,
    asked,
    busy,
    pause,
    refused,
    throttle,
)


def test_an_operator_that_wants_to_pause_everything_is_held_to_the_share(world):
    busy(world)

    done = asked(world, *map(pause, FAMILIES))

    assert 2 == len(world.pauses())  # half of five
    assert ["too_many_paused", "too_many_paused", "protected"] == refused(done)


def test_over_several_passes_the_share_holds_as_well(world):
    busy(world)

    for _ in range(5):
        asked(world, *map(pause, FAMILIES))

    assert 2 == len(world.pauses())


@pytest.mark.parametrize(("ttl_ms", "in_force"), [(1, MINUTE), (90_000, 90_000), (10**12, 24 * HOUR)])
def test_a_ttl_is_held_to_its_bounds(world, ttl_ms, in_force):
    busy(world)

    done = asked(world, pause("note", ttl_ms))

    (act,) = world.store.controls()
    assert in_force == act["until"] - act["at"]
    assert (ttl_ms != in_force) == bool(done.verdicts[0].clamped)


@pytest.mark.parametrize(
    ("action", "options", "reason"),
    [
        (pause("pay"), {}, "protected"),
        (pause("nobody"), {}, "unknown_family"),
        (pause("note"), {"auto": frozenset({"mail"})}, "not_auto"),
        (pause("note"), {"auto": frozenset()}, "not_auto"),
        (Resume(family="note", reason="fine"), {}, "not_paused"),
        (throttle("limit:resource/nas"), {}, "unknown_gate"),
        (throttle("limit:handler/mail.do"), {}, "unknown_gate"),
        (throttle("limit:handler/note.do", 9), {}, "nothing_to_do"),
        (Escalate(family="nobody", message="look"), {}, "unknown_family"),
    ],
)  # fmt: skip
def test_what_may_not_be_is_refused_with_its_reason(world, action, options, reason):
    busy(world)
    world.store.limit(
        {f"limit:handler/{family}.do": 4 for family in FAMILIES} | {"limit:resource/nas": 2},
        actor="registry", reason="",
    )  # fmt: skip
    world.work(50)
    busy(world)
    before = world.store.acts()

    done = asked(world, action, **options)

    assert [reason] == refused(done)
    assert before == world.store.acts()
    assert [] == world.told


def test_a_family_that_is_not_observed_is_not_even_seen(world):
    world.admit("mail", 2)
    world.work(2, error="boom")
    busy(world)

    done = asked(world, pause("note"), observed=frozenset({"mail"}))

    assert ["unknown_family"] == refused(done)
    assert ["mail"] == [each.family for each in done.snapshot.families]


def test_more_than_eight_actions_are_too_many(world):
    for number in range(20):
        world.admit(f"task{number:02}", 1, priority=2)

    done = asked(world, *(pause(f"task{number:02}") for number in range(10)))

    assert (8, ["too_many_actions"] * 2) == (len(applied(done)), refused(done))


def test_two_actions_for_one_family_are_one_too_many(world):
    busy(world)

    done = asked(world, pause("note"), Shed(family="note", reason="x", ttl_ms=MINUTE))

    assert ["conflict"] == refused(done)


@pytest.mark.parametrize(
    "person",
    [
        lambda queue: queue.pause("family/note"),
        lambda queue: queue.pause("handler/note.do"),
        lambda queue: queue.limit("limit:handler/note.do", 1),
        lambda queue: queue.priority("family/note", "P0", ttl="1h"),
        lambda queue: queue.shed("family/note"),
    ],
)
def test_what_a_person_has_set_wins(world, person):
    world.store.limit({"limit:handler/note.do": 4}, actor="registry", reason="")
    busy(world)
    world.work(50)
    busy(world)
    person(world.queue)
    before = world.store.controls()

    for action in (
        pause("note"),
        Resume(family="note", reason="x"),
        Shed(family="note", reason="x", ttl_ms=HOUR),
    ):
        assert ["held_by_person"] == refused(asked(world, action))

    assert before == world.store.controls()


def test_what_a_person_sets_after_the_snapshot_wins_too(world):
    busy(world)
    observer = world.observer(Meanwhile(lambda: world.queue.pause("family/note", ttl="1h"), pause("note")))

    done = observer.make_pass()

    assert ["held_by_person"] == refused(done)
    assert {"note": "joel"} == world.pauses()


def test_a_family_that_vanishes_after_the_snapshot_is_left_alone(world):
    world.admit("mail", 2)
    world.work(2, error="boom")
    world.admit("passing", 3, priority=2)
    observer = world.observer(Meanwhile(world.work, pause("passing")))

    done = observer.make_pass()

    assert ["family_gone"] == refused(done)
    assert {} == world.pauses()


def test_a_pause_is_not_turned_around_within_two_passes(world):
    busy(world)
    asked(world, pause("note"))

    early = [refused(asked(world, Resume(family="note", reason="fine"))) for _ in range(2)]
    late = asked(world, Resume(family="note", reason="fine"))

    assert [["flip"], ["flip"]] == early
    assert [("resume", "note")] == applied(late)
    assert ["flip"] == refused(asked(world, pause("note")))


@pytest.mark.parametrize("by", ["undo", "resume"])
def test_what_a_person_took_back_is_not_done_again_within_the_hour(world, by):
    busy(world)
    done = asked(world, pause("note", HOUR))
    if by == "undo":
        world.queue.undo(done.verdicts[0].control)
    else:
        world.queue.resume("note")

    assert ["decided_by_person"] == refused(asked(world, pause("note"), seconds=600))
    assert [("pause", "note")] == applied(asked(world, pause("note"), seconds=3_600))


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "drop", "family": "note", "reason": "x"},
        {"kind": "pause", "family": "note", "reason": "x"},
        {"kind": "pause", "family": "note", "reason": "x", "ttl_ms": -1},
        {"kind": "pause", "family": "note", "reason": "x", "ttl_ms": "60000"},
        {"kind": "pause", "family": "note", "reason": "x", "ttl_ms": 60000, "handler": "mine"},
        {"kind": "reprioritize", "family": "note", "reason": "x", "ttl_ms": 60000, "priority": 9},
        {"kind": "throttle", "family": "note", "reason": "x", "ttl_ms": 60000, "gate": "pause:x", "most": 1},
    ],
)
def test_what_is_no_action_cannot_be_proposed(given):
    with pytest.raises(ValidationError):
        ACTION.validate_python(given)


def test_a_reason_that_is_too_long_is_cut():
    action = ACTION.validate_python({"kind": "noop", "reason": "a\x1b[2J" + "x" * 700})
    assert (280, "a [2J") == (len(action.reason), action.reason[:5])
