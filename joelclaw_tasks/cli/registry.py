"""joelclaw registry: the events, their handlers, and whether the files are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.registry_versions import apply, diff, history, rollback
from joelclaw_tasks.cli.terminal import line, table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.core.spec import EventSpec, HandlerSpec, RestateSpec
    from joelclaw_tasks.registry import Registry

registry = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw registry list", "the known events")
_EVENT_PARAM = {"event": {"description": "a known event name", "required": True}}


@registry.callback()
def group(context: typer.Context) -> None:
    """The events, their handlers, and whether the files are right."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@registry.command("check")
@command
def check() -> Outcome:
    """Check every file and import every handler; reports all faults at once."""
    loaded = _load()
    progress().say("importing the handlers")
    faults = loaded.check_targets()
    if faults:
        raise CommandFailed(
            f"the registry has {len(faults)} fault{'s' * (len(faults) != 1)}:\n"
            + "\n".join(f"  - {fault}" for fault in faults),
            code="REGISTRY_INVALID",
            fix="Correct the named targets, then run `joelclaw registry check`.",
            details={"faults": faults},
        )
    counts = {
        "events": len(loaded.events), "handlers": len(loaded.handlers), "resources": len(loaded.resources),
        "tiers": list(loaded.tiers), "queues": sorted(loaded.queues), "version": loaded.version,
        "directory": current().settings().registry_dir,
    }  # fmt: skip
    verdict = f"no faults: {counts['events']} events, {counts['handlers']} handlers"
    return Outcome(counts, (_LIST,), lambda console: console.print(text(verdict, "green")))


@registry.command("list")
@command
def list_events() -> Outcome:
    """The known events, their priorities and handlers."""
    loaded = _load()
    events = list(loaded.events.values())
    result = {
        "count": len(events),
        "events": [_summary(event) for event in events],
        "resources": dict(loaded.resources),
        "queues": sorted(loaded.queues),
        "version": loaded.version,
    }
    show = NextAction(
        "joelclaw registry show <event>", "one event with its handlers and limits", _EVENT_PARAM
    )
    return Outcome(result, (show, _emit_action("<event>")), _list_view(events))


@registry.command("show")
@command
def show(event: Annotated[str, typer.Argument(help="The name of an event.")]) -> Outcome:
    """One event with its handlers, limits and retries."""
    spec = _load().event(event)
    result = {**dataclasses.asdict(spec), "priority": f"P{spec.priority}"}
    return Outcome({"event": result}, (_emit_action(spec.name), _LIST), _event_view(spec))


for _each in (diff, apply, history, rollback):
    registry.command(_each.__name__)(command(_each))


def _load() -> Registry:
    from joelclaw_tasks.registry import Registry

    return Registry.load(current().settings().registry_dir)


def _emit_action(event: str) -> NextAction:
    data = {"data": {"description": "a JSON object", "required": True}}
    params = data if event != "<event>" else {**_EVENT_PARAM, **data}
    return NextAction(f"joelclaw emit {event} -d <data>", "emit one", params)


def _summary(event: EventSpec) -> dict[str, Any]:
    return {
        "name": event.name,
        "description": event.description,
        "priority": f"P{event.priority}",
        "protected": event.protected,
        "handlers": [handler.name for handler in event.handlers],
    }


def _list_view(events: Sequence[EventSpec]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        listing = table("event", "prio", "handlers", "description")
        for event in events:
            handlers = "\n".join(handler.name for handler in event.handlers)
            name = f"{event.name} (protected)" if event.protected else event.name
            listing.add_row(
                text(name, "bold"), text(f"P{event.priority}"), text(handlers), text(event.description)
            )
        console.print(listing)

    return view


def _event_view(event: EventSpec) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        protected = ", protected" if event.protected else ""
        console.print(line(text(event.name, "bold"), text(f"P{event.priority}{protected}", "dim")))
        console.print(text(event.description))
        for handler in event.handlers:
            listing = table("handler", handler.name)
            for name, value in _handler_rows(handler):
                listing.add_row(text(name, "dim"), text(value))
            console.print(listing)

    return view


def _handler_rows(handler: HandlerSpec) -> list[tuple[str, str]]:
    limits = [
        f"{each.limit} at once" + _of_each(each.key) + _weighing(each.weight) for each in handler.concurrency
    ]
    rates = [
        f"{each.limit} in {each.period_ms / 1000:g} s, {each.burst} at once{_of_each(each.key)}"
        for each in handler.rate
    ]
    retries = handler.retries
    return [
        ("type", handler.type),
        ("target", handler.target),
        *_restate_rows(handler.restate),
        ("queue", handler.queue),
        ("limits", ", ".join(limits) or "none"),
        ("resources", ", ".join(each.name + _weighing(each.weight) for each in handler.resources) or "none"),
        ("rate", ", ".join(rates) or "none"),
        ("takes turns", "no" if handler.share is None else f"by {handler.share.key}"),
        ("retries", f"{retries.max}, from {retries.base_s:g} s to {retries.cap_s:g} s apart"),
        ("depends on", ", ".join(handler.depends_on) or "nothing that is checked"),
        ("timeout", "none" if handler.timeout_s is None else f"{handler.timeout_s:g} s"),
    ]


def _restate_rows(called: RestateSpec | None) -> list[tuple[str, str]]:
    if called is None:
        return []
    waits = f"call, for {called.deadline_ms / 1000:g} s at most" if called.mode == "call" else "send"
    kind = "a workflow" if called.workflow else f"an object by {called.key}" if called.key else "a service"
    return [("in Restate", f"{waits}; {kind}")]


def _of_each(key: str | None) -> str:
    return f" per {key}" if key else ""


def _weighing(weight: int) -> str:
    return f" (one job takes {weight})" if weight > 1 else ""
