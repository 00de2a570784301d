"""What is read from the acts of a world: when a family was held back, and whether that was wrong."""

from __future__ import annotations

from typing import Any

from joelclaw_tasks.evaluation.cost import WEIGHTS, cost_of
from joelclaw_tasks.evaluation.fault import FaultKind, Faults, Window
from joelclaw_tasks.evaluation.holds import Hold, flaps_of, holds_of, is_false, needless_ms
from joelclaw_tasks.evaluation.play import START_MS, Played, Record
from joelclaw_tasks.evaluation.referee import forbidden_applied
from joelclaw_tasks.evaluation.scenario import LENGTH_MS, Scenario

MINUTE = 60_000
MAIL = "mail/queued"
DOWN = Faults(windows=(Window(MAIL, 10 * MINUTE, 20 * MINUTE, 5_000, "away"),))


def world(*acts: dict[str, Any], faults: Faults = DOWN, **jobs: Record) -> Played:
    played = Played(Scenario(FaultKind.OUTAGE, 1, (), faults))
    played.acts, played.jobs = list(acts), jobs
    return played


def act(
    verb: str, minute: float, until: float | None = None, family: str = MAIL, **fields: Any
) -> dict[str, Any]:
    found = {"verb": verb, "target": f"pause:family/{family}", "at": START_MS + int(minute * MINUTE)}
    if until is not None:
        found["until"] = START_MS + int(until * MINUTE)
    return {"actor": "observer", **found, **fields}


def spans(played: Played) -> list[tuple[float, float]]:
    return [(hold.begins_ms / MINUTE, hold.ends_ms / MINUTE) for hold in holds_of(played)]


def test_a_hold_ends_by_a_resume_by_its_time_or_with_the_world():
    assert [(1, 3)] == spans(world(act("pause", 1, 6), act("resume", 3)))
    assert [(1, 6)] == spans(world(act("pause", 1, 6)))
    assert [(1, LENGTH_MS / MINUTE)] == spans(world(act("pause", 1)))


def test_a_pause_that_is_made_longer_is_one_hold_and_a_probe_does_not_end_it():
    assert [(1, 9)] == spans(world(act("pause", 1, 6), act("drain", 2, 7), act("pause", 4, 9)))
    assert [(1, 6), (7, 9)] == spans(world(act("pause", 1, 6), act("pause", 7, 9)))


def test_a_minute_of_pause_is_needless_only_while_the_downstream_is_well():
    hold = Hold(MAIL, "observer", 8 * MINUTE, 25 * MINUTE)
    assert 7 * MINUTE == needless_ms(hold, DOWN)
    assert 17 * MINUTE == needless_ms(hold, Faults())


def test_a_pause_is_false_when_nothing_of_that_family_is_down():
    played = world()
    assert is_false(Hold(MAIL, "observer", 9 * MINUTE, 12 * MINUTE), played)
    assert not is_false(Hold(MAIL, "observer", 10 * MINUTE, 12 * MINUTE), played)
    assert not is_false(Hold(MAIL, "observer", 21 * MINUTE, 22 * MINUTE), played)  # seen a little late
    assert is_false(Hold(MAIL, "observer", 23 * MINUTE, 24 * MINUTE), played)
    assert is_false(Hold("feed/due", "observer", 12 * MINUTE, 13 * MINUTE), played)


def test_a_flap_is_a_pause_soon_after_the_last_one_of_the_same_family():
    holds = [Hold(MAIL, "observer", at * MINUTE, (at + 2) * MINUTE) for at in (1, 5, 30)]
    assert 1 == flaps_of(holds)
    assert 0 == flaps_of([holds[0], Hold("feed/due", "observer", 5 * MINUTE, 6 * MINUTE)])


def test_lateness_counts_from_the_deadline_by_priority_and_an_hour_more_for_the_dead():
    slack = 60_000 + 20_000  # P1, and two runs of ten seconds
    on_time = Record(MAIL, 1, 0, done_ms=slack)
    late = Record(MAIL, 1, 0, done_ms=slack + 2 * MINUTE)
    dead = Record(MAIL, 1, LENGTH_MS - slack, is_dead=True, failed=4)

    assert 0 == cost_of(world(a=on_time)).total
    assert WEIGHTS[1] * 2 == cost_of(world(a=on_time, b=late)).total
    assert WEIGHTS[1] * 60 + 4 == cost_of(world(a=dead)).total
    assert (1, 4) == (cost_of(world(a=dead)).dead, cost_of(world(a=dead)).wasted_attempts)


def test_what_a_person_pauses_costs_nobody_anything_but_what_is_late_by_it():
    by_person = cost_of(world(act("pause", 1, 6, actor="joel")))
    by_observer = cost_of(world(act("pause", 1, 6)))
    assert (0, 0, 0) == (by_person.pauses, by_person.false_pauses, by_person.total)
    assert (1, 1, 5) == (by_observer.pauses, by_observer.false_pauses, by_observer.total)


def test_the_referee_sees_what_a_broken_policy_would_let_through():
    held = act("pause", 1, 30, actor="joel")
    wrong = {
        "protected": [act("pause", 1, 6, family="alert/raised")],
        "not auto": [act("pause", 1, 6, family="bank/pulled")],
        "unknown": [act("pause", 1, 6, family="everything")],
        "endless": [act("pause", 1)],
        "too long": [act("pause", 1, 1 + 25 * 60)],
        "a person's": [held, act("resume", 5)],
        "too many": [act("pause", 1, 6, target=f"limit:handler/mail.queued={n}") for n in range(9)],
    }
    assert dict.fromkeys(wrong, 1) == {
        name: len(forbidden_applied(world(*acts))) for name, acts in wrong.items()
    }
    assert [] == forbidden_applied(world(held, act("pause", 31, 36), act("resume", 33)))
