"""How long a control is in force, as people write it."""

from __future__ import annotations

import math
import re

from joelclaw_tasks.errors import InvalidTtl

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TEXT = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)

SHORTEST_MS = 60_000
LONGEST_PAUSE_MS = 86_400_000
LONGEST_MS = 30 * 86_400_000


def duration_ms(text: str) -> int | None:
    """Milliseconds of `45`, `60s`, `10m`, `2h` or `1d` (a bare number is seconds); None when it is none."""
    match = _TEXT.fullmatch(text.strip().lower())
    return None if match is None else int(match[1]) * _UNITS_S[match[2]] * 1_000


def parse_ttl_ms(ttl: str | float | None, longest_ms: int = LONGEST_MS) -> int:
    """Milliseconds of a ttl: text as above, or seconds. None: 0, for ever.

    Raises InvalidTtl when it is unreadable, under 60 seconds or over `longest_ms`.
    """
    if ttl is None:
        return 0
    if isinstance(ttl, str):
        ttl_ms = duration_ms(ttl)
    else:
        ttl_ms = None if isinstance(ttl, bool) or math.isnan(ttl) else int(min(ttl, 1e9) * 1_000)
    if ttl_ms is None:
        raise InvalidTtl(f"a ttl must be a whole number with s, m, h or d, not {ttl!r:.80}")
    if not SHORTEST_MS <= ttl_ms <= longest_ms:
        longest = "24 hours" if longest_ms == LONGEST_PAUSE_MS else f"{longest_ms // 86_400_000} days"
        raise InvalidTtl(f"a ttl must be from 60 seconds to {longest}, not {ttl}")
    return ttl_ms
