"""joelclaw diagnosis: what was diagnosed, and what people think of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.diagnosis_views import (
    LIST,
    diagnoses_view,
    diagnosis_view,
    line_of,
    show_command,
    verdict_actions,
)
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, open_store
from joelclaw_tasks.cli.steering import Reason
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from joelclaw_tasks.core.diagnoses import Diagnoses

Id = Annotated[str, typer.Argument(help="A diagnosis, such as d3.")]

_DEAD = NextAction("joelclaw dead list", "what is in the dead letter, by signature")

diagnosis = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)


@diagnosis.callback()
def group(context: typer.Context) -> None:
    """See what was diagnosed, and say what you think of it."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@diagnosis.command("list")
@command
def list_diagnoses(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many at most.")] = 20,
) -> Outcome:
    """What was diagnosed, the newest first."""
    found = [line_of(record) for record in _diagnoses().recent(limit)]
    shows = [NextAction(show_command(each["id"]), "all of it, with its evidence") for each in found[:1]]
    return Outcome({"diagnoses": found}, (*shows, _DEAD), diagnoses_view(found))


@diagnosis.command("show")
@command
def show(id: Id) -> Outcome:
    """One diagnosis with its evidence."""
    record = _diagnoses().get(id)
    return Outcome({"diagnosis": record}, (*verdict_actions(record), LIST), diagnosis_view(record))


@diagnosis.command("accept")
@command
def accept(id: Id, *, reason: Reason = "", actor: Actor = None) -> Outcome:
    """Note that it was right. Nothing is changed by that: you do what it proposes."""
    return _judge(id, "accepted", reason, actor)


@diagnosis.command("reject")
@command
def reject(id: Id, *, reason: Reason = "", actor: Actor = None) -> Outcome:
    """Note that it was wrong, and why: a later diagnosis of the same sees that."""
    return _judge(id, "rejected", reason, actor)


def _judge(id: str, verdict: Literal["accepted", "rejected"], reason: str, actor: str | None) -> Outcome:
    by = actor_of(actor)
    diagnoses = _diagnoses()
    record = diagnoses.judge(id, verdict, actor=by, reason=reason)
    judged = record["verdict"]
    _tell(record, f"Diagnosis {id} is {verdict} by {by}.")
    before = f" (it was {judged['before']})" if judged["before"] not in {None, verdict} else ""
    return Outcome(
        {"id": id, "verdict": judged},
        (NextAction(show_command(id), "all of it, with its evidence"), LIST),
        lambda console: console.print(text(f"{id} is {verdict}{before}; nothing else was changed")),
    )


def _tell(record: Mapping[str, Any], said: str) -> None:
    """Whoever was told of the diagnosis hears that somebody has seen to it; its task is done."""
    from joelclaw_tasks.intelligence.diagnosis.records import cause_of
    from joelclaw_tasks.notify.console import Console
    from joelclaw_tasks.notify.notifier import Notifier

    notifier = Notifier.of(current().settings(), open_store(), console=Console("stderr"))
    notifier(said, cause=cause_of(record), change="resolved")


def _diagnoses() -> Diagnoses:
    from joelclaw_tasks.core.diagnoses import Diagnoses

    return Diagnoses(open_store())
