"""Gate times: when gates were shut in the past, replayed from the transitions stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.snapshot import parse_gates
from joelclaw_tasks.core.states import Verb

#: A gate that opens for no longer than this was taken by another lane.
_TAKEN_AT_ONCE_MS = 250
#: The acts that `GateTimes` reads.
ACTS = frozenset({Verb.PAUSE, Verb.RESUME, Verb.LIMIT, Verb.UNDO})

#: A stretch of time in which a gate was shut: from, until, gate.
Shut = tuple[int, int, str]


class GateTimes:
    """What was done to gates (`acts`, oldest first), and the limits and rates that are set now.

    A rate is the milliseconds between two tokens, and its burst.
    """

    def __init__(
        self, acts: Iterable[Entry], limits: Mapping[str, int], rates: Mapping[str, tuple[float, float]]
    ) -> None:
        self._limits = limits
        self._rates = rates
        self._pauses: dict[str, list[Entry]] = defaultdict(list)
        self._steps: dict[str, list[Entry]] = defaultdict(list)
        for entry in acts:
            of = self._steps if entry.verb == Verb.LIMIT else self._pauses
            of[entry.text("gate") or entry.text("target")].append(entry)

    def shut(self, gates: Sequence[str], moves: Sequence[Entry], until_at: int) -> list[Shut]:
        """When these gates were shut, the first gates first. `moves` are claims and ends, oldest first."""
        found: list[Shut] = []
        for gate in gates:
            kind = gate.partition(":")[0]
            if kind == "pause":
                found += self._paused(gate, until_at)
            elif kind == "limit":
                found += self._full(gate, moves, until_at)
            elif kind == "rate":
                found += self._empty(gate, moves)
        return found

    def _paused(self, gate: str, until_at: int) -> list[Shut]:
        since: int | None = None
        found = []
        for entry in self._pauses.get(gate, ()):
            if entry.verb == Verb.PAUSE and since is None:
                since = entry.at
            elif entry.verb != Verb.PAUSE and since is not None:
                found.append((since, entry.at, gate))
                since = None
        return found if since is None else [*found, (since, until_at, gate)]

    def _full(self, gate: str, moves: Sequence[Entry], until_at: int) -> list[Shut]:
        """When a limit had no place left, as far as the claims that were read tell."""
        running: dict[str, int] = {}
        stretches: list[list[int]] = []
        for entry in moves:
            if entry.verb == Verb.CLAIM:
                weight = dict(parse_gates(entry.text("gates"))).get(gate)
                if weight is None:
                    continue
                running[entry.job] = weight
            elif running.pop(entry.job, None) is None:
                continue
            most = self._limit_at(gate, entry.at)
            if most is not None and sum(running.values()) >= most:
                # A place that another lane took at once was never open for this job.
                if not stretches or entry.at - stretches[-1][1] > _TAKEN_AT_ONCE_MS:
                    stretches.append([entry.at, until_at])
                else:
                    stretches[-1][1] = until_at
            elif stretches and stretches[-1][1] == until_at:
                stretches[-1][1] = entry.at
        return [(from_at, end_at, gate) for from_at, end_at in stretches]

    def _limit_at(self, gate: str, at: int) -> int | None:
        """The limit of a gate at a time; a keyed gate without its own has that of its base."""
        for name in (gate, gate.partition("=")[0]):
            steps = self._steps.get(name, ())
            before = [entry for entry in steps if entry.at <= at]
            most = (
                before[-1].number("limit")
                if before
                else steps[0].number("was")
                if steps
                else self._limits.get(name)
            )
            if most is not None:
                return most
        return 1 if gate.startswith("limit:singleton/") else None

    def _empty(self, gate: str, moves: Sequence[Entry]) -> list[Shut]:
        """When the bucket of a rate was empty, from the claims that took its tokens."""
        rate = self._rates.get(gate, self._rates.get(gate.partition("=")[0]))
        if rate is None:
            return []
        interval_ms, burst = rate
        tat, found = 0.0, []
        for entry in moves:
            if entry.verb == Verb.CLAIM and gate in gate_names(entry.text("gates")):
                tat = max(tat, entry.at) + interval_ms
                until = round(tat - (burst - 1) * interval_ms)
                if until > entry.at:
                    found.append((entry.at, until, gate))
        return found


def gate_names(text: str) -> list[str]:
    """The names of gates as a lane keeps them, without weights."""
    return [name for name, _ in parse_gates(text)]
