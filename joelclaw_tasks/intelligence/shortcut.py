"""Shortcut: what can be said of a snapshot without asking an operator, least of all a model that costs."""

from __future__ import annotations

from dataclasses import dataclass

from joelclaw_tasks.intelligence.snapshot import BACKLOG_AGE_MS, Snapshot

_SETTLED_MS = 60_000


@dataclass(frozen=True, slots=True)
class Shortcut:
    """`reason` in one word; with `rules` the fixed rules decide, else nothing is to be done."""

    reason: str
    rules: bool = False


def shortcut_of(mode: str, snapshot: Snapshot) -> Shortcut | None:
    """The first that applies, None when an operator has to be asked."""
    if mode == "off":
        return Shortcut("disabled")
    queued = [family for family in snapshot.families if family.total]
    if not snapshot.totals.depth and not snapshot.totals.executing and not _has_trouble(snapshot):
        return Shortcut("empty")
    calm = not _has_trouble(snapshot)
    if queued and calm and (snapshot.totals.oldest_age_ms or 0) <= BACKLOG_AGE_MS:
        if all(family.held_by == "person" for family in queued):
            return Shortcut("held_by_person")
        if all(family.held_by == "observer" and _is_settled(snapshot, family.family) for family in queued):
            return Shortcut("settled_hold", rules=True)
    if calm and snapshot.findings.queue_pressure == "healthy":
        return Shortcut("nothing_wrong", rules=True)
    return None


def _has_trouble(snapshot: Snapshot) -> bool:
    """Failures of what is not held back, or bad health. What the observer itself has paused is no trouble.

    Nor is one job that fails again and again: whatever is done to its family helps it nothing.
    """
    held = {family.family for family in snapshot.families if family.held_by is not None}
    return any(
        (each.recent_failed_jobs > 1 or each.rate_limited) and each.family not in held
        for each in snapshot.handlers
    ) or any(each.status in ("degraded", "down") for each in snapshot.health)


def _is_settled(snapshot: Snapshot, family: str) -> bool:
    hold = snapshot.hold_of(family)
    return hold is not None and snapshot.taken_at - hold.at >= _SETTLED_MS
