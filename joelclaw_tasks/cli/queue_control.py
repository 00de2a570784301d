"""joelclaw queue control: what is in force, who set it, and what was done before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, clock_time, open_store, resume_command
from joelclaw_tasks.cli.span import Hours, Since, span_of
from joelclaw_tasks.cli.terminal import line, table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

control = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_STYLES = {"applied": "yellow", "lifted": "green", "expired": "dim", "rejected": "red"}


@control.callback()
def group(context: typer.Context) -> None:
    """See what holds the queue back by somebody's decision."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@control.command("status")
@command
def status(
    hours: Hours = 24,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="Most acts listed.")] = 10,
) -> Outcome:
    """What is in force, who set it, why and until when; and what was done in the last hours."""
    from joelclaw_tasks.telemetry.control_history import control_history

    store = open_store()
    span = span_of(hours, since, store.now_ms())
    active = [_in_force(act) for act in store.controls()]
    progress().say("reading the history")
    told = control_history(
        store.history.read(since_at=span.since_at, acts=True, newest_first=True), limit=limit
    )
    window = span.to_wire(told.pop("found"), store.history.extent())
    result = {"window": window, "active": active, **told}
    ends = [NextAction(*_end_of(each)) for each in active[:3]]
    return Outcome({"control": result}, (*ends, DEPTH), _view(result))


def _in_force(act: Mapping[str, Any]) -> dict[str, Any]:
    """A control as it is shown: `value` and `base` of a pause are its record and nothing, so they go."""
    named = ("id", "verb", "target", "actor", "reason", "at", "until", "where", "value", "base", "previous")
    shown = {name: act[name] for name in named if name in act}
    shown["until"] = act.get("until")
    if act["verb"] == "pause":
        shown.pop("value", None)
        shown.pop("base", None)
    return shown


def _end_of(control: Mapping[str, Any]) -> tuple[str, str]:
    """The command that ends a control, and what it does."""
    if control["verb"] == "pause":
        return resume_command(control["target"]), "let it go again"
    return f"joelclaw queue undo {control['id']}", f"take this {control['verb']} back"


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        active, now_at = result["active"], result["window"]["until_at"]
        console.print(text(f"{len(active)} in force" if active else "nothing is in force", "bold"))
        for each in active:
            _active(console, each, now_at)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in result["counts"].items())
        console.print(text(f"since {clock_time(result['window']['since_at'])}: {counts}", "dim"))
        if result["window"]["truncated"]:
            gone = f"only since {clock_time(result['window']['first_at'])}: the stream keeps no older entries"
            console.print(text(gone, "yellow"))
        if result["recent_events"]:
            _history(console, result["recent_events"], now_at)

    return view


def _active(console: Console, each: Mapping[str, Any], now_at: int) -> None:
    left_ms = max(0, (each["until"] or 0) - now_at)
    ends = f"for another {duration(left_ms)}" if each["until"] else "until it is lifted"
    begun = f"for {duration(max(0, now_at - each['at']))} now"
    value = [text(f"= {each['value']}")] if each.get("value") else []
    console.print(
        line(text(f"  {each['verb']}"), text(each["target"], "yellow"), *value, text(each["id"], "dim"))
    )
    console.print(text(f"      by {each['actor'] or '-'}, {begun}, {ends}", "dim"))
    if each["reason"]:
        console.print(text(f"      {each['reason']}"))


def _history(console: Console, events: Sequence[Mapping[str, Any]], now_at: int) -> None:
    listing = table("when", "what", "target", "by", "reason")
    for event in events:
        value = f" = {event['value']}" if "value" in event else ""
        listing.add_row(
            text(f"{duration(max(0, now_at - event['at']))} ago", "dim"),
            text(" ".join(filter(None, (event["verb"], event.get("of")))), _STYLES[event["outcome"]]),
            text(event["target"] + value),
            text(event.get("actor", "-")),
            text(event.get("reason", "-")),
        )
    console.print(listing)
