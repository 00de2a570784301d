"""Breaker: stops asking who does not answer, and lets one question through now and then to see.

One process's own: it needs no Redis, and a fleet of n processes asks a dead API at most n times as often.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

#: So many failures in a row, each within the window after the first one, open it.
FAILURES = 3
WINDOW_MS = 900_000
#: How long it stays open at first; each probe that fails doubles it, up to the longest.
OPEN_MS = 30_000
LONGEST_OPEN_MS = 1_800_000


class Circuit(StrEnum):
    """What a breaker does with questions."""

    CLOSED = "closed"  # lets them through
    OPEN = "open"  # refuses them
    HALF_OPEN = "half_open"  # one is on its way, to see


@dataclass(slots=True)
class _State:
    failures: int = 0
    first_failure_at: float = 0.0
    is_open: bool = False
    probing: bool = False
    open_ms: float = 0.0
    open_until: float = 0.0


def monotonic_ms() -> float:
    """The clock of a process, in milliseconds."""
    return time.monotonic() * 1000


class Breaker:
    """A circuit for every key, such as (tier, purpose). `now_ms` is any clock that only goes forward."""

    def __init__(self, now_ms: Callable[[], float] = monotonic_ms) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._states: dict[Hashable, _State] = {}

    def wait_ms(self, key: Hashable) -> float | None:
        """None: ask, and tell what came of it (`succeeded`, `failed` or `forget`). Else: ask in so long."""
        with self._lock:
            state = self._states.get(key)
            if state is None or not state.is_open:
                return None
            left = state.open_until - self._now_ms()
            if left > 0:
                return left
            if state.probing:
                return state.open_ms or OPEN_MS
            state.probing = True
            return None

    def circuit(self, key: Hashable) -> Circuit:
        """The state of one circuit."""
        with self._lock:
            state = self._states.get(key)
            if state is None or not state.is_open:
                return Circuit.CLOSED
            return Circuit.HALF_OPEN if state.probing else Circuit.OPEN

    def succeeded(self, key: Hashable) -> None:
        """It answered: closed, and all failures forgotten."""
        with self._lock:
            self._states.pop(key, None)

    def forget(self, key: Hashable) -> None:
        """Nobody was asked after all."""
        with self._lock:
            if key in self._states:
                self._states[key].probing = False

    def failed(self, key: Hashable, retry_after_ms: float | None = None) -> None:
        """It did not answer. A server that says when to come again is left alone until then, at once."""
        with self._lock:
            state, now = self._states.setdefault(key, _State()), self._now_ms()
            if not state.failures or now - state.first_failure_at > WINDOW_MS:
                state.failures, state.first_failure_at = 0, now
            state.failures += 1
            if state.is_open and not state.probing and now < state.open_until:
                return  # it was asked before the circuit opened, and tells nothing new
            if state.probing or state.failures >= FAILURES:
                state.open_ms = min(LONGEST_OPEN_MS, state.open_ms * 2 or OPEN_MS)
            elif not retry_after_ms:
                return
            wait_ms = max(state.open_ms, min(LONGEST_OPEN_MS, retry_after_ms or 0))
            state.is_open, state.probing, state.open_until = True, False, now + wait_ms
