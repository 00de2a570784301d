"""Rate: how many jobs may start in a time, and how such gates are named."""

from __future__ import annotations

import re
from dataclasses import dataclass

from joelclaw_tasks.errors import InvalidGate

#: What a gate that counts starts may be called.
RATE_GATE = re.compile("rate:[^\x00-\x1f\x7f]{1,1200}")
_MOST = 1_000_000
_YEAR_MS = 366 * 86_400_000
#: More starts in a millisecond could not be told apart: a time of today has 12 bits left below one.
_MOST_PER_MS = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` starts in `period_ms`, evenly spread, and up to `burst` at once after a quiet time.

    A bucket of `burst` tokens that refills at `limit` in `period_ms`: in any time W at most
    `burst + W * limit / period_ms` jobs start. Counted by GCRA (see shared/gates.lua).
    """

    limit: int
    period_ms: int
    burst: int = 1

    def __post_init__(self) -> None:
        """Raise InvalidGate."""
        for name, most in (("limit", _MOST), ("period_ms", _YEAR_MS), ("burst", _MOST)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise InvalidGate(
                    f"{name} of a rate must be a whole number from 1 to {most}, not {value!r:.80}"
                )
        if self.limit > _MOST_PER_MS * self.period_ms:
            raise InvalidGate(f"a rate can be at most {_MOST_PER_MS} starts a millisecond; leave it out")

    def encode(self) -> str:
        """How Redis keeps it."""
        return f"{self.limit} {self.period_ms} {self.burst}"

    def tokens(self, tat_ms: float, now_ms: float) -> int:
        """How many jobs may start now, when the next one is expected at `tat_ms` (epoch)."""
        interval_ms = self.period_ms / self.limit
        tat_ms = max(now_ms, min(tat_ms, now_ms + self.burst * interval_ms))
        return int((now_ms - tat_ms) / interval_ms + self.burst + 1e-9)

    @classmethod
    def decode(cls, text: str) -> Rate:
        """Read what `encode` wrote."""
        limit, period_ms, burst = map(int, text.split())
        return cls(limit, period_ms, burst)
