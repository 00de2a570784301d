"""joelclaw queue observe: what the observer sees and would do now. It never changes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import STATS
from joelclaw_tasks.cli.steering import STATUS, open_queue
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

HISTORY = NextAction("joelclaw observer history", "what the observer has done before")
_STYLES = {"healthy": "green", "degraded": "yellow", "backlogged": "red", "down": "red"}
_OUTCOMES = {"applied": "yellow", "dry_run": "yellow", "refused": "red", "allowed": "dim"}


@command
def observe() -> Outcome:
    """What the observer sees and would do now; changes nothing."""
    from joelclaw_tasks.errors import RegistryError
    from joelclaw_tasks.fleet.observing import observer_of
    from joelclaw_tasks.registry import Registry

    settings = current().settings()
    try:
        registry: Registry | None = Registry.load(settings.registry_dir)
    except RegistryError:
        registry = None  # what is in the queue can be looked at all the same
    queue = open_queue(None)
    progress().say("looking")
    seen = observer_of(queue, settings, registry).look()
    assert seen.snapshot is not None
    configured = {
        "mode": settings.observer_mode,
        "families": settings.observer_families,
        "auto_families": settings.observer_auto_families,
        "interval_s": max(60, settings.observer_interval_seconds),
    }
    result = {
        "mode": "dry-run",
        "configured": configured,
        "snapshot": seen.snapshot.model_dump(),
        "decision": seen.to_wire(),
    }
    return Outcome(result, (STATUS, STATS, HISTORY), _view(result))


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        snapshot, decision = result["snapshot"], result["decision"]
        findings = decision["findings"]
        pressure, downstream = findings["queue_pressure"], findings["downstream_state"]
        console.print(
            line(
                text("queue"), text(pressure, _STYLES[pressure]),
                text("· downstream"), text(downstream, _STYLES[downstream]),
            )
        )  # fmt: skip
        console.print(text(findings["summary"]))
        if snapshot["families"]:
            _families(console, snapshot)
        mode = result["configured"]["mode"]
        console.print(text(f"the observer is {mode}; this was only a look", "dim"))
        verdicts(console, decision["verdicts"])

    return view


def _families(console: Console, snapshot: Mapping[str, Any]) -> None:
    columns = ("waiting", "running", "failed", "oldest")
    listing = table("family", *columns, "held by", numeric=columns)
    failed: dict[str, int] = {}
    for handler in snapshot["handlers"]:
        failed[handler["family"]] = failed.get(handler["family"], 0) + handler["failed"]
    for family in snapshot["families"][:20]:
        age = family["oldest_age_ms"]
        listing.add_row(
            text(family["family"]),
            text(f"{family['total']:,}"),
            text(f"{family['executing']:,}"),
            text(f"{failed.get(family['family'], 0):,}"),
            text("-" if age is None else duration(age)),
            text(family["held_by"] or "-"),
        )
    console.print(listing)


def verdicts(console: Console, given: Sequence[Mapping[str, Any]]) -> None:
    """A line for each proposal: what, for whom, what became of it and why."""
    for verdict in given:
        action, outcome = verdict["action"], verdict["outcome"]
        what = " ".join(filter(None, (action["kind"], "(one job)" if action.get("probe") else "")))
        ttl = f"for {duration(action['ttl_ms'])}" if "ttl_ms" in action else ""
        parts = [text(f"  {what}"), text(action.get("family", ""), "bold")]
        word = {"dry_run": "would be done", "allowed": "", "applied": "done"}.get(outcome, outcome)
        why = verdict["reason"] or ""
        parts += [text(ttl), text(" ".join(filter(None, (word, why))), _OUTCOMES[outcome])]
        parts.append(text(verdict["control"] or "", "dim"))
        console.print(line(*(part for part in parts if part.plain)))
        console.print(text(f"      {action.get('reason') or action.get('message')}", "dim"))
