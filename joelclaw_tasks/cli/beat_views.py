"""How `joelclaw beat` looks on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console

View = Callable[["Console"], None]
_STYLES = {"on": "", "paused": "yellow", "off": "dim"}


def entries(result: Mapping[str, Any]) -> View:
    """The table of entries, and what is wrong."""

    def view(console: Console) -> None:
        listed = table("entry", "when", "last sent", "due next", "state")
        for entry in result["entries"]:
            zone = "" if entry["timezone"] in (None, "UTC") else f"\n{entry['timezone']}"
            listed.add_row(
                text(entry["name"], "bold").append_text(
                    text(f"\n  {entry['event'] or entry['task']}", "dim")
                ),
                text(f"{entry['when']}{zone}"),
                text(_ago(entry["last_sent_at"], result["at"])),
                text(_in(entry, result["at"])),
                text(_state(entry), _STYLES[entry["state"]]),
            )
        console.print(listed)
        for entry in result["entries"]:
            missed = entry["missed"]
            if missed:
                console.print(text(f"{entry['name']} {_missed(missed)}", "dim"))
        if result["fault"]:
            console.print(text(f"beat goes by older schedules: {result['fault']}", "red"))
        if not result["is_beating"]:
            looked_at = result["looked_at"]
            since = "ever looked" if looked_at is None else f"has looked since {clock_time(looked_at)}"
            console.print(text(f"no beat {since}: nothing is fired", "red"))

    return view


def times(result: Mapping[str, Any]) -> View:
    """The next due times."""

    def view(console: Console) -> None:
        listed = table("due", "entry", "in", numeric=("in",))
        for time in result["times"]:
            listed.add_row(
                text(clock_time(time["due_at"])),
                text(time["name"]),
                text(duration(time["due_at"] - result["at"])),
            )
        console.print(listed)
        for name in result["paused"]:
            console.print(text(f"{name} is paused", "yellow"))

    return view


def _state(entry: Mapping[str, Any]) -> str:
    pause = entry["pause"]
    if pause is None:
        return str(entry["state"])
    until = "" if pause["until_at"] is None else f" until {clock_time(pause['until_at'])}"
    return f"paused{until} by {pause['actor']}"


def _missed(missed: Mapping[str, Any]) -> str:
    span = clock_time(missed["first_at"])
    if missed["last_at"] != missed["first_at"]:
        span += f" to {clock_time(missed['last_at'])}"
    made_up = f"{missed['made_up']} of them made up for" if missed["made_up"] else "not made up for"
    times = "once" if missed["count"] == 1 else f"{missed['count']} times"
    return f"was missed {times}, {span}; {made_up}"


def _ago(at: int | None, now_ms: int) -> str:
    return "never" if at is None else f"{duration(max(0, now_ms - at))} ago"


def _in(entry: Mapping[str, Any], now_ms: int) -> str:
    return "-" if entry["next_at"] is None else f"in {duration(entry['next_at'] - now_ms)}"
