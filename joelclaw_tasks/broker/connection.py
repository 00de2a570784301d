"""Connection: stays on the admission layer whatever its URL is, and comes back without a herd.

kombu takes the transport from the URL for `redis+socket://`, and whenever it switches to another URL of a
list: that would be its own transport, past every gate.
"""

from __future__ import annotations

import random
from ssl import CERT_REQUIRED
from typing import Any

import kombu

TRANSPORT = "joelclaw_tasks.broker.transport:Transport"
SENTINEL_TRANSPORT = "joelclaw_tasks.broker.sentinel:SentinelTransport"
_OURS = {"redis": TRANSPORT, "rediss": TRANSPORT, "sentinel": SENTINEL_TRANSPORT}


class Connection(kombu.Connection):
    """A kombu connection for apps with `install`."""

    def _init_params(self, *, transport: str | None, ssl: Any, **params: Any) -> None:
        if transport == "rediss" and not ssl:
            ssl = {"ssl_cert_reqs": CERT_REQUIRED}
        super()._init_params(transport=_OURS.get(transport or "", transport), ssl=ssl, **params)

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        # Whoever names no intervals is the worker. All workers lose a Redis at the same moment.
        spread = random.uniform(0.5, 1.5)  # noqa: S311
        intervals = {"interval_start": 0.3, "interval_step": 0.4, "interval_max": 3.0}
        for name, seconds in intervals.items():
            options.setdefault(name, seconds * spread)
        return super()._ensure_connection(*args, **options)
