"""Quiet hours: the part of each day in which people sleep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from joelclaw_tasks.errors import SettingsError

_TEXT = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d) +(\S+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begins` to `ends`, over midnight when that is earlier, by the clock of a place."""

    begins: time
    ends: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, setting: str = "QUEUE_OBSERVER_QUIET_HOURS") -> QuietHours:
        """Of `23:00-07:00 America/Los_Angeles`. Raises SettingsError, which names the setting."""
        match = _TEXT.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError(text)
            begins, ends = (time(int(match[i]), int(match[i + 1])) for i in (1, 3))
            return cls(begins, ends, ZoneInfo(match[5]))
        except (ValueError, ZoneInfoNotFoundError, OSError):
            raise SettingsError(
                f"{setting} must be like 23:00-07:00 Europe/Berlin, not {text!r:.80}"
            ) from None

    def until_at(self, now_ms: int) -> int | None:
        """When the quiet hours that are now end (epoch ms); None when there are none now."""
        now = datetime.fromtimestamp(now_ms / 1_000, UTC).astimezone(self.zone)
        for day in (now.date() - timedelta(days=1), now.date()):
            begins = datetime.combine(day, self.begins, self.zone)
            last = day if self.begins < self.ends else day + timedelta(days=1)
            ends = datetime.combine(last, self.ends, self.zone)
            if begins.timestamp() <= now.timestamp() < ends.timestamp():
                return int(ends.timestamp() * 1_000)
        return None
