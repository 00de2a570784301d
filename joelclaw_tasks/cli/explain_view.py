"""What `joelclaw queue explain` says in words, and how that looks on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    "available": "green", "executing": "cyan", "retryable": "yellow", "held": "yellow", "discarded": "red",
    "completed": "bold green",
}  # fmt: skip
_OVER = {"completed", "cancelled", "discarded"}
_BAR = 24
_ANY_MOMENT_MS = 20


def summary_of(answer: Mapping[str, Any]) -> str:
    """The answer in one sentence."""
    if answer["state"] == "executing":
        return _running_sentence(answer["running"])
    if answer["state"] in _OVER:
        longest = answer["spent"][0] if answer["spent"] else None
        where = f": most of its time, {duration(longest['ms'])}, it was {_doing(longest)}" if longest else ""
        return f"it is over ({answer['state']}){where}"
    waits = answer["waiting_on"]
    if waits is not None:
        return (
            f"it waits {_where(waits)}; it may go when {waits['opens_when']}{_at(waits['opens_at'], answer)}"
        )
    if answer.get("position") is None:
        return "it has just moved: ask again"
    workers, ahead = answer["workers"], answer["behind"]["jobs"]
    if not workers["count"]:
        return f"its gates are open, but no worker serves the queue {answer['queue']}"
    return f"its gates are open: it waits its turn behind {_jobs(ahead)}, for one of {_slots(workers)}"


def job_view(answer: Mapping[str, Any]) -> Callable[[Console], None]:
    """State and sentence, place and estimate, and where the time went."""

    def view(console: Console) -> None:
        names = " → ".join(each for each in (answer["family"], answer["handler"]) if each)
        state = text(answer["state"], _STYLES.get(answer["state"], ""))
        console.print(
            line(text(answer["id"], "bold"), state, text(f"{answer['priority'] or ''} {names}", "dim"))
        )
        if answer.get("merged_into"):
            console.print(text(f"the call {answer['asked_for']} became part of this job", "dim"))
        console.print(text(answer["summary"], "yellow" if answer["waiting_on"] else ""))
        for sentence in _details(answer):
            console.print(text(sentence))
        if answer.get("error"):
            console.print(text(answer["error"], "red"))
        if answer["spent"]:
            _spent(console, answer)

    return view


def jobs_view(answers: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """One job after the other."""

    def view(console: Console) -> None:
        for answer in answers:
            job_view(answer)(console)

    return view


def family_view(answer: Mapping[str, Any]) -> Callable[[Console], None]:
    """What waits, gate by gate, and its next job."""

    def view(console: Console) -> None:
        states = ", ".join(f"{count} {state}" for state, count in answer["by_state"].items() if count)
        console.print(line(text(answer["family"], "bold"), text(states or "nothing waits", "dim")))
        if answer["by_gate"]:
            listing = table("stopped by", "jobs", "lanes", "may go when", numeric=("jobs", "lanes"))
            for gate in answer["by_gate"]:
                name = text(gate["gate"], "yellow") if gate["gate"] else text("its turn", "green")
                opens = gate.get("opens_when", "workers come to it")
                listing.add_row(name, text(gate["jobs"]), text(gate["lanes"]), text(opens))
            console.print(listing)
        if answer["next"]:
            console.print(text("next of it", "dim"))
            job_view({**answer["next"], "summary": answer["summary"]})(console)

    return view


def between(earliest_ms: float, latest_ms: float) -> str:
    """A range in brackets; nothing when both ends read the same."""
    ends = [duration(max(0, end)) for end in (earliest_ms, latest_ms)]
    return f" ({ends[0]} to {ends[1]})" if ends[0] != ends[1] else ""


def _details(answer: Mapping[str, Any]) -> list[str]:
    found = []
    place = answer.get("position")
    if place:
        before = answer["behind"]["first_of_its_lane"]
        behind = f", behind {before}" if place["in_lane"] > 1 and before else ""
        found.append(
            f"number {place['in_lane']} of {place['lane_jobs']} in its lane{behind}; "
            f"{'with its gate open, ' if answer['waiting_on'] else ''}number {place['in_queue']} "
            f"of what is ready in queue {answer['queue']}"
        )
    estimate = answer["estimated_start"]
    if estimate:
        found.append(_estimate(estimate, answer["asked_at"]))
    if answer["expires_at"] is not None and answer["state"] not in _OVER:
        expires_ms = max(0, answer["expires_at"] - answer["asked_at"])
        found.append(f"it expires in {duration(expires_ms)} unless it has started by then")
    if answer.get("workers"):
        found.append(f"served by {_slots(answer['workers'])}; {answer['workers']['busy']} busy now")
    return found


def _estimate(estimate: Mapping[str, Any], now_ms: int) -> str:
    if estimate["at"] is None:
        return f"no start can be foretold: {estimate['basis']}"
    at, earliest, latest = estimate["at"], estimate["earliest_at"], estimate["latest_at"]
    spread = "" if earliest is None else between(earliest - now_ms, latest - now_ms)
    when = f"in about {duration(at - now_ms)}" if at - now_ms > _ANY_MOMENT_MS else "any moment"
    return f"starts {when}{spread}: {estimate['basis']}"


def _running_sentence(running: Mapping[str, Any]) -> str:
    where = f"{running['host']}, process {running['pid']}" if running["pid"] else running["holder"]
    usual = running["typical_run_ms"]
    typical = f"; usually {duration(usual['p50'])}, 95 % within {duration(usual['p95'])}" if usual else ""
    since = f"it has been running for {duration(running['ran_ms'])} on {where}"
    asked = "; it was asked to stop" if running["cancel_asked_at"] is not None else ""
    return f"{since} (attempt {running['attempt']}){typical}{asked}"


def _where(waits: Mapping[str, Any]) -> str:
    if waits["kind"] == "pause":
        reason = f": {waits['reason']}" if waits.get("reason") else ""
        return f"at {waits['gate']}, paused by {waits.get('actor') or 'somebody'}{reason}"
    if waits["gate"] == "clock":
        return {"scheduled": "for its time", "retryable": "for its next try"}.get(
            waits["kind"], f"({waits['kind']})"
        )
    if waits["gate"] == "shed":
        return f"in the parking lot, where {waits.get('actor') or 'somebody'} put it"
    limit = f" ({waits['running']} of {waits['limit']} places taken)" if waits["kind"] == "limit" else ""
    rate = f" ({waits['limit']} each {duration(waits['period_ms'])})" if "period_ms" in waits else ""
    return f"at {waits['gate']}{limit}{rate}"


def _at(opens_at: int | None, answer: Mapping[str, Any]) -> str:
    if opens_at is None:
        return ""
    return f": in {duration(max(0, opens_at - answer['asked_at']))}, at {clock_time(opens_at)}"


def _slots(workers: Mapping[str, Any]) -> str:
    count, slots = workers["count"], workers["slots"]
    return f"{slots} place{'s' * (slots != 1)} of {count} worker{'s' * (count != 1)}"


def _jobs(count: int) -> str:
    return f"{count} job{'s' * (count != 1)}"


def _doing(spent: Mapping[str, Any]) -> str:
    return f"parked at {spent['gate']}" if spent["gate"] else str(spent["what"])


def _spent(console: Console, answer: Mapping[str, Any]) -> None:
    listing = table("where its time went", "time", "", "behind", numeric=("time",))
    for each in answer["spent"]:
        bar = "█" * max(1, round(_BAR * (each["share"] or 0)))
        behind = ", ".join(f"{count} {name}" for name, count in each["behind"].items())
        listing.add_row(text(_doing(each)), text(duration(each["ms"])), text(bar, "cyan"), text(behind))
    console.print(listing)
