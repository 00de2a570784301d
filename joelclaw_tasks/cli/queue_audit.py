"""joelclaw queue audit: whether what is in Redis fits together, and how to mend what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.envelope import Outcome
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, STATS, open_store
from joelclaw_tasks.cli.terminal import line, text

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 20


@command
def audit() -> Outcome:
    """Check the invariants of the queue on the live Redis; say what is wrong and how to mend it."""
    from joelclaw_tasks.core.audit import Audit

    checks = Audit(open_store(timeout_s=30))
    progress().say("reading every key, and the history")
    result = checks.run().to_wire()
    return Outcome(result, (DEPTH, STATS), _view(result))


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        seen, violations = result["looked_at"], result["violations"]
        verdict = text("nothing is wrong", "bold green")
        if violations:
            verdict = text(f"{len(violations)} violation{'s' * (len(violations) != 1)}", "bold red")
        parts = (("jobs", "jobs"), ("lanes", "lanes"), ("keys", "keys"), ("entries", "entries of history"))
        looked_at = ", ".join(f"{seen[name]:,} {label}" for name, label in parts)
        console.print(line(verdict, text(looked_at, "dim")))
        for reason in result["unchecked"]:
            console.print(text(f"not checked: {reason}", "yellow"))
        for each in violations[:_SHOWN]:
            console.print(
                line(text(each["invariant"], "red"), text(each["code"], "bold"), text(each["subject"]))
            )
            console.print(text(f"   {each['detail']}"))
            if each["advice"]:
                console.print(text(f"   {each['advice']}", "green"))
            for mend in each["mend"]:
                console.print(text(f"   redis-cli: {mend}", "green"), soft_wrap=True)
        if len(violations) > _SHOWN:
            console.print(text(f"and {len(violations) - _SHOWN} more: --json has them all", "dim"))

    return view
