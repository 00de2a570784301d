"""What the checker knows of order, reasons and timers, on small histories that somebody made up."""

from __future__ import annotations

import pytest
from story import Story

from chaos.checker import check

LANE = {"lane": "chaos|small|", "family": "small"}
OTHER = {"lane": "chaos|failing|", "family": "failing"}


def codes(story: Story) -> list[str]:
    rules = ("OVERTAKEN", "NO_REASON", "NOT_STOPPED", "STOPPED_EARLY", "STAGED_LATE")
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


@pytest.mark.parametrize(("at", "found"), [(5.9, []), (9.0, ["I9 STAGED_LATE due"])])
def test_what_is_due_comes_soon(story: Story, at: float, found: list[str]):
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    story.move(at, "stage", "due", "scheduled", "available", **LANE)
    assert found == codes(story)


def test_what_is_due_while_nobody_can_look_comes_soon_after(story: Story):
    story.fault("kill-redis", 4.0, 8.5, everywhere=True)
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    story.move(9.0, "stage", "due", "scheduled", "available", **LANE)
    assert [] == codes(story)


def due_at_five(story: Story, came_at: float) -> Story:
    story.move(1.0, "admit", "due", None, "scheduled", due_at="5000", priority="0", **LANE)
    return story.move(came_at, "stage", "due", "scheduled", "available", **LANE)


def test_faults_at_the_same_time_excuse_it_only_once(story: Story):
    story.fault("kill-redis", 5.0, 7.0, everywhere=True).fault("latency", 5.0, 7.0, everywhere=True)
    due_at_five(story, 9.0)
    assert [] == codes(story)
    due_at_five(story, 10.5)
    assert ["I9 STAGED_LATE due"] == codes(story)


def test_a_frozen_worker_is_no_excuse_while_another_one_can_look(story: Story):
    story.lines[0]["workers"] = ["solo", "threads"]
    story.fault("freeze-worker-for-a-minute", 4.0, 64.0, workers=["solo.1"], outlasts_lease=True)
    due_at_five(story, 20.0)
    assert ["I9 STAGED_LATE due"] == codes(story)
    story.fault("blackhole-worker", 4.0, 19.0, workers=["threads.2"], outlasts_lease=True)
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


def killed(story: Story, times: int, *, counted: int) -> Story:
    """A job that kills each worker that starts it; Redis hears of some of the deaths only."""
    story.lines[0]["deadly"] = ["poison"]
    poison = {"lane": "chaos|poison|", "family": "poison"}
    story.move(1.0, "admit", "a", None, "available", **poison)
    for attempt in range(1, times + 1):
        at = 1.0 + attempt
        story.move(at, "claim", "a", "available", "executing", attempt=str(attempt), **poison)
        story.start(f"a#1000#{attempt}", at, family="poison", worker=f"w{attempt}")
        story.fault("poison", at + 0.1, at + 0.1, workers=[f"w{attempt}"], kills=True)
        verb, to = ("discard", "discarded") if attempt == times else ("expire", "available")
        kills = str(max(0, counted - times + attempt))
        story.move(
            at + 0.2, verb, "a", "executing", to, attempt=str(attempt), kills=kills, reason="gone", **poison
        )
    return story


@pytest.mark.parametrize(
    ("times", "counted", "found"),
    [
        (3, 3, []),
        (4, 3, ["I2 NOT_STOPPED a"]),
        (2, 2, ["I2 STOPPED_EARLY a"]),
    ],
)
def test_poison_ends_at_its_third_death_by_the_word_of_the_tasks_too(
    story: Story, times: int, counted: int, found: list[str]
):
    killed(story, times, counted=counted)
    assert found == codes(story)
