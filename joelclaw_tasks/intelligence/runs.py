"""Runs: what the transitions stream says of handlers lately. A pure function of its entries."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.core.states import Verb
from joelclaw_tasks.intelligence.snapshot import HandlerNow
from joelclaw_tasks.telemetry.spread import percentile

#: Verbs that end a run with an outcome.
ENDS = (Verb.COMPLETE, Verb.RETRY, Verb.DISCARD)
#: So many of the last runs of a handler are its recent ones.
_RECENT = 20
_TREND_AT_LEAST = 5
_RATE_LIMITED = re.compile(
    r"RateLimit|Too ?Many ?Requests|\b(?:HTTP|status|code|answered|error)\W{1,4}(?:code\W{1,3})?429\b",
    re.IGNORECASE,
)
_ASKS_TO_WAIT = re.compile(r"\basks to wait (\d{1,9}) s\b|\bretry[- ]after:? ?(\d{1,9})\b", re.IGNORECASE)
_ERROR_MOST = 200


class Run(NamedTuple):
    """One run that has ended; `error` is empty when it went well, or nobody said why it did not."""

    began_at: int
    ended_at: int
    run_ms: int
    failed: bool
    error: str
    job: str = ""


def runs_of(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Run]]:
    """The runs of each (family, handler), in the order of their ends."""
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for entry in entries:
        # An admission in the place of a running job, and jobs that never started, are no runs.
        if entry.run_ms is None or not entry.to_state:
            continue
        failed = entry.verb != Verb.COMPLETE
        if entry.verb == Verb.RETRY and not entry.text("reason") and entry.to_state == "available":
            continue  # a successor without a failure: the job only goes on
        found[entry.family, entry.text("handler") or entry.family].append(
            Run(
                entry.at - entry.run_ms,
                entry.at,
                entry.run_ms,
                failed,
                entry.text("reason") if failed else "",
                entry.job,
            )
        )
    for runs in found.values():
        runs.sort(key=lambda run: run.ended_at)
    return found


def handler_now(name: tuple[str, str], runs: list[Run], news_since: Mapping[str, int]) -> HandlerNow:
    """What the runs of a handler add up to; `news_since` says from when on runs of a family are news."""
    family, handler = name
    failed = [run for run in runs if run.failed]
    recent = [run for run in runs if run.began_at >= news_since.get(family, 0)][-_RECENT:]
    unwell = {run.job for run in recent if run.failed} - {run.job for run in recent if not run.failed}
    since = min((run.ended_at for run in recent if run.job in unwell), default=0)
    limited = [run for run in failed if _RATE_LIMITED.search(run.error)]
    limited_news = [run for run in limited if run.began_at >= news_since.get(family, 0)]
    times = sorted(run.run_ms for run in runs if not run.failed)
    return HandlerNow(
        handler=handler,
        family=family,
        completed=len(runs) - len(failed),
        failed=len(failed),
        error_rate=round(len(failed) / len(runs), 4) if runs else None,
        recent_completed=sum(not run.failed for run in recent),
        recent_failed=sum(run.failed for run in recent),
        recent_failed_jobs=len(unwell),
        recent_well_since=sum(not run.failed and run.began_at >= since for run in recent) if unwell else 0,
        run_p50_ms=percentile(times, 0.5),
        run_p95_ms=percentile(times, 0.95),
        run_trend=_trend([run.run_ms for run in runs if not run.failed]),
        rate_limited=len(limited_news),
        rate_limited_at=limited_news[-1].ended_at if limited_news else None,
        retry_at=max(filter(None, map(_retry_at, limited_news)), default=None),
        last_error=redacted(failed[-1].error)[:_ERROR_MOST] if failed else "",
    )


def _retry_at(run: Run) -> int | None:
    asked = _ASKS_TO_WAIT.search(run.error)
    return None if asked is None else run.ended_at + 1_000 * int(asked[1] or asked[2])


def _trend(times: list[int]) -> float | None:
    half = len(times) // 2
    if half < _TREND_AT_LEAST:
        return None
    before, after = median(times[:half]), median(times[half:])
    return round(after / before, 2) if before > 0 else None
