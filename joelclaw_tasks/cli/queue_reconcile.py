"""joelclaw queue reconcile: what a Redis that lost its last should know, and how to tell it again."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command, usage
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, Actor, clock_time
from joelclaw_tasks.cli.steering import (
    Reason,
    Yes,
    confirm,
    may_ask,
    open_queue,
    undo_action,
    until_interrupted,
)
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from celery import Celery
    from rich.console import Console

    from joelclaw_tasks.steering.findings import Finding, Reconciled

_AUDIT = NextAction("joelclaw queue audit", "whether what is in Redis fits together")
_SHOWN = 3
_TIMES = {"sent_at", "done_at", "at"}


@command
def reconcile(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Mend what can be; else only say so.")] = False,
    app: Annotated[
        str | None,
        typer.Option("--app", "-A", help="The Celery app that has the results, as `celery -A` takes it."),
    ] = None,
    spool: Annotated[
        list[Path] | None, typer.Option("--spool", help="A producer's spool; may be given several times.")
    ] = None,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Find what Redis lost and spools, results or the history know; send it again, or cancel what ended."""
    queue = open_queue(actor)
    compare = functools.partial(
        queue.reconcile,
        app=None if app is None else _app(app),
        spools=spool or (),
        reason=reason,
        on_progress=lambda doing: progress().say(f"reconcile: {doing}"),
    )
    with until_interrupted() as stop:
        if apply and not yes and may_ask():
            _ask(compare(stop=stop))
        done = compare(apply=apply, stop=stop)
    undo = [undo_action(act) for act in done.cancelled]
    if done.interrupted:
        raise CommandFailed(
            f"interrupted: {_summary(done)}",
            code="QUEUE_INTERRUPTED",
            fix="What was done stays; run the command again for the rest.",
            details=done.to_wire(),
            next_actions=undo,
            exit_code=ExitCode.INTERRUPTED,
        )
    mend = [] if apply or not done.mendable else [_mend(app, spool)]
    return Outcome(done.to_wire(), (*mend, *undo, _AUDIT, DEPTH), _view(done))


def _app(name: str) -> Celery:
    """The app of that name. What its module prints goes to stderr. Raises CommandFailed with exit code 2."""
    from celery import Celery
    from celery.app.utils import find_app

    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = find_app(name)
    except Exception as error:
        raise usage(
            f"no Celery app can be loaded from {name!r:.200}: {type(error).__name__}",
            fix="Name it as `celery -A` takes it, such as shop.app, from the directory that it is in.",
        ) from error
    if not isinstance(found, Celery):
        raise usage(f"{name!r:.200} is no Celery app", fix="Name its app, such as shop.tasks:app.")
    return found


def _ask(would: Reconciled) -> None:
    if would.interrupted:
        raise KeyboardInterrupt
    counts = ", ".join(f"{finding.count} {finding.kind}" for finding in would.findings if finding.would)
    confirm("mend", would.mendable, "findings", counts)


def _mend(app: str | None, spools: list[Path] | None) -> NextAction:
    options = [] if app is None else ["--app", app]
    options += [part for path in spools or () for part in ("--spool", str(path))]
    line = shlex.join(["joelclaw", "queue", "reconcile", "--apply", *options])
    if "<" in line:  # it would be read as a template
        line = "joelclaw queue reconcile --apply"
    return NextAction(line, "mend what can be")


def _summary(done: Reconciled) -> str:
    if not done.findings:
        return "nothing was lost that could be found"
    return ", ".join(_counted(finding, done.applied) for finding in done.findings)


def _counted(finding: Finding, applied: bool) -> str:
    mended = f" ({finding.mended} {finding.would})" if applied and finding.would else ""
    return f"{finding.count} {finding.kind}{mended}"


def _view(done: Reconciled) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        seen = done.looked_at
        console.print(line(text(_summary(done), "bold"), text(_seen(seen), "dim")))
        for reason in done.unchecked:
            console.print(text(f"not known: {reason}", "yellow"))
        if done.findings:
            rows = table("kind", "count", "what", "mended by" if not done.applied else "mended")
            for finding in done.findings:
                mended = str(finding.mended) if done.applied else "being " + finding.would
                rows.add_row(
                    text(finding.kind, "bold"),
                    text(finding.count),
                    text(finding.what),
                    text(mended if finding.would else finding.advice, "green" if finding.would else ""),
                )
            console.print(rows)
        for finding in done.findings:
            for each in finding.sample[:_SHOWN]:
                console.print(line(text(f"  {finding.kind}", "dim"), text(_told(each))), soft_wrap=True)

    return view


def _seen(seen: dict[str, int]) -> str:
    names = {"sent": "sent events", "jobs": "jobs", "results": "results", "entries": "entries of history"}
    return ", ".join(f"{seen[name]:,} {label}" for name, label in names.items())


def _told(sample: dict[str, Any]) -> str:
    shown = {name: clock_time(value) if name in _TIMES else value for name, value in sample.items()}
    return " ".join(f"{name}={' '.join(v) if isinstance(v, list) else v}" for name, v in shown.items())
