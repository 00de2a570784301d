"""Fault: what goes wrong in a world, for which family, from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """The kinds of worlds, by what goes wrong in them."""

    NOTHING = "nothing_wrong"
    OUTAGE = "downstream_outage"
    RATE_LIMIT = "rate_limit_storm"
    DRIFT = "slow_drift"
    POISON = "poison_payload"
    FLOOD = "tenant_flood"
    RETRY_STORM = "retry_storm"
    DEPLOY = "bad_deploy"
    FLAPPING = "flapping_dependency"
    QUOTA = "quota_exhausted"
    MAINTENANCE = "planned_maintenance"


@dataclass(frozen=True, slots=True)
class Window:
    """From `begins_ms` to `ends_ms` (of the world) the downstream of a family answers no run.

    A run fails after `run_ms` with `error`. `retry_after_s` is how long the server asks to wait: a number of
    seconds, the time that is left (`"left"`), or nothing.
    """

    family: str
    begins_ms: int
    ends_ms: int
    run_ms: int
    error: str
    retry_after_s: int | str | None = None

    def covers(self, at_ms: int) -> bool:
        """Whether it is so at that time."""
        return self.begins_ms <= at_ms < self.ends_ms


@dataclass(frozen=True, slots=True)
class Faults:
    """All that goes wrong in one world. Times in milliseconds of the world.

    `slow`: (family, from, to, factor) - runs get slower, up to the factor. `poison`: (family, from, share of
    the payloads that fail whatever one does). `congested`: (family, runs a minute beyond which its downstream
    answers none, once a window of it has begun). `held`: (family, from, to) - a person has paused it.
    `flooded`: (family, from, jobs of one tenant).
    """

    windows: tuple[Window, ...] = ()
    slow: tuple[str, int, int, float] | None = None
    poison: tuple[str, int, float] | None = None
    congested: tuple[str, int] | None = None
    held: tuple[str, int, int] | None = None
    flooded: tuple[str, int, int] | None = None

    def window(self, family: str, at_ms: int) -> Window | None:
        """The window in which a family is at that time."""
        return next((each for each in self.windows if each.family == family and each.covers(at_ms)), None)
