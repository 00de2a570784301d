"""What must hold of the transitions stream: moves of a job join, and nothing starts while it is paused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from joelclaw_tasks.core.gate_times import gate_names
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import FINAL, TRANSITIONS, State, Verb
from joelclaw_tasks.core.violation import Violation

_FINAL = {state.value for state in FINAL}
_MOVES = {(source.value if source else "", verb.value, to.value) for source, verb, to in TRANSITIONS}
_ENDS_DRAIN = {Verb.PAUSE, Verb.RESUME, Verb.UNDO}
_HISTORY = (
    "History cannot be mended: find what wrote it, and report it with the entries of the job's timeline."
)


def audit_history(entries: Iterable[Entry], rates: Mapping[str, str] | None = None) -> Iterator[Violation]:
    """Every contradiction of the entries, which come oldest first. The order of the stream is what counts.

    `rates` are those set now, as in Redis.
    """
    state_of: dict[str, str] = {}
    paused: dict[str, int] = {}
    drained: set[str] = set()
    started: dict[str, list[int]] = defaultdict(list)  # at each rate gate, since it was last set
    for entry in entries:
        gate = entry.text("gate") or entry.text("target")
        if entry.job and entry.to_state:
            yield from _move(entry, state_of.get(entry.job))
            state_of[entry.job] = entry.to_state
            if entry.verb == Verb.CLAIM:
                yield from _start(entry, paused, drained)
                _note_rates(entry, drained, started)
            continue
        if gate.startswith("rate:"):
            for name in [name for name in started if gate in (name, name.partition("=")[0])]:
                del started[name]
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

    for gate, times in started.items():
        rate = (rates or {}).get(gate) or (rates or {}).get(gate.partition("=")[0])
        if rate is not None:
            yield from _too_fast(gate, times, *map(int, rate.split(" ")))


def _note_rates(entry: Entry, drained: set[str], started: dict[str, list[int]]) -> None:
    for gate in gate_names(entry.text("gates")):
        if gate.startswith("rate:"):
            if _pauses_of(entry) & drained:
                started.pop(gate, None)  # what is drained passes rates, so the bucket tells nothing
            else:
                started[gate].append(entry.at)


def _too_fast(gate: str, times: list[int], limit: int, period_ms: int, burst: int) -> Iterator[Violation]:
    """Starts that found no token in the bucket, which was full at most when the stream begins."""
    interval_ms, tat = period_ms / limit, 0.0
    for at in times:
        tat = max(min(tat, at + burst * interval_ms), at)
        if (at - tat) / interval_ms + burst + 0.001 < 1:
            detail = f"a job started at {at}, {tat - (burst - 1) * interval_ms - at:.0f} ms too early"
            yield Violation("I4", "RATE_EXCEEDED", gate, detail, advice=_HISTORY)
        tat += interval_ms


def _pauses_of(entry: Entry) -> set[str]:
    handler = entry.text("handler")
    return {f"pause:queue/{entry.text('queue')}", f"pause:family/{entry.family}", f"pause:handler/{handler}"}


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
    gates = _pauses_of(entry)
    if gates & drained:
        return
    for gate in sorted(gates & paused.keys()):
        detail = f"it started {entry.at - paused[gate]} ms after {gate} was paused"
        yield Violation("I5", "STARTED_WHILE_PAUSED", entry.job, detail, advice=_HISTORY)
