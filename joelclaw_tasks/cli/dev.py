"""joelclaw dev: what developers of handlers and prompts run beside a fleet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.envelope import Outcome, succeeded, to_json
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import write
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from joelclaw_tasks.intelligence.local.cassette import Tape

dev = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="Its port (0: a free one).")]
Script = Annotated[
    Path | None,
    typer.Option("--script", help="Answers to give, one JSON object a line; afterwards the simplest ones."),
]
FaultName = Annotated[
    str | None, typer.Option("--fault", help="Do this to every request, such as overloaded or slow.")
]

Record = Annotated[
    Path | None,
    typer.Option("--record", help="Pass requests on to --upstream, and write its answers into this file."),
]
Upstream = Annotated[str | None, typer.Option("--upstream", help="The API whose answers are recorded.")]
Replay = Annotated[Path | None, typer.Option("--replay", help="Answer what this file has recorded.")]


@dev.callback()
def group(context: typer.Context) -> None:
    """What developers of handlers and prompts run beside a fleet."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@dev.command("models")
@command
def models(
    port: Port = 0,
    script: Script = None,
    fault: FaultName = None,
    record: Record = None,
    upstream: Upstream = None,
    replay: Replay = None,
) -> None:
    """Serve a Messages API on this machine that needs no key of anybody; Ctrl-C stops it.

    Prints its URL: give it to a fleet as ANTHROPIC_BASE_URL, with any ANTHROPIC_API_KEY. While it records,
    the fleet needs the key of the upstream; it is not written down.
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
    if sum(each is not None for each in (record, replay, script or fault)) > 1:
        raise usage(
            "--record, --replay and scripted answers exclude each other",
            fix="Give one of --record, --replay, or --script and --fault.",
        )
    tape = _tape(record, upstream, replay)
    rule = None if fault is None else lambda _: Fault(fault)
    try:
        api = MessagesApi(rule, port=port, tape=tape)
    except OSError as error:
        raise usage(f"port {port} cannot be used: {error.strerror}", fix="Give another, or 0.") from None
    with api:
        api.script(*acts)
        environment = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "local"}
        if record is not None:
            del environment["ANTHROPIC_API_KEY"]  # the upstream wants its own
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


def _tape(record: Path | None, upstream: str | None, replay: Path | None) -> Tape | None:
    from joelclaw_tasks.intelligence.local.cassette import Player, Recorder

    if (record is None) != (upstream is None):
        raise usage(
            "--record and --upstream go together",
            fix="Give both, such as --record mail.json --upstream https://api.anthropic.com.",
        )
    try:
        if record is not None and upstream is not None:
            if not upstream.startswith(("http://", "https://")):
                raise usage("--upstream is no http or https URL", fix="Give https://api.anthropic.com.")
            return Recorder(record, upstream)
        return None if replay is None else Player(replay)
    except (OSError, ValueError) as error:
        option = f"--record {record}" if record is not None else f"--replay {replay}"
        raise usage(
            f"{option} cannot be used: {error}",
            fix="--record wants a new file, --replay one that --record has written.",
        ) from None
