"""Rank: the deadline that orders jobs.

rank = the moment the job became startable + slack(priority), in epoch milliseconds; the
lowest rank goes first. Aging needs no sweep: a job can only be overtaken by jobs that arrive
within the difference of their slacks after it, so nothing starves (earliest deadline first,
Liu and Layland 1973, with a soft deadline).
"""

from __future__ import annotations

from bisect import bisect_right

from joelclaw_tasks.errors import InvalidEvent

PRIORITIES = ("P0", "P1", "P2", "P3")
#: kombu's priority_steps on Redis: 0 is the most urgent of 0..9, the opposite of RabbitMQ.
_CELERY_STEPS = (0, 3, 6, 9)


def parse_priority(value: object) -> int | None:
    """0..3 or "P0".."P3" (any case) to 0..3; None stays None. Raises InvalidEvent."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip().upper()
        if text in PRIORITIES:
            return PRIORITIES.index(text)
        if text in {"0", "1", "2", "3"}:
            return int(text)
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 3:
        return value
    raise InvalidEvent(f"unknown priority {value!r}; use P0, P1, P2 or P3")


def from_celery(priority: int) -> int:
    """Celery's 0..9 on Redis (0 first) to 0..3, on the steps that kombu itself uses."""
    return bisect_right(_CELERY_STEPS, min(max(priority, 0), 9)) - 1
