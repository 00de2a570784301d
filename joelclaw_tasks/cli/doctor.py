"""joelclaw doctor: is everything well that a fleet rests on?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import text

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.fleet.check import Check

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}
_UP = NextAction("joelclaw up", "start the fleet")
_DEPTH = NextAction("joelclaw queue depth", "how much is waiting, and for how long")


def doctor() -> Outcome:
    """Check environment, Redis, registry, settings and the running fleet. Exit code 1 when a check fails."""
    from joelclaw_tasks.fleet.check import worst
    from joelclaw_tasks.fleet.doctor import examine

    progress().say("looking at everything")
    checks = list(examine(current().home))
    status = worst(checks)
    result = {"status": status, "checks": checks}
    actions = (_UP,) if any(check.name == "fleet" and check.status != "ok" for check in checks) else (_DEPTH,)
    if status != "fail":
        return Outcome(result, actions, _view(checks))
    failed = [check for check in checks if check.status == "fail"]
    raise CommandFailed(
        f"{len(failed)} of {len(checks)} checks failed: {', '.join(check.name for check in failed)}",
        code="DOCTOR_CHECKS_FAILED",
        fix=failed[0].fix or "See the failed checks.",
        details=result,
        next_actions=actions,
        view=_view(checks),
    )


def _view(checks: Sequence[Check]) -> Callable[[Console], None]:
    width = max(len(check.name) for check in checks)

    def view(console: Console) -> None:
        for check in checks:
            mark, style = _MARKS[check.status]
            line = text("").append_text(text(f"{mark:>4} ", style))
            line.append_text(text(f"{check.name:<{width}}  ", "bold")).append_text(text(check.detail))
            console.print(line, soft_wrap=True)
            if check.fix and check.status != "ok":
                console.print(text(f"{'':>{width + 7}}{check.fix}", "dim"), soft_wrap=True)

    return view
