"""Control history: what people, the observer and the clock did to gates and queues, from the stream."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import Verb

#: Verbs that take an earlier act back.
_LIFTS = {Verb.RESUME, Verb.UNDO, Verb.UNSHED}
#: Fields of an act that are shown as they are, and what they are called here.
_NAMES = {
    "control": "id", "actor": "actor", "reason": "reason", "of": "of", "limit": "value", "rate": "value",
    "was": "was",
}  # fmt: skip


def control_history(acts: Iterable[Entry], *, limit: int) -> dict[str, Any]:
    """How often controls were applied, lifted, ended by their time or refused, and the newest acts.

    `acts`: the newest first. Times are epoch milliseconds.
    """
    counts: Counter[str] = Counter(applied=0, lifted=0, expired=0, rejected=0)
    newest: deque[dict[str, Any]] = deque()
    for act in acts:
        outcome = _outcome(act)
        counts[outcome] += 1
        if len(newest) < limit:
            newest.append(_told(act, outcome))
    return {"counts": dict(counts), "recent_events": list(newest), "found": counts.total()}


def _outcome(act: Entry) -> str:
    if act.verb == "refuse":
        return "rejected"
    if act.actor == "expiry":
        return "expired"
    return "lifted" if act.verb in _LIFTS else "applied"


def _told(act: Entry, outcome: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "at": act.at,
        "verb": act.verb,
        "target": act.text("gate") or act.text("target"),
        "outcome": outcome,
        "until": act.number("expires_at"),
    }
    for field, name in _NAMES.items():
        if act.text(field):
            told[name] = act.text(field)
    return told
