"""joelclaw beat: what is fired by the clock, when it is due next, and how to run, pause or resume it."""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from joelclaw_tasks.cli import beat_views as views
from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, clock_time, open_store, timeline_command
from joelclaw_tasks.cli.steering import Reason, Ttl, typed
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from joelclaw_tasks.core.beat_memory import BeatMemory
    from joelclaw_tasks.fleet.beat_view import BeatView

beat = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw beat list", "what is fired by the clock, and when it is due next")
_NEXT = NextAction("joelclaw beat next", "the next due times, the soonest first")
_DOCTOR = NextAction("joelclaw doctor", "check everything from here")
#: A beat looks every 5 s.
_SILENT_MS = 30_000

Name = Annotated[str, typer.Argument(help="The name of an entry, as `joelclaw beat list` prints it.")]


@beat.callback()
def group(context: typer.Context) -> None:
    """What is fired by the clock: see it, run it now, pause it."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@beat.command("list")
@command
def list_entries() -> Outcome:
    """Every entry: when it is due, fired last, what it missed, whether it is paused."""
    view, memory = _view(), _memory()
    now_ms, remembered = memory.now_ms(), memory.read()
    looked_at = remembered.looked_at
    result = {
        "at": now_ms,
        "looked_at": looked_at,
        "is_beating": looked_at is not None and now_ms - looked_at < _SILENT_MS,
        "fault": remembered.fault,
        "entries": [view.entry(name, remembered, now_ms) for name in view.names],
    }
    return Outcome(result, (_NEXT, _DOCTOR), views.entries(result))


@beat.command("next")
@command
def next_times(
    name: Annotated[str | None, typer.Argument(help="One entry; without it, all of them.")] = None,
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="How many times.")] = 10,
) -> Outcome:
    """When entries are due next, the soonest first; what is paused is named and fires none of them."""
    view, memory = _view(), _memory()
    now_ms, pauses = memory.now_ms(), memory.read().pauses
    names = view.names if name is None else [_known(name, view)]
    times = [{"name": each, "due_at": at} for each in names for at in view.dues(each, now_ms, count)]
    times.sort(key=lambda time: (time["due_at"], time["name"]))
    paused = [each for each in names if each in pauses and pauses[each].holds(now_ms)]
    result = {"at": now_ms, "paused": paused, "times": times[:count]}
    return Outcome(result, (_LIST,), views.times(result))


@beat.command("run")
@command
def run(name: Name) -> Outcome:
    """Fire an entry now, paused or not; its due times stay as they are."""
    view = _view()
    known = _known(name, view)
    if known not in view.running:
        raise CommandFailed(
            f"{known} is off",
            code="BEAT_ENTRY_OFF",
            fix="Set enabled in schedules.json.",
            next_actions=(_LIST,),
        )
    progress().say("asking Redis")
    job_id = view.run(known)
    follow = NextAction(timeline_command(job_id), "what becomes of it")
    said = f"{known} was fired: job {job_id}"
    return Outcome({"name": known, "job": job_id}, (follow, _LIST), lambda console: console.print(text(said)))


@beat.command("pause")
@command
def pause(name: Name, *, ttl: Ttl = None, reason: Reason = "", actor: Actor = None) -> Outcome:
    """Fire an entry no more, until it is resumed or --ttl is over; what falls due then is left out."""
    from joelclaw_tasks.core.beat_memory import Pause
    from joelclaw_tasks.steering.ttl import parse_ttl_ms

    by = actor_of(actor)
    with typed():
        ttl_ms = parse_ttl_ms(ttl)
    memory = _memory()
    known = _to_steer(name, memory)[0]
    now_ms = memory.now_ms()
    paused = Pause(now_ms + ttl_ms if ttl_ms else None, now_ms, by, reason)
    memory.pause(known, paused)
    until = "somebody resumes it" if paused.until_at is None else clock_time(paused.until_at)
    again = NextAction(f"joelclaw beat resume {shlex.quote(known)}", "let it fire again")
    said = f"{known} fires no more until {until}"
    return Outcome(
        {"name": known, "pause": paused.to_wire()}, (again, _LIST), lambda console: console.print(text(said))
    )


@beat.command("resume")
@command
def resume(name: Name) -> Outcome:
    """Let an entry fire again, from its next due time on."""
    memory = _memory()
    known, view = _to_steer(name, memory)
    now_ms = memory.now_ms()
    ended = memory.resume(known, now_ms)
    next_at = None if view is None else next(iter(view.dues(known, now_ms, 1)), None)
    result = {"name": known, "was_paused": ended is not None, "next_at": next_at}
    said = f"{known} {'fires again' if ended else 'was not paused'}"
    said += "" if next_at is None else f"; due next {clock_time(next_at)}"
    return Outcome(result, (_LIST,), lambda console: console.print(text(said)))


def _to_steer(name: str, memory: BeatMemory) -> tuple[str, BeatView | None]:
    """What fires can be stopped even while the registry cannot be read."""
    from joelclaw_tasks.errors import RegistryError

    try:
        view = _view()
    except RegistryError:
        remembered = memory.read()
        if name in remembered.fired or name in remembered.pauses:
            return name, None
        raise
    return _known(name, view), view


def _known(name: str, view: BeatView) -> str:
    if name in view.names:
        return name
    near = difflib.get_close_matches(name[:80], view.names, n=1, cutoff=0)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CommandFailed(
        f"beat has no entry {name!r:.90}{hint}",
        code="BEAT_ENTRY_UNKNOWN",
        fix="`joelclaw beat list` prints the names of the entries.",
        next_actions=(_LIST,),
    )


def _view() -> BeatView:
    progress().say("reading the registry")
    from joelclaw_tasks.fleet.beat_view import BeatView
    from joelclaw_tasks.registry import Registry

    settings = current().settings()
    return BeatView(settings, Registry.load(settings.registry_dir))


def _memory() -> BeatMemory:
    from joelclaw_tasks.core.beat_memory import BeatMemory

    return BeatMemory(open_store())
