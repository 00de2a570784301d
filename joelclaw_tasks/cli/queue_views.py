"""What the queue commands look like on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import to_json
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

_PRIORITIES = ("P0", "P1", "P2", "P3")


def depth_view(snapshot: Mapping[str, Any]) -> Callable[[Console], None]:
    """A headline, the families, and whatever is shut."""

    def view(console: Console) -> None:
        oldest = snapshot["oldest_age_ms"]
        headline = f"{snapshot['total']} waiting"
        console.print(text(headline if oldest is None else f"{headline}, oldest {duration(oldest)}", "bold"))
        states = [f"{count} {state}" for state, count in snapshot["by_state"].items() if count]
        if states:
            console.print(text(", ".join(states), "dim"))
        alive = [each for each in snapshot["families"] if any(each["by_state"].values())]
        if alive:
            _families(console, alive)
        if snapshot["pauses"]:
            _pauses(console, snapshot["pauses"], snapshot["taken_at_ms"])
        shut = [gate for gate in snapshot["gates"] if gate["shut"] and gate["kind"] != "pause"]
        if shut:
            _gates(console, shut)

    return view


def jobs_view(jobs: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """One line per waiting job, with the gate that stops it."""

    def view(console: Console) -> None:
        if not jobs:
            console.print(text("nothing is waiting"))
            return
        listing = table("job", "family", "prio", "age", "stopped by", numeric=("age",))
        for job in jobs:
            of = "\n".join(filter(None, (job["family"], job["handler"])))
            stopped_by = text(job["gate"], "yellow") if job["gate"] else text("ready", "green")
            listing.add_row(
                text(job["id"]), text(of), text(job["priority"]), text(duration(job["age_ms"])), stopped_by
            )
        console.print(listing)

    return view


def job_view(job: Mapping[str, Any]) -> Callable[[Console], None]:
    """State and what stops it, the plain fields as a table, then every nested one as JSON."""

    def view(console: Console) -> None:
        console.print(line(text(job["id"], "bold"), _state(job["state"])))
        if job.get("gate"):
            console.print(text(f"stopped by {job['gate']}", "yellow"))
        plain = {name: value for name, value in job.items() if not isinstance(value, Mapping | list | tuple)}
        fields = table("field", "value")
        for name, value in plain.items():
            if name not in {"id", "state", "gate"} and value is not None and value != "":
                fields.add_row(text(_label(name), "dim"), text(_readable(name, value)))
        console.print(fields)
        for name, value in job.items():
            if name not in plain and value:
                console.print(text(name, "bold"))
                console.print(text(to_json(value)))

    return view


def _families(console: Console, families: Sequence[Mapping[str, Any]]) -> None:
    numbers = ("waiting", *_PRIORITIES, "running", "dead", "oldest")
    listing = table("family", *numbers, numeric=numbers)
    for family in families:
        counts = [family["total"], *(family["by_priority"][each] for each in _PRIORITIES)]
        counts += [family["by_state"]["executing"], family["by_state"]["discarded"]]
        oldest = duration(family["oldest_age_ms"])
        listing.add_row(text(family["family"]), *(text(count or "-") for count in counts), text(oldest))
    console.print(listing)


def _pauses(console: Console, pauses: Sequence[Mapping[str, Any]], now_ms: int) -> None:
    listing = table("paused", "by", "reason", "ends in", numeric=("ends in",))
    for pause in pauses:
        expires_at = pause.get("expires_at")
        ends = "when resumed" if expires_at is None else duration(max(0, int(expires_at) - now_ms))
        listing.add_row(
            text(pause["gate"], "yellow"), text(pause.get("actor") or "-"),
            text(pause.get("reason") or "-"), text(ends),
        )  # fmt: skip
    console.print(listing)


def _gates(console: Console, gates: Sequence[Mapping[str, Any]]) -> None:
    listing = table(
        "at its limit", "running", "limit", "lanes behind", numeric=("running", "limit", "lanes behind")
    )
    for gate in gates:
        listing.add_row(
            text(gate["gate"], "yellow"), text(gate.get("running", "-")),
            text(gate.get("limit", "-")), text(gate.get("parked_lanes", "-")),
        )  # fmt: skip
    console.print(listing)


def _state(state: str) -> Any:
    styles = {"available": "green", "executing": "cyan", "retryable": "yellow", "discarded": "red"}
    return text(state, styles.get(state, ""))


def _label(name: str) -> str:
    # The value is written with its unit or as a time, so the name need not say it again.
    return name.removesuffix("_ms").removesuffix("_at").replace("_", " ")


def _readable(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if (name == "rank" or name.endswith(("_at", "_at_ms"))) and value > 0:
        return f"{datetime.fromtimestamp(value / 1_000, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
    if name.endswith("_ms") and name != "rank_ms":
        return duration(value)
    return str(value)
