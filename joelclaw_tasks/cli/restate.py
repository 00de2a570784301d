"""joelclaw restate: serve the durable services; see and end what Restate has to do."""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any

import typer

from joelclaw_tasks.cli import restate_views as views
from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.envelope import NextAction, Outcome, succeeded, to_json
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.restate_parts import DOCTOR, RUNS, open_client
from joelclaw_tasks.cli.terminal import text, write
from joelclaw_tasks.cli.tree import command_tree

restate = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_STATUS = NextAction("joelclaw restate status", "the server, its services and its backlog")
_INVOCATIONS = NextAction("joelclaw restate invocations", "what has not ended, the oldest first")


@restate.callback()
def group(context: typer.Context) -> None:
    """Restate: serve what runs there; see and end what it has to do."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@restate.command("serve")
@command
def serve(
    *, port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Its port (0: a free one).")] = 0
) -> None:
    """Serve DAGs and their steps on this machine, and register them; Ctrl-C stops it.

    `joelclaw up --with-restate` runs it. Several may run: each run goes on wherever one is left.
    """
    from joelclaw_tasks.restate.serving import serve

    progress().be_silent()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def announce(url: str) -> None:
        if current().as_json:
            write(to_json(succeeded(current().command, Outcome({"url": url})), one_line=True))
        else:
            write(f"serves DAGs at {url}; Ctrl-C stops it")

    serve(current().settings(), port, on_listening=announce)


@restate.command("status")
@command
def status() -> Outcome:
    """Whether the server answers, who serves what, and how much waits, runs and fails."""
    from joelclaw_tasks.restate.overview import overview

    with open_client() as client:
        found = overview(client)
    return Outcome(found, (_INVOCATIONS, RUNS, DOCTOR), views.status(found))


@restate.command("invocations")
@command
def invocations(
    *,
    service: Annotated[str | None, typer.Option("--service", help="Only of this service.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    most: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many.")] = 50,
) -> Outcome:
    """What has not ended, the oldest first: since when, how often it was tried, why it failed."""
    from joelclaw_tasks.restate.overview import invocations as listed

    with open_client() as client:
        found = listed(client, service=service, every=every, most=most)
    actions = [_STATUS]
    if found:
        actions.insert(0, NextAction(f"joelclaw restate cancel {found[0]['id']}", "end the first"))
    return Outcome({"invocations": found}, actions, views.invocations(found))


@restate.command("cancel")
@command
def cancel(
    id: Annotated[str, typer.Argument(help="The id of an invocation (inv_…).")],
    *,
    kill: Annotated[bool, typer.Option("--kill", help="At once, without taking back what it did.")] = False,
) -> Outcome:
    """Ask an invocation to stop; what it called stops too, and it may take back what it did."""
    with open_client() as client:
        if kill:
            client.kill(id)
        else:
            client.cancel(id)
    said = f"{id} was {'killed' if kill else 'asked to stop'}"
    return Outcome({"id": id, "killed": kill}, (_INVOCATIONS,), lambda console: console.print(text(said)))


@restate.command("resolve")
@command
def resolve(
    id: Annotated[str, typer.Argument(help="The id of an awakeable (sign_… or prom_…).")],
    value: Annotated[str, typer.Argument(help="What it is resolved with, as JSON.")] = "null",
    *,
    reject: Annotated[str | None, typer.Option("--reject", help="Let it fail, for this reason.")] = None,
) -> Outcome:
    """Let what waits for an awakeable go on with a value. Approvals have `joelclaw approvals`."""
    given: Any = None
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        raise usage(f"{value[:80]!r} is not JSON", fix="Quote it for the shell, such as '\"yes\"'.") from None
    with open_client() as client:
        if reject is None:
            client.resolve_awakeable(id, given)
        else:
            client.reject_awakeable(id, reject)
    said = f"{id} was {'resolved' if reject is None else 'rejected'}, unless it was before"
    return Outcome(
        {"id": id, "value": given, "rejected": reject},
        (_INVOCATIONS,),
        lambda console: console.print(text(said)),
    )
