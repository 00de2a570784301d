"""A real Celery worker in a thread of this process, on the clock of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import kombu.pools
import redis
from celery import Celery, _state
from celery.worker import WorkController
from celery.worker import state as worker_state
from kombu.asynchronous import get_event_loop, set_event_loop

from joelclaw_tasks.broker.holder import Holder, end_holder
from joelclaw_tasks.broker.install import REQUIRED, install
from joelclaw_tasks.broker.transport import Channel, Transport
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock

#: The clock may jump by months while a job runs: that must not end its lease.
LEASE_MS = 10 * 366 * 86_400_000
_READY_WITHIN_S = 10.0
_STOPPED_WITHIN_S = 10.0


@contextmanager
def borrowed(app: Celery, url: str, clock: Clock, settings: Settings) -> Iterator[None]:
    """The app as it is, but on the Redis and the clock of a test; afterwards it is as before."""
    app.conf.get("broker_url")  # reads a configuration that is still pending
    changed, now = dict(app.conf.changes), app.now
    holders: list[Holder] = []
    app.conf.update(
        broker_url=url, broker_read_url=url, broker_write_url=url, broker_use_ssl=None,
        redis_backend_use_ssl=None, task_always_eager=False, worker_enable_remote_control=False,
    )  # fmt: skip
    if str(app.conf.result_backend or "").startswith("redis"):
        app.conf.result_backend = url
    as_made = list(_settings_of_tasks(app))
    install(app)
    app.conf.update(
        broker_transport=_transport_on(clock, holders),
        broker_transport_options={
            "key_prefix": settings.key_prefix, "lease_ms": settings.lease_ms, "slack_ms": settings.slack_ms,
        },
    )  # fmt: skip
    app.now = clock.now  # ETAs of countdowns and retries
    backends: list[Any] = []  # threads have one each
    make_backend = app._get_backend

    def noted_backend() -> Any:
        backends.append(make_backend())
        return backends[-1]

    app._get_backend = noted_backend
    _forget_connections(app)
    try:
        yield
    finally:
        for holder in holders:
            end_holder(holder)
        for backend in backends:
            _close_backend(backend)
        _forget_connections(app)
        app._get_backend = make_backend
        for task, attribute, value in as_made:
            setattr(task, attribute, value)
        app.now = now
        app.conf.changes.clear()
        app.conf.changes.update(changed)


def _settings_of_tasks(app: Celery) -> Iterator[tuple[Any, str, Any]]:
    """What tasks that are already made keep of the settings that `install` changes."""
    for task in list(app._tasks.values()):
        for attribute, setting in task.from_config:
            if setting in REQUIRED:
                yield task, attribute, getattr(task, attribute)


def _transport_on(clock: Clock, holders: list[Holder]) -> type[Transport]:
    class ClockedChannel(Channel):
        def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
            clock.tick()  # jobs of one time would run in the order of their ids
            super()._put(queue, message, **kwargs)

        def _make_store(self, client: redis.Redis) -> Store:
            made = super()._make_store(client)
            options = {"lease_ms": self.lease_ms, "max_kills": self.max_kills}
            return Store(client, made.keys, now_ms=clock.now_ms, signing=made.signing, **options)

        def _make_holder(self) -> Holder:
            holders.append(super()._make_holder())
            return holders[-1]

    return type("ClockedTransport", (Transport,), {"Channel": ClockedChannel})


def _forget_connections(app: Celery) -> None:
    """Celery keeps what it has connected to; closed, it would refuse to be used again."""
    ours = {id(app.__dict__.get("_pool")), id(getattr(app.__dict__.get("amqp"), "_producer_pool", None))}
    for group in (kombu.pools.connections, kombu.pools.producers):
        for key, pool in list(group.items()):
            if id(pool) in ours:
                pool.force_close_all()
                dict.pop(group, key)
    app._pool = None
    app.__dict__.pop("amqp", None)
    app._local = threading.local()
    app._backend_cache = None


def _close_backend(backend: Any) -> None:
    if hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        backend.result_consumer.subscribed_to.clear()  # results that are still held ask it for nothing
        backend.client.close()


class _Worker(WorkController):  # type: ignore[misc]  # Celery is untyped
    """Says when it consumes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ready = threading.Event()
        super().__init__(*args, **kwargs)

    def on_consumer_ready(self, _consumer: Any) -> None:
        self.ready.set()


@contextmanager
def working(app: Celery, queues: Iterable[str], concurrency: int, wake: Callable[[], None]) -> Iterator[None]:
    """A worker thread with `concurrency` pool threads, warmly stopped at the end."""
    default_app, may_block = _state.default_app, _state.task_join_will_block()
    loop = get_event_loop()
    set_event_loop(None)  # the worker makes one of its own: that of an earlier worker is closed
    # Pool threads know no other app.
    app.set_default()
    app.finalize()
    worker = _Worker(
        app=app, pool="threads", concurrency=concurrency, queues=list(queues), hostname="testing@localhost",
        without_gossip=True, without_mingle=True, without_heartbeat=True, task_events=False,
    )  # fmt: skip
    thread = threading.Thread(target=worker.start, name="joelclaw-testing-worker", daemon=True)
    with ExitStack() as stack:
        stack.callback(set_event_loop, loop)
        stack.callback(_state.set_default_app, default_app)
        stack.callback(_state._set_task_join_will_block, may_block)
        stack.callback(_stop, thread, wake)
        thread.start()
        if not worker.ready.wait(_READY_WITHIN_S):
            raise AssertionError(f"the worker was not ready within {_READY_WITHIN_S:g} s: see its log")
        _state._set_task_join_will_block(False)  # this thread may wait for results
        yield


def _stop(thread: threading.Thread, wake: Callable[[], None]) -> None:
    worker_state.should_stop = 0
    try:
        wake()
        thread.join(_STOPPED_WITHIN_S)
    finally:
        worker_state.should_stop = None
    if thread.is_alive():
        raise AssertionError(f"a task still runs {_STOPPED_WITHIN_S:g} s after the end of the test")
