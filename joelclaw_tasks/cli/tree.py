"""The command tree: what `joelclaw` answers when it is given no command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console

_FIRST_STEPS = (
    NextAction("joelclaw doctor", "check the environment"),
    NextAction("joelclaw up", "start the whole fleet on this machine"),
    NextAction("joelclaw queue depth", "how much is waiting, and for how long"),
)
#: Groups that do something themselves.
_ALSO_COMMANDS = {"joelclaw health"}


def command_tree(context: typer.Context) -> Outcome:
    """Every command at and below this one, with its usage and one sentence."""
    leaves = _leaves(context.command, context)

    steps = _FIRST_STEPS if context.parent is None else ()

    def view(console: Console) -> None:
        commands = table("command", "what it does")
        for leaf in leaves:
            commands.add_row(text(leaf["usage"], "bold"), text(leaf["description"]))
        console.print(commands)
        console.print(text("Every command takes --help, --json, --home and --debug.", "dim"))

    result = {"description": (context.command.help or "").strip(), "commands": leaves}
    return Outcome(result, steps, view)


def _leaves(node: Any, context: Any) -> list[dict[str, str]]:
    if not hasattr(node, "list_commands"):
        path = context.command_path
        holes = [each.name for each in node.params if each.param_type_name == "argument"]
        usage = " ".join([path, *(f"<{hole.replace('_', '-')}>" for hole in holes)])
        return [{"command": path, "usage": usage, "description": node.get_short_help_str(limit=120)}]
    leaves: list[dict[str, str]] = []
    if (path := context.command_path) in _ALSO_COMMANDS:
        leaves.append({"command": path, "usage": path, "description": node.get_short_help_str(limit=120)})
    for name in node.list_commands(context):
        child = node.get_command(context, name)
        if child is not None and not child.hidden:
            leaves += _leaves(child, type(context)(child, info_name=name, parent=context))
    return leaves
