"""What several queue commands share: the store, the times and the commands that they suggest."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.cli.envelope import NextAction
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store

DEPTH = NextAction("joelclaw queue depth", "how much is waiting, and for how long")
STATS = NextAction("joelclaw queue stats", "what the last hours add up to")

Actor = Annotated[str | None, typer.Option("--actor", help="Who does it (default: <user>@cli).")]


def open_store(timeout_s: float = 5.0) -> Store:
    """The store of this invocation's fleet. Raises SettingsError, CoreUnreachable."""
    from joelclaw_tasks.core.store import Store

    settings = current().settings()
    progress().say("asking Redis")
    return Store.connect(settings, timeout_s=timeout_s)


def actor_of(given: str | None) -> str:
    """Who acts: the name given, or the user of this process. Raises CommandFailed with exit code 2."""
    if given is not None:
        if not given.strip():
            raise usage("--actor must not be empty", fix="Name who does it, or leave --actor out.")
        return given
    return f"{os.environ.get('USER') or os.environ.get('LOGNAME') or f'uid-{os.getuid()}'}@cli"


def clock_time(at: int) -> str:
    """An epoch millisecond for people, in UTC."""
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def inspect_command(job_id: object) -> str:
    """The command line that inspects a job."""
    return f"joelclaw queue inspect {shlex.quote(str(job_id))}"


def timeline_command(job_id: object) -> str:
    """The command line that shows every move of a job."""
    return f"joelclaw queue timeline {shlex.quote(str(job_id))}"


def resume_command(gate: object) -> str:
    """The command line that opens a paused gate."""
    return f"joelclaw queue resume {shlex.quote(str(gate))}"
