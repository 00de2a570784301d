"""Producing: Celery's way to a publish, without declaring and binding again what has not changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.app import amqp as stock
from celery.app.utils import Settings as StockSettings
from kombu import Producer, pools
from kombu.connection import is_connection
from kombu.messaging import ChannelPromise

from joelclaw_tasks.broker.arguments import mask_headers, shown_plainly
from joelclaw_tasks.broker.connection import Connection
from joelclaw_tasks.broker.jobs import COUNTDOWN_PROPERTY


class TaskProducer(Producer):
    """kombu's producer copies and binds the queue at every publish, a tenth of the time that it takes."""

    def maybe_declare(self, entity: Any, retry: bool = False, **policy: Any) -> Any:
        """Declare an exchange or a queue, once for each connection. Answers whether it did."""
        if entity.can_cache_declaration and hash(entity) in self.connection.declared_entities:
            return False
        return super().maybe_declare(entity, retry=retry, **policy)

    def revive(self, channel: Any) -> None:
        """Work on this connection or channel from now on."""
        if self.exchange.name or not is_connection(channel):
            super().revive(channel)
            return
        # The exchange without a name is never declared, so it need not be bound.
        self.__connection__ = channel
        self._channel = ChannelPromise(lambda: channel.default_channel)


class TaskProducers(pools.PoolGroup):
    """Pools of such producers, by connection."""

    def create(self, resource: Any, limit: int | None) -> pools.ProducerPool:
        """The pool of a connection: kombu's, of our producers."""
        return pools.ProducerPool(pools.connections[resource], limit=limit, Producer=TaskProducer)


_producers = pools.register_group(TaskProducers(limit=pools.use_global_limit))


class AMQP(stock.AMQP):
    """What an app with `install` publishes through."""

    Connection = Connection
    _producer_pool: Any

    @property
    def producer_pool(self) -> pools.ProducerPool:
        """The producers of this app, made when it publishes for the first time."""
        if self._producer_pool is None:
            self._producer_pool = _producers[self.app.connection_for_write()]
            self._producer_pool.limit = self.app.pool.limit
        return self._producer_pool

    publisher_pool = producer_pool

    def as_task_v2(
        self,
        task_id: str,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """The message of a call: it shows no secret of its arguments, and keeps its countdown as it is.

        The ETA that Celery makes of a countdown is by our own clock, which may be minutes off.
        """
        if options.get("argsrepr") is None:
            options["argsrepr"] = shown_plainly(args or ())
        if options.get("kwargsrepr") is None:
            options["kwargsrepr"] = shown_plainly(kwargs or {})
        message = super().as_task_v2(task_id, name, args, kwargs, countdown, *more, **options)
        headers, sent_event = message.headers, message.sent_event
        task = self.app._tasks.get(name)
        if mask_headers(self.app, task, headers, args or (), kwargs or {}) and sent_event:
            sent_event.update(args=headers["argsrepr"], kwargs=headers["kwargsrepr"])
        if countdown and countdown > 0:
            message.properties[COUNTDOWN_PROPERTY] = max(1, int(countdown * 1000))
        return message


class Settings(StockSettings):
    """Celery makes all names of a setting anew at each look, and a publish looks at five."""

    def _to_keys(self, key: str) -> Sequence[str]:
        return _names_of(self.prefix, self._keys, key)

    def __getitem__(self, key: str) -> Any:
        names = self._to_keys(key)
        for mapping in self.maps:
            for name in names:
                if name in mapping:
                    return mapping[name]
        return super().__getitem__(key)  # raises what Celery raises


@lru_cache(1024)
def _names_of(prefix: str | None, renamings: tuple[Any, ...] | None, key: str) -> Sequence[str]:
    names: Sequence[str] = StockSettings({}, keys=renamings, prefix=prefix)._to_keys(key)
    return names


def produce_for(app: Celery) -> None:
    """Let the app publish through this module; queues and routes that it has made stay as they are."""
    if type(app.conf) is StockSettings:
        object.__setattr__(app.conf, "__class__", Settings)  # its own __setattr__ makes a setting of it
    if type(app.amqp) is stock.AMQP:
        app.amqp.__class__ = AMQP
        app.amqp._producer_pool = None
        app.amqp.task_protocols[2] = app.amqp.as_task_v2
        app.amqp.__dict__.pop("create_task_message", None)
    else:
        app.amqp.Connection = Connection  # a class of its own, which its owner has reasons for
