"""Comparison: a day told window by window, each by its own job, against the same day told in one step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from joelclaw_tasks.core.digest_records import DigestRecord
from joelclaw_tasks.routines.digest.window import Window
from joelclaw_tasks.telemetry.spread import percentile


def compare(day: Window, records: Iterable[DigestRecord]) -> dict[str, Any]:
    """Both ways of telling a day, from what was recorded: pages, latency, retries, cost.

    `age_ms` is how old an event is on average when a page tells of it, counting each window's jobs as spread
    evenly over it. `repeated_jobs` are jobs that were summed up again because an attempt failed. The single
    step is None when no page of the whole day was made.
    """
    within = [each for each in records if day.start_at <= each.start_at and each.end_at <= day.end_at]
    whole = [each for each in within if (each.start_at, each.end_at) == (day.start_at, day.end_at)]
    parts = [each for each in within if each not in whole]
    return {
        "day": day.name,
        "windows": _told(parts) if parts else None,
        "single_step": _told(whole) if whole else None,
    }


def _told(records: list[DigestRecord]) -> dict[str, Any]:
    made = [each for each in records if each.state == "made"]
    jobs = sum(each.jobs for each in made)
    after_end = sorted(each.made_at - each.end_at for each in records)
    ages = sum(each.jobs * ((each.end_at - each.start_at) / 2 + each.made_at - each.end_at) for each in made)
    return {
        "pages": len(made),
        "empty": len(records) - len(made),
        "jobs": jobs,
        "after_end_p50_ms": percentile(after_end, 0.5),
        "after_end_max_ms": after_end[-1],
        "age_ms": round(ages / jobs) if jobs else None,
        "longest_took_ms": max(each.took_ms for each in records),
        "retries": sum(each.attempts - 1 for each in records),
        "repeated_jobs": sum(each.jobs * (each.attempts - 1) for each in made),
        "by_rules": sum(each.by == "rules" for each in made),
        "tokens": sum(each.tokens for each in made),
        "cost_usd": round(sum(each.cost_usd for each in made), 9),
    }
