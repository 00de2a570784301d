"""How the health pulse is drawn for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console

    View = Callable[[Console], None]

_STYLES = {"healthy": "green", "degraded": "yellow", "down": "bold red", "unknown": "magenta", "off": "dim"}


def now(result: Mapping[str, Any]) -> View:
    """A line for each check, those that are off at the end."""

    def view(console: Console) -> None:
        listing = table("check", "state", "for", "took", "what the last look found", numeric=("took",))
        for each in sorted(result["checks"], key=lambda check: check["state"] == "off"):
            is_known = each["since_at"] is not None and each["state"] not in ("off", "unknown")
            differs = each["status"] != each["state"] and is_known
            detail = f"{each['detail']} ({each['status']})" if differs else each["detail"]
            listing.add_row(
                text(each["check"], "bold"),
                text(each["state"], _STYLES[each["state"]]),
                text(duration(result["at"] - each["since_at"]) if is_known else "-"),
                text(duration(each["latency_ms"]) if not each["is_late"] else "-"),
                text(detail),
            )
        console.print(listing)

    return view


def history(result: Mapping[str, Any]) -> View:
    """The turns, and the hours that were not wholly healthy."""

    def view(console: Console) -> None:
        if not result["turns"]:
            console.print(text(f"{result['check']} was not looked at in this time"))
            return
        turns = table("since", "state", "why")
        for turn in result["turns"]:
            why = "nobody looked" if turn.is_gap else turn.detail
            turns.add_row(text(clock_time(turn.at)), text(turn.state, _STYLES[turn.state]), text(why))
        console.print(turns)
        columns = ("looks", "bad", "restarts", "mean", "most")
        hours = table("hour", *columns, numeric=columns)
        for hour in result["hours"][-48:]:
            hours.add_row(
                text(clock_time(hour.at)), text(hour.looks), text(hour.bad), text(hour.restarts),
                text(duration(hour.mean_ms)), text(duration(hour.most_ms)),
            )  # fmt: skip
        console.print(hours)

    return view


def report(result: Mapping[str, Any]) -> View:
    """Uptime of each check, then the incidents."""

    def view(console: Console) -> None:
        if not result["checks"]:
            console.print(text("nothing was looked at in this time"))
            return
        columns = ("uptime", "down", "degraded", "not known", "incidents", "restarts", "mean", "most")
        listing = table("check", *columns, numeric=columns)
        for each in result["checks"]:
            spent = each["in_state_ms"]
            uptime = "-" if each["uptime"] is None else f"{_floored(each['uptime'])} %"
            listing.add_row(
                text(each["check"], "bold"), text(uptime), text(duration(spent["down"])),
                text(duration(spent["degraded"])), text(duration(spent["unknown"])),
                text(len(each["incidents"])), text(each["restarts"]), text(duration(each["mean_ms"])),
                text(duration(each["most_ms"])),
            )  # fmt: skip
        console.print(listing)
        incidents = [(each["check"], one) for each in result["checks"] for one in each["incidents"]]
        if not incidents:
            console.print(text("no incident", "green"))
            return
        listed = table("check", "from", "until", "worst", "what")
        for check, one in sorted(incidents, key=lambda pair: pair[1]["from_at"]):
            until = "goes on" if one["until_at"] is None else clock_time(one["until_at"])
            listed.add_row(
                text(check, "bold"), text(clock_time(one["from_at"])),
                text(f"{until}, then nobody looked" if one["is_cut"] else until),
                text(one["worst"], _STYLES[one["worst"]]), text(one["detail"]),
            )  # fmt: skip
        console.print(listed)

    return view


def _floored(share: float) -> str:
    """Never rounded up: 100 means that it was never down."""
    return f"{int(share * 100_000) / 1_000:g}"
