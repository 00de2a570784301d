"""joelclaw observer: what the observer has done, and how to take it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_observe import HISTORY, verdicts
from joelclaw_tasks.cli.queue_parts import DEPTH, Actor, actor_of, clock_time, open_store
from joelclaw_tasks.cli.steering import STATUS, Reason, open_queue
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

_OBSERVE = NextAction("joelclaw queue observe", "what it sees and would do now")

observer = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)


@observer.callback()
def group(context: typer.Context) -> None:
    """See what the observer has done, and take it back."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@observer.command("history")
@command
def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Most passes listed.")] = 10,
) -> Outcome:
    """What the observer proposed, did and was refused, pass by pass, the newest first."""
    from joelclaw_tasks.core.passes import Passes

    passes = Passes(open_store()).recent(limit)
    undos = [
        NextAction(f"joelclaw observer undo p{each['number']}", "take back what this pass did")
        for each in passes
        if any(verdict["control"] for verdict in each["verdicts"])
    ]
    return Outcome({"passes": passes}, (*undos[:1], _OBSERVE, STATUS), _view(passes))


@observer.command("undo")
@command
def undo(
    id: Annotated[str, typer.Argument(help="A pass, such as p12, or one of its acts, such as c17.")],
    *,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Take back an act of the observer, or all that a pass did; it is not done again within an hour."""
    from joelclaw_tasks.fleet.observing import undo_of_observer

    undone, over = undo_of_observer(open_queue(actor), id, actor=actor_of(actor), reason=reason)
    result = {"id": id, "undone": [each.to_wire() for each in undone], "over": over}
    said = ", ".join(
        f"{each.control.verb} {each.control.where or each.control.target} ({each.control.id})"
        for each in undone
    )
    return Outcome(result, (STATUS, HISTORY, DEPTH), lambda console: console.print(text(f"undone: {said}")))


def _view(passes: Sequence[dict[str, Any]]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        if not passes:
            console.print(text("the observer has not proposed anything yet"))
        for each in passes:
            findings = each["findings"]
            said = f"p{each['number']} {clock_time(each['at'])} by {each['operator']} ({each['status']})"
            console.print(text(said, "bold"))
            console.print(text(f"  {findings['summary']}", "dim"))
            if each["fallback"]:
                console.print(text(f"  the first operator failed: {each['fallback']}", "yellow"))
            verdicts(console, each["verdicts"])

    return view
