"""Sink: somewhere that notifications go, and what it may answer."""

from __future__ import annotations

from typing import Protocol

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.notify.notification import Notice


class SinkAway(JoelclawError):
    """A sink did not take a notification now; it is sent again later, in `retry_after_s` if it says so."""

    code = "NOTIFY_SINK_AWAY"
    fix = "Nothing is lost: it is sent again. `joelclaw notify list` shows what waits, and why."

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SinkRefused(JoelclawError):
    """A sink will never take this notification."""

    code = "NOTIFY_REFUSED"
    fix = "Look at what the sink says; `joelclaw notify test` tries all sinks."


class Sink(Protocol):
    """Takes one notice at a time; never two at once, and in the order in which things were told.

    `merges`: what gathered while it was away comes as one digest. `most_per_hour`: 0 means any number.
    """

    @property
    def name(self) -> str:
        """What the outbox calls it: a kind, or `<kind>:<whom>`."""
        ...

    @property
    def merges(self) -> bool:
        """Whether several notices may become one."""
        ...

    @property
    def most_per_hour(self) -> int:
        """How many messages it gets in an hour at most."""
        ...

    def send(self, notice: Notice) -> None:
        """Deliver it. Raises SinkAway, SinkRefused; sending the same one again is harmless if it can be."""
        ...
