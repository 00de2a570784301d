"""Which deliveries a Celery worker in this process is running right now."""

from __future__ import annotations

import sys


def running_tags() -> set[str]:
    """Delivery tags of started tasks; empty outside a Celery worker."""
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return set()
    return {request.message.delivery_tag for request in tuple(state.active_requests)}
