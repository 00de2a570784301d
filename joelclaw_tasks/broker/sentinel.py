"""The transport behind sentinels: `sentinel://host:port;sentinel://…` and the option `master_name`.

Every new connection asks a sentinel where the master is. When Redis fails over, the connections to the old
master end, and what runs goes on: its leases, and the record of this worker, are told to the new master.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock
from kombu.utils.url import url_to_parts

from joelclaw_tasks.broker import transport
from joelclaw_tasks.core.store import single_shot_retry
from joelclaw_tasks.master_pool import MasterConnection, MasterPool, MasterTLSConnection
from joelclaw_tasks.silence import heard


class Channel(transport.Channel, stock.SentinelChannel):
    """A channel whose connections lead to the master."""

    master_name: str | None = None
    min_other_sentinels = 0
    sentinel_kwargs: dict[str, Any] | None = None

    connection_class = heard(MasterConnection)
    connection_class_ssl = heard(MasterTLSConnection)
    from_transport_options = (
        *transport.Channel.from_transport_options,
        "master_name",
        "min_other_sentinels",
        "sentinel_kwargs",
        "sentinel_fanout_compat",
    )

    def _sentinels(self) -> list[tuple[str, int]]:
        default = self.connection.default_port
        urls = [url_to_parts(url) for url in self.connection.client.alt or ()]
        found = [(url.hostname, url.port or default) for url in urls if url.scheme == "sentinel"]
        client = self.connection.client
        return found or [(client.hostname or "127.0.0.1", client.port or default)]

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> MasterPool:
        pool = self._master_pool(self._connparams(asynchronous))
        if asynchronous:
            self._async_sentinel_manager = pool.sentinel_manager
        else:
            self._sentinel_manager = pool.sentinel_manager
        return pool

    def _own_pool(self, **options: Any) -> MasterPool:
        return self._master_pool({**self._connparams(), "retry": single_shot_retry(), **options})

    def _master_pool(self, options: dict[str, Any]) -> MasterPool:
        if self.master_name is None:
            raise ValueError("broker_transport_options must name the master_name of the sentinels")
        for name in ("host", "port"):
            options.pop(name, None)  # the sentinels know
        return MasterPool.behind(
            self._sentinels(), self.master_name, self.sentinel_kwargs, self.min_other_sentinels, **options
        )

    def _identity(self) -> list[tuple[str, str]]:
        # Whichever sentinel is asked first.
        rest = [(name, value) for name, value in super()._identity() if name not in ("host", "port")]
        return [*rest, ("master_name", str(self.master_name)), ("sentinels", repr(sorted(self._sentinels())))]


class SentinelTransport(transport.Transport):
    """`broker_transport` beside a sentinel:// broker_url; `install` sets it."""

    default_port = 26379
    Channel = Channel
