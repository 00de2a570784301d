"""The checker names each thing that must not happen, and is silent about what may."""

from __future__ import annotations

from pathlib import Path

import pytest
from story import Story

from chaos.checker import check
from chaos.history import History
from chaos.record import Record
from chaos.verdict import Verdict

LIMITED = {"family": "limited", "gates": ["limit:handler/limited"]}
KEYED = {"family": "keyed", "gates": ["limit:key/keyed=a"]}


@pytest.fixture
def story() -> Story:
    return Story()


def codes(story: Story) -> list[str]:
    return [f"{each.invariant} {each.code} {each.subject}" for each in check(story.history)]


def test_an_ordinary_run_is_green(story: Story):
    story.run("a", 1.0, 2.0).run("b", 1.0, 1.5, **LIMITED).rest()
    assert [] == codes(story)


# -- I1 -------------------------------------------------------------------------------------------


def test_what_was_accepted_and_never_admitted_is_lost(story: Story):
    story.line("accepted", 1.0, job="a")
    assert ["I1 LOST a"] == codes(story)


def test_what_waits_for_ever_is_stranded(story: Story):
    story.accept("a", 1.0)
    assert ["I1 STRANDED a"] == codes(story)


def test_what_runs_for_ever_is_stranded_also_when_its_producer_never_heard_of_it(story: Story):
    story.move(1.0, "admit", "a", None, "available").claim("a", 1.0).start("a#1000#1", 1.0)
    assert ["I1 STRANDED a"] == codes(story)


def test_what_counts_as_completed_and_never_ran_to_its_end_is_lost(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("complete", "a", 1.1, "completed")
    assert ["I1 LOST a"] == codes(story)


def test_a_call_that_failed_may_be_lost(story: Story):
    story.line("asked", 1.0, job="a", family="plain").line("failed", 1.1, job="a", error="reset")
    assert [] == codes(story)


def test_the_dead_letter_needs_a_reason(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).move(
        2.0, "discard", "a", "executing", "discarded", attempt="1", signature="E-1"
    )
    assert ["I1 DISCARDED a"] == codes(story)


def test_what_is_to_fail_belongs_in_the_dead_letter(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0, family="failing")
    story.move(2.0, "discard", "a", "executing", "discarded", attempt="1", family="failing", signature="E-1")
    assert [] == codes(story)


def test_a_beat_that_falls_silent_is_a_fault_unless_nobody_reached_redis(story: Story):
    for number, at in enumerate((1.0, 2.0, 12.0)):
        story.run(f"tick{number}", at, at + 0.1)
        for line in story.lines[-6:]:
            line["family"] = "tick"
    assert ["I1 TICKS_MISSING tick"] == codes(story)
    story.fault("freeze-redis", 2.5, 9.0, everywhere=True)
    assert [] == codes(story)


# -- I2 -------------------------------------------------------------------------------------------


def test_a_call_that_was_sent_twice_and_ran_twice_finished_twice(story: Story):
    story.run("a", 1.0, 1.1).run("a", 2.0, 2.1)
    assert {"I2 FINISHED_TWICE a", "I2 STARTED_TOO_OFTEN a"} == set(codes(story))


def test_a_finish_told_before_the_end_is_a_fault(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0)
    story.settle("complete", "a", 1.1, "completed").end("a#1000#1", 1.5)
    assert ["I2 FINISHED_EARLY a"] == codes(story)


def test_the_finish_of_a_zombie_that_counts_for_another_attempt_is_a_fault(story: Story):
    story.fault("freeze", 1.5, 6.0, workers=["w1"], outlasts_lease=True)
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("expire", "a", 4.5, "available")
    story.claim("a", 5.0, attempt=2).start("a#1000#2", 5.0, worker="w2").end("a#1000#1", 6.1)
    story.settle("complete", "a", 6.1, "completed", attempt=2).end("a#1000#2", 7.0)
    assert ["I2 FINISHED_EARLY a"] == codes(story)


def test_the_finish_of_a_zombie_that_is_refused_is_none(story: Story):
    story.fault("freeze", 1.5, 6.0, workers=["w1"], outlasts_lease=True)
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("expire", "a", 4.5, "available")
    story.claim("a", 5.0, attempt=2).start("a#1000#2", 5.0, worker="w2").end("a#1000#1", 6.1)
    story.end("a#1000#2", 7.0).settle("complete", "a", 7.0, "completed", attempt=2)
    assert [] == codes(story)
    assert 1 == Verdict.of(story.history).repeats


def test_a_job_that_starts_again_for_no_reason_is_a_fault(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("expire", "a", 4.5, "available")
    story.claim("a", 5.0, attempt=2).start("a#1000#2", 5.0).end("a#1000#2", 7.0)
    story.settle("complete", "a", 7.0, "completed", attempt=2)
    assert ["I2 STARTED_TOO_OFTEN a", "I2 EXPIRED_FALSELY a"] == codes(story)


@pytest.mark.parametrize("hit", [{"workers": ["w1"]}, {"pids": [1]}])
def test_each_death_allows_one_more_start_and_says_how_long_it_took(story: Story, hit: dict):
    story.fault("kill", 1.5, 1.5, kills=True, **hit)
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("expire", "a", 2.5, "available")
    story.claim("a", 2.6, attempt=2).start("a#1000#2", 2.7, worker="w2", pid=2).end("a#1000#2", 3.0)
    story.settle("complete", "a", 3.0, "completed", attempt=2)
    assert [] == codes(story)
    assert [pytest.approx(1.2)] == Verdict.of(story.history).recovery_s


def test_a_death_elsewhere_allows_nothing(story: Story):
    story.fault("kill", 1.5, 1.5, kills=True, workers=["w9"])
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).settle("expire", "a", 2.5, "available")
    story.claim("a", 2.6, attempt=2).start("a#1000#2", 2.7).end("a#1000#2", 3.0)
    story.settle("complete", "a", 3.0, "completed", attempt=2)
    assert ["I2 STARTED_TOO_OFTEN a", "I2 EXPIRED_FALSELY a"] == codes(story)


def test_a_retry_is_one_more_start(story: Story):
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).end("a#1000#1", 1.1)
    story.settle("retry", "a", 1.1, "retryable").move(1.2, "stage", "a", "retryable", "available")
    story.claim("a", 1.2, attempt=2).start("a#1000#2", 1.2).end("a#1000#2", 1.3)
    story.settle("complete", "a", 1.3, "completed", attempt=2)
    assert [] == codes(story)
    assert 0 == Verdict.of(story.history).repeats


# -- I3 -------------------------------------------------------------------------------------------


def test_one_too_many_at_a_limit_is_a_fault(story: Story):
    for job in "abc":
        story.run(job, 1.0, 2.0, **LIMITED)
    assert ["I3 LIMIT_EXCEEDED limit:handler/limited"] == codes(story)


def test_as_many_as_the_limit_may_run_one_after_the_other(story: Story):
    story.run("a", 1.0, 2.0, **LIMITED).run("b", 1.0, 2.0, **LIMITED).run("c", 2.0, 3.0, **LIMITED)
    assert [] == codes(story)


def test_a_limit_by_key_counts_each_key(story: Story):
    other = KEYED | {"gates": ["limit:key/keyed=b"]}
    story.run("a", 1.0, 2.0, **KEYED).run("b", 1.0, 2.0, **other)
    assert [] == codes(story)
    story.run("c", 1.5, 1.6, **KEYED)
    assert ["I3 LIMIT_EXCEEDED limit:key/keyed=a"] == codes(story)


def test_a_lower_limit_holds_for_starts_once_it_was_answered(story: Story):
    story.control("limit", "limit:handler/limited", 1.0, 1.1, value=1)
    story.run("a", 0.5, 3.0, **LIMITED).run("b", 1.05, 3.0, **LIMITED)
    assert [] == codes(story)
    story.run("c", 3.5, 4.5, **LIMITED).run("d", 4.0, 4.5, **LIMITED)
    assert ["I3 LIMIT_EXCEEDED limit:handler/limited"] == codes(story)


def test_a_limit_that_was_not_answered_may_be_in_force_or_not(story: Story):
    story.control("limit", "limit:handler/limited", 1.0, None, value=3)
    for job in "abc":
        story.run(job, 2.0, 3.0, **LIMITED)
    assert [] == codes(story)


def test_a_zombie_has_no_place_once_its_lease_is_lost(story: Story):
    story.fault("freeze", 1.5, 6.0, workers=["w1"], outlasts_lease=True)
    story.accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0, **KEYED)
    story.settle("expire", "a", 4.5, "available").claim("a", 4.6, attempt=2)
    story.start("a#1000#2", 4.7, worker="w2", **KEYED).end("a#1000#1", 6.1).end("a#1000#2", 6.2)
    story.settle("complete", "a", 6.2, "completed", attempt=2)
    assert [] == codes(story)


# -- I4, I5 ---------------------------------------------------------------------------------------


def test_starts_faster_than_their_rate_are_a_fault(story: Story):
    for number in range(4):  # ten a second, two at once: the fourth is due 0.2 s after the first
        story.run(f"j{number}", 1.0, 1.1, family="rated")
    assert ["I4 RATE_EXCEEDED rated"] == codes(story)


def test_starts_at_their_rate_are_none(story: Story):
    story.run("a", 1.0, 1.1, family="rated")
    for number in range(20):
        story.run(f"j{number}", 1.0 + number / 10, 5.0, family="rated")
    assert [] == codes(story)


def test_a_start_long_after_the_pause_is_a_fault(story: Story):
    story.control("pause", "pause:family/plain", 1.0, 1.1).run("a", 1.3, 1.4)
    assert ["I5 STARTED_WHILE_PAUSED a"] == codes(story)


def test_a_start_just_after_the_pause_is_none_nor_is_one_after_the_resume(story: Story):
    story.control("pause", "pause:family/plain", 1.0, 1.1).run("a", 1.15, 1.4)
    story.control("resume", "pause:family/plain", 2.0, None).run("b", 2.1, 2.2).run(
        "c", 1.5, 1.6, family="other"
    )
    assert [] == codes(story)


def test_a_pause_that_was_not_answered_promises_nothing(story: Story):
    story.control("pause", "pause:family/plain", 1.0, None).run("a", 1.3, 1.4)
    assert [] == codes(story)


def test_what_was_claimed_before_the_pause_by_a_worker_that_froze_may_start_late(story: Story):
    story.control("pause", "pause:family/plain", 1.0, 1.1).fault("freeze", 0.95, 2.0, workers=["w1"])
    story.accept("a", 0.9).claim("a", 0.9).start("a#900#1", 2.0).end("a#900#1", 2.1)
    story.settle("complete", "a", 2.1, "completed")
    assert [] == codes(story)
    story.accept("b", 0.9).claim("b", 1.5).start("b#900#1", 2.0).end("b#900#1", 2.1)
    story.settle("complete", "b", 2.1, "completed")
    assert ["I5 STARTED_WHILE_PAUSED b"] == codes(story)


# -- I7, I8, I11 ----------------------------------------------------------------------------------


def test_counts_that_the_stream_does_not_know_are_a_fault(story: Story):
    story.run("a", 1.0, 2.0).rest(available=1)
    assert ["I7 COUNTS_DIFFER counts"] == codes(story)


def test_a_place_that_is_still_held_at_the_end_is_a_fault(story: Story):
    story.run("a", 1.0, 2.0).rest(left={"running:limit:handler/limited": ["a"]})
    assert ["I8 LEFT_OVER running:limit:handler/limited"] == codes(story)


def test_what_the_audit_finds_is_a_fault(story: Story):
    found = {"invariant": "I7", "code": "COUNT_OFF", "subject": "x", "detail": "one too many"}
    story.rest(violations=[found])
    assert ["I7 COUNT_OFF x"] == codes(story)


@pytest.mark.parametrize(("cut", "found"), [("resets", []), ("latency", ["I2 EXPIRED_FALSELY a"])])
def test_a_worker_that_stood_still_while_it_was_cut_off_could_not_come_back(
    story: Story, cut: str, found: list[str]
):
    story.fault(cut, 0.5, 1.2, everywhere=True).fault("freeze-worker-briefly", 1.3, 2.6, workers=["w1"])
    story.run("b", 0.2, 0.4)
    story.accept("a", 1.0).claim("a", 1.0, holder="h1").start("a#1000#1", 1.0).end("a#1000#1", 1.1)
    story.settle("expire", "a", 2.5, "available").claim("a", 2.6, attempt=2)
    story.settle("complete", "a", 2.7, "completed", attempt=2)
    assert found == [each for each in codes(story) if "EXPIRED" in each]


def test_a_lease_that_is_lost_without_a_fault_is_a_fault(story: Story):
    story.accept("b", 0.5).claim("b", 0.5, holder="h1").start("b#500#1", 0.5).end("b#500#1", 0.6)
    story.settle("complete", "b", 0.6, "completed")
    story.accept("a", 1.0).claim("a", 1.1, holder="h1").settle("expire", "a", 2.0, "available")
    story.claim("a", 2.1, attempt=2).start("a#1000#2", 2.1, worker="w2", pid=2).end("a#1000#2", 2.2)
    story.settle("complete", "a", 2.2, "completed", attempt=2)
    assert ["I2 EXPIRED_FALSELY a"] == codes(story)
    story.fault("blackhole", 0.9, 2.0, workers=["w1"], outlasts_lease=True)
    assert [] == codes(story)


def test_a_lease_of_a_worker_that_never_started_anything_is_not_judged(story: Story):
    story.accept("a", 1.0).claim("a", 1.1, holder="h1").settle("expire", "a", 2.0, "available")
    story.claim("a", 2.1, attempt=2).start("a#1000#2", 2.1, worker="w2", pid=2).end("a#1000#2", 2.2)
    story.settle("complete", "a", 2.2, "completed", attempt=2)
    assert [] == codes(story)


def test_what_can_only_fail_and_is_not_in_the_dead_letter_is_a_fault(story: Story):
    story.accept("bad", 1.0).claim("bad", 1.1).start("bad#1000#1", 1.1).end("bad#1000#1", 1.2)
    story.move(
        1.2, "complete", "bad", "executing", "completed", attempt="1", family="failing", signature="E-1"
    )
    assert ["I1 NOT_BURIED bad"] == codes(story)


def test_what_can_only_fail_and_is_in_the_dead_letter_is_none(story: Story):
    story.accept("bad", 1.0).claim("bad", 1.1).start("bad#1000#1", 1.1).end("bad#1000#1", 1.2)
    story.move(
        1.2, "discard", "bad", "executing", "discarded", attempt="1", family="failing", signature="E-1"
    )
    assert [] == codes(story)


@pytest.mark.parametrize(("started_at", "expected"), [(4.9, ["I9 STARTED_EARLY late"]), (5.0, []), (7.0, [])])
def test_a_start_before_its_time_is_a_fault(story: Story, started_at: float, expected: list[str]):
    story.line("accepted", 1.0, job="late").move(1.0, "admit", "late", None, "scheduled", due_at="5000")
    story.claim("late", started_at).start("late#1000#1", started_at).end("late#1000#1", started_at + 0.1)
    story.settle("complete", "late", started_at + 0.1, "completed")
    assert expected == codes(story)


def test_what_a_fault_itself_saw_is_told(story: Story):
    story.line("broken", 1.0, invariant="I1", code="EVICTION_ACCEPTED", subject="redis", detail="it started")
    assert ["I1 EVICTION_ACCEPTED redis"] == codes(story)


def test_an_act_that_is_not_in_the_stream_is_a_fault(story: Story):
    act = {"verb": "pause", "gate": "pause:family/x", "value": None, "changed": True}
    story.line("control", 1.0, asked_at=1.0, acked_at=1.1, **act)
    assert ["I11 NOT_IN_STREAM pause:family/x"] == codes(story)


# -- reading and figures --------------------------------------------------------------------------


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path):
    record = Record(tmp_path / "one")
    record.note("accepted", job="a", at=1.0)
    record.close()
    (tmp_path / "two").write_bytes(b'{"kind":"accepted","at":1.0,"job":"b"}\n{"kind":"acc')
    assert {"a", "b"} == History.read(tmp_path / "one", tmp_path / "two").accepted


def test_the_verdict_counts_by_kind(story: Story):
    story.run("a", 1.0, 1.1).run("a", 2.0, 2.1).line("accepted", 1.0, job="b")
    wire = Verdict.of(story.history).to_wire()
    assert ("red", 2, 1, 1, 0) == tuple(
        wire[name] for name in ("verdict", "accepted", "lost", "double_finishes", "limit_violations")
    )
    assert {"p50": None, "p99": None} == wire["recovery_s"]
