"""Durations as people type and read them."""

from __future__ import annotations

import re

from joelclaw_tasks.cli.command import usage

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TEXT = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)

SHORTEST_PAUSE_MS = 60_000
LONGEST_PAUSE_MS = 86_400_000


def parse_duration_ms(text: str, option: str) -> int:
    """Milliseconds of `45`, `60s`, `10m`, `2h` or `1d`; a bare number is seconds, 0 is allowed.

    `option` names the option in the error. Raises CommandFailed with exit code 2.
    """
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None:
        raise usage(
            f"{option} must be a whole number with s, m, h or d, not {text!r}",
            fix=f"Write it like `{option} 45s`, `{option} 10m`, `{option} 2h` or `{option} 1d`.",
        )
    return int(match[1]) * _UNITS_S[match[2]] * 1_000


def parse_ttl_ms(text: str) -> int:
    """Milliseconds of a pause: 60 s to 24 h. Raises CommandFailed with exit code 2."""
    code, fix = "QUEUE_CONTROL_INVALID_TTL", "Give --ttl from 60s to 1d, such as 15m; or --no-ttl."
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None:
        raise usage(f"--ttl must be a whole number with s, m, h or d, not {text!r}", code=code, fix=fix)
    ttl_ms = int(match[1]) * _UNITS_S[match[2]] * 1_000
    if not SHORTEST_PAUSE_MS <= ttl_ms <= LONGEST_PAUSE_MS:
        raise usage(f"--ttl must be from 60 seconds to 24 hours, not {text}", code=code, fix=fix)
    return ttl_ms


def duration(milliseconds: float | None) -> str:
    """A duration for people: 850 ms, 4.2 s, 3 min 10 s, 2 h 5 min, 3 d 4 h; a dash for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{int(milliseconds / 100) / 10:.1f} s"
    seconds = int(milliseconds // 1_000)
    for size, unit, part_size, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part_size} {part}"
    return f"{seconds // 60} min {seconds % 60} s"
