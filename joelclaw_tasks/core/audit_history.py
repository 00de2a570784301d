"""What must hold of the transitions stream: moves of a job join, and nothing starts while it is paused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import FINAL, TRANSITIONS, State, Verb
from joelclaw_tasks.core.violation import Violation

_FINAL = {state.value for state in FINAL}
_MOVES = {(source.value if source else "", verb.value, to.value) for source, verb, to in TRANSITIONS}
_ENDS_DRAIN = {Verb.PAUSE, Verb.RESUME, Verb.UNDO}
_HISTORY = (
    "History cannot be mended: find what wrote it, and report it with the entries of the job's timeline."
)


def audit_history(entries: Iterable[Entry]) -> Iterator[Violation]:
    """Every contradiction of the entries, which come oldest first. The order of the stream is what counts."""
    state_of: dict[str, str] = {}
    paused: dict[str, int] = {}
    drained: set[str] = set()
    for entry in entries:
        gate = entry.text("gate")
        if entry.job and entry.to_state:
            yield from _move(entry, state_of.get(entry.job))
            state_of[entry.job] = entry.to_state
            if entry.verb == Verb.CLAIM:
                yield from _start(entry, paused, drained)
            continue
        if entry.verb in _ENDS_DRAIN:
            drained.discard(gate)
        if entry.verb == Verb.PAUSE:
            paused[gate] = entry.at
        elif entry.verb == Verb.RESUME:
            paused.pop(gate, None)
        elif entry.verb == Verb.DRAIN:
            drained.add(gate)
        elif entry.verb == Verb.UNDO:
            paused.pop(gate, None)  # it may have brought a pause back: only a new one is held against a start


def _move(entry: Entry, was: str | None) -> Iterator[Violation]:
    move = (entry.from_state, entry.verb, entry.to_state)
    if move not in _MOVES:
        detail = (
            f"{entry.verb} took it from {entry.from_state or 'nothing'} to {entry.to_state} at {entry.at}"
        )
        yield Violation("I2", "MOVE_UNKNOWN", entry.job, f"{detail}: there is no such move", advice=_HISTORY)
    elif was is not None and was != entry.from_state and not (entry.from_state == "" and was in _FINAL):
        detail = f"{entry.verb} took it from {entry.from_state or 'nothing'} at {entry.at}, but it was {was}"
        code = "ENDED_TWICE" if was in _FINAL and entry.from_state == State.EXECUTING else "MOVES_DO_NOT_JOIN"
        yield Violation("I2", code, entry.job, detail, advice=_HISTORY)


def _start(entry: Entry, paused: dict[str, int], drained: set[str]) -> Iterator[Violation]:
    gates = {
        f"pause:queue/{entry.text('queue')}",
        f"pause:family/{entry.family}",
        f"pause:handler/{entry.text('handler')}",
    }
    if gates & drained:
        return
    for gate in sorted(gates & paused.keys()):
        detail = f"it started {entry.at - paused[gate]} ms after {gate} was paused"
        yield Violation("I5", "STARTED_WHILE_PAUSED", entry.job, detail, advice=_HISTORY)
