"""Triage stats: what a list of scores adds up to."""

from __future__ import annotations

import json
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.telemetry.stats import stats

SLACK_MS = (0, 60_000, 300_000, 900_000)


def scored(
    job: str, *, was: str | None = "2", family: str = "fam", verb: str = "score", **note: Any
) -> Entry:
    """A score that was applied to a held job of priority `was`, or, with None, only noted."""
    moved = {} if was is None else {"from": "held", "to": "available", "was": was, "priority": "1"}
    note = {"score": 80, "was": "P2", "suggested": "P1", "route_check": "confirm", "latency_ms": 300} | note
    fields = {"verb": verb, "job": job, "family": family, "at": "1000", "triage": json.dumps(note), **moved}
    return Entry("1000-0", fields)


def fallback(job: str, reason: str, **fields: Any) -> Entry:
    note = {"fallback": reason, "latency_ms": 1_850, "cost_usd": 0.001, "model": "m"}
    return Entry(
        "1000-0",
        {"verb": "score", "job": job, "family": "fam", "at": "1000", "triage": json.dumps(note), **fields},
    )


def of(*entries: Entry, limit: int = 20) -> dict[str, Any]:
    triage: dict[str, Any] = stats(entries, slack_ms=SLACK_MS, limit=limit)["triage"]
    return triage


def counts(triage: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(triage[name] for name in names)


def test_without_scores_there_are_zeros_and_nulls():
    triage = of()

    names = ("attempts", "completed", "fallbacks", "success_rate", "cost_usd", "families")
    assert (0, 0, 0, None, 0, []) == counts(triage, *names)
    assert {"count": 0, "average": None, "p50": None, "p95": None, "p99": None, "max": None} == (
        triage["latency_ms"]
    )


def test_scores_and_fallbacks_are_counted_by_reason_and_family():
    triage = of(
        scored("a", cost_usd=0.002),
        scored("b", family="other", cost_usd=0.003),
        fallback("c", "timeout"),
        fallback("d", "timeout"),
        fallback("e", "not_scored"),
    )

    assert (5, 2, 3, 0.4) == counts(triage, "attempts", "completed", "fallbacks", "success_rate")
    assert {"timeout": 2, "not_scored": 1} == triage["fallback_by_reason"]
    assert [("fam", 4, 1, 3, 0.25), ("other", 1, 1, 0, 1.0)] == [
        counts(each, "name", "attempts", "completed", "fallbacks", "success_rate")
        for each in triage["families"]
    ]
    assert 0.008 == triage["cost_usd"]
    assert ["e", "d", "c"] == [each["id"] for each in triage["recent_fallbacks"]]


def test_what_was_applied_and_what_only_suggested_are_two_figures():
    triage = of(
        scored("moved"),
        scored("stayed", suggested="P2", score=60),
        scored("shadow", was=None),
        scored("shadow agreed", was=None, suggested="P2"),
    )

    names = ("applied", "applied_changes", "suggested_not_applied", "disagreements")
    assert (2, 1, 1, 2) == counts(triage, *names)


def test_a_mismatch_and_a_duplicate_are_disagreements_though_the_priority_stays():
    triage = of(
        scored("a", suggested="P2", route_check="mismatch", reasoning="It is spam."),
        scored("b", suggested="P2", duplicate_of="e1"),
        scored("c", suggested="P2"),
    )

    assert (2, 1, 0) == counts(triage, "disagreements", "route_mismatches", "applied_changes")
    assert [{"at": 1000, "id": "a", "family": "fam", "reasoning": "It is spam."}] == (
        triage["recent_mismatches"]
    )


def test_only_calls_count_for_the_latency_and_what_memory_knew_is_told_apart():
    triage = of(scored("a", latency_ms=100), scored("b", cached=True), scored("c", latency_ms=300))

    assert (2, 100, 300) == counts(triage["latency_ms"], "count", "p50", "max")
    assert 1 == triage["cached"]


def test_jobs_that_went_on_at_their_deadline_are_counted_and_are_no_attempts():
    staged = {
        "verb": "stage",
        "job": "late",
        "family": "fam",
        "at": "1000",
        "from": "held",
        "to": "available",
    }
    due = {**staged, "job": "due", "from": "scheduled"}

    triage = of(Entry("1000-0", staged), Entry("1000-1", due))

    assert (1, 0) == counts(triage, "deadline_passed", "attempts")


def test_only_the_newest_samples_are_kept_and_as_many_families_as_asked_for():
    triage = of(*(fallback(f"j{n}", "timeout", family=f"f{n}") for n in range(9)), limit=2)

    assert ["j8", "j7", "j6", "j5", "j4"] == [each["id"] for each in triage["recent_fallbacks"]]
    assert ["f0", "f1"] == [each["name"] for each in triage["families"]]


def test_a_note_that_is_no_note_and_a_job_that_is_gone_are_left_out():
    broken = {"verb": "score", "job": "a", "family": "fam", "at": "1000", "triage": "{"}
    gone = {"verb": "score", "job": "b", "at": "1000", "triage": "{}"}

    assert 0 == of(Entry("1-0", broken), Entry("1-1", gone))["attempts"]
