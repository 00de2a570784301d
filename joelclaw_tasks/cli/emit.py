"""joelclaw emit: one event, or many from a stream."""

from __future__ import annotations

from joelclaw_tasks.cli.envelope import Outcome


def emit(event: str) -> Outcome:
    """Emit an event: validate it and queue a job for each of its handlers."""
    return Outcome({"event": event})
