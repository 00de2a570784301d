"""joelclaw queue: what waits, why, and the switches to hold it."""

from __future__ import annotations

from typing import Annotated

import typer

from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.duration import duration, parse_ttl_ms
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.gate_name import gate_among, resolve_gate
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_control import control
from joelclaw_tasks.cli.queue_parts import (
    DEPTH,
    Actor,
    actor_of,
    inspect_command,
    open_store,
    resume_command,
)
from joelclaw_tasks.cli.queue_stats import stats
from joelclaw_tasks.cli.queue_timeline import timeline
from joelclaw_tasks.cli.queue_views import depth_view, job_view, jobs_view
from joelclaw_tasks.cli.queue_watch import watch
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

_DEFAULT_TTL = "15m"

queue = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw queue list", "the waiting jobs in the order they would start")
_PAUSE = NextAction(
    "joelclaw queue pause <gate> [--ttl <ttl>] [--reason <reason>]",
    "hold a family, handler or queue back for a while",
    {
        "gate": {"description": "a family, handler or queue name", "required": True},
        "ttl": {"description": "60s to 1d", "default": _DEFAULT_TTL},
        "reason": {"description": "why"},
    },
)

Gate = Annotated[str, typer.Argument(help="A family, handler or queue name, or pause:family/<name>.")]


@queue.callback()
def group(context: typer.Context) -> None:
    """See what waits and why; hold it back and let it go."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@queue.command("depth")
@command
def depth() -> Outcome:
    """How much is waiting, per family and priority, for how long, and which gates are shut."""
    snapshot = open_store().snapshot()
    pauses = [NextAction(resume_command(each["gate"]), "let it go again") for each in snapshot["pauses"][:3]]
    return Outcome(snapshot, (_LIST, *pauses, _PAUSE), depth_view(snapshot))


@queue.command("list")
@command
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")] = 10,
) -> Outcome:
    """The waiting jobs, in the order in which they would start."""
    jobs = open_store().list_jobs(limit=limit)
    actions = [NextAction(inspect_command(job["id"]), "everything known of it") for job in jobs[:3]]
    return Outcome({"count": len(jobs), "jobs": jobs}, (*actions, DEPTH), jobs_view(jobs))


@queue.command("inspect")
@command
def inspect(job_id: Annotated[str, typer.Argument(help="The id of a job.")]) -> Outcome:
    """Everything known of one job: state, payload, and what it waits for."""
    job = open_store().inspect(job_id)
    return Outcome({"job": job}, (_LIST, DEPTH), job_view(job))


@queue.command("pause")
@command
def pause(
    gate: Gate,
    *,
    ttl: Annotated[
        str | None, typer.Option("--ttl", help="60s to 1d; a bare number is seconds (15m).")
    ] = None,
    no_ttl: Annotated[bool, typer.Option("--no-ttl", help="Hold it until somebody resumes it.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the record.")] = "",
    actor: Actor = None,
) -> Outcome:
    """Hold back a family, handler or queue: nothing of it starts until it is resumed."""
    if no_ttl and ttl is not None:
        raise usage("--ttl and --no-ttl exclude each other", fix="Give one of --ttl and --no-ttl.")
    by = actor_of(actor)
    ttl_ms = 0 if no_ttl else parse_ttl_ms(ttl if ttl is not None else _DEFAULT_TTL)
    store = open_store()
    resolved = resolve_gate(gate, current().settings(), store.snapshot)
    record = store.pause(resolved, actor=by, reason=reason, ttl_ms=ttl_ms)
    until = f"for {duration(ttl_ms)}" if ttl_ms else "until it is resumed"
    actions = (NextAction(resume_command(resolved), "let it go again"), DEPTH, _LIST)
    return Outcome(
        {"gate": resolved, "pause": record},
        actions,
        lambda console: console.print(text(f"paused {resolved} {until}")),
    )


@queue.command("resume")
@command
def resume(
    gate: Gate,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the record.")] = "",
    actor: Actor = None,
) -> Outcome:
    """Let a paused family, handler or queue go again."""
    by = actor_of(actor)
    store = open_store()
    snapshot = store.snapshot()
    resolved = gate_among(gate, [each["gate"] for each in snapshot["pauses"]])
    if resolved is None:
        resolved = resolve_gate(gate, current().settings(), lambda: snapshot)
    previous = store.resume(resolved, actor=by, reason=reason)
    if previous is None:
        raise CommandFailed(
            f"{resolved} is not paused",
            code="QUEUE_FAMILY_NOT_PAUSED",
            fix="`joelclaw queue depth` shows what is paused.",
            next_actions=(DEPTH,),
        )
    return Outcome(
        {"gate": resolved, "resumed": True, "previous_pause": previous},
        (DEPTH, _LIST),
        lambda console: console.print(text(f"resumed {resolved}")),
    )


queue.command("stats")(stats)
queue.command("timeline")(timeline)
queue.command("watch")(watch)
queue.add_typer(control, name="control")
