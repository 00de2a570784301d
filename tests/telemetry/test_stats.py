"""Stats: what a list of entries of the stream adds up to."""

from __future__ import annotations

from itertools import count

import pytest

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.telemetry.stats import percentile, spread, stats

SLACK_MS = (0, 60_000, 300_000, 900_000)
NUMBERS = count(1)


def entry(verb, job="a", **fields):
    fields = {"family": "fam", **fields, "verb": verb, "job": job, "at": 1_000 + next(NUMBERS)}
    return Entry(f"{fields['at']}-0", {name: str(value) for name, value in fields.items() if value != ""})


def admitted(job, priority=2, **fields):
    return entry("admit", job, to="available", priority=priority, **fields)


def claimed(job, wait_ms, **fields):
    return entry("claim", job, to="executing", wait_ms=wait_ms, **{"from": "available"}, **fields)


def ended(job, verb="complete", to="completed", run_ms=5, **fields):
    return entry(verb, job, to=to, run_ms=run_ms, **{"from": "executing"}, **fields)


def of(*entries, limit=20):
    return stats(entries, slack_ms=SLACK_MS, limit=limit)


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([100, 200, 300, 400], 0.5, 200), ([100, 200, 300, 400], 0.95, 400), ([], 0.5, None),
        ([7], 0.01, 7), ([7], 0.99, 7), (list(range(1, 101)), 0.95, 95), (list(range(1, 101)), 0.99, 99),
    ],
)  # fmt: skip
def test_percentiles_are_of_the_nearest_rank(samples, share, expected):
    assert expected == percentile(samples, share)


def test_no_entries_add_up_to_nulls_and_zeros():
    figures = of()

    nothing = {"count": 0, "average": None, "p50": None, "p95": None, "p99": None, "max": None}
    assert nothing == figures["dispatch_duration_ms"]
    assert {**nothing, "target_p95": 5_000, "within_target": None} == figures["queue_latency_ms"]
    assert set(figures["dispatches"].values()) == {0, None}
    assert figures["dispatches"]["success_rate"] is None
    assert ([], [], 0) == (
        figures["event_families"],
        figures["recent_failures"],
        figures["promotions"],
    )


def test_a_spread_takes_samples_in_any_order():
    assert {"count": 3, "average": 4.0, "p50": 2, "p95": 9, "p99": 9, "max": 9} == spread([9, 1, 2])


def test_starts_ends_and_their_times_are_counted():
    figures = of(
        admitted("a"), admitted("b"), admitted("c"),
        claimed("a", 100), claimed("b", 6_000), claimed("c", 200),
        ended("a", run_ms=10), ended("b", "discard", "discarded", run_ms=30, reason="no"),
        ended("c", "retry", "retryable", run_ms=20), ended("c", "release", "available"),
        ended("c", "expire", "available"), entry("cancel", "c", to="cancelled"),
    )  # fmt: skip

    assert {
        "started": 3, "completed": 1, "failed": 1, "retried": 1, "released": 1, "expired": 1, "cancelled": 1,
        "terminal": 2, "success_rate": 0.5,
    } == figures["dispatches"]  # fmt: skip
    assert (3, 200, 6_000, False) == tuple(
        figures["queue_latency_ms"][name] for name in ("count", "p50", "p95", "within_target")
    )
    # A run that was taken away says nothing about how long the work takes.
    assert (3, 20, 30) == tuple(figures["dispatch_duration_ms"][name] for name in ("count", "p50", "max"))


def test_what_never_entered_the_queue_is_no_dispatch():
    figures = of(
        admitted("a"),
        entry("admit", "a", reason="duplicate"),
        entry("admit", "a", reason="duplicate"),
        entry("admit", "b", to="discarded", reason="it has expired"),
    )

    assert {"admitted": 1, "refused": 1, "turned_away": {"duplicate": 2}} == figures["admissions"]
    assert 0 == figures["dispatches"]["terminal"]
    assert ["b"] == [failure["id"] for failure in figures["recent_failures"]]


def test_acts_on_gates_are_no_dispatches():
    figures = of(entry("pause", "", gate="pause:family/fam"), entry("limit", "", gate="limit:x"))

    assert 2 == figures["found"]
    assert [] == figures["event_families"]


def test_a_promotion_is_a_start_that_age_put_before_a_better_priority():
    figures = of(
        admitted("old P3", 3), claimed("old P3", 600_000),
        admitted("young P3", 3), claimed("young P3", 599_999),
        admitted("old P1", 1), claimed("old P1", 60_000),
        admitted("P0", 0), claimed("P0", 10_000_000),
        claimed("unknown", 10_000_000),
    )  # fmt: skip

    assert 2 == figures["promotions"]


def test_families_are_sorted_by_their_starts_then_by_name():
    entries = [claimed(f"{n}", 10, family=family) for n, family in enumerate(["b", "a", "c", "c"])]

    figures = of(*entries, ended("3", "discard", "discarded", family="c"), limit=2)

    assert [("c", 2, 1), ("a", 1, 0)] == [
        (family["name"], family["count"], family["failed"]) for family in figures["event_families"]
    ]
    assert 1 == figures["more_families"]


def test_the_newest_failures_come_first_and_only_so_many():
    failures = [ended(f"{n}", "discard", "discarded", reason=f"no {n}", attempt=n) for n in range(5)]

    figures = of(*failures, limit=2)

    assert [("4", "no 4", 4), ("3", "no 3", 3)] == [
        (failure["id"], failure["error"], failure["attempt"]) for failure in figures["recent_failures"]
    ]


def test_entries_with_missing_or_strange_fields_are_taken_as_they_are():
    figures = of(
        Entry("5-0", {}),
        Entry("6-0", {"verb": "claim", "job": "a", "to": "executing", "wait_ms": "?"}),
        Entry("7-0", {"verb": "dance", "job": "a", "to": "dancing", "priority": "77"}),
        Entry("8-0", {"verb": "claim", "job": "a", "to": "executing", "wait_ms": "9"}),
    )

    assert (4, 2) == (figures["found"], figures["dispatches"]["started"])
    assert 1 == figures["queue_latency_ms"]["count"]
