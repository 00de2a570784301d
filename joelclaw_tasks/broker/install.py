"""Turns the admission layer on for a Celery app, and checks at worker start that it is whole."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from celery import Celery, signals
from celery.bootsteps import StartStopStep
from celery.utils.log import get_logger

from joelclaw_tasks.admission import limits_of_handlers, rates_of_handlers
from joelclaw_tasks.broker import redacted_logs, stopping  # noqa: F401  # they listen from now on
from joelclaw_tasks.broker.connection import SENTINEL_TRANSPORT, TRANSPORT
from joelclaw_tasks.broker.declared import OPTION, declared_specs, prepare
from joelclaw_tasks.broker.producing import produce_for
from joelclaw_tasks.broker.router import DeclaredRouter, PriorityRouter
from joelclaw_tasks.broker.tracer import TracerSlot
from joelclaw_tasks.core.format import enter_format
from joelclaw_tasks.core.promises import read_promises
from joelclaw_tasks.core.signing import signing_of_environment
from joelclaw_tasks.errors import InvalidControls, NewerFormat, SettingsError, UnsafeRedis

#: What the leases rest on: setting -> (value, why).
REQUIRED: dict[str, tuple[Any, str]] = {
    "task_acks_late": (True, "a job is finished when its task is, not when it starts"),
    "task_reject_on_worker_lost": (True, "a job whose process died must run again"),
    "task_acks_on_failure": (False, "a failed job belongs in the dead letter, not in the bin"),
    "task_acks_on_timeout": (
        True,
        "a job that ran too long belongs in the dead letter, not back in its queue",
    ),
    "worker_prefetch_multiplier": (1, "a job reserved behind a busy process could start elsewhere now"),
    "task_serializer": ("json", "only JSON is read: a pickled message could run code"),
    "accept_content": (["json"], "only JSON is read: a pickled message could run code"),
}
logger = get_logger(__name__)

_TRANSPORTS = (TRANSPORT, SENTINEL_TRANSPORT)
_SCHEMES = ("", "redis", "rediss", "redis+socket", "sentinel")
_STOCK_MAX_RETRIES = 100  # what Celery does unless told otherwise
_STOCK_RESULT_TIMEOUT_S = 120.0
RESULT_TIMEOUT_S = 4.0  # as long as any other answer of Redis is waited for
_INSTALLED = "_joelclaw_installed"
#: Attribute of an app whose limits come from a registry.
HAS_REGISTRY = "_joelclaw_has_registry"
_ROUTERS = (DeclaredRouter, PriorityRouter)


def install(app: Celery) -> Celery:
    """Turn the admission layer on: set the transport and the settings that it needs.

    Call it after the app's own configuration. The broker URL stays as it is: redis://, rediss:// (for
    which certificates are checked unless it or `broker_use_ssl` says otherwise), redis+socket:// or
    sentinel:// (with `master_name` in `broker_transport_options`). To take it
    away again, let the workers drain the queues and remove this call. Raises SettingsError when the
    app serialises with something other than JSON, or for a broker URL that cannot work.
    """
    if app.conf.task_serializer != "json":
        raise SettingsError(
            f"task_serializer is {app.conf.task_serializer!r}; the admission layer reads JSON only",
            fix="Set task_serializer to 'json', or keep this app on another broker.",
        )
    if _needs_tls_options(app):
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    for fault in _url_faults(app):
        raise SettingsError(fault, fix="docs/adopting.md shows a broker_url of every kind.")
    app.conf.update({name: value for name, (value, _) in REQUIRED.items()})
    app.conf.update(broker_transport=_transport_for(app))
    produce_for(app)
    if app.conf.broker_connection_max_retries == _STOCK_MAX_RETRIES:
        app.conf.broker_connection_max_retries = None  # a worker waits for Redis for as long as it takes
    if app.conf.redis_socket_timeout == _STOCK_RESULT_TIMEOUT_S:
        # A worker whose results lead to a server that is silently gone would stand still for as long.
        app.conf.update(redis_socket_timeout=RESULT_TIMEOUT_S, redis_socket_connect_timeout=RESULT_TIMEOUT_S)
    # A result that cannot be stored at once is no failure of its job. Celery gives up at the first error.
    app.conf.result_backend_always_retry = True
    _rebind(app)
    if not _has_declared_router(app):
        app.conf.task_routes = (DeclaredRouter(app, app.conf.task_routes),)
    if app.conf.broker_connection_retry_on_startup is None:
        app.conf.broker_connection_retry_on_startup = True
    app.steps["consumer"].add(BeforeConsuming)
    app.Task.Request = "joelclaw_tasks.broker.request:Request"
    app.Task.__trace__ = TracerSlot()
    setattr(app, _INSTALLED, True)
    return app


def _rebind(app: Celery) -> None:
    """Tasks read some of these settings once, when they are made: for some that was before now."""
    for task in list(app._tasks.values()):
        for attribute, setting in task.from_config:
            if setting in REQUIRED:
                setattr(task, attribute, REQUIRED[setting][0])


def faults(app: Celery) -> list[str]:
    """What keeps this app from running on the admission layer, one sentence each."""
    if app.conf.get("broker_transport") not in _TRANSPORTS:
        return ["install(app) was called before the app's configuration was loaded, which undid it"]
    found = [
        f"{name} must be {value!r}, not {app.conf.get(name)!r}: {why}"
        for name, (value, why) in REQUIRED.items()
        if not _is(app.conf.get(name), value)
    ]
    try:
        signing_of_environment()
    except SettingsError as error:
        found.append(f"{error}: {error.fix}")
    if app.conf.broker_transport_options.get("ack_emulation") is False:
        found.append("broker_transport_options may not turn ack_emulation off: a lease ends with an ack")
    if not _has_declared_router(app) and any(hasattr(task, OPTION) for task in app.tasks.values()):
        found.append("task_routes was set after install(app): the controls of its tasks (jc) would not apply")
    return found + list(_url_faults(app))


def _has_declared_router(app: Celery) -> bool:
    routes = app.conf.task_routes
    return isinstance(routes, tuple) and bool(routes) and isinstance(routes[0], _ROUTERS)


def _is(actual: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return set(actual or ()) - {"application/json"} == set(wanted)
    return bool(actual == wanted)


def _urls(app: Celery) -> list[str]:
    urls = app.conf.broker_url or ""
    return [url for part in ([urls] if isinstance(urls, str) else urls) for url in part.split(";")]


def _transport_for(app: Celery) -> str:
    return SENTINEL_TRANSPORT if "sentinel" in _schemes(app) else TRANSPORT


def _schemes(app: Celery) -> list[str]:
    return [urlsplit(url).scheme for url in _urls(app)]


def _url_faults(app: Celery) -> Iterator[str]:
    schemes = _schemes(app)
    for scheme in dict.fromkeys(schemes):
        if scheme not in _SCHEMES:
            yield f"{scheme}:// is not a broker_url of Redis ({', '.join(f'{s}://' for s in _SCHEMES if s)})"
    if "sentinel" in schemes:
        if set(schemes) != {"sentinel"}:
            yield "sentinels and servers may not stand in one broker_url"
        if not (app.conf.broker_transport_options or {}).get("master_name"):
            yield "broker_transport_options must name the master_name of a sentinel:// broker_url"
    if _needs_tls_options(app):
        yield "broker_use_ssl must be set for a rediss:// broker_url, or nothing is encrypted"


def _needs_tls_options(app: Celery) -> bool:
    return not app.conf.broker_use_ssl and any(
        url.startswith("rediss://") and "ssl_cert_reqs" not in url for url in _urls(app)
    )


@signals.celeryd_init.connect(weak=False)
def check_at_start(conf: Any = None, instance: Any = None, **_: Any) -> None:
    """Refuse to start a worker whose settings would lose or repeat work."""
    app = getattr(instance, "app", None)
    if app is None or (
        not getattr(app, _INSTALLED, False)
        and (conf is None or conf.get("broker_transport") not in _TRANSPORTS)
    ):
        return
    # Parts of Celery that only workers need. The second adds commands of remote control.
    from joelclaw_tasks.broker import reloading  # noqa: F401
    from joelclaw_tasks.broker.green_control import listen_again

    listen_again()
    found = faults(app)
    if found:
        listing = "\n".join(f"  - {fault}" for fault in found)
        # Celery swallows exceptions of signal receivers, but not SystemExit.
        raise SystemExit(
            f"joelclaw_tasks: these Celery settings would lose or repeat work:\n{listing}\n"
            "Call joelclaw_tasks.install(app), after the app's configuration: it sets them."
        )


@signals.worker_init.connect(weak=False)
def _prepare_tasks(sender: Any = None, **_: Any) -> None:
    """Before the pool forks: what tasks declare is checked, and wrapped around them."""
    app = getattr(sender, "app", None)
    if app is None or not getattr(app, _INSTALLED, False):
        return
    app.finalize()
    try:
        for name in declared_specs(app):
            prepare(app.tasks[name])
    except InvalidControls as error:
        raise SystemExit(f"joelclaw_tasks: {error}\n{error.fix}") from None


class BeforeConsuming(StartStopStep):
    """With each new connection: Redis keeps what it accepts, and knows what tasks declare."""

    requires = ("celery.worker.consumer.connection:Connection",)
    _has_started = False

    def start(self, consumer: Any) -> None:
        """Judge the server; tell it limits and rates, unless the app has a registry, which does that itself.

        What the app declares no more goes; what other apps declare stays. Raises SystemExit when a worker
        starts on a Redis that may evict accepted work: it ends. One whose connection broke stays, for its end
        would cost what it runs; its caretaker warns.
        """
        require_safe_server(consumer, may_evict=self._has_started)
        self._has_started = True
        consumer.connection.transport.runs_in_threads = runs_in_threads(consumer.pool)
        if getattr(consumer.app, HAS_REGISTRY, False):
            return
        specs, store = declared_specs(consumer.app).values(), consumer.connection.default_channel.store
        told = {"actor": f"registry:{consumer.app.main}", "reason": "declared by tasks"}
        store.limit(limits_of_handlers(specs), **told)
        store.rate(rates_of_handlers(specs), **told)


def runs_in_threads(pool: Any) -> bool:
    """Whether a Celery pool runs its tasks in threads of this interpreter, beside the event loop."""
    return type(pool).__module__ == "celery.concurrency.thread"


def require_safe_server(consumer: Any, *, may_evict: bool = False) -> None:
    """Raises SystemExit when the broker may evict accepted work, is too old, or holds what is too new."""
    # Not the channel's own client: its one connection may be waiting for work already.
    store = consumer.connection.default_channel.store
    try:
        store.ask(lambda: enter_format(store.client, store.keys))
        promises = read_promises(store.client)
        promises.require_safe(consumer.connection.as_uri(), may_evict=may_evict)
    except (NewerFormat, UnsafeRedis) as error:
        raise SystemExit(f"joelclaw_tasks: {error}\n{error.fix}") from None
    except redis.exceptions.NoPermissionError as error:
        logger.warning("whether this Redis may evict accepted work cannot be asked: %s", error)
