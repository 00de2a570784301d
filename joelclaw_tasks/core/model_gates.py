"""Model gates: what each kind of gate does in a simulation, one class for each. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol


class ModelGate(Protocol):
    """A gate of a simulation. `order`: gates with a lower one are asked first."""

    order: ClassVar[int]

    def is_shut(self, weight: int, now: float) -> bool:
        """Whether a job of this weight may not pass."""

    def take(self, weight: int, now: float) -> None:
        """A job passes."""

    def free(self, weight: int) -> None:
        """A job that passed has ended."""

    def opens_at(self, now: float) -> float | None:
        """When it opens by itself; None when only the end of a job, or a person, opens it."""

    def most_after_opening(self, now: float) -> int | None:
        """How many lanes may come back when it opens; None: all."""


class PauseModel:
    """A pause, for ever (None) or until a moment."""

    order: ClassVar[int] = 0

    def __init__(self, until_ms: float | None = None) -> None:
        self._until_ms = until_ms

    def is_shut(self, weight: int, now: float) -> bool:  # noqa: ARG002, D102
        return self._until_ms is None or now < self._until_ms

    def take(self, weight: int, now: float) -> None:
        """Nothing is counted."""

    def free(self, weight: int) -> None:
        """Nothing is counted."""

    def opens_at(self, now: float) -> float | None:  # noqa: ARG002, D102
        return self._until_ms

    def most_after_opening(self, now: float) -> int | None:  # noqa: ARG002, D102
        return None


class LimitModel:
    """A limit: at most so many at once."""

    order: ClassVar[int] = 1

    def __init__(self, most: float | None = None) -> None:
        self._most = float("inf") if most is None else most
        self._taken = 0

    def is_shut(self, weight: int, now: float) -> bool:  # noqa: ARG002, D102
        return self._taken + weight > self._most

    def take(self, weight: int, now: float) -> None:  # noqa: ARG002, D102
        self._taken += weight

    def free(self, weight: int) -> None:  # noqa: D102
        self._taken -= weight

    def opens_at(self, now: float) -> float | None:  # noqa: ARG002, D102
        return None

    def most_after_opening(self, now: float) -> int | None:  # noqa: ARG002, D102
        return 1


class RateModel:
    """A rate: a bucket that holds `burst` tokens and gets one every `interval_ms` (GCRA, as gates.lua)."""

    order: ClassVar[int] = 2

    def __init__(self, interval_ms: float, burst: float, tat_ms: float = 0.0) -> None:
        self._interval_ms = interval_ms
        self._burst = burst
        self._tat_ms = tat_ms

    def is_shut(self, weight: int, now: float) -> bool:  # noqa: D102
        tat = max(self._tat_ms, now)
        return (now - tat) / self._interval_ms + self._burst + 1e-9 < weight

    def take(self, weight: int, now: float) -> None:  # noqa: ARG002, D102
        self._tat_ms = max(self._tat_ms, now) + self._interval_ms

    def free(self, weight: int) -> None:
        """A token is gone for good."""

    def opens_at(self, now: float) -> float | None:  # noqa: D102
        return max(now, self._tat_ms - (self._burst - 1) * self._interval_ms)

    def most_after_opening(self, now: float) -> int | None:  # noqa: ARG002, D102
        return 1


class Turns:
    """Whose turn it is (shares.lua): a share counts as admitted when its last turn of `weight` jobs ended."""

    def __init__(self) -> None:
        self._served_at = float("-inf")
        self._left = 0

    def rank(self, rank: float, slack_ms: float) -> float:
        """The rank at which a lane of the share may start a job of this rank."""
        return max(rank, self._served_at + slack_ms)

    def serve(self, weight: int, now: float) -> None:
        """A job of the share starts."""
        self._left = (min(self._left, weight) if self._left > 0 else weight) - 1
        if self._left == 0:
            self._served_at = now


#: Kind of gate -> its model. A kind that is not here counts as open.
GATE_MODELS: dict[str, Callable[..., ModelGate]] = {
    "pause": PauseModel,
    "limit": LimitModel,
    "rate": RateModel,
}
