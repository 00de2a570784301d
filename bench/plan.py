"""Plan: how much is measured, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal["stock", "ours"]
SIDES: tuple[Side, Side] = ("stock", "ours")

#: Pool name -> concurrency.
POOLS = {"threads": 8, "solo": 1, "prefork": 2}


@dataclass(frozen=True)
class Plan:
    """Sizes of one bench run. Counts are tasks; `rtt_ms` is what the proxy adds to a round trip."""

    rounds: int = 3
    tasks: int = 10_000
    proxied_tasks: int = 2_000  # stock does about 150 a second there: 10,000 would take minutes a pool
    paced_tasks: int = 400
    paced_turns: int = 8  # in so many parts, each side in turn
    paced_per_s: float = 50.0
    emitted_events: int = 10_000
    rtt_ms: float = 2.0
    quick: bool = False

    @classmethod
    def short(cls) -> Plan:
        """One small round, in under 50 s: says whether something broke, not how fast it is."""
        return cls(
            rounds=1,
            tasks=600,
            proxied_tasks=60,
            paced_tasks=20,
            paced_turns=2,
            emitted_events=2_000,
            quick=True,
        )

    def orders(self) -> Iterator[tuple[Side, ...]]:
        """The sides of each round, the first one changing every round so that drift cancels."""
        for number in range(self.rounds):
            yield SIDES if number % 2 == 0 else SIDES[::-1]
