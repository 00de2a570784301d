"""What the commands about Restate share: who is asked, and what is said when nobody answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress

if TYPE_CHECKING:
    from joelclaw_tasks.restate.client import RestateClient
    from joelclaw_tasks.restate.runs import Runs

DOCTOR = NextAction("joelclaw doctor", "check everything from here")
RUNS = NextAction("joelclaw dag list", "the runs, the newest first")
APPROVALS = NextAction("joelclaw approvals list", "what waits for an answer")


@contextlib.contextmanager
def open_runs() -> Iterator[Runs]:
    """The runs of this invocation's fleet. Raises SettingsError, CommandFailed."""
    from joelclaw_tasks.restate.runs import Runs

    with open_client() as client:
        yield Runs(client)


@contextlib.contextmanager
def open_client() -> Iterator[RestateClient]:
    """The Restate of this invocation's fleet. What it does not answer ends with exit code 3."""
    from joelclaw_tasks.errors import RestateAway
    from joelclaw_tasks.restate.client import RestateClient

    progress().say("asking Restate")
    client = RestateClient.of(current().settings())
    try:
        yield client
    except RestateAway as error:
        raise CommandFailed(
            str(error),
            code=error.code,
            fix="Start the fleet with `joelclaw up --with-restate`, or check RESTATE_INGRESS_URL.",
            next_actions=(DOCTOR,),
            exit_code=ExitCode.UNREACHABLE,
        ) from None
    finally:
        client.close()


def status_action(run: str) -> NextAction:
    """The command that shows a run."""
    return NextAction(f"joelclaw dag status {run}", "what each of its steps does")
