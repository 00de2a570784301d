"""What the steering commands share: their options, Ctrl-C between two steps, and how a result looks."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, actor_of
from joelclaw_tasks.cli.terminal import table, text
from joelclaw_tasks.errors import InvalidFilter, InvalidScore, InvalidTtl

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.steering.queue import Queue
    from joelclaw_tasks.steering.results import Acted, Control

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the record.")]
Ttl = Annotated[str | None, typer.Option("--ttl", help="60s to 30d: end it by itself after that time.")]
Where = Annotated[
    str | None, typer.Option("--where", "-w", help="Choose by a filter, such as 'family=note age>10m'.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count them, and show some.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Target = Annotated[str | None, typer.Argument(help="The id of a job or event; a family, handler or queue.")]

LIST = NextAction("joelclaw queue list", "the waiting jobs in the order they would start")
STATUS = NextAction("joelclaw queue control status", "what is in force, who set it and until when")


def open_queue(actor: str | None) -> Queue:
    """The queue of this invocation's fleet. Raises SettingsError, CoreUnreachable, CommandFailed."""
    by = actor_of(actor)
    from joelclaw_tasks.steering.queue import Queue

    progress().say("asking Redis")
    return Queue.connect(current().settings(), actor=by)


def undo_action(control: str) -> NextAction:
    """The command that takes an act back."""
    return NextAction(f"joelclaw queue undo {control}", "take it back")


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """What was typed wrongly ends with exit code 2."""
    try:
        yield
    except (InvalidTtl, InvalidFilter, InvalidScore) as error:
        raise usage(str(error), code=error.code, fix=error.fix) from None


@contextlib.contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted instead of raised, so that a step is never left without its answer."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def on_jobs(
    verb: Callable[..., Acted],
    target: str | None,
    *,
    where: str | None,
    dry_run: bool,
    yes: bool,
    reason: str,
    **options: Any,
) -> Outcome:
    """Carry out a verb on jobs: count and ask first where a person may, tell the truth when interrupted."""
    options |= {"where": where, "reason": reason}
    with typed(), until_interrupted() as stop:
        if not (dry_run or yes) and may_ask():
            _ask(verb(target, dry_run=True, stop=stop, on_progress=_count, **options))
        acted = verb(target, dry_run=dry_run, stop=stop, on_progress=_count, **options)
    undo = [undo_action(acted.control)] if acted.control else []
    if acted.interrupted:
        raise CommandFailed(
            f"interrupted: {_summary(acted)}",
            code="QUEUE_INTERRUPTED",
            fix="What was done stays; run the command again for the rest, or undo it.",
            details=acted.to_wire(),
            next_actions=undo,
            exit_code=ExitCode.INTERRUPTED,
        )
    return Outcome(acted.to_wire(), (*undo, DEPTH, LIST), _acted_view(acted))


def control_outcome(control: Control | None, said: str, **more: Any) -> Outcome:
    """What a verb on a gate answers: the control, and how to take it back."""
    if control is None:
        return Outcome(
            {"control": None, **more}, (STATUS, DEPTH), _line("it was so already: nothing changed")
        )
    until = f" for {duration(control.until_at - control.at)}" if control.until_at else ""
    actions = (undo_action(control.id), STATUS, DEPTH)
    return Outcome({"control": control.to_wire(), **more}, actions, _line(f"{said}{until} ({control.id})"))


def _line(said: str) -> Callable[[Console], None]:
    return lambda console: console.print(text(said))


def may_ask() -> bool:
    """Whether a person sits there."""
    return not current().as_json and sys.stdin is not None and sys.stdin.isatty()


def _ask(would: Acted) -> None:
    if would.interrupted:
        raise KeyboardInterrupt
    confirm(would.verb, would.matched, "jobs", would.target)


def confirm(verb: str, number: int, what: str, chosen: str) -> None:
    """Ask before many are changed. Raises CommandFailed when the answer is no."""
    if number <= 1:
        return
    progress().be_silent()
    if not typer.confirm(f"{verb} {number} {what} ({chosen})?", err=True):
        raise CommandFailed(
            "not confirmed: nothing was changed",
            code="QUEUE_NOT_CONFIRMED",
            fix="Answer y, or give --yes; --dry-run shows what would be chosen.",
        )


def _count(acted: Acted) -> None:
    progress().say(f"{acted.verb}: {acted.changed or acted.matched} jobs")


def _summary(acted: Acted) -> str:
    if acted.dry_run:
        return f"{acted.verb} would choose {acted.matched} jobs ({acted.target})"
    skipped = ", ".join(f"{count} {word.lower().replace('_', ' ')}" for word, count in acted.skipped.items())
    undo = f", {acted.control}" if acted.control else ""
    return f"{acted.verb}: {acted.changed} of {acted.matched} jobs ({acted.target}{undo})" + (
        f"; skipped: {skipped}" if skipped else ""
    )


def _acted_view(acted: Acted) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        console.print(text(_summary(acted)))
        if acted.sample:
            jobs = table("job", "family", "handler", "state", "prio")
            for job in acted.sample:
                jobs.add_row(
                    *(text(job.get(name, "-")) for name in ("id", "family", "handler", "state", "priority"))
                )
            console.print(jobs)

    return view
