"""joelclaw diagnose: find out why something keeps failing. It changes nothing."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from joelclaw_tasks.cli.diagnosis_views import LIST, diagnosis_view, show_command, verdict_actions
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, open_store


def diagnose(
    target: Annotated[str, typer.Argument(help="A family, a handler, a signature, or the id of a job.")],
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Ask and pay anew, although there is a diagnosis of today.")
    ] = False,
    actor: Actor = None,
) -> Outcome:
    """Find out why something keeps failing: collects evidence and asks a model once; changes nothing."""
    from joelclaw_tasks.errors import RegistryError
    from joelclaw_tasks.fleet.diagnosing import desk_of
    from joelclaw_tasks.registry import Registry

    by, settings = actor_of(actor), current().settings()
    try:
        registry: Registry | None = Registry.load(settings.registry_dir)
    except RegistryError:
        registry = None  # what has failed can be looked at all the same
    desk = desk_of(open_store(), settings, registry)
    try:
        made = desk.diagnose(target, actor=by, again=again, say=progress().say)
    except KeyboardInterrupt:
        raise CommandFailed(
            "interrupted; a question that was on its way is paid for all the same",
            code="DIAGNOSIS_INTERRUPTED",
            fix="Run it again with --again; without, it shows what was begun.",
            next_actions=(NextAction(_again(target), "ask anew"), LIST),
            exit_code=ExitCode.INTERRUPTED,
        ) from None
    record = made.record
    actions: list[NextAction] = []
    if not made.is_new:
        actions.append(NextAction(_again(target), "ask and pay anew"))
    actions += [*verdict_actions(record), NextAction(show_command(record["id"]), "all of its evidence"), LIST]
    result: dict[str, Any] = {"is_new": made.is_new, "diagnosis": record}
    return Outcome(result, actions, diagnosis_view(record, is_new=made.is_new, only_cited=True))


def _again(target: str) -> str:
    return f"joelclaw diagnose {shlex.quote(target)} --again"
