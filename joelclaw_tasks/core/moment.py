"""Moment: the core as it is now. Each part is read when it is first asked for, and then stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from joelclaw_tasks.core.gate_times import ACTS, GateTimes
from joelclaw_tasks.core.pace import Pace, measure
from joelclaw_tasks.core.snapshot import Snapshot, take_snapshot
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.workers import Worker

#: Lanes that are looked at for the place of a job in its queue.
_MOST_LANES = 20_000
_STEP = 500


class Moment:
    """One look at the core of a store. Reads only; raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None
        self._keys = store.keys

    @cached_property
    def now(self) -> int:
        """The core's time, in epoch milliseconds."""
        return int(self._look([])[0])

    @cached_property
    def pace(self) -> Pace:
        """How fast work went lately."""
        return measure(self._store.history)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The queue, as a simulation can play it."""
        return take_snapshot(self._client, self._keys, self.pace, self.now)

    def _look(self, lanes: Sequence[str]) -> list[bytes]:
        return list(self._store._call("explain", [self._store._head()[0], *lanes], repeatable=True))

    def shut_gates(self, lanes: Sequence[str]) -> list[str]:
        """For each lane the line of its first shut gate, or an empty string: by the rules of `claim`."""
        shut: list[str] = []
        for start in range(0, len(lanes), _STEP):
            shut += [gate.decode() for gate in self._look(lanes[start : start + _STEP])[1:]]
        return shut

    @cached_property
    def gate_times(self) -> GateTimes:
        """When gates were shut."""
        limits = {gate.decode(): int(most) for gate, most in self._client.hgetall(self._keys.limits).items()}
        rates = {}
        for gate, rate in self._client.hgetall(self._keys.rates).items():
            limit, period_ms, burst = map(int, rate.split(b" "))
            rates[gate.decode()] = (period_ms / limit, float(burst))
        return GateTimes(self._store.history.read(verbs=ACTS, acts=True), limits, rates)

    def ahead(self, queue: str, lane: str, rank: float, place: int) -> tuple[int, int]:
        """Jobs of ready lanes that start before the one at this place, and how many other lanes have them."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zrangebyscore(self._keys.ready(queue), "-inf", f"({rank!r}", 0, _MOST_LANES)
        names = [name.decode() for name in pipe.execute()[0] if name.decode() != lane]
        ahead = place
        for start in range(0, len(names), _STEP):
            for name in names[start : start + _STEP]:
                pipe.zcount(self._keys.lane(name), "-inf", f"({rank!r}")
            ahead += sum(pipe.execute())
        return ahead, len(names)

    def workers_of(self, queue: str) -> dict[str, Any]:
        """Who serves a queue, and how many jobs they run at once and now."""
        serving: list[Worker] = [worker for worker in self.snapshot.workers if worker.serves(queue)]
        return {
            "count": len(serving),
            "slots": sum(worker.slots for worker in serving),
            "busy": sum(len(worker.running) for worker in serving),
            "holders": [worker.to_wire() for worker in serving[:20]],
        }
