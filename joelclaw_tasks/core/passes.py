"""Passes: what the observer saw at one moment, how often it has looked, and what it did.

A pass is one look of the observer and what it did about it. Its record is kept before its effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.controls import Act
from joelclaw_tasks.core.store import Store

#: Gates and acts that one look reads at most, and passes that are kept.
MOST_GATES, MOST_ACTS, MOST_PASSES = 500, 300, 1_000


@dataclass(frozen=True, slots=True)
class Sight:
    """The queue at one moment. `began`: a pass began with it, `number` says which.

    `counts` are (queue, family, priority, state, jobs), `gates` (name, limit or rate, places taken).
    `begun_at` is that of the newest pass.
    """

    taken_at: int
    began: bool
    number: int
    begun_at: int | None
    counts: tuple[tuple[str, str, int, str, int], ...]
    pauses: tuple[Mapping[str, Any], ...]
    controls: tuple[Act, ...]
    acts: tuple[Act, ...]
    gates: tuple[tuple[str, str, int], ...]


class Passes:
    """Begins, records and reads passes. Raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self, interval_ms: int | None = None) -> Sight:
        """What there is now; with an interval this begins a pass, unless one began within that time."""
        args = [self._store._head()[0], "" if interval_ms is None else interval_ms, MOST_GATES, MOST_ACTS]
        now, began, number, begun_at, counts, pauses, controls, acts, gates = self._store._call(
            "observe", args
        )
        names, values, taken = gates[::3], gates[1::3], gates[2::3]
        return Sight(
            taken_at=int(now),
            began=bool(began),
            number=int(number),
            begun_at=int(begun_at) if begun_at else None,
            counts=tuple(
                _count(field.decode(), int(jobs))
                for field, jobs in zip(counts[::2], counts[1::2], strict=True)
            ),
            pauses=tuple(map(json.loads, sorted(pauses))),
            controls=tuple(sorted(map(json.loads, controls), key=_number)),
            acts=tuple(sorted(map(json.loads, acts), key=_number)),
            gates=tuple(
                (name.decode(), value.decode(), int(places))
                for name, value, places in zip(names, values, taken, strict=True)
            ),
        )

    def is_newest(self, number: int) -> bool:
        """Whether no later pass has begun: only then may this one still do something."""
        newest: Any = self._store.ask(lambda: self._store.client.hget(self._store.keys.observer, "pass"))
        return int(newest or 0) == number

    def record(self, number: int, at: int, record: Mapping[str, Any]) -> None:
        """Keep what a pass is about to do, or has done; the later record of a pass is the one that counts."""
        fields: Any = {"pass": number, "at": at, "record": json.dumps(record, separators=(",", ":"))}
        self._store.ask(
            lambda: self._store.client.xadd(
                self._store.keys.passes, fields, maxlen=2 * MOST_PASSES, approximate=True
            )
        )

    def recent(self, most: int = 20) -> list[dict[str, Any]]:
        """The records of the newest passes that have one, the newest first."""
        found: Any = self._store.ask(
            lambda: self._store.client.xrevrange(self._store.keys.passes, count=2 * most)
        )
        records: dict[int, dict[str, Any]] = {}
        for _, fields in found:
            records.setdefault(int(fields[b"pass"]), json.loads(fields[b"record"]))
        return list(records.values())[:most]


def _count(field: str, jobs: int) -> tuple[str, str, int, str, int]:
    queue, rest = field.split("\n")
    family, level, state = rest.rsplit("|", 2)
    return queue, family, int(level), state, jobs


def _number(act: Act) -> int:
    return int(str(act["id"])[1:])
