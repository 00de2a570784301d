"""A priority that somebody has set holds for the life of a job, whatever its later messages say."""

from __future__ import annotations

import json

import pytest

from joelclaw_tasks.core.rules import Batch, Debounce, Rules
from joelclaw_tasks.core.states import Word

JOEL = {"actor": "joel", "reason": "because"}
OBSERVER = {"actor": "observer", "reason": "looks slow"}
P0, P1, P3 = (0, 0), (60_000, 1), (900_000, 3)


def steer(core, id, level, by=JOEL, **options):
    """The word for one job, or all words of a family."""
    ids = [id] if "/" not in id else []
    act, words = core.store.priority(ids, *level, target=id, **{**by, **options})
    return words[0] if ids else act


def ends_with_retry(core, id, *, due_in_ms=0, end="complete", **fields):
    """The job runs, asks for its retry with the priority of its own message, and ends."""
    tag = core.start()
    due_ms = core.clock.now + due_in_ms if due_in_ms else 0
    core.store.retry(core.job(id, lease_tag=tag, due_ms=due_ms, **fields))
    if end == "discard":
        core.store.discard(tag, "failed")
    elif end == "expire":
        core.store.expire(["w1"], reason="dead")
    else:
        getattr(core.store, end)([tag])


def priority(core, id):
    return int(core.field(id, "slack_ms")), int(core.field(id, "priority"))


@pytest.mark.parametrize("end", ["complete", "release", "discard", "expire"])
def test_a_persons_priority_outlives_every_retry_of_the_job(core, end):
    core.admit("a")
    core.admit("other", lane="q|other|", handler="other", priority=1)
    assert Word.PRIORITIZED == steer(core, "a", P0)

    for retries in (1, 2):
        ends_with_retry(core, "a", retries=retries, end=end)

        assert (P0, str(retries)) == (priority(core, "a"), core.field("a", "retries"))
        assert core.clock.now == float(core.field("a", "rank"))
    assert {"P0": 1, "P1": 1, "P2": 0, "P3": 0} == core.store.snapshot()["by_priority"]
    assert ["a", "other"] == core.claim_ids(most=2)


def test_a_retry_that_waits_has_the_priority_when_its_time_comes(core):
    core.admit("a")
    steer(core, "a", P1)
    ends_with_retry(core, "a", due_in_ms=5_000)

    assert ("retryable", P1) == (core.state("a"), priority(core, "a"))
    core.clock.advance(5_000)
    core.claim(most=0)
    assert core.clock.now + 60_000 == float(core.field("a", "rank"))


def test_without_a_person_a_retry_says_its_own_priority(core):
    core.admit("a")
    ends_with_retry(core, "a", priority=1)
    assert P1 == priority(core, "a")


def test_inspect_shows_what_the_message_says_beside_what_is_set(core):
    core.admit("a")
    steer(core, "a", P0)
    assert ("P0", "P2") == ((job := core.store.inspect("a"))["priority"], job["own_priority"])
    ends_with_retry(core, "a", priority=3)
    assert ("P0", "P3") == ((job := core.store.inspect("a"))["priority"], job["own_priority"])


def test_a_family_that_was_steered_keeps_it_at_the_retries_of_later_jobs_too(core):
    act = steer(core, "family/fam", P0, ttl_ms=60_000)
    core.admit("a")
    assert (P0, "joel") == (priority(core, "a"), core.field("a", "steered_by"))

    core.store.undo(act, **JOEL)
    ends_with_retry(core, "a")

    assert P0 == priority(core, "a")  # it was admitted while that held
    core.admit("b")
    assert (300_000, 2) == priority(core, "b")


def test_undo_gives_the_retries_their_own_priority_back(core):
    core.admit("a")
    steer(core, "a", P0)
    core.store.undo("c1", **JOEL)
    assert (300_000, 2) == priority(core, "a")
    ends_with_retry(core, "a", priority=3)
    assert P3 == priority(core, "a")


def test_undo_while_the_job_runs_counts_from_its_retry_on(core):
    core.admit("a")
    steer(core, "a", P0)
    tag = core.start()
    core.store.retry(core.job("a", lease_tag=tag))
    core.store.undo("c1", **JOEL)
    assert P0 == priority(core, "a")  # what runs is left as it is
    core.store.complete([tag])
    assert (300_000, 2) == priority(core, "a")


def test_undoing_the_second_of_two_leaves_the_first_in_force(core):
    core.admit("a")
    steer(core, "a", P0)
    steer(core, "a", P3)
    core.store.undo("c2", **JOEL)
    ends_with_retry(core, "a")
    assert P0 == priority(core, "a")


def test_the_observer_changes_it_neither_before_nor_after_a_retry(core):
    core.admit("a")
    steer(core, "a", P0)
    assert Word.HELD_BY_PERSON == steer(core, "a", P3, OBSERVER)
    ends_with_retry(core, "a")
    assert Word.HELD_BY_PERSON == steer(core, "a", P3, OBSERVER)
    assert P0 == priority(core, "a")


def test_the_observer_changes_no_job_that_came_under_a_persons_family_priority(core):
    steer(core, "family/fam", P0, ttl_ms=60_000)
    core.admit("a")
    assert Word.HELD_BY_PERSON == steer(core, "a", P3, OBSERVER)
    assert P0 == priority(core, "a")


def test_a_person_who_asks_for_what_a_job_has_already_holds_it_there(core):
    core.admit("a", priority=0)
    assert Word.UNCHANGED == steer(core, "a", P0)
    assert Word.HELD_BY_PERSON == steer(core, "a", P3, OBSERVER)
    ends_with_retry(core, "a", priority=3)
    assert P0 == priority(core, "a")
    core.store.undo("c1", **JOEL)
    assert Word.PRIORITIZED == steer(core, "a", P3, OBSERVER)


def test_what_the_observer_has_set_holds_too_until_a_person_says_otherwise(core):
    core.admit("a")
    assert Word.PRIORITIZED == steer(core, "a", P3, OBSERVER)
    ends_with_retry(core, "a")
    assert P3 == priority(core, "a")
    assert Word.PRIORITIZED == steer(core, "a", P0)
    ends_with_retry(core, "a")
    assert P0 == priority(core, "a")


def test_a_job_that_is_sent_again_when_it_is_over_begins_with_its_own(core):
    core.admit("a")
    steer(core, "a", P0)
    core.store.complete([core.start()])
    core.admit("a")
    assert ((300_000, 2), None, None) == (
        priority(core, "a"), core.field("a", "own_priority"), core.field("a", "steered_by"),
    )  # fmt: skip


def test_a_revived_job_keeps_it(core):
    core.admit("a")
    steer(core, "a", P0)
    core.store.discard(core.start(), "failed")
    core.store.revive(["a"], **JOEL)
    ends_with_retry(core, "a")
    assert P0 == priority(core, "a")


def test_a_later_call_of_a_debounce_brings_its_data_and_not_its_priority(core):
    rules = Rules(debounce=Debounce("h=k", 1_000, 5_000)).encode()
    core.admit("a", rules=rules, payload=json.dumps({"id": "a"}))
    steer(core, "a", P0)
    core.admit("b", rules=rules, payload=json.dumps({"id": "b"}), priority=3)

    assert (P0, "900000|3") == (priority(core, "a"), core.field("a", "own_priority"))
    assert {"id": "b"} == json.loads(core.field("a", "payload"))
    core.clock.advance(1_000)
    ends_with_retry(core, "a", priority=3)
    assert P0 == priority(core, "a")


def test_a_batch_that_a_person_has_put_back_is_not_brought_forward_by_its_next_element(core):
    rules = Rules(batch=Batch("h=k", 3, 5_000)).encode()
    for id, level in (("a", 2), ("b", 2)):
        core.admit(id, rules=rules, payload=json.dumps({"id": id}), priority=level)
    steer(core, "batch:a", P3)
    core.admit("c", rules=rules, payload=json.dumps({"id": "c"}), priority=0)

    assert ("available", P3) == (core.state("batch:a"), priority(core, "batch:a"))


@pytest.mark.parametrize(
    "rule", [{"debounce": Debounce("h=k", 1_000, 5_000)}, {"batch": Batch("h=k", 3, 5_000)}]
)
def test_a_family_priority_that_comes_with_a_later_call_holds_as_well(core, rule):
    rules = Rules(**rule).encode()
    core.admit("a", rules=rules, payload=json.dumps({"id": "a"}))
    job_id = "batch:a" if "batch" in rule else "a"
    steer(core, "family/fam", P0, ttl_ms=60_000)
    core.admit("b", rules=rules, payload=json.dumps({"id": "b"}))
    core.clock.advance(5_000)
    ends_with_retry(core, job_id)
    assert (P0, "joel") == (priority(core, job_id), core.field(job_id, "steered_by"))
