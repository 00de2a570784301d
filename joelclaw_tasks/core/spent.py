"""Spent: where the time of a job went, replayed from the transitions stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, zip_longest
from typing import Any

from joelclaw_tasks.core.gate_times import GateTimes, gate_names
from joelclaw_tasks.core.history import Entry, History
from joelclaw_tasks.core.states import State, Verb

#: How far before a wait claims are read, to know what held places when it began.
_LOOK_BACK_MS = 600_000
#: Claims and ends that are read at most for one job.
_MOST_ENTRIES = 50_000
_MOVES = frozenset({Verb.CLAIM, Verb.COMPLETE, Verb.RETRY, Verb.RELEASE, Verb.EXPIRE, Verb.DISCARD})
#: What a job does in a state; `available` is cut further into parked and queued.
_DOES = {
    State.SCHEDULED: "scheduled",
    State.HELD: "held",
    State.AVAILABLE: "queued",
    State.EXECUTING: "running",
    State.RETRYABLE: "retrying",
    State.DISCARDED: "dead",
}


@dataclass(slots=True)
class Span:
    """A piece of a job's life (epoch ms). `gate`: where it was parked; `behind`: who went first."""

    what: str
    from_at: int
    until_at: int
    gate: str = ""
    behind: Counter[str] = field(default_factory=Counter)

    @property
    def ms(self) -> int:
        """How long it took."""
        return self.until_at - self.from_at

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        wire: dict[str, Any] = {
            "what": self.what,
            "from_at": self.from_at,
            "until_at": self.until_at,
            "ms": self.ms,
        }
        if self.gate:
            wire["gate"] = self.gate
        if self.behind:
            wire["behind"] = dict(self.behind.most_common(5))
        return wire


def time_spent(
    history: History, moves: Sequence[Entry], gates: Sequence[str], times: GateTimes, until_at: int
) -> list[Span]:
    """The spans of a job, in order, from its moves (oldest first) until `until_at` or its end.

    `gates` are those of its lane, for a wait that no claim has ended yet. Raises CoreUnreachable.
    """
    spans: list[Span] = []
    for span, before, after in _stays(moves, until_at):
        if span.what == "queued":
            claimed = gate_names(after.text("gates") if after else "\n".join(gates))
            spans += _cut(span, history, before, claimed, times)
        else:
            spans.append(span)
    return spans


def summed(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """The same by what it did and where, the longest first, with its share of the whole."""
    total_ms = sum(span.ms for span in spans)
    sums: dict[tuple[str, str], Span] = {}
    for span in spans:
        whole = sums.setdefault((span.what, span.gate), Span(span.what, 0, 0, span.gate))
        whole.until_at += span.ms
        whole.behind.update(span.behind)
    ordered = sorted(sums.values(), key=lambda span: -span.ms)
    return [
        {
            "what": span.what,
            "gate": span.gate or None,
            "ms": span.ms,
            "share": round(span.ms / total_ms, 4) if total_ms else None,
            "behind": dict(span.behind.most_common(5)),
        }
        for span in ordered
    ]


def _stays(moves: Sequence[Entry], until_at: int) -> Iterator[tuple[Span, Entry, Entry | None]]:
    """How long it was in each state: the move that led there, and the one that ended it (None: none yet)."""
    moved = [entry for entry in moves if entry.to_state]
    for entry, after in zip_longest(moved, moved[1:]):
        what = _DOES.get(State(entry.to_state))
        ends_at = after.at if after else until_at
        if what is not None:
            yield Span(what, entry.at, max(entry.at, ends_at)), entry, after


def _cut(span: Span, history: History, move: Entry, gates: Sequence[str], times: GateTimes) -> list[Span]:
    """A wait, cut where gates opened and shut; what is left is the queue."""
    queue = move.text("queue")
    pauses = [f"pause:queue/{queue}", f"pause:family/{move.family}", f"pause:handler/{move.text('handler')}"]
    since_at = max(0, span.from_at - _LOOK_BACK_MS)
    others = list(
        islice(history.read(since_at=since_at, until_at=span.until_at, verbs=_MOVES), _MOST_ENTRIES)
    )
    pieces = _pieces(span, times.shut([*pauses, *gates], others, span.until_at))
    claims = [entry for entry in others if entry.verb == Verb.CLAIM and entry.job != move.job]
    for piece in pieces:
        for entry in claims:
            if not piece.from_at <= entry.at < piece.until_at:
                continue
            # Behind a gate it waits for those that pass the gate, in the queue for all that start.
            if piece.gate in gate_names(entry.text("gates")) if piece.gate else entry.text("queue") == queue:
                piece.behind[entry.text("handler") or entry.family] += 1
    return pieces


def _pieces(span: Span, shut: Sequence[tuple[int, int, str]]) -> list[Span]:
    """The span, cut at every opening and shutting; of several shut gates the first one counts."""
    within = [
        (max(span.from_at, from_at), min(span.until_at, until_at), gate)
        for from_at, until_at, gate in shut
        if from_at < span.until_at and until_at > span.from_at
    ]
    cuts = sorted({span.from_at, span.until_at, *(at for piece in within for at in piece[:2])})
    pieces: list[Span] = []
    for from_at, until_at in pairwise(cuts):
        gate = next((gate for start, end, gate in within if start <= from_at and until_at <= end), "")
        if pieces and pieces[-1].gate == gate:
            pieces[-1].until_at = until_at
        else:
            pieces.append(Span("parked" if gate else "queued", from_at, until_at, gate))
    return pieces
