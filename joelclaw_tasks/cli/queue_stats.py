"""joelclaw queue stats: what the last hours add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, clock_time, open_store, timeline_command
from joelclaw_tasks.cli.span import Hours, Since, span_of
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="Most rows of a listing.")]


@command
def stats(hours: Hours = 24, since: Since = None, limit: Limit = 20) -> Outcome:
    """What the last hours add up to: starts, failures, waits, run times, families."""
    from joelclaw_tasks.telemetry.stats import stats as add_up

    store = open_store()
    snapshot = store.snapshot()
    span = span_of(hours, since, snapshot["taken_at_ms"])
    progress().say("reading the history")
    entries = store.history.read(since_at=span.since_at)
    figures = add_up(entries, slack_ms=current().settings().slack_ms, limit=limit)
    depth = {name: snapshot[name] for name in ("total", "by_priority", "by_state", "oldest_age_ms")}
    window = span.to_wire(figures.pop("found"), store.history.extent())
    result = {"window": window, "current_depth": depth, **figures}
    failures = [
        NextAction(timeline_command(each["id"]), "every move of a job that failed")
        for each in figures["recent_failures"][:1]
    ]
    return Outcome(result, (*failures, DEPTH), _view(result))


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        window, done, depth = result["window"], result["dispatches"], result["current_depth"]
        headline = f"since {clock_time(window['since_at'])}: {done['started']:,} started"
        console.print(text(headline, "bold"))
        if window["truncated"]:
            gone = f"only since {clock_time(window['first_at'])}: the stream keeps no older entries"
            console.print(text(gone, "yellow"))
        console.print(line(*_outcomes(done)))
        waiting, oldest = f"{depth['total']:,} waiting now", depth["oldest_age_ms"]
        console.print(text(waiting if oldest is None else f"{waiting}, oldest {duration(oldest)}"))
        console.print(text(_admissions(result), "dim"))
        _times(console, result)
        if result["event_families"]:
            _families(console, result)
        if result["triage"]["attempts"] or result["triage"]["deadline_passed"]:
            _triage(console, result["triage"])
        if result["recent_failures"]:
            _failures(console, result)

    return view


def _outcomes(done: Mapping[str, Any]) -> list[Any]:
    rate = done["success_rate"]
    parts = [text(f"{done['completed']:,} completed,", "green" if done["completed"] else "")]
    parts.append(text(f"{done['failed']:,} failed", "red" if done["failed"] else ""))
    if rate is not None:
        parts.append(text(f"({rate * 100:.4g} % succeeded)"))
    others = [name for name in ("retried", "released", "expired", "cancelled") if done[name]]
    return parts + [text(f"· {done[name]:,} {name}", "dim") for name in others]


def _admissions(result: Mapping[str, Any]) -> str:
    admissions = result["admissions"]
    parts = [f"{admissions['admitted']:,} admitted"]
    if admissions["refused"]:
        parts.append(f"{admissions['refused']:,} refused")
    parts += [f"{count:,} turned away ({reason})" for reason, count in admissions["turned_away"].items()]
    parts.append(f"{result['promotions']:,} promoted by age")
    return " · ".join(parts)


def _times(console: Console, result: Mapping[str, Any]) -> None:
    columns = ("p50", "p95", "p99", "max", "average", "samples")
    listing = table("time", *columns, numeric=columns)
    for name, key in (("wait", "queue_latency_ms"), ("run", "dispatch_duration_ms")):
        times = result[key]
        shown = [duration(times[each]) for each in ("p50", "p95", "p99", "max", "average")]
        listing.add_row(text(name), *map(text, shown), text(f"{times['count']:,}"))
    console.print(listing)
    if result["queue_latency_ms"]["within_target"] is False:
        target = duration(result["queue_latency_ms"]["target_p95"])
        console.print(text(f"the p95 of the wait is over its target of {target}", "yellow"))


def _families(console: Console, result: Mapping[str, Any]) -> None:
    columns = ("started", "done", "failed", "wait p95", "run p95")
    listing = table("family", *columns, numeric=columns)
    for family in result["event_families"]:
        counts = [f"{family[name]:,}" if family[name] else "-" for name in ("count", "completed", "failed")]
        times = [duration(family["wait_p95_ms"]), duration(family["run_p95_ms"])]
        listing.add_row(text(family["name"]), *map(text, (*counts, *times)))
    console.print(listing)
    if result["more_families"]:
        console.print(text(f"and {result['more_families']:,} more families (--limit)", "dim"))


def _triage(console: Console, triage: Mapping[str, Any]) -> None:
    console.print(text("triage", "bold"))
    latency = triage["latency_ms"]
    parts = [
        f"{triage['completed']:,} of {triage['attempts']:,} scored",
        f"{triage['applied_changes']:,} moved a priority",
        f"{triage['suggested_not_applied']:,} only suggested it",
    ]
    if triage["cached"]:
        parts.append(f"{triage['cached']:,} from memory")
    if triage["deadline_passed"]:
        parts.append(f"{triage['deadline_passed']:,} without a score in time")
    if latency["count"]:
        parts.append(f"p50 {duration(latency['p50'])}, p95 {duration(latency['p95'])}")
    parts.append(f"${triage['cost_usd']:.4f}")
    console.print(text("    " + " · ".join(parts)))
    for reason, count in triage["fallback_by_reason"].items():
        console.print(text(f"    {count:,} without a score: {reason}", "yellow"))
    for each in triage["recent_mismatches"]:
        label = f"    {each['family']} is not what it says:"
        console.print(line(text(label, "yellow"), text(each["id"]), text(each["reasoning"], "dim")))


def _failures(console: Console, result: Mapping[str, Any]) -> None:
    console.print(text("failures, the newest first", "bold"))
    for failure in result["recent_failures"]:
        console.print(line(text(failure["id"]), text(failure["family"], "dim")))
        error = failure["error"].strip().splitlines()
        ago = f"{duration(result['window']['until_at'] - failure['at'])} ago:"
        console.print(line(text(f"    {ago}", "dim"), text(error[-1] if error else "no error noted", "red")))
