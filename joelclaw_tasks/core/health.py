"""Health: what the looks of the health pulse found, check by check, for 30 days.

Kept are the turns of the state and sums of each hour, not the looks: a check takes a few kilobytes however
often it looks. Times are epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from joelclaw_tasks.core.store import Store

State = Literal["healthy", "degraded", "down", "unknown"]
#: The worst last.
STATES: tuple[State, ...] = ("healthy", "degraded", "unknown", "down")
HOUR_MS = 3_600_000
#: After so many periods without a look nothing is known any more. The script says the same.
LATE_PERIODS = 2.5
_DETAIL_MOST = 300


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. `id` is the same for the same look, however often it is kept.

    `fails` looks in a row that are not healthy make the state worse, `passes` make it healthy again.
    `restarts`: how often the check had to be started again for it.
    """

    id: str
    check: str
    status: State
    detail: str
    latency_ms: float | None = None
    every_ms: int = 60_000
    fails: int = 2
    passes: int = 2
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a check stands after a look, and what people were told last (None: nothing yet)."""

    state: State
    since_at: int | None
    told: State | None


@dataclass(frozen=True, slots=True)
class CheckNow:
    """A check now. `status` and `detail` are of the last look, which may differ from `state` for a while."""

    check: str
    state: State
    since_at: int | None
    checked_at: int
    status: State
    detail: str
    latency_ms: float | None
    every_ms: int
    restarts: int

    def is_late(self, now_ms: int) -> bool:
        """Whether nobody has looked for so long that the state says nothing any more."""
        return now_ms - self.checked_at > LATE_PERIODS * self.every_ms

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Turn:
    """From `at` on the state was another. `is_gap`: nobody looked, so it is unknown."""

    at: int
    state: State
    detail: str
    is_gap: bool = False


@dataclass(frozen=True, slots=True)
class Hour:
    """Sums of the hour that began at `at`: looks, those that were not healthy, restarts, latencies."""

    at: int
    looks: int
    bad: int
    restarts: int
    mean_ms: float | None
    most_ms: float | None


class Health:
    """Keeps and reads looks. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def now_ms(self) -> int:
        """The time, as the store has it."""
        return int(self._store.ask(self._store.now_ms))

    def keep(self, look: Look) -> Standing:
        """Keep it, in one step; of the same look only the first counts."""
        detail = " ".join(look.detail.split())[:_DETAIL_MOST]
        latency = "" if look.latency_ms is None else f"{look.latency_ms:.1f}"
        now = self._store._head()[0]
        args = [
            now, look.check, look.id, look.status, detail, latency, look.every_ms, look.fails, look.passes,
            look.restarts,
        ]  # fmt: skip
        state, since_at, told = (part.decode() for part in self._store._call("health", args, repeatable=True))
        return Standing(_state(state), int(since_at) if since_at else None, _state(told) if told else None)

    def tell(self, check: str, state: State) -> None:
        """Note what people were told of a check."""
        self._store.ask(lambda: self._client.hset(self._keys.health_check(check), "told", state))

    def checks(self, names: Collection[str]) -> dict[str, CheckNow]:
        """Those of the checks that have looked within 30 days, by name."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._keys.health_check(name))
            return list(pipe.execute())

        found = {}
        for name, raw in zip(names, self._store.ask(read), strict=True):
            known = {field.decode(): value.decode() for field, value in raw.items()}
            if "checked_at" not in known:
                continue
            found[name] = CheckNow(
                check=name,
                state=_state(known["state"]),
                since_at=int(known["since_at"]) if known["since_at"] else None,
                checked_at=int(known["checked_at"]),
                status=_state(known["status"]),
                detail=known["detail"],
                latency_ms=float(known["latency_ms"]) if known["latency_ms"] else None,
                every_ms=int(known["every_ms"]),
                restarts=int(known["restarts"]),
            )
        return found

    def turns(self, check: str, since_at: int) -> list[Turn]:
        """The turns of a check from then on, the oldest first, after the one that was in force then."""
        key = self._keys.health_turns(check)
        before = self._store.ask(lambda: self._client.zrevrangebyscore(key, since_at, "-inf", start=0, num=1))
        later = self._store.ask(lambda: self._client.zrangebyscore(key, f"({since_at}", "+inf"))
        turns = []
        for each in [*before, *later]:
            at, state, detail = each.decode().split("|", 2)
            turns.append(Turn(int(at), _state(state), detail, is_gap=state == "unseen"))
        return turns

    def hours(self, check: str, since_at: int) -> list[Hour]:
        """The hours of a check in which something looked, from that of `since_at` on, the oldest first."""
        found = self._store.ask(lambda: self._client.hgetall(self._keys.health_hours(check)))
        hours = []
        for number, value in found.items():
            at = int(number) * HOUR_MS
            looks, bad, restarts, answers, total, most = value.decode().split("|")
            if at + HOUR_MS <= since_at:
                continue
            mean_ms = round(float(total) / int(answers), 1) if int(answers) else None
            most_ms = float(most) if int(answers) else None
            hours.append(Hour(at, int(looks), int(bad), int(restarts), mean_ms, most_ms))
        return sorted(hours, key=lambda hour: hour.at)


def _state(word: str) -> State:
    return word if word in STATES else "unknown"
