"""joelclaw dev: what developers of handlers and prompts run beside a fleet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.envelope import Outcome, succeeded, to_json
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import write
from joelclaw_tasks.cli.tree import command_tree

dev = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="Its port (0: a free one).")]
Script = Annotated[
    Path | None,
    typer.Option("--script", help="Answers to give, one JSON object a line; afterwards the simplest ones."),
]
FaultName = Annotated[
    str | None, typer.Option("--fault", help="Do this to every request, such as overloaded or slow.")
]


@dev.callback()
def group(context: typer.Context) -> None:
    """What developers of handlers and prompts run beside a fleet."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@dev.command("models")
@command
def models(port: Port = 0, script: Script = None, fault: FaultName = None) -> None:
    """Serve a Messages API on this machine that needs no key of anybody; Ctrl-C stops it.

    Prints its URL: give it to a fleet as ANTHROPIC_BASE_URL, with any ANTHROPIC_API_KEY.
    """
    from joelclaw_tasks.intelligence.local.act import Fault, read_script
    from joelclaw_tasks.intelligence.local.server import MessagesApi

    progress().be_silent()
    if fault is not None and fault not in list(Fault):
        raise usage(f"no fault is named {fault!r}", fix=f"Name one of {', '.join(Fault)}.")
    try:
        acts = read_script(script) if script is not None else []
    except (OSError, ValueError) as error:
        raise usage(
            f"--script {script} cannot be used: {error}",
            fix='Write one JSON object a line, such as {"value": {"score": 70}} or {"fault": "overloaded"}.',
        ) from None
    rule = None if fault is None else lambda _: Fault(fault)
    try:
        api = MessagesApi(rule, port=port)
    except OSError as error:
        raise usage(f"port {port} cannot be used: {error.strerror}", fix="Give another, or 0.") from None
    with api:
        api.script(*acts)
        environment = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "local"}
        if current().as_json:
            result = {"url": api.url, "environment": environment}
            write(to_json(succeeded(current().command, Outcome(result)), one_line=True))
        else:
            exports = " ".join(f"{name}={value}" for name, value in environment.items())
            write(f"{api.url}\n\n  {exports} joelclaw up\n\nCtrl-C stops it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
