"""joelclaw queue pause, resume, limit, rate and drain: what a person does to gates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command, usage
from joelclaw_tasks.cli.duration import duration, parse_duration_ms
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, Actor, resume_command
from joelclaw_tasks.cli.steering import (
    LIST,
    STATUS,
    DryRun,
    Reason,
    Ttl,
    Where,
    Yes,
    confirm,
    control_outcome,
    may_ask,
    open_queue,
    typed,
    undo_action,
    until_interrupted,
)
from joelclaw_tasks.cli.terminal import text

if TYPE_CHECKING:
    from joelclaw_tasks.steering.results import Control, Drained

DEFAULT_TTL = "15m"

Gate = Annotated[str | None, typer.Argument(help="A family, handler or queue name, or pause:family/<name>.")]


@command
def pause(
    gate: Gate = None,
    *,
    ttl: Annotated[
        str | None, typer.Option("--ttl", help="60s to 1d; a bare number is seconds (15m).")
    ] = None,
    no_ttl: Annotated[bool, typer.Option("--no-ttl", help="Hold it until somebody resumes it.")] = False,
    where: Where = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Hold back a family, handler or queue: nothing of it starts until it is resumed."""
    if no_ttl and ttl is not None:
        raise usage("--ttl and --no-ttl exclude each other", fix="Give one of --ttl and --no-ttl.")
    _one_of(gate, where)
    queue = open_queue(actor)
    lasts = None if no_ttl else ttl if ttl is not None else DEFAULT_TTL
    with typed():
        if where is not None:
            gates = [str(each) for each in queue.pause_where(where, ttl=lasts, dry_run=True)]
            if dry_run:
                return _gates_outcome("pause", gates, [])
            if not yes and may_ask():
                confirm("pause", len(gates), "families", where)
            return _gates_outcome(
                "pause", gates, [queue.pause(each, ttl=lasts, reason=reason) for each in gates]
            )
        if dry_run:
            raise usage("--dry-run goes with --where", fix="Leave --dry-run out, or choose by --where.")
        control = queue.pause(str(gate), ttl=lasts, reason=reason)
    until = f"for {duration(control.until_at - control.at)}" if control.until_at else "until it is resumed"
    resume_it = NextAction(resume_command(control.target), "let it go again")
    return Outcome(
        {"gate": control.target, "pause": _pause_of(control)},
        (resume_it, undo_action(control.id), DEPTH, LIST),
        lambda console: console.print(text(f"paused {control.target} {until} ({control.id})")),
    )


@command
def resume(
    gate: Gate = None,
    *,
    where: Annotated[
        str | None, typer.Option("--where", "-w", help="Choose pauses, such as 'actor=observer age>1h'.")
    ] = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Let a paused family, handler or queue go again."""
    _one_of(gate, where)
    queue = open_queue(actor)
    with typed():
        if where is not None:
            gates = [str(each) for each in queue.resume_where(where, dry_run=True)]
            done = [] if dry_run else [queue.resume(each, reason=reason) for each in gates]
            return _gates_outcome("resume", gates, done)
        if dry_run:
            raise usage("--dry-run goes with --where", fix="Leave --dry-run out, or choose by --where.")
        act = queue.resume(str(gate), reason=reason)
    previous = _pause_of(act.previous) if act.previous else None
    return Outcome(
        {"gate": act.target, "resumed": True, "previous_pause": previous},
        (undo_action(act.id), DEPTH, LIST),
        lambda console: console.print(text(f"resumed {act.target} ({act.id})")),
    )


@command
def limit(
    gate: Annotated[str, typer.Argument(help="A limit, such as resource/nas or limit:handler/<name>.")],
    most: Annotated[str, typer.Argument(metavar="N", help="Jobs at once, or none for any number.")],
    *,
    ttl: Ttl = None,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Change how many jobs may pass a gate at once, over what the registry says."""
    if most != "none" and not re.fullmatch("[0-9]{1,9}", most):
        raise usage(f"a limit is a whole number or none, not {most!r}", fix="Write it like `limit nas 5`.")
    number = None if most == "none" else int(most)
    with typed():
        control = open_queue(actor).limit(gate, number, ttl=ttl, reason=reason)
    return control_outcome(control, f"limit of {gate} is {most}", gate=control.target if control else gate)


@command
def rate(
    gate: Annotated[str, typer.Argument(help="A rate, such as handler/<name> or rate:key/<name>.")],
    speed: Annotated[str, typer.Argument(metavar="N/TIME", help="Such as 100/10s or 5/1h, or none for any.")],
    *,
    burst: Annotated[int, typer.Option("--burst", min=1, help="How many at once after a quiet time.")] = 1,
    ttl: Ttl = None,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Change how many jobs a gate may start in a time, over what the registry says."""
    from joelclaw_tasks.core.rate import Rate

    wanted = None
    if speed != "none":
        most, slash, period = speed.partition("/")
        if not slash or not re.fullmatch("[0-9]{1,9}", most):
            raise usage(
                f"a rate is <jobs>/<time> or none, not {speed!r}", fix="Write it like `rate mail 100/10s`."
            )
        wanted = Rate(int(most), parse_duration_ms(period, "the time"), burst)
    with typed():
        control = open_queue(actor).rate(gate, wanted, ttl=ttl, reason=reason)
    return control_outcome(control, f"rate of {gate} is {speed}", gate=control.target if control else gate)


@command
def drain(
    name: Annotated[str, typer.Argument(help="A family, handler or queue name, or pause:family/<name>.")],
    *,
    ttl: Annotated[
        str, typer.Option("--ttl", help="60s to 30d: end it after that time at the latest.")
    ] = "1h",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Answer at once; it goes on by itself.")] = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Let out what waits now behind pauses and rates of a name; its limits hold. Ctrl-C leaves it going."""
    queue = open_queue(actor)
    with typed(), until_interrupted() as stop:
        drained = queue.drain(
            name, ttl=ttl, wait=not no_wait, reason=reason, on_progress=_say_left, stop=stop
        )
    actions = (DEPTH, LIST) if drained.done else (undo_action(drained.control), STATUS, DEPTH)
    if drained.interrupted:
        raise CommandFailed(
            f"interrupted: {_left(drained)}; the drain goes on by itself",
            code="QUEUE_INTERRUPTED",
            fix=f"`joelclaw queue undo {drained.control}` stops it.",
            details=drained.to_wire(),
            next_actions=actions,
            exit_code=ExitCode.INTERRUPTED,
        )
    said = f"drained {drained.gate}" if drained.done else f"draining {drained.gate}: {_left(drained)}"
    return Outcome(
        drained.to_wire(), actions, lambda console: console.print(text(f"{said} ({drained.control})"))
    )


def _one_of(gate: str | None, where: str | None) -> None:
    if (gate is None) is (where is None):
        raise usage(
            "give a name or --where, and not both", fix="Such as `joelclaw queue pause content/updated`."
        )


def _pause_of(control: Control) -> dict[str, Any]:
    record = {
        "gate": control.target, "actor": control.actor, "reason": control.reason, "paused_at": control.at,
        "control": control.id,
    }  # fmt: skip
    return record if control.until_at is None else {**record, "expires_at": control.until_at}


def _gates_outcome(verb: str, gates: Sequence[str], done: Sequence[Control]) -> Outcome:
    result = {
        "gates": list(gates),
        "controls": [each.to_wire() for each in done],
        "dry_run": len(done) < len(gates),
    }
    said = f"{verb}: {', '.join(gates) or 'nothing matches'}"
    actions = (*(undo_action(each.id) for each in done[:3]), DEPTH)
    return Outcome(result, actions, lambda console: console.print(text(said)))


def _say_left(drained: Drained) -> None:
    progress().say(f"drain: {_left(drained)}")


def _left(drained: Drained) -> str:
    return f"{drained.waiting}{'' if drained.exact else ' or more'} waiting, {drained.running} running"
