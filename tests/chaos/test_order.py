"""What the checker knows of order, reasons and timers, on small histories that somebody made up."""

from __future__ import annotations

import pytest
from story import Story

from chaos.checker import check

LANE = {"lane": "chaos|small|", "family": "small"}
OTHER = {"lane": "chaos|failing|", "family": "failing"}


def codes(story: Story) -> list[str]:
    rules = ("OVERTAKEN", "NO_REASON", "NOT_STOPPED", "STAGED_LATE")
    found = (f"{each.invariant} {each.code} {each.subject}" for each in check(story.history))
    return [each for each in found if any(rule in each for rule in rules)]


@pytest.fixture
def story() -> Story:
    story = Story()
    story.lines[0]["ungated"] = ["small", "failing"]
    return story


def admitted(story: Story, job: str, at: float, priority: int = 0, **fields: str) -> Story:
    return story.move(at, "admit", job, None, "available", priority=str(priority), **(LANE | fields))


def claimed(story: Story, job: str, at: float, **fields: str) -> Story:
    return story.move(at, "claim", job, "available", "executing", attempt="1", **(LANE | fields))


def test_the_best_rank_of_a_lane_starts_first(story: Story):
    admitted(story, "late", 1.0, priority=2), admitted(story, "soon", 2.0, priority=1)
    claimed(story, "soon", 3.0), claimed(story, "late", 4.0)
    assert [] == codes(story)


def test_a_job_that_overtakes_in_its_lane_is_a_fault(story: Story):
    admitted(story, "a", 1.0), admitted(story, "b", 2.0)
    claimed(story, "b", 3.0)
    assert ["I9 OVERTAKEN b", "I6 OVERTAKEN b"] == codes(story)


def test_a_job_may_be_overtaken_by_whoever_is_as_much_more_urgent_and_by_nobody_else(story: Story):
    admitted(story, "p1", 1.0, priority=1)  # its deadline is 60 s later
    admitted(story, "p0", 60.5, **OTHER), claimed(story, "p0", 60.6, **OTHER)
    assert [] == codes(story)
    admitted(story, "p0 too late", 61.5, **OTHER), claimed(story, "p0 too late", 61.6, **OTHER)
    assert ["I6 OVERTAKEN p0 too late"] == codes(story)


def test_lanes_with_gates_wait_for_them(story: Story):
    gated = {"lane": "chaos|limited|", "family": "limited"}
    admitted(story, "a", 1.0, **gated), admitted(story, "b", 2.0)
    claimed(story, "b", 3.0)
    assert [] == codes(story)


def test_what_was_given_back_keeps_its_rank(story: Story):
    admitted(story, "a", 1.0), claimed(story, "a", 1.1), admitted(story, "b", 2.0)
    story.move(3.0, "expire", "a", "executing", "available", reason="gone", kills="1", **LANE)
    claimed(story, "b", 4.0)
    assert ["I9 OVERTAKEN b", "I6 OVERTAKEN b"] == codes(story)


def test_what_was_due_counts_from_then(story: Story):
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    admitted(story, "b", 5.5)
    story.move(6.0, "stage", "due", "scheduled", "available", **LANE)
    claimed(story, "b", 6.1)
    assert ["I9 OVERTAKEN b", "I6 OVERTAKEN b"] == codes(story)


@pytest.mark.parametrize(("at", "found"), [(5.9, []), (9.0, ["I1 STAGED_LATE due"])])
def test_what_is_due_comes_soon(story: Story, at: float, found: list[str]):
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    story.move(at, "stage", "due", "scheduled", "available", **LANE)
    assert found == codes(story)


def test_what_is_due_while_nobody_can_look_comes_soon_after(story: Story):
    story.fault("kill-redis", 4.0, 8.5, everywhere=True)
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    story.move(9.0, "stage", "due", "scheduled", "available", **LANE)
    assert [] == codes(story)


def test_a_refusal_without_a_reason_is_a_fault(story: Story):
    story.line("move", 1000, verb="admit", job="a", reason="duplicate", **LANE)
    assert [] == codes(story)
    story.line("move", 1000, verb="admit", job="b", **LANE)
    admitted(story, "c", 1.0), claimed(story, "c", 1.1)
    story.move(2.0, "discard", "c", "executing", "discarded", **LANE)
    assert ["I10 NO_REASON b", "I10 NO_REASON c"] == codes(story)


@pytest.mark.parametrize(("to", "found"), [("discarded", []), ("available", ["I2 NOT_STOPPED a"])])
def test_what_kills_its_workers_runs_no_more_than_three_times(story: Story, to: str, found: list[str]):
    admitted(story, "a", 1.0), claimed(story, "a", 1.1)
    story.move(2.0, "expire", "a", "executing", to, reason="gone", kills="3", **LANE)
    assert found == codes(story)
