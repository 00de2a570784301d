"""Retry-After: how long a server asks to be left alone (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

#: Nobody is left alone for longer than a day.
LONGEST_S = 86_400.0


def read_retry_after_s(text: str | None) -> float | None:
    """Seconds, from 0 to `LONGEST_S`, of a number or a date; None for nothing that makes sense."""
    text = (text or "").strip()
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    return min(wait_s, LONGEST_S) if wait_s >= 0 else None  # NaN is not
