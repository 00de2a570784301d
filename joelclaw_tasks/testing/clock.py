"""Clock: the time of a test. It stands still until it is moved."""

from __future__ import annotations

import threading
from datetime import UTC, datetime


class Clock:
    """Starts at `start` (aware; None: now). Safe to share between threads."""

    def __init__(self, start: datetime | None = None) -> None:
        self._guard = threading.Lock()
        self._now_ms = int((start or datetime.now(UTC)).timestamp() * 1000)

    def now_ms(self) -> int:
        """The time in epoch milliseconds."""
        return self._now_ms

    def now(self) -> datetime:
        """The time, aware, UTC."""
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    def tick(self) -> int:
        """Move on by one millisecond: what comes later has a later time. Answers the new time."""
        with self._guard:
            self._now_ms += 1
            return self._now_ms

    def move_to(self, now_ms: int) -> None:
        """Move on to a time; never back."""
        with self._guard:
            self._now_ms = max(self._now_ms, now_ms)
