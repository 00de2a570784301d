"""joelclaw_tasks: an admission-controlled, agent-operated task fleet on Celery and Redis.

`install(app)` turns the admission layer on for any Celery app. `emit` sends an event to its
handlers. `app` is the fleet's own Celery app. Names load when first used, so that importing the
package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joelclaw_tasks.broker.cancelling import cancelled
    from joelclaw_tasks.broker.install import install
    from joelclaw_tasks.core.event import Event
    from joelclaw_tasks.emit import emit, emit_many
    from joelclaw_tasks.errors import BatchFailed
    from joelclaw_tasks.fleet.app import app
    from joelclaw_tasks.steering.queue import Queue

__version__ = "0.1.0"

_HOMES = {
    "app": "joelclaw_tasks.fleet.app",
    "cancelled": "joelclaw_tasks.broker.cancelling",
    "install": "joelclaw_tasks.broker.install",
    "BatchFailed": "joelclaw_tasks.errors",
    "Queue": "joelclaw_tasks.steering.queue",
    "emit": "joelclaw_tasks.emit",
    "emit_many": "joelclaw_tasks.emit",
    "Event": "joelclaw_tasks.core.event",
}
__all__ = ["BatchFailed", "Event", "Queue", "app", "cancelled", "emit", "emit_many", "install"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
