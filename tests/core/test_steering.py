"""Steering: what people do to gates and jobs, that it ends, and that it can be taken back."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import CannotUndo, HeldByPerson, InvalidGate, UnknownControl

FAM = "pause:family/fam"
NAS = "limit:resource/nas"
JOEL = {"actor": "joel", "reason": "because"}
OBSERVER = {"actor": "observer", "reason": "looks slow"}


def controls(core):
    return [(act["verb"], act["target"], act["actor"]) for act in core.store.controls()]


def shed(core, ids, **options):
    return core.store.shed(ids, target="chosen", **{**JOEL, **options})


def rank(core, id):
    return float(core.field(id, "rank")) - core.clock.now


# -- what is in force, who set it, and undo ---------------------------------------------------------


def test_an_act_is_in_the_stream_before_its_effect_with_its_id(core):
    core.store.pause(FAM, ttl_ms=60_000, **JOEL)

    entry = core.entries()[0]
    assert {
        "verb": "pause", "gate": FAM, "actor": "joel", "reason": "because", "control": "c1",
        "expires_at": str(core.clock.now + 60_000),
    }.items() <= entry.items()  # fmt: skip
    (act,) = core.store.controls()
    assert {
        "id": "c1", "verb": "pause", "target": FAM, "at": core.clock.now, "until": core.clock.now + 60_000,
    }.items() <= act.items()  # fmt: skip


def test_undoing_a_pause_opens_the_gate(core):
    core.admit("a")
    core.store.pause(FAM, **JOEL)
    assert [] == core.claim_ids()

    act, went_back, left = core.store.undo("c1", **JOEL)

    assert ("pause", 0, 0) == (act["verb"], went_back, left)
    assert [] == core.store.controls()
    assert ["a"] == core.claim_ids()
    assert {"verb": "undo", "control": "c1", "actor": "joel"}.items() <= core.entries("undo")[0].items()


def test_undoing_a_pause_brings_back_the_one_that_it_replaced_while_that_lasts(core):
    core.store.pause(FAM, actor="ada", reason="first", ttl_ms=60_000)
    core.store.pause(FAM, **JOEL)
    core.store.undo("c2", **JOEL)

    assert [("pause", FAM, "ada")] == controls(core)
    assert "first" == core.store.snapshot()["pauses"][0]["reason"]
    core.admit("a")
    assert [] == core.claim_ids()
    core.clock.advance(60_000)
    assert ["a"] == core.claim_ids()
    assert [] == core.store.controls()


def test_what_was_replaced_and_is_over_by_now_does_not_come_back(core):
    core.store.pause(FAM, actor="ada", reason="first", ttl_ms=1_000)
    core.store.pause(FAM, **JOEL)
    core.clock.advance(1_000)
    core.store.undo("c2", **JOEL)
    assert [] == core.store.controls() == core.store.snapshot()["pauses"]


def test_undoing_a_resume_pauses_again_until_the_old_end(core):
    core.store.pause(FAM, actor="ada", reason="first", ttl_ms=60_000)
    core.clock.advance(10_000)
    core.store.resume(FAM, **JOEL)
    assert [] == core.store.controls()
    core.store.undo("c2", **JOEL)

    (act,) = core.store.controls()
    assert ("c1", core.clock.now + 50_000) == (act["id"], act["until"])
    core.admit("a")
    core.clock.advance(49_999)
    assert [] == core.claim_ids()
    core.clock.advance(1)
    assert ["a"] == core.claim_ids()


def test_an_act_is_undone_once_and_never_under_a_later_one(core):
    core.store.pause(FAM, **JOEL)
    core.store.pause(FAM, **JOEL)
    before = core.image()
    with pytest.raises(CannotUndo, match="later act"):
        core.store.undo("c1", **JOEL)
    with pytest.raises(UnknownControl, match="c99"):
        core.store.undo("c99", **JOEL)
    assert before == core.image()

    core.store.undo("c2", **JOEL)
    core.store.undo("c1", **JOEL)
    with pytest.raises(CannotUndo, match="nothing of it is left"):
        core.store.undo("c1", **JOEL)


def test_the_newest_thousand_acts_are_known(core):
    for _ in range(1_003):
        core.store.pause(FAM, **JOEL)
    acts = core.store.acts()
    assert (1_000, "c4", "c1003") == (len(acts), acts[0]["id"], acts[-1]["id"])


# -- limits -------------------------------------------------------------------------------------------


def base(core, most):
    return core.store.limit({NAS: most}, actor="registry", reason="registry 1")


def most(core):
    return core.text.hget(core.key.limits, NAS)


def test_a_limit_for_a_while_goes_back_to_what_the_registry_says(core):
    base(core, 5)
    assert [] == core.store.controls()
    core.store.limit({NAS: 1}, ttl_ms=60_000, **JOEL)
    assert "1" == most(core)
    assert 0 == base(core, 7)  # a worker starts: the registry is the base, and a person's limit stays
    assert "1" == most(core)
    core.clock.advance(60_000)
    core.claim()

    assert "7" == most(core)
    assert [] == core.store.controls()
    assert {"of": "limit", "actor": "expiry", "target": NAS}.items() <= core.entries("undo")[0].items()


def test_a_limit_that_ends_lets_the_jobs_behind_it_start(core):
    core.store.limit({NAS: 0}, ttl_ms=60_000, **JOEL)
    core.admit("a", gates=(NAS,))
    assert [] == core.claim_ids()
    core.clock.advance(60_000)
    assert ["a"] == core.claim_ids()


def test_a_limit_is_undone_step_by_step(core):
    base(core, 5)
    core.store.limit({NAS: 3}, **JOEL)
    core.store.limit({NAS: 2}, **JOEL)
    core.store.undo("c2", **JOEL)
    assert "3" == most(core)
    core.store.undo("c1", **JOEL)
    assert "5" == most(core)


def test_a_limit_where_there_was_none_is_taken_away_again(core):
    core.store.limit({NAS: 3}, **JOEL)
    core.store.undo("c1", **JOEL)
    assert most(core) is None


# -- a person beats the observer ------------------------------------------------------------------------


def test_the_observer_may_not_change_what_a_person_has_set(core):
    core.store.pause(FAM, **JOEL)
    core.store.limit({NAS: 3}, **JOEL)
    core.store.drain("pause:queue/q", **JOEL)
    core.admit("p")
    core.admit("s")
    core.store.priority(["p"], 0, 0, target="family/fam", ttl_ms=60_000, **JOEL)
    shed(core, ["s"])
    before, entries = core.image(), core.entries()

    for change in (
        lambda: core.store.pause(FAM, **OBSERVER),
        lambda: core.store.resume(FAM, **OBSERVER),
        lambda: core.store.limit({NAS: 9}, **OBSERVER),
        lambda: core.store.drain("pause:queue/q", **OBSERVER),
        lambda: core.store.drain(FAM, **OBSERVER),
        lambda: core.store.undo("c1", **OBSERVER),
    ):
        with pytest.raises(HeldByPerson, match="only a person"):
            change()
    words = core.store.priority(["p"], 9, 1, target="family/fam", ttl_ms=60_000, **OBSERVER)[1]
    assert [Word.HELD_BY_PERSON] == words
    assert before == core.image()
    assert entries == core.entries()[: len(entries)]
    refusals = core.entries()[len(entries) :]
    assert ["pause", "resume", "limit", "drain", "drain", "undo", "priority"] == [e["of"] for e in refusals]
    assert [("refuse", "observer", FAM)] * 2 == [(e["verb"], e["actor"], e["target"]) for e in refusals[:2]]


def test_the_observer_leaves_alone_a_job_that_a_person_has_steered(core):
    core.admit("p")
    core.store.priority(["p"], 0, 0, target="p", **JOEL)
    for verb in (core.store.shed, core.store.stage, core.store.unshed):
        assert [Word.HELD_BY_PERSON] == verb(["p"], target="p", **OBSERVER)[1]
    assert ("available", 0.0) == (core.state("p"), rank(core, "p"))


def test_a_person_may_change_what_the_observer_has_set(core):
    core.store.pause(FAM, **OBSERVER)
    core.store.pause(FAM, **JOEL)
    core.store.undo("c2", **JOEL)
    core.store.undo("c1", **JOEL)
    assert [] == core.store.controls()


def test_the_observer_may_change_what_it_has_set_itself(core):
    core.store.pause(FAM, **OBSERVER)
    core.store.pause(FAM, **OBSERVER)
    assert core.store.resume(FAM, **OBSERVER)


# -- priority -------------------------------------------------------------------------------------------


def test_a_better_priority_moves_a_waiting_job_to_the_front(core):
    core.admit("first", priority=2)
    core.admit("second", priority=3)

    act, words = core.store.priority(["second"], 0, 0, target="second", **JOEL)

    assert ("c1", [Word.PRIORITIZED]) == (act, words)
    assert ("0", "0", 0.0) == (
        core.field("second", "priority"), core.field("second", "slack_ms"), rank(core, "second"),
    )  # fmt: skip
    assert {"job": "second", "was": "3", "priority": "0", "from": "available", "to": "available"}.items() <= (
        core.entries("priority")[-1].items()
    )
    assert 1 == core.store.snapshot()["by_priority"]["P0"]
    assert ["second", "first"] == core.claim_ids(most=2)


def test_a_priority_is_undone_for_the_jobs_that_still_wait(core):
    for id in ("a", "b", "c"):
        core.admit(id)
    core.store.priority(["a", "b", "c"], 0, 0, target="fam", **JOEL)
    core.store.priority(["b"], 900_000, 3, target="b", **JOEL)
    assert ["a"] == core.claim_ids()

    act, went_back, left = core.store.undo("c1", **JOEL)

    assert ("priority", 1, 0) == (act["verb"], went_back, left)
    assert (900_000, 300_000) == (rank(core, "b"), rank(core, "c"))
    assert ("3", "2") == (core.field("b", "priority"), core.field("c", "priority"))


def test_the_same_priority_again_changes_nothing(core):
    core.admit("a")
    core.store.priority(["a"], 300_000, 2, target="a", **JOEL)
    assert [Word.UNCHANGED] == core.store.priority(["a"], 300_000, 2, target="a", **JOEL)[1]
    assert [] == [one for one in core.entries("priority") if "job" in one]


def test_a_scheduled_job_gets_its_new_slack_when_its_time_comes(core):
    core.admit("a", due_ms=core.clock.now + 5_000)
    assert [Word.PRIORITIZED] == core.store.priority(["a"], 60_000, 1, target="a", **JOEL)[1]
    core.clock.advance(5_000)
    core.claim(most=0)
    assert ("available", 60_000) == (core.state("a"), rank(core, "a"))


def test_what_runs_or_is_unknown_keeps_its_priority(core):
    core.admit("a")
    core.start()
    assert [Word.WRONG_STATE, Word.MISSING] == core.store.priority(["a", "b"], 0, 0, target="a", **JOEL)[1]
    assert "2" == core.field("a", "priority")


def test_a_familys_priority_for_a_while_acts_on_later_admissions_too(core):
    core.admit("a")
    core.store.priority(["a"], 0, 0, target="family/fam", ttl_ms=60_000, **JOEL)
    core.admit("b")
    core.admit("other", family="other", handler="o")
    assert (0.0, 0.0, 300_000) == (rank(core, "a"), rank(core, "b"), rank(core, "other"))
    assert "0" == core.field("b", "priority")

    core.clock.advance(60_000)
    core.claim("none")
    core.admit("c")
    assert (300_000, "2") == (rank(core, "c"), core.field("c", "priority"))
    assert [] == core.store.controls()
    assert "0" == core.field("b", "priority")  # what was moved stays


def test_a_lane_parked_at_a_gate_with_a_place_left_looks_again_when_its_rank_gets_better(core):
    core.store.limit({NAS: 1}, actor="registry", reason="")
    core.admit("runs", gates=(NAS,))
    tag = core.start()
    for name, level in (("good", 1), ("bad", 3)):
        core.admit(name, lane=f"q|{name}|", handler=name, gates=(NAS,), priority=level)
    core.claim()
    core.store.complete([tag])  # "good" is brought back for the place
    core.store.priority(["bad"], 0, 0, target="bad", **JOEL)
    assert ["bad"] == core.claim_ids()


# -- stage: retry now -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["scheduled", "retryable"])
def test_a_job_that_waits_for_its_time_runs_now_and_undo_puts_it_back(core, state):
    due = core.clock.now + 50_000
    core.admit("a", due_ms=due if state == "scheduled" else 0)
    if state == "retryable":
        tag = core.start()
        core.store.retry(core.job("a", lease_tag=tag, due_ms=due))
        core.store.complete([tag])
    assert state == core.state("a")

    assert ("c1", [Word.STAGED]) == core.store.stage(["a"], target="a", **JOEL)

    assert ("available", 300_000) == (core.state("a"), rank(core, "a"))
    assert {"actor": "joel", "from": state, "control": "c1"}.items() <= core.entries("stage")[-1].items()
    core.store.undo("c1", **JOEL)
    assert (state, str(due)) == (core.state("a"), core.field("a", "due_at"))
    assert [] == core.claim_ids()
    core.clock.advance(50_000)
    assert ["a"] == core.claim_ids()


def test_only_what_waits_for_a_clock_is_staged(core):
    core.admit("a")
    assert [Word.WRONG_STATE, Word.MISSING] == core.store.stage(["a", "b"], target="a", **JOEL)[1]


# -- shed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["available", "scheduled", "retryable"])
def test_a_shed_job_waits_in_the_parking_lot_and_comes_back_as_it_was(core, state):
    due = core.clock.now + 5_000
    core.admit("a", priority=1, due_ms=due if state == "scheduled" else 0)
    if state == "retryable":
        tag = core.start()
        core.store.retry(core.job("a", lease_tag=tag, due_ms=due, priority=1))
        core.store.complete([tag])
    was = core.field("a", "rank")

    assert ("c1", [Word.SHED]) == shed(core, ["a"])

    assert ("held", "shed") == (core.state("a"), core.field("a", "held_for"))
    core.clock.advance(10_000)
    assert [] == core.claim_ids()
    assert [("shed", "c1", "joel")] == controls(core)
    assert "chosen" == core.store.controls()[0]["where"]
    assert [Word.UNSHED] == core.store.unshed(["a"], target="a", **JOEL)[1]
    assert [] == core.store.controls()
    if state == "available":
        assert was == core.field("a", "rank")
    assert ["a"] == core.claim_ids()


def test_shed_jobs_come_back_by_undo_some_at_a_time(core):
    ids = [f"j{n:04}" for n in range(1_500)]
    core.store.admit([core.job(id, lane=f"q|h|{n % 3}") for n, id in enumerate(ids)])
    act, words = shed(core, ids[:1_000])
    assert (act, [Word.SHED] * 500) == shed(core, ids[1_000:], act=act)
    assert 2 == shed(core, ids[:2], act=act)[1].count(Word.WRONG_STATE)
    assert {Word.SHED} == set(words)
    assert [] == core.claim_ids(most=9)

    for left in range(1_250, -1, -250):
        assert (250, left) == core.store.undo(act, **JOEL)[1:]

    assert 1_500 == core.store.snapshot()["by_state"]["available"]
    assert [] == core.store.controls()


def test_shed_jobs_come_back_when_the_time_is_over(core):
    core.store.admit([core.job() for _ in range(1_200)])
    ids = sorted(core.structure().jobs)
    act = shed(core, ids[:1_000], ttl_ms=60_000)[0]
    shed(core, ids[1_000:], ttl_ms=60_000, act=act)
    core.clock.advance(60_000)
    for _ in range(5):
        core.claim(most=0)
    core.claim(most=2)
    assert 1_198 == core.store.snapshot()["by_state"]["available"]
    assert [] == core.store.controls()


def test_shedding_the_first_job_of_a_lane_lets_the_next_lane_have_its_place(core):
    core.store.limit({NAS: 1}, actor="registry", reason="")
    core.admit("runs", gates=(NAS,))
    tag = core.start()
    for name in ("x", "y"):
        core.admit(name, lane=f"q|{name}|", handler=name, gates=(NAS,))
    core.claim()
    core.store.complete([tag])
    shed(core, ["x"])
    assert ["y"] == core.claim_ids()


def test_a_shed_job_is_a_duplicate_when_it_is_sent_again_and_can_be_cancelled(core):
    core.admit("a")
    shed(core, ["a"])
    assert [Word.DUPLICATE] == core.store.admit([core.job("a")])
    assert [Word.CANCELLED] == core.store.cancel(["a"], **JOEL)
    assert [] == core.store.controls()


def test_what_runs_is_not_shed_and_what_is_not_held_is_not_unshed(core):
    core.admit("a")
    core.start()
    assert [Word.WRONG_STATE, Word.MISSING] == shed(core, ["a", "b"])[1]
    assert [Word.WRONG_STATE, Word.MISSING] == core.store.unshed(["a", "b"], target="a", **JOEL)[1]


# -- cancel, and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_ms", [0, 60_000])
def test_what_an_act_cancelled_comes_back_as_it_was(core, keep_ms):
    core.admit("a", keep_ms=keep_ms)
    core.admit("due", keep_ms=keep_ms, due_ms=core.clock.now + 5_000)
    core.admit("parked", keep_ms=keep_ms)
    shed(core, ["parked"])
    was = core.field("a", "rank")

    act, words = core.store.cancel_for_undo(["a", "due", "parked"], target="chosen", **JOEL)

    assert [Word.CANCELLED] * 3 == words
    assert [] == core.claim_ids(most=9)
    assert 0 == core.store.snapshot()["total"]
    core.clock.advance(1_000)
    assert (3, 0) == core.store.undo(act, **JOEL)[1:]
    assert ("available", was, "scheduled", "available") == (
        core.state("a"), core.field("a", "rank"), core.state("due"), core.state("parked"),
    )  # fmt: skip
    assert -1 == core.text.pttl(core.key.job("a"))
    assert 0 == core.store.snapshot()["by_state"]["cancelled"]
    assert {"from": "cancelled", "to": "available"}.items() <= core.entries("undo")[1].items()
    assert {"a", "parked"} == set(core.claim_ids(most=9))
    core.clock.advance(10_000)
    assert ["due"] == core.claim_ids(most=9)


def test_what_was_sent_again_after_it_was_cancelled_is_not_replaced_by_undo(core):
    core.admit("a")
    act = core.store.cancel_for_undo(["a"], target="a", **JOEL)[0]
    core.admit("a", priority=0)
    assert (0, 0) == core.store.undo(act, **JOEL)[1:]
    assert "0" == core.field("a", "priority")


def test_what_runs_is_asked_and_what_a_person_steered_is_not_cancelled_by_the_observer(core):
    core.admit("runs")
    core.start()
    core.admit("p")
    core.store.priority(["p"], 0, 0, target="p", **JOEL)
    assert [Word.HELD_BY_PERSON] == core.store.cancel(["p"], **OBSERVER)
    act, words = core.store.cancel_for_undo(["runs"], target="runs", **JOEL)
    assert [Word.ASKED] == words
    with pytest.raises(CannotUndo):
        core.store.undo(act, **JOEL)


# -- drain ----------------------------------------------------------------------------------------------


def lanes(core):
    return sorted(core.structure().metas)


@pytest.mark.parametrize("name", ["pause:family/fam", "pause:handler/h", "pause:queue/q"])
@pytest.mark.parametrize("paused", ["pause:family/fam", "pause:handler/h", "pause:queue/q"])
def test_a_drain_lets_out_what_waits_now_and_nothing_that_comes_later(core, name, paused):
    core.admit("old")
    core.store.pause(paused, **JOEL)
    assert [] == core.claim_ids()
    core.store.drain(name, lanes=lanes(core), **JOEL)
    core.clock.advance(1)
    core.admit("new", priority=0)

    assert ["old"] == core.claim_ids(most=9)
    assert [] == core.claim_ids(most=9)
    core.store.undo("c2", **JOEL)
    core.store.resume(paused, **JOEL)
    assert ["new"] == core.claim_ids(most=9)


def test_a_drain_of_one_family_opens_nothing_for_another(core):
    core.admit("a")
    core.admit("other", family="other", handler="other")
    core.store.pause("pause:queue/q", **JOEL)
    core.claim()
    core.store.drain(FAM, lanes=lanes(core), **JOEL)
    assert ["a"] == core.claim_ids(most=9)


def test_limits_hold_while_a_name_drains(core):
    core.store.limit({NAS: 1}, actor="registry", reason="")
    core.store.admit([core.job(id, gates=(NAS,)) for id in ("a", "b")])
    core.store.pause(FAM, **JOEL)
    core.claim()
    core.store.drain(FAM, lanes=lanes(core), **JOEL)
    (job,) = core.claim(most=9).jobs
    core.store.complete([job.tag])
    assert ["b"] == core.claim_ids(most=9)


def test_a_drain_passes_rates_but_what_comes_later_does_not(core):
    core.store.rate({"rate:handler/h": Rate(1, 60_000)}, actor="registry", reason="")
    core.store.admit([core.job(id, gates=("rate:handler/h",)) for id in ("a", "b", "c")])
    assert ["a"] == core.claim_ids(most=9)
    core.store.drain("pause:handler/h", lanes=lanes(core), **JOEL)
    core.clock.advance(1)
    core.admit("new", gates=("rate:handler/h",), priority=0)
    assert ["b", "c"] == core.claim_ids(most=9)
    assert "rate:handler/h" == core.gate_of("q|h|")
    core.clock.advance(600_000)
    assert ["new"] == core.claim_ids(most=9)


def test_a_drain_ends_with_its_time(core):
    core.admit("old")
    core.store.pause(FAM, **JOEL)
    core.claim()
    core.store.drain(FAM, ttl_ms=60_000, **JOEL)
    core.clock.advance(60_000)
    core.claim()
    core.store.drain(FAM, act="c2", lanes=lanes(core), **JOEL)
    assert [] == core.claim_ids()
    assert [("pause", FAM, "joel")] == controls(core)


@pytest.mark.parametrize("gate", ["family/fam", "limit:x", "pause:lane/x", ""])
def test_only_a_pause_gate_is_drained(core, gate):
    with pytest.raises(InvalidGate):
        core.store.drain(gate, **JOEL)
    assert [] == core.entries()
