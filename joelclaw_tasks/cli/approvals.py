"""joelclaw approvals: what runs of DAGs ask of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from joelclaw_tasks.cli import dag_views as views
from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_parts import Actor, actor_of
from joelclaw_tasks.cli.restate_parts import APPROVALS, RUNS, open_runs, status_action
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

approvals = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

RunId = Annotated[str, typer.Argument(help="The id of the run.")]
Step = Annotated[str, typer.Argument(help="The id of the step that asks.")]
Note = Annotated[str, typer.Option("--note", help="Why; it is kept with the answer.")]


@approvals.callback()
def group(context: typer.Context) -> None:
    """What runs of DAGs ask of a person: list it, approve or deny it."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@approvals.command("list")
@command
def list_open() -> Outcome:
    """What waits for an answer, the most urgent first."""
    with open_runs() as runs:
        found = runs.approvals()
    actions = [RUNS]
    if found:
        first = f"{found[0]['run']} {found[0]['node']}"
        actions = [
            NextAction(f"joelclaw approvals approve {first}", "say yes to the first"),
            NextAction(f"joelclaw approvals deny {first}", "say no to the first"),
            RUNS,
        ]
    return Outcome({"approvals": found}, actions, views.approvals(found))


@approvals.command("approve")
@command
def approve(run: RunId, step: Step, *, note: Note = "", actor: Actor = None) -> Outcome:
    """Say yes: the run goes on. The first answer counts."""
    return _answer(run, step, approved=True, note=note, actor=actor)


@approvals.command("deny")
@command
def deny(run: RunId, step: Step, *, note: Note = "", actor: Actor = None) -> Outcome:
    """Say no: the run fails there, and takes back what it did. The first answer counts."""
    return _answer(run, step, approved=False, note=note, actor=actor)


def _answer(run: str, step: str, *, approved: bool, note: str, actor: str | None) -> Outcome:
    from joelclaw_tasks.restate.runs import ApprovalAnswered

    by = actor_of(actor)
    try:
        with open_runs() as runs:
            answer = runs.answer(run, step, approved=approved, by=by, note=note)
    except ApprovalAnswered as error:
        raise CommandFailed(
            str(error),
            code=error.code,
            fix=error.fix,
            details={"answer": error.answer},
            next_actions=(status_action(run), APPROVALS),
        ) from None
    said = f"{step} of {run} is {'approved' if approved else 'denied'}"
    result = {"run": run, "step": step, "answer": answer}
    return Outcome(result, (status_action(run), APPROVALS), lambda console: console.print(text(said)))
