"""The admission layer as a kombu transport: one Celery setting turns it on.

A published task becomes an admitted job; the list that kombu blocks on carries only wake tokens;
on a token the channel claims as many jobs as it has room for. Remote control, events and replies
pass through to kombu's own Redis transport untouched. See docs/internals.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.log import get_logger
from kombu.transport import redis as stock
from kombu.utils.json import JSONEncoder, loads

from joelclaw_tasks.broker.delivery import Delivery, message_of
from joelclaw_tasks.broker.evidence import describe, refusal
from joelclaw_tasks.broker.holder import Holder, holder_for
from joelclaw_tasks.broker.intake import Intake
from joelclaw_tasks.broker.jobs import (
    REASON_PROPERTY,
    TAG_HEADER,
    current_tag,
    is_task,
    job_of,
    undecodable_job,
)
from joelclaw_tasks.broker.poller import Poller
from joelclaw_tasks.broker.qos import QoS
from joelclaw_tasks.broker.resending import admit_once
from joelclaw_tasks.broker.verifying import Verifier
from joelclaw_tasks.core.caller import is_full
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.reply import Claim, Claimed
from joelclaw_tasks.core.signing import signing_of_environment
from joelclaw_tasks.core.store import Store, single_shot_retry
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError, PayloadTooLarge
from joelclaw_tasks.silence import heard

logger = get_logger(__name__)

#: Redis 6.2 takes 0.001 s for 0, which is for ever; and it looks at its clock ten times a second only.
SHORTEST_BLOCK_S = 0.01
#: How often the lists of stock producers are looked at while there is other work.
INBOX_INTERVAL_S = 0.1


class Channel(stock.Channel):
    """A kombu channel whose task messages go through the admission core."""

    QoS = QoS
    Message = Delivery
    connection_class = heard(redis.Connection)
    connection_class_ssl = heard(redis.SSLConnection)

    key_prefix = "{jc}:"
    lease_ms = 15_000
    max_kills = 3
    transitions_max = 100_000
    dead_keep_ms = 30 * 86_400_000
    dead_max = 100_000
    slack_ms = (0, 60_000, 300_000, 900_000)
    max_message_bytes = 16 * 1024 * 1024
    # kombu waits for ever on a connection whose other end is silently gone, or for 51 s.
    socket_timeout = 4.0
    socket_connect_timeout = 5.0
    socket_keepalive = True
    health_check_interval = 2

    from_transport_options = (
        *stock.Channel.from_transport_options,
        "key_prefix",
        "lease_ms",
        "max_kills",
        "transitions_max",
        "dead_keep_ms",
        "dead_max",
        "slack_ms",
        "max_message_bytes",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: One client for the life of the pool: kombu makes one for each operation, which cost a stock
        #: worker a quarter of its CPU.
        self._kept_client: redis.Redis | None = None
        self._store: Store | None = None
        self.admitting: dict[str, str] = {}  # queue whose deliveries are leases -> key of its wake token
        self.intake = Intake(self)
        self._holder: Holder | None = None
        self._drain_inboxes_at = 0.0
        self._signing = signing_of_environment()
        self._tag_prefix = uuid.uuid4().hex
        super().__init__(*args, **kwargs)

    # -- producer -----------------------------------------------------------------------------

    def _next_delivery_tag(self) -> str:
        # kombu asks the system for random bytes with every message. A job gets its tag when it is claimed.
        return f"{self._tag_prefix}-{next(self._delivery_tags)}"

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if not is_task(message):
            super()._put(queue, message, **kwargs)
            return
        if self.connection is None:
            # kombu may go on with a channel that it has closed; on this error it connects anew.
            raise CoreUnreachable("the connection of this producer was closed")
        message["headers"].pop(TAG_HEADER, None)
        reason = str(message["properties"].pop(REASON_PROPERTY, None) or "")
        payload = _encode(message)
        if len(payload) > self.max_message_bytes:
            raise PayloadTooLarge(
                f"the message of task {message['headers']['task']} has {len(payload)} bytes;"
                f" the transport option max_message_bytes allows {self.max_message_bytes}"
            )
        job = job_of(queue, message, payload, self.slack_ms)
        job.lease_tag = current_tag(job.id)
        batch = kwargs.get("_publish_batch")
        if job.lease_tag:
            self.store.retry(job, reason=reason)
        elif batch is None:
            admit_once(self.store, job)
        else:
            self._put_in_batch(batch, job)

    def _put_in_batch(self, batch: Any, job: Job) -> None:
        # A pipeline cannot recover from NOSCRIPT half way, so each batch makes sure once.
        if getattr(batch, "joelclaw_loaded", None) is None:
            self.store.load_scripts("admit")
            batch.joelclaw_loaded = True
        batch.add("evalsha", *self.store.admit_command([job]))

    @property
    def store(self) -> Store:
        """The verbs on this channel's own connections."""
        if self._store is None:
            self._store = self._make_store(redis.Redis(connection_pool=self.pool))
        return self._store

    def _make_store(self, client: redis.Redis) -> Store:
        return Store(
            client,
            Keys(self.global_keyprefix + self.key_prefix),
            lease_ms=self.lease_ms,
            max_kills=self.max_kills,
            transitions_max=self.transitions_max,
            dead_keep_ms=self.dead_keep_ms,
            dead_max=self.dead_max,
            signing=self._signing,
        )

    # -- consumer -----------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        # Replies and events are consumed without acks and stay on kombu's lists.
        if not no_ack and queue not in self._fanout_queues:
            self.admitting[queue] = self.store.keys.wake(queue)
            self.intake.begin()
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        self.intake.end_exchange()  # while its jobs still have a consumer
        result = super()._basic_cancel(consumer_tag)
        if queue in self.admitting and queue not in self._active_queues:
            del self.admitting[queue]
            if not self.admitting:
                self.intake.cancel()  # the event loop may end now, while tasks still finish
        return result

    def take(self, claim: Claim) -> bool:
        """Deliver what was claimed; whether that was anything. Event loop only."""
        if self._closing:
            self.holder.release([job.tag for job in claim.jobs], reason="worker stopped")
            return False
        if claim.inbox:
            self._adopt_inboxes()
        jobs = self._verified(claim.jobs)
        self._deliver(jobs)
        return bool(jobs)

    def _verified(self, jobs: list[Claimed]) -> list[Claimed]:
        """The jobs that may run here: all of them, unless signatures are required."""
        if self._signing is None or not self._signing.required:
            return jobs
        try:
            return Verifier(self._signing, self.holder, self.slack_ms).passed(jobs)
        except BaseException:
            self.holder.release([job.tag for job in jobs], reason="could not be verified")
            raise

    def _deliver(self, jobs: list[Claimed]) -> None:
        for position, job in enumerate(jobs):
            try:
                self.connection._deliver(message_of(job), job.queue)
            except Exception as error:  # see _refuse
                if not self._refuse(job, error):
                    self.holder.release(
                        [other.tag for other in jobs[position + 1 :]], reason="delivery failed"
                    )
                    raise
            except BaseException:
                rest = [other.tag for other in jobs[position + 1 :]]
                self.holder.release(rest, reason="delivery failed")
                raise

    def _refuse(self, job: Claimed, error: Exception) -> bool:
        """A message that a worker chokes on must not stop it, nor the next worker after it."""
        if "celery.worker.consumer" not in sys.modules:
            return False  # a consumer with callbacks of its own hears of their errors
        delivery = self.qos._delivered.get(job.tag)
        settled = not self.holder.owns(job.tag) or getattr(delivery, "started", False)
        if settled or isinstance(error, (OSError, redis.RedisError, CoreUnreachable, MemoryError)):
            return False
        logger.error("could not deliver a job of queue %s: %s", job.queue, describe(error), exc_info=error)
        task = delivery.task_name if delivery is not None else ""
        reason = f"could not be delivered: {describe(error)}"
        self.holder.discard(job.tag, refusal("Undeliverable", reason, place=task or job.queue))
        if delivery is not None:
            self.qos._forget(job.tag)
        return True

    @property
    def holder(self) -> Holder:
        """The leases of this process on this Redis."""
        if self._holder is None:
            self._holder = holder_for(self._holder_name, self._make_holder)
        return self._holder

    @functools.cached_property
    def _holder_name(self) -> str:
        # Hashed: connection parameters hold the password.
        identity = repr(self._identity()) + self.key_prefix
        return hashlib.sha256(identity.encode()).hexdigest()

    def _identity(self) -> list[tuple[str, str]]:
        """What tells this Redis from another."""
        return sorted((name, repr(value)) for name, value in self._connparams().items())

    def _make_holder(self) -> Holder:
        # kombu allows 10 connections; each of many threads may have something to tell at once.
        store = self._make_store(redis.Redis(connection_pool=self._own_pool(max_connections=None)))
        keeper_pool = self._own_pool(max_connections=1)
        return Holder(store, redis.Redis(connection_pool=keeper_pool, single_connection_client=True))

    def _own_pool(self, **options: Any) -> redis.ConnectionPool:
        """Connections that outlive this channel."""
        return redis.ConnectionPool(**{**self._connparams(), "retry": single_shot_retry(), **options})

    # -- blocking until there is work ---------------------------------------------------------

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self.intake.is_hungry and self.admitting:
            return  # the alarm has been rung: claim first, and block only when nothing is ready
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        keys = [self.admitting[queue] for queue in queues if queue in self.admitting]
        keys.extend(
            self.global_keyprefix + self._q_for_pri(queue, priority)
            for priority in self.priority_steps
            for queue in queues
            if queue not in self.admitting
        )
        if timeout is None:
            timeout = self.brpop_timeout
            if self.admitting and timeout:
                timeout = min(timeout, max(SHORTEST_BLOCK_S, self.intake.look_again_at - monotonic()))
        self._in_poll = connection = self.client.connection
        self._brpop_sent_at = monotonic()
        connection.send_command("BRPOP", *keys, timeout or 0)

    def _brpop_read(self, **_: Any) -> bool:
        connection = self.client.connection
        try:
            try:
                popped = connection.read_response()
            except self.connection_errors:
                connection.disconnect()
                raise
        finally:
            # Before anything is delivered: the solo pool runs the task inside the delivery.
            self._in_poll = None
            self._flush_brpop_reauth()
        key = popped[0].decode() if popped else ""
        if popped and not key.startswith(self._wake_prefix):
            queue = key[len(self.global_keyprefix) :].rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self.connection._deliver(loads(popped[1].decode()), queue)
            return True
        if self._closing and popped:
            self.store.client.lpush(key, "1")
        elif self.admitting:
            self.intake.is_hungry = True
            if self.intake.pump() or popped:
                return True
        raise Empty

    @functools.cached_property
    def _wake_prefix(self) -> str:
        return str(self.store.keys.wake(""))

    # -- messages of stock producers ----------------------------------------------------------

    def inboxes(self) -> list[tuple[str, str]]:
        """The lists that the next claim looks at too, each with its queue; none most of the time."""
        now = monotonic()
        if now < self._drain_inboxes_at:
            return []
        self._drain_inboxes_at = now + INBOX_INTERVAL_S
        return [
            (queue, self.global_keyprefix + self._q_for_pri(queue, priority))
            for queue in self.admitting
            for priority in self.priority_steps
        ]

    def _adopt_inboxes(self) -> None:
        """Admit what older clients pushed on plain lists; a message leaves the inbox once it is a job."""
        for queue in self.admitting:
            self.store.adopt(queue, functools.partial(self._read_payload, queue))

    def _read_payload(self, queue: str, payload: bytes) -> Job:
        try:
            message = json.loads(payload)
            if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
                raise ValueError("not a kombu message")
            job = job_of(queue, message, payload, self.slack_ms)
            job.args()  # raises for what cannot be admitted
            return job
        except (ValueError, TypeError, AttributeError, RecursionError, JoelclawError) as error:
            return undecodable_job(queue, payload, f"undecodable message: {error}"[:200])

    # -- the rest of kombu's channel ----------------------------------------------------------

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise
            # Most often it is noted already. A worker that would end here could not make room.
            logger.warning(
                "Redis is full; if queue %s was not bound to %s before, it is not", queue, exchange
            )

    def _get(self, queue: str) -> Any:
        claim = self.holder.exchange([queue], 1, [(queue, self.global_keyprefix + queue)])
        if claim.inbox:
            self.admitting.setdefault(queue, self.store.keys.wake(queue))
            self._adopt_inboxes()
            del self.admitting[queue]
            claim = self.holder.exchange([queue], 1)
        jobs = self._verified(claim.jobs)
        if not jobs:
            raise Empty
        return message_of(jobs[0])

    def _size(self, queue: str) -> int:
        # kombu asks in a transaction, which a full Redis refuses even when it only reads.
        with self.conn_or_acquire() as client:
            pipe = client.pipeline(transaction=False)
            for priority in self.priority_steps:
                pipe.llen(self._q_for_pri(queue, priority))
            return int(sum(pipe.execute())) + self.store.queue_size(queue)

    def _purge(self, queue: str) -> int:
        cancelled = self.store.cancel_queue(queue, actor="celery purge", reason="purge")
        return int(super()._purge(queue)) + cancelled

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        if not queue.endswith(".pidbox"):
            self.store.cancel_queue(queue, actor="celery", reason="queue deleted")

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(super()._has_queue(queue, **kwargs)) or self.store.queue_size(queue) > 0

    def close(self) -> None:
        self._closing = True
        try:
            self.intake.end_exchange()
        except (CoreUnreachable, redis.RedisError) as error:
            logger.warning("the last claim is given back later: %s", error)
        super().close()

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client:
            yield client
            return
        if self._kept_client is None:
            self._kept_client = self._create_client()
        yield self._kept_client

    def _disconnect_pools(self) -> None:
        self._kept_client = None
        self._store = None
        super()._disconnect_pools()


class Transport(stock.Transport):
    """`broker_transport = "joelclaw_tasks.broker.transport:Transport"` beside a redis:// broker_url."""

    Channel = Channel
    connection_errors = (*stock.Transport.connection_errors, CoreUnreachable)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()
        #: Set once an event loop polls for us: then finished jobs are told to Redis by it, together.
        self.in_event_loop = False
        #: Tasks run in other threads of this interpreter.
        self.runs_in_threads = False
        self._leave_loop: Callable[[], None] = lambda: None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.in_event_loop = True
        others = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        # kombu would let every connection that ever was poll its sockets, at each turn of the loop.
        self._leave_loop = functools.partial(loop.on_tick.difference_update, loop.on_tick - others)
        self.cycle.join_loop(loop)
        interval_s = connection.client.transport_options.get(
            "health_check_interval", self.Channel.health_check_interval
        )
        self.cycle.check_health_every(interval_s, loop)

    def close_connection(self, connection: Any) -> None:
        self._leave_loop()
        super().close_connection(connection)


#: `kombu.utils.json.dumps` makes an encoder for every message.
_encode = JSONEncoder().encode
