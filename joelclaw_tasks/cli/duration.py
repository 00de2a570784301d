"""Durations as people type and read them."""

from __future__ import annotations

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.steering.ttl import duration_ms


def parse_duration_ms(text: str, option: str) -> int:
    """Milliseconds of `45`, `60s`, `10m`, `2h` or `1d`; a bare number is seconds, 0 is allowed.

    `option` names the option in the error. Raises CommandFailed with exit code 2.
    """
    milliseconds = duration_ms(text)
    if milliseconds is None:
        raise usage(
            f"{option} must be a whole number with s, m, h or d, not {text!r}",
            fix=f"Write it like `{option} 45s`, `{option} 10m`, `{option} 2h` or `{option} 1d`.",
        )
    return milliseconds


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
