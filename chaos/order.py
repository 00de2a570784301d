"""Order: what may start before what, as the transitions stream tells it. Pure functions.

A stream has the order in which Redis did things, so this needs no clock and no tolerance for faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.history import History, Line
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.violation import Violation

#: The stream has whole milliseconds; between jobs of one call the core counts parts of them.
ROUNDED_MS = 2
#: A timer fires when somebody looks, and whoever is alive looks once a second.
STAGED_WITHIN_S = 3.0
#: Verbs after which a job has the rank that it had: it did not come anew.
_COMES_BACK = {"release", "expire", "undo", "unshed"}


@dataclass(slots=True)
class _Waiting:
    """Ranks of the jobs that may be claimed, by lane, and what each job was last due at."""

    lanes: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    ranks: dict[str, int] = field(default_factory=dict)
    due_at: dict[str, int] = field(default_factory=dict)
    slack_ms: dict[str, int] = field(default_factory=dict)

    def enter(self, move: Line) -> None:
        job, verb = move["job"], move["verb"]
        if verb not in _COMES_BACK or job not in self.ranks:
            since = self.due_at.get(job, int(move["at"])) if verb == "stage" else int(move["at"])
            self.ranks[job] = since + self.slack_ms.get(job, 0)
        self.lanes[move["lane"]][job] = self.ranks[job]

    def leave(self, move: Line) -> int | None:
        return self.lanes[move["lane"]].pop(move["job"], None)

    def best(self, lanes: tuple[str, ...]) -> int | None:
        return min((rank for lane in lanes for rank in self.lanes[lane].values()), default=None)


def ranks_decide(history: History) -> Iterator[Violation]:
    """I9: a lane starts its best rank first. I6: so do lanes together that no gate can stop."""
    slacks = history.run.get("slack_ms", (0, 60_000, 300_000, 900_000))
    free = frozenset(history.run.get("ungated", ()))
    free_lanes: tuple[str, ...] = ()
    waiting = _Waiting()
    for move in history.moves:
        if not move.get("to") or not move.get("lane"):
            continue
        job, lane = move["job"], move["lane"]
        if move.get("priority"):
            waiting.slack_ms[job] = slacks[int(move["priority"])]
        if move.get("due_at"):
            waiting.due_at[job] = int(move["due_at"])
        if move.get("family") in free and lane not in free_lanes:
            free_lanes += (lane,)
        rank = waiting.leave(move)
        if move["to"] == State.AVAILABLE:
            waiting.enter(move)
        elif move["verb"] == "claim" and rank is not None:
            best = waiting.best((lane,))
            if best is not None and rank - best > ROUNDED_MS:
                yield Violation("I9", "OVERTAKEN", job, f"{rank - best} ms after the best rank of its lane")
            best = waiting.best(free_lanes) if lane in free_lanes else None
            if best is not None and rank - best > ROUNDED_MS:
                yield Violation("I6", "OVERTAKEN", job, f"{rank - best} ms after the best rank of all lanes")


def refusals_have_reasons(history: History) -> Iterator[Violation]:
    """I10: whoever is turned away, and whatever goes to the dead letter, has a reason in the stream."""
    for move in history.moves:
        refused = move["verb"] == "admit" and move.get("job") and not move.get("to")
        if (refused and not move.get("reason")) or (
            move.get("to") == State.DISCARDED and not (move.get("signature") or move.get("reason"))
        ):
            yield Violation("I10", "NO_REASON", move["job"], f"{move['verb']} says nothing of why")


def killers_are_stopped(history: History) -> Iterator[Violation]:
    """I2: what kills its workers is stopped at the last death that it may cause, neither before nor after."""
    most = int(history.run.get("max_kills", 3))
    for move in history.moves:
        if int(move.get("kills") or 0) >= most and move.get("to") != State.DISCARDED:
            yield Violation(
                "I2", "NOT_STOPPED", move["job"], f"{move['kills']} deaths, and it is {move['to']}"
            )
    deadly = set(history.run.get("deadly", ()))
    for job, tale in history.tales.items():
        last = tale.moves[-1]
        if last.get("family") not in deadly:
            continue
        # By the tasks' own word: a death that Redis never counted would show nowhere else.
        starts = sum(each.started_at is not None for each in history.attempts_of.get(job, ()))
        if starts > most:
            yield Violation("I2", "NOT_STOPPED", job, f"it killed {starts} workers where {most} may die")
        kills = int(last.get("kills") or 0)
        if tale.state == State.DISCARDED and kills < most:
            yield Violation("I2", "STOPPED_EARLY", job, f"dead letter after {kills} of {most} deaths")


def due_jobs_come(history: History) -> Iterator[Violation]:
    """I9: what is due becomes available soon, but for the time in which nobody can look."""
    due_at: dict[str, int] = {}
    blind = _blind(history)
    for move in history.moves:
        if move.get("due_at"):
            due_at[move["job"]] = int(move["due_at"])
        elif move["verb"] == "stage" and move.get("job") in due_at:
            due, came = history.monotonic({"at": due_at.pop(move["job"])}), history.monotonic(move)
            blind_s = sum(max(0.0, min(came, until) - max(due, since)) for since, until in blind)
            if came - due - blind_s > STAGED_WITHIN_S:
                yield Violation("I9", "STAGED_LATE", move["job"], f"{came - due:.1f} s after it was due")


def _blind(history: History) -> list[tuple[float, float]]:
    """Spans in which no worker may have looked: one fault hit all of them, or each was hit by some fault."""
    roles = set(history.run.get("workers", ()))
    moments = sorted({moment for fault in history.faults for moment in (fault.at, fault.until)})
    spans = []
    for since, until in pairwise(moments):
        active = [fault for fault in history.faults if fault.at <= since and until <= fault.until]
        hit = {worker.partition(".")[0] for fault in active for worker in fault.workers}
        if any(not (fault.workers or fault.pids) for fault in active) or (roles and roles <= hit):
            spans.append((since, until))
    return spans
