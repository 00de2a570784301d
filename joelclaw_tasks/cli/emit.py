"""joelclaw emit: one event, or many from a stream of lines."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.cli.duration import parse_duration_ms
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.event_text import read_data, read_lines
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.emit import Emitter
    from joelclaw_tasks.receipt import Receipt
    from joelclaw_tasks.replay import Replayed

_DEPTH = NextAction("joelclaw queue depth", "how much is waiting, and for how long")
_REPLAY = NextAction("joelclaw emit --replay", "emit what waits in the spool now; a fleet does it by itself")
_AGAIN = NextAction("joelclaw emit --replay --again", "emit once more what was refused")
_LIST = NextAction("joelclaw queue list", "the waiting jobs in the order they would start")


def emit(
    event: Annotated[str | None, typer.Argument(help="The name of an event.")] = None,
    *,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="A JSON object, @file, or - for stdin.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "-p", metavar="P0..P3", help="Overrides the registry's.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Emitting the same id twice queues nothing the second time.")
    ] = None,
    delay: Annotated[str | None, typer.Option("--delay", help="Start no sooner: 30s, 10m, 2h, 1d.")] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="Start no later: 30s, 10m, 2h, 1d; else never.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Who says so.")] = "cli",
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="Many events from stdin, one JSON object a line: the data of <event>, or without"
            " <event> {name, data, id?, priority?, source?, delay_s?, expires_s?, meta?}.",
        ),
    ] = False,
    spool: Annotated[
        bool,
        typer.Option("--spool", help="While Redis is away, keep events in a file for later."),
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Emit now what waits in that file.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --replay: also what was refused, or is too old.")
    ] = False,
) -> Outcome:
    """Emit an event: queue a job for each of its handlers, and say which."""
    if replay or again:
        if (again and not replay) or (event, data, event_id, delay, expires) != (None,) * 5 or stdin or spool:
            raise usage("--replay goes alone, or with --again", fix="`joelclaw emit --replay [--again]`.")
        return _replay(again)
    delay_s = None if delay is None else parse_duration_ms(delay, "--delay") / 1_000
    expires_s = None if expires is None else parse_duration_ms(expires, "--expires") / 1_000
    if stdin:
        if data is not None or event_id is not None:
            raise usage("--stdin excludes --data and --id", fix="Put data and id into the lines.")
        defaults = {"name": event, "source": source, "priority": _level(priority), "delay_s": delay_s}
        defaults["expires_s"] = expires_s
        return _many(defaults, spool)
    if event is None:
        raise usage("no event is named", fix="`joelclaw emit <event> -d <data>`, or --stdin for many.")
    settings = current().settings()
    body = read_data(data, settings.payload_max_bytes)
    progress().say("emitting")
    receipt = _emitter(spool).emit(
        event,
        body,
        id=event_id,
        source=source,
        priority=_level(priority),
        delay_s=delay_s,
        expires_s=expires_s,
    )
    inspect = [_inspect(job.job_id) for job in receipt.jobs[:3]]
    following = (_REPLAY,) if _any_spooled([receipt]) else (*inspect, _DEPTH)
    return Outcome(receipt.to_wire(), following, _receipt_view(receipt))


def _many(defaults: dict[str, Any], spool: bool) -> Outcome:
    events = read_lines({name: value for name, value in defaults.items() if value is not None})
    progress().say(f"emitting {len(events)} events")
    receipts = _emitter(spool).emit_many(events)
    following = (_REPLAY,) if _any_spooled(receipts) else (_LIST, _DEPTH)
    return Outcome(_totals(receipts), following, _totals_view(receipts))


def _replay(again: bool) -> Outcome:
    from joelclaw_tasks.replay import replay

    progress().say("emitting what waits in the spool")
    replayed = replay(current().settings(), again=again)
    following = (_AGAIN, _DEPTH) if replayed.kept else (_DEPTH,)
    return Outcome(asdict(replayed), following, _replayed_view(replayed))


def _emitter(spool: bool) -> Emitter:
    from joelclaw_tasks.emit import Emitter

    settings = current().settings()
    return Emitter.connect(settings, spool=settings.spool_file if spool else None)


def _any_spooled(receipts: Sequence[Receipt]) -> bool:
    return any(job.decision == "spooled" for receipt in receipts for job in receipt.jobs)


def _level(priority: str | None) -> str | None:
    return None if priority is None else priority.upper()


def _inspect(job_id: str) -> NextAction:
    return NextAction(f"joelclaw queue inspect {shlex.quote(job_id)}", "everything known of this job")


def _totals(receipts: Sequence[Receipt]) -> dict[str, Any]:
    decisions: dict[str, int] = {}
    for receipt in receipts:
        for job in receipt.jobs:
            decisions[job.decision] = decisions.get(job.decision, 0) + 1
    return {
        "events": len(receipts),
        "jobs": sum(decisions.values()),
        "decisions": decisions,
        "receipts": [receipt.to_wire() for receipt in receipts],
    }


def _receipt_view(receipt: Receipt) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        console.print(line(text(receipt.name, "bold"), text(receipt.event_id, "dim")))
        jobs = table("job", "handler", "decision")
        for job in receipt.jobs:
            of = f" of {job.duplicate_of}" if job.duplicate_of else f" into {job.into}" if job.into else ""
            style = "yellow" if job.decision in ("duplicate", "spooled") else "green"
            jobs.add_row(text(job.job_id), text(job.handler), text(job.decision + of, style))
        console.print(jobs)

    return view


def _totals_view(receipts: Sequence[Receipt]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        totals = _totals(receipts)
        decisions = ", ".join(f"{count} {decision}" for decision, count in totals["decisions"].items())
        console.print(text(f"{totals['events']} events, {totals['jobs']} jobs: {decisions or 'none'}"))

    return view


def _replayed_view(replayed: Replayed) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        if replayed.busy:
            console.print(text("another process is replaying this spool already", "yellow"))
            return
        jobs = ", ".join(f"{count} {decision}" for decision, count in replayed.decisions.items())
        console.print(text(f"{replayed.sent} events emitted: {jobs or 'no jobs'}"))
        if replayed.refused:
            console.print(text(f"{replayed.refused} refused", "yellow"))
        if replayed.unnoted:
            console.print(text(f"{replayed.unnoted} could not be noted beside the spool", "yellow"))
        if replayed.kept:
            console.print(text(f"what was refused, with the reasons: {replayed.kept}", "yellow"))

    return view
