"""joelclaw health: how the things are that the fleet rests on, how they were, and what a week adds up to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli import health_views as views
from joelclaw_tasks.cli.command import carry_out, command, take_global_options
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_parts import clock_time, open_store
from joelclaw_tasks.cli.span import Hours, Since, span_of

if TYPE_CHECKING:
    from joelclaw_tasks.core.health import Health
    from joelclaw_tasks.registry import Registry

health = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_DAY_MS = 86_400_000
_REPORT = NextAction("joelclaw health report", "what the last days add up to")
_NOW = NextAction("joelclaw health", "how it is now")
_DOCTOR = NextAction("joelclaw doctor", "check everything from here")
#: State -> (exit code, error code).
_BAD = {
    "degraded": (ExitCode.DEGRADED, "HEALTH_DEGRADED"),
    "unknown": (ExitCode.UNKNOWN, "HEALTH_UNKNOWN"),
    "down": (ExitCode.DOWN, "HEALTH_DOWN"),
}


@health.callback()
def group(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option("--home", help="Home of the fleet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with the JSON envelope.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks on stderr.")] = False,
) -> None:
    """How what the fleet rests on is now. Exit code 4 when something is degraded, 5 down, 6 unknown."""
    take_global_options(home=home, as_json=as_json, debug=debug)
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(now))


def now() -> Outcome:
    """How every check stands now."""
    from joelclaw_tasks.core.health import STATES

    registry, kept = _registry(), _health()
    now_ms = kept.now_ms()
    checks = _checks_now(registry, kept, now_ms)
    states = [each["state"] for each in checks if each["state"] != "off"]
    worst = max(states, key=STATES.index, default="healthy")
    result = {"state": worst, "at": now_ms, "checks": checks}
    ill = [each for each in checks if each["state"] not in ("healthy", "off")]
    if not ill:
        return Outcome(result, (_REPORT,), views.now(result))
    exit_code, code = _BAD[worst]
    first = next(each for each in ill if each["state"] == worst)
    is_silent = all(each["checked_at"] is None or each["is_late"] for each in ill)
    fix = (
        "The pulse needs beat and a worker: `joelclaw up`, or look at their logs."
        if is_silent
        else f"docs/health.md says what {first['check']} looks at; its history says since when."
    )
    history = NextAction(f"joelclaw health history {first['check']}", "how it was")
    raise CommandFailed(
        "; ".join(f"{each['check']} {each['detail']}" for each in ill),
        code=code,
        fix=fix,
        details=result,
        next_actions=(history, _DOCTOR),
        exit_code=exit_code,
        view=views.now(result),
    )


@health.command("history")
@command
def history(
    check: Annotated[str, typer.Argument(help="The name of a check, as `joelclaw health` prints it.")],
    *,
    hours: Hours = 24,
    since: Since = None,
) -> Outcome:
    """How one check was: when its state turned and why, and its hours; 30 days are kept."""
    registry, kept = _registry(), _health()
    now_ms = kept.now_ms()
    span = span_of(hours, since, now_ms)
    known = kept.checks([check]).get(check)
    if known is None and check not in registry.checks:
        raise _unknown(check, registry)
    result = {
        "check": check,
        "since_at": span.since_at,
        "until_at": span.until_at,
        "now": None if known is None else {**known.to_wire(), "is_late": known.is_late(now_ms)},
        "turns": kept.turns(check, span.since_at),
        "hours": kept.hours(check, span.since_at),
    }
    return Outcome(result, (_REPORT, _NOW), views.history(result))


@health.command("report")
@command
def report(
    days: Annotated[float, typer.Option("--days", help="How many days back.", min=0.01, max=30)] = 7,
) -> Outcome:
    """What the last days add up to: uptime of each check, incidents, restarts."""
    from joelclaw_tasks.core.health_report import report_of

    registry, kept = _registry(), _health()
    until_at = kept.now_ms()
    since_at = until_at - round(days * _DAY_MS)
    known = kept.checks(list(registry.checks))
    reports = [
        report_of(
            name,
            kept.turns(name, since_at),
            kept.hours(name, since_at),
            check,
            since_at=since_at,
            until_at=until_at,
        )
        for name, check in known.items()
    ]
    result = {
        "days": days,
        "since_at": since_at,
        "until_at": until_at,
        "checks": [each.to_wire() for each in reports],
    }
    return Outcome(result, (_NOW,), views.report(result))


def _checks_now(registry: Registry, kept: Health, now_ms: int) -> list[dict[str, Any]]:
    import os

    from joelclaw_tasks.routines.pulse import Off, asked_of

    settings = current().settings()
    found = kept.checks(list(registry.checks))
    checks = []
    for name, spec in registry.checks.items():
        known = found.get(name)
        is_late = known is None or known.is_late(now_ms)
        each: dict[str, Any] = {"check": name, "kind": spec.kind, "is_late": is_late}
        each |= _NOTHING if known is None else {key: getattr(known, key) for key in _NOTHING}
        if is_late:
            silent = "was not looked at yet" if known is None else _silent(known.checked_at)
            each |= {"state": "unknown", "detail": silent}
            try:
                # Whoever looks may have addresses and secrets that this shell has not.
                asked_of(spec, settings, registry, os.environ)
            except Off as why:
                each |= {"state": "off", "detail": str(why)}
        checks.append(each)
    return checks


_NOTHING: Mapping[str, Any] = {
    "state": "unknown", "since_at": None, "checked_at": None, "status": "unknown", "detail": "",
    "latency_ms": None, "restarts": 0,
}  # fmt: skip


def _silent(checked_at: int) -> str:
    return f"was not looked at since {clock_time(checked_at)}"


def _unknown(check: str, registry: Registry) -> CommandFailed:
    near = difflib.get_close_matches(check[:40], registry.checks, n=1, cutoff=0)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return CommandFailed(
        f"no check is named {check!r:.60}{hint}",
        code="HEALTH_CHECK_UNKNOWN",
        fix="`joelclaw health` prints the names of the checks.",
        next_actions=(_NOW,),
    )


def _registry() -> Registry:
    from joelclaw_tasks.registry import Registry

    return Registry.load(current().settings().registry_dir)


def _health() -> Health:
    from joelclaw_tasks.core.health import Health

    return Health(open_store())
