"""Windows: spans of time of one length, on a grid since 1970 in UTC, each with a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from joelclaw_tasks.errors import JoelclawError

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(\d\d)?)?(?:\+(\d{1,5})m)?", re.ASCII)


class UnknownWindow(JoelclawError):
    """That is not the name of a window."""

    code = "DIGEST_WINDOW_INVALID"
    fix = "Write a day (2026-11-28), an hour (2026-11-28T07), or a start and minutes (2026-11-28T0730+30m)."


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_at` up to, and without, `end_at`; epoch milliseconds."""

    start_at: int
    end_at: int

    @property
    def name(self) -> str:
        """2026-11-28T07 for an hour, 2026-11-28 for a day, 2026-11-28T0730+30m for what else there is."""
        start, length_ms = datetime.fromtimestamp(self.start_at / 1_000, UTC), self.end_at - self.start_at
        if length_ms == DAY_MS and self.start_at % DAY_MS == 0:
            return f"{start:%Y-%m-%d}"
        if length_ms == HOUR_MS and self.start_at % HOUR_MS == 0:
            return f"{start:%Y-%m-%dT%H}"
        return f"{start:%Y-%m-%dT%H%M}+{length_ms // 60_000}m"

    @classmethod
    def of_name(cls, name: str) -> Window:
        """The window of that name. Raises UnknownWindow."""
        found = _NAME.fullmatch(name.strip())
        if found is None:
            raise UnknownWindow(f"{name!r:.60} is not the name of a window")
        day, hour, minute, length = found.groups()
        try:
            start = datetime.fromisoformat(f"{day}T{hour or '00'}:{minute or '00'}:00+00:00")
        except ValueError:
            raise UnknownWindow(f"{name!r:.60} is no moment of the calendar") from None
        length_ms = int(length) * 60_000 if length else DAY_MS if hour is None else HOUR_MS
        start_at = round(start.timestamp() * 1_000)
        if not 60_000 <= length_ms <= DAY_MS:
            raise UnknownWindow(f"{name!r:.60} is shorter than a minute or longer than a day")
        return cls(start_at, start_at + length_ms)


def ended_windows(now_ms: int, length_ms: int, since_at: int) -> Iterator[Window]:
    """Those of that length that began no sooner than `since_at` and have ended, the oldest first."""
    start = -(-since_at // length_ms) * length_ms
    while start + length_ms <= now_ms:
        yield Window(start, start + length_ms)
        start += length_ms
