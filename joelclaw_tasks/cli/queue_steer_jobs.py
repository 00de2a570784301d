"""joelclaw queue priority, cancel, retry, shed, unshed and undo: what a person does to waiting jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, Outcome
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, Actor
from joelclaw_tasks.cli.steering import (
    LIST,
    STATUS,
    DryRun,
    Reason,
    Target,
    Ttl,
    Where,
    Yes,
    on_jobs,
    open_queue,
    undo_action,
    until_interrupted,
)
from joelclaw_tasks.cli.terminal import text


@command
def priority(
    target: Target = None,
    *,
    score: Annotated[str, typer.Option("--score", "-s", help="P0 to P3, or 0 (can wait) to 100 (at once).")],
    ttl: Annotated[
        str | None, typer.Option("--ttl", help="With a family: jobs that come until then get it too.")
    ] = None,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Give waiting jobs another priority: their ranks move by the difference."""
    verb = open_queue(actor).priority
    return on_jobs(
        verb, target, where=where, dry_run=dry_run, yes=yes, reason=reason, score=score, ttl=ttl
    )  # fmt: skip


@command
def cancel(
    target: Target = None,
    *,
    for_good: Annotated[bool, typer.Option("--for-good", help="Forget them at once: no undo.")] = False,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Take waiting jobs away; a running job that is named is asked to stop. Undo works for an hour."""
    verb = open_queue(actor).cancel
    return on_jobs(
        verb, target, where=where, dry_run=dry_run, yes=yes, reason=reason, for_good=for_good
    )  # fmt: skip


@command
def retry(
    target: Target = None,
    *,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Run jobs now that wait for their time or their next try."""
    verb = open_queue(actor).retry
    return on_jobs(verb, target, where=where, dry_run=dry_run, yes=yes, reason=reason)


@command
def shed(
    target: Target = None,
    *,
    ttl: Ttl = None,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Move waiting jobs to the parking lot, until unshed, undo or --ttl brings them back."""
    verb = open_queue(actor).shed
    return on_jobs(verb, target, where=where, dry_run=dry_run, yes=yes, reason=reason, ttl=ttl)


@command
def unshed(
    target: Target = None,
    *,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Bring jobs back from the parking lot, with their old ranks."""
    verb = open_queue(actor).unshed
    return on_jobs(verb, target, where=where, dry_run=dry_run, yes=yes, reason=reason)


@command
def undo(
    control: Annotated[str | None, typer.Argument(help="The id of an act; default: your last one.")] = None,
    *,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Take an act back: what it replaced is in force again, and its jobs are where they were."""
    queue = open_queue(actor)
    with until_interrupted() as stop:
        undone = queue.undo(
            control,
            reason=reason,
            stop=stop,
            on_progress=lambda so_far: progress().say(f"undo: {so_far.jobs} jobs"),
        )
    act = undone.control
    if undone.left:
        raise CommandFailed(
            f"interrupted: {undone.jobs} jobs went back, {undone.left} are left",
            code="QUEUE_INTERRUPTED",
            fix="Run the command again with the id of the act for the rest.",
            details=undone.to_wire(),
            next_actions=(undo_action(act.id),),
            exit_code=ExitCode.INTERRUPTED,
        )
    jobs = f"; {undone.jobs} jobs went back" if undone.jobs else ""
    said = f"undone: {act.verb} {act.where or act.target} ({act.id}){jobs}"
    return Outcome(undone.to_wire(), (STATUS, DEPTH, LIST), lambda console: console.print(text(said)))
