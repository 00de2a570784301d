"""Connection: stays on the admission layer whatever its URL is, and comes back without a herd.

kombu takes the transport from the URL for `redis+socket://`, and whenever it switches to another URL of a
list: that would be its own transport, past every gate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from ssl import CERT_REQUIRED
from typing import Any

import kombu
import redis
from kombu import connection as stock

from joelclaw_tasks.errors import CoreUnreachable

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
        if self.connected:  # as at every publish
            return self._connection
        # Whoever names no intervals is the worker. All workers lose a Redis at the same moment.
        spread = random.uniform(0.5, 1.5)  # noqa: S311
        names = ("interval_start", "interval_step", "interval_max")
        for name, seconds in zip(names, (0.3, 0.4, 3.0), strict=True):
            options.setdefault(name, seconds * spread)
        options.update(zip(names, intervals, strict=False))  # kombu's own retries give them by position
        if max_retries is not None:
            errback = _once_silent(errback)
        return super()._ensure_connection(errback, max_retries, **options)

    def _establish_connection(self) -> Any:
        try:
            return super()._establish_connection()
        except (TimeoutError, redis.TimeoutError) as error:
            address = ":".join(str(part) for part in (self.hostname or "localhost", self.port) if part)
            raise CoreUnreachable(f"Redis at {address} does not answer: {error}") from error

    def Pool(self, limit: int | None = None, **options: Any) -> ConnectionPool:  # noqa: N802  # kombu's name
        """The connections of producers: of this kind, too."""
        return ConnectionPool(self, limit, **options)


class PooledConnection(Connection, stock.PooledConnection):
    """One connection of a pool."""


class ConnectionPool(stock.ConnectionPool):
    """kombu's pool, which would make connections of kombu's own kind."""

    def new(self) -> PooledConnection:
        """One more connection, not yet connected."""
        return PooledConnection(self, **dict(self.connection._info(resolve=False)))


def _once_silent(errback: Any) -> Callable[[Exception, float], None]:
    """For whoever does not wait for ever: a server that takes connections and is silent is not asked again.

    Each such try costs a whole timeout, and the call that led here has mostly waited for one already.
    """

    def on_error(error: Exception, interval_s: float) -> None:
        if isinstance(error, CoreUnreachable):
            raise error
        if errback is not None:
            errback(error, interval_s)

    return on_error
