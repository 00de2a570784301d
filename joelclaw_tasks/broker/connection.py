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

    def _ensure_connection(
        self, errback: Any = None, max_retries: int | None = None, *intervals: float, **options: Any
    ) -> Any:
        # Whoever names no intervals is the worker. All workers lose a Redis at the same moment.
        spread = random.uniform(0.5, 1.5)  # noqa: S311
        names = ("interval_start", "interval_step", "interval_max")
        for name, seconds in zip(names, (0.3, 0.4, 3.0), strict=True):
            options.setdefault(name, seconds * spread)
        options.update(zip(names, intervals, strict=False))  # kombu's own retries give them by position
        return super()._ensure_connection(errback, max_retries, **options)
