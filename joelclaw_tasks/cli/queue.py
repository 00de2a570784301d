"""joelclaw queue: what waits, why, and the switches to hold it."""

from __future__ import annotations

from typing import Annotated

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_audit import audit
from joelclaw_tasks.cli.queue_control import control
from joelclaw_tasks.cli.queue_explain import explain
from joelclaw_tasks.cli.queue_observe import observe
from joelclaw_tasks.cli.queue_parts import (
    DEPTH,
    inspect_command,
    open_store,
    resume_command,
)
from joelclaw_tasks.cli.queue_reconcile import reconcile
from joelclaw_tasks.cli.queue_simulate import simulate
from joelclaw_tasks.cli.queue_stats import stats
from joelclaw_tasks.cli.queue_steer import DEFAULT_TTL, drain, limit, pause, rate, resume
from joelclaw_tasks.cli.queue_steer_jobs import cancel, priority, retry, shed, undo, unshed
from joelclaw_tasks.cli.queue_timeline import timeline
from joelclaw_tasks.cli.queue_views import depth_view, job_view, jobs_view
from joelclaw_tasks.cli.queue_watch import watch
from joelclaw_tasks.cli.tree import command_tree

queue = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw queue list", "the waiting jobs in the order they would start")
_PAUSE = NextAction(
    "joelclaw queue pause <gate> [--ttl <ttl>] [--reason <reason>]",
    "hold a family, handler or queue back for a while",
    {
        "gate": {"description": "a family, handler or queue name", "required": True},
        "ttl": {"description": "60s to 1d", "default": DEFAULT_TTL},
        "reason": {"description": "why"},
    },
)


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


for verb in (pause, resume, limit, rate, drain, priority, cancel, retry, shed, unshed, undo):
    queue.command(verb.__name__)(verb)
queue.command("explain")(explain)
queue.command("simulate")(simulate)
queue.command("observe")(observe)
queue.command("audit")(audit)
queue.command("reconcile")(reconcile)
queue.command("stats")(stats)
queue.command("timeline")(timeline)
queue.command("watch")(watch)
queue.add_typer(control, name="control")
