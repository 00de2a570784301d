"""MasterPool: connections to whichever server the sentinels call the master when they are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

#: A sentinel answers at once, or the next one is asked.
SENTINEL_ANSWERS_WITHIN_S = 1.0


class MasterConnection(SentinelManagedConnection):
    """Leads to the master of this moment, whenever it connects: redis-py asks in one of two ways only."""

    def _connect_retry(self) -> None:
        self.connect_check_health(
            check_health=self.connection_pool.check_connection, retry_socket_connect=False
        )

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect, unless it is. Raises what redis-py raises."""
        if not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        super().connect_check_health(check_health, retry_socket_connect)


class MasterTLSConnection(MasterConnection, SSLConnection):
    """The same with TLS."""


class MasterPool(SentinelConnectionPool):
    """redis-py's pool of a master, which counts its connections right after a failover."""

    @classmethod
    def behind(
        cls,
        sentinels: Iterable[tuple[str, int]],
        master_name: str,
        sentinel_options: dict[str, Any] | None,
        min_other_sentinels: int = 0,
        **options: Any,
    ) -> MasterPool:
        """A pool of the master that the sentinels know by this name; `options` are redis-py's."""
        options.setdefault("connection_class", MasterConnection)
        quick = {
            "socket_timeout": SENTINEL_ANSWERS_WITHIN_S,
            "socket_connect_timeout": SENTINEL_ANSWERS_WITHIN_S,
            "retry": Retry(NoBackoff(), 0),
        }
        asked = {**quick, **(sentinel_options or {})}
        manager = Sentinel(list(sentinels), min_other_sentinels, asked)  # type: ignore[no-untyped-call]
        return cls(master_name, manager, **options)

    def owns_connection(self, connection: Any) -> bool:
        """Whether it comes back into the pool. redis-py would drop it uncounted, until none is left."""
        if (connection.host, connection.port) != self.master_address:
            connection.disconnect()  # it asks for the master when it connects again
        return bool(ConnectionPool.owns_connection(self, connection))
