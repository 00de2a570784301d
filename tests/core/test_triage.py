"""A job that wants a score is held for it, and never for longer than it may be; nothing else waits for it."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.explain import Explainer
from joelclaw_tasks.core.rules import Batch, Rules, Singleton, Triage
from joelclaw_tasks.core.score import Score
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidJob

HOLD_MS = 2_000
ENFORCED = Rules(triage=Triage(HOLD_MS)).encode()
SHADOW = Rules(triage=Triage(0)).encode()


def score(core, id, slack_ms=None, priority=None, **note):
    [word] = core.store.score([Score(id, note, slack_ms, priority)], actor="haiku")
    return word


def held(core, id="a", **fields):
    assert [Word.HELD] == core.store.admit([core.job(id, rules=ENFORCED, **fields)])
    return id


def test_a_score_lets_a_job_go_with_the_priority_that_it_stands_for(core):
    held(core)
    admitted_at = core.clock.now
    assert [] == core.claim_ids(most=5)
    core.clock.advance(300)
    assert Word.SCORED == score(core, "a", 0, 0, score=93, why="production is down")
    job = core.store.inspect("a")
    assert ("available", "P0", 0, admitted_at) == tuple(
        job[name] for name in ("state", "priority", "slack_ms", "rank")
    )
    [entry] = core.entries("score")
    assert ("held", "available", "2", "0", "haiku") == tuple(
        entry[name] for name in ("from", "to", "was", "priority", "actor")
    )
    assert '{"score":93,"why":"production is down"}' == entry["triage"] == core.field("a", "triage")
    assert ["a"] == core.claim_ids(most=5)


def test_without_a_score_it_goes_on_at_its_deadline_with_the_rank_it_had(core):
    held(core)
    admitted_at = core.clock.now
    core.clock.advance(HOLD_MS - 1)
    assert [] == core.claim_ids()
    core.clock.advance(1)
    assert ["a"] == core.claim_ids()
    assert str(admitted_at + 300_000) == core.field("a", "rank")
    [entry] = core.entries("stage")
    assert ("held", "no score in time") == (entry["from"], entry["reason"])
    assert [] == core.store.take_unscored(20)


def test_a_claim_says_when_the_first_held_job_may_start(core):
    held(core)
    core.clock.advance(500)
    assert HOLD_MS - 500 == core.claim().next_due_ms


def test_a_score_that_comes_too_late_is_noted_and_changes_nothing(core):
    held(core)
    core.clock.advance(HOLD_MS)
    core.claim_ids()
    before = core.image()
    assert Word.NOTED == score(core, "a", 0, 0, score=93)
    after = core.image()
    assert {"triage": '{"score":93}'} == {
        name: value
        for name, value in after.pop("{jc}:job:a").items()
        if before["{jc}:job:a"].get(name) != value
    }
    del before["{jc}:job:a"]
    assert before == after
    assert Word.MISSING == score(core, "never", 0, 0)


def test_a_fallback_lets_it_go_at_once_as_it_is(core):
    held(core)
    assert Word.SCORED == score(core, "a", fallback="timeout")
    job = core.store.inspect("a")
    assert ("available", "P2", 300_000) == (job["state"], job["priority"], job["slack_ms"])
    assert "own_priority" not in job


def test_in_shadow_a_job_starts_at_once_and_its_score_is_noted(core):
    assert [Word.ADMITTED] == core.store.admit([core.job("a", rules=SHADOW)])
    assert ["a"] == core.claim_ids()
    assert ["a"] == [job["id"] for job in core.store.take_unscored(20)]
    assert Word.NOTED == score(core, "a", 0, 0, score=93)
    assert "executing" == core.state("a")


def test_each_job_is_given_out_once_the_oldest_first(core):
    for id in ("a", "b", "c"):
        held(core, id)
        core.clock.advance(1)
    first, second = core.store.take_unscored(2)
    assert {
        "id": "a", "state": "held", "family": "fam", "handler": "h", "priority": 2, "slack_ms": 300_000,
        "admitted_at": core.clock.now - 3, "payload": "payload of a",
    } == first  # fmt: skip
    assert "b" == second["id"]
    assert ["c"] == [job["id"] for job in core.store.take_unscored(20)]
    assert [] == core.store.take_unscored(20)


def test_what_a_person_set_while_it_was_held_stays(core):
    held(core)
    core.store.priority(["a"], 900_000, 3, actor="ada", reason="not urgent", target="a")
    assert Word.HELD_BY_PERSON == score(core, "a", 0, 0, score=93)
    assert ("P3", "available") == tuple(core.store.inspect("a")[name] for name in ("priority", "state"))


def test_a_score_holds_at_the_jobs_own_retries(core):
    held(core)
    score(core, "a", 0, 0)
    tag = core.start()
    core.store.retry(core.job("a", lease_tag=tag, retries=1, priority=2))
    core.store.complete([tag])
    assert ("P0", "P2") == tuple(core.store.inspect("a")[name] for name in ("priority", "own_priority"))


def test_a_score_is_nobodys_act_so_the_observer_may_steer_the_job(core):
    held(core)
    score(core, "a", 0, 0)
    act = {"actor": "observer", "reason": "later", "target": "a"}
    assert [Word.PRIORITIZED] == core.store.priority(["a"], 900_000, 3, **act)[1]


@pytest.mark.parametrize("scored", [False, True])
def test_a_held_job_can_be_cancelled_and_brought_back(core, scored):
    held(core)
    if scored:
        core.store.take_unscored(1)
    act, words = core.store.cancel_for_undo(["a"], actor="ada", reason="no", target="a")
    assert [Word.CANCELLED] == words
    assert [] == core.text.zrange(core.key.timers, 0, -1) + core.text.zrange(core.key.triage, 0, -1)
    core.store.undo(act, actor="ada", reason="yes")
    assert "available" == core.state("a")


def test_a_held_job_is_in_no_parking_lot(core):
    held(core)
    steered = {"actor": "ada", "reason": "", "target": "a"}
    assert [Word.WRONG_STATE] == core.store.unshed(["a"], **steered)[1]
    assert [Word.WRONG_STATE] == core.store.shed(["a"], **steered)[1]
    assert "held" == core.state("a")


def test_explain_says_what_it_waits_for_and_until_when(core):
    held(core)
    waiting_on = Explainer(core.store).job("a")["waiting_on"]
    assert ("triage", core.clock.now + HOLD_MS) == (waiting_on["gate"], waiting_on["opens_at"])


def test_what_waits_for_its_time_is_not_held_for_a_score_as_well(core):
    job = core.job("a", rules=ENFORCED, due_ms=core.clock.now + 60_000)
    assert [Word.SCHEDULED] == core.store.admit([job])
    assert [] == core.store.take_unscored(1)


def test_a_held_singleton_keeps_others_away(core):
    rules = Rules(triage=Triage(HOLD_MS), singleton=Singleton("one")).encode()
    assert [Word.HELD] == core.store.admit([core.job("a", rules=rules)])
    [decision] = core.store.admit([core.job("b", rules=rules)])
    assert (Word.SKIPPED, "a") == decision


def test_jobs_that_nobody_scores_do_not_pile_up(core):
    core.store.admit([core.job(rules=SHADOW) for _ in range(10_050)])
    assert 10_000 == core.text.zcard(core.key.triage)


def test_bad_values_are_refused_with_nothing_changed(core):
    with pytest.raises(InvalidJob, match="hold_ms"):
        Triage(60_001)
    with pytest.raises(InvalidJob, match="no triage"):
        Rules(triage=Triage(0), batch=Batch("k", 2, 1_000))
    held(core)
    before = core.image()
    for wrong in ({"slack_ms": 1}, {"slack_ms": 1, "priority": 4}, {"slack_ms": -1, "priority": 1}):
        with pytest.raises(InvalidJob):
            score(core, "a", **wrong)
    with pytest.raises(InvalidJob, match="bytes"):
        score(core, "a", why="x" * 5_000)
    assert before == core.image()
