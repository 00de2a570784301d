"""Timeline: every move of one job, and what each stretch between two moves was spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Pause:
    """A stretch in which a gate was shut; `until_at` is None while it still is."""

    gate: str
    actor: str
    reason: str
    since_at: int
    until_at: int | None


def timeline(
    moves: Sequence[Entry], controls: Iterable[Entry], job: Mapping[str, Any] | None, now_at: int
) -> dict[str, Any]:
    """The moves of one job, the oldest first, with a gap after each.

    `controls` are the pauses and resumes of the same time, `job` what `inspect` knows of it now (None:
    nothing any more), `now_at` the epoch millisecond at which the last gap ends. `complete` is False when
    the stream has lost the job's first moves.
    """
    pauses = _pauses(controls, {gate for move in moves for gate in _pause_gates(move)})
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
            step["gap"] = _gap(state, move.at, now_at if after is None else after.at, pauses)
            step["gap"]["open"] = after is None
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


def _gap(state: str, since_at: int, until_at: int, pauses: Sequence[_Pause]) -> dict[str, Any]:
    """What the time between two moves was spent on, and the pauses that held the job meanwhile."""
    spent = _SPENT.get(State(state)) if state in set(State) else None
    gap: dict[str, Any] = {"ms": max(0, until_at - since_at), "state": state or None, "spent": spent or state}
    if state == State.AVAILABLE:
        gap["paused"] = [
            {
                "gate": pause.gate,
                "actor": pause.actor,
                "reason": pause.reason,
                "ms": min(until_at, pause.until_at or until_at) - max(since_at, pause.since_at),
            }
            for pause in pauses
            if pause.since_at < until_at and (pause.until_at is None or pause.until_at > since_at)
        ]
    return gap


def _totals(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Milliseconds spent in each state that the moves tell of."""
    totals: dict[str, int] = {}
    for step in steps:
        gap = step.get("gap")
        if gap and gap["state"]:
            totals[gap["state"]] = totals.get(gap["state"], 0) + gap["ms"]
    return totals


def _pause_gates(move: Entry) -> set[str]:
    """The names under which a job can be paused."""
    of = {"family": move.family, "handler": move.text("handler"), "queue": move.text("queue")}
    return {f"pause:{kind}/{name}" for kind, name in of.items() if name}


def _pauses(controls: Iterable[Entry], gates: set[str]) -> list[_Pause]:
    """When these gates were shut. `controls`: the oldest first."""
    shut: dict[str, Entry] = {}
    pauses = []
    for act in controls:
        gate = act.text("gate")
        if gate not in gates or act.verb not in {Verb.PAUSE, Verb.RESUME}:
            continue
        begun = shut.pop(gate, None)
        if begun is not None:
            pauses.append(_pause(begun, act.at))
        if act.verb == Verb.PAUSE:
            shut[gate] = act
    return pauses + [_pause(begun, None) for begun in shut.values()]


def _pause(begun: Entry, until_at: int | None) -> _Pause:
    return _Pause(begun.text("gate"), begun.actor, begun.text("reason"), begun.at, until_at)
