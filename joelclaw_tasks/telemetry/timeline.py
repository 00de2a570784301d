"""Timeline: every move of one job, and what each stretch between two moves was spent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import FINAL, State, Verb

#: What a job does in a state, for people.
_SPENT = {
    State.SCHEDULED: "waiting for its time",
    State.HELD: "held back",
    State.AVAILABLE: "waiting in its lane",
    State.EXECUTING: "running",
    State.RETRYABLE: "waiting for its next try",
    State.COMPLETED: "finished",
    State.CANCELLED: "cancelled",
    State.DISCARDED: "in the dead letter",
}
_NAMES = (
    "actor", "reason", "gate", "lane", "queue", "holder", "priority", "due_at", "wait_ms", "run_ms",
    "attempt", "kills", "trace",
)  # fmt: skip
_NUMBERS = {"due_at", "wait_ms", "run_ms", "attempt", "kills", "priority"}


def timeline(
    moves: Sequence[Entry],
    spans: Sequence[Mapping[str, Any]],
    acts: Sequence[Entry],
    job: Mapping[str, Any] | None,
    now_at: int,
) -> dict[str, Any]:
    """The moves of one job, the oldest first, with the gap behind each.

    `spans` are where its time went, as `explain` tells it; `acts` the pauses of the same time, for who
    and why; `job` what `inspect` knows of it now (None: nothing any more); `now_at` the epoch millisecond
    at which the last gap ends. `complete` is False when the stream has lost the job's first moves.
    """
    steps = []
    state = ""
    for move, after in zip_longest(moves, moves[1:]):
        state = move.to_state or state  # a duplicate that was turned away left it where it was
        step: dict[str, Any] = {"at": move.at, "verb": move.verb, "from": move.from_state or None}
        step["to"] = move.to_state or None
        for name in _NAMES:
            value = move.number(name) if name in _NUMBERS else move.text(name)
            if value not in {"", None}:
                step[name] = value
        if after is not None or state not in FINAL:
            until_at = now_at if after is None else after.at
            step["gap"] = _gap(state, move.at, until_at, spans, acts) | {"open": after is None}
        steps.append(step)
    if steps and job is not None and job.get("gate") and steps[-1].get("gap"):
        steps[-1]["gap"]["parked"] = {"gate": job["gate"], "since_at": job.get("parked_at")}
    first = next((move for move in moves if move.to_state), None)
    return {
        "state": state or (job or {}).get("state"),
        "complete": first is not None and first.verb == Verb.ADMIT,
        "moves": steps,
        "totals": _totals(steps),
    }


def _gap(
    state: str, since_at: int, until_at: int, spans: Sequence[Mapping[str, Any]], acts: Sequence[Entry]
) -> dict[str, Any]:
    """What the time between two moves was spent on; of a wait, at which gates and behind whom."""
    spent = _SPENT.get(State(state)) if state in set(State) else None
    gap: dict[str, Any] = {"ms": max(0, until_at - since_at), "state": state or None, "spent": spent or state}
    if state == State.AVAILABLE:
        gap["parts"] = [
            _part(span, acts)
            for span in spans
            if since_at <= span["from_at"] < until_at and span["until_at"] <= until_at and span["ms"] > 0
        ]
    return gap


def _part(span: Mapping[str, Any], acts: Sequence[Entry]) -> dict[str, Any]:
    """One stretch of a wait, and for a paused gate by whom and why."""
    part = {name: span[name] for name in ("what", "gate", "ms", "behind") if name in span}
    pauses = [act for act in acts if act.text("gate") == span.get("gate") and act.at <= span["from_at"]]
    if pauses:
        part["actor"], part["reason"] = pauses[-1].actor, pauses[-1].text("reason")
    return part


def _totals(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Milliseconds spent in each state that the moves tell of."""
    totals: dict[str, int] = {}
    for step in steps:
        gap = step.get("gap")
        if gap and gap["state"]:
            totals[gap["state"]] = totals.get(gap["state"], 0) + gap["ms"]
    return totals
