"""Serving: the durable services under hypercorn, on loopback, registered with Restate while they run."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import (
    CoreUnreachable,
    FleetError,
    RestateAway,
    RestateRefused,
    SettingsError,
)
from joelclaw_tasks.following import follow
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.cancelled_calls import CancelledCalls
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.restate.deployments import Deployments
from joelclaw_tasks.restate.job_watch import JobWatch
from joelclaw_tasks.restate.world import World
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

#: The supervisor waits for this line.
REGISTERED = "registered with Restate"
_FIRST_TRY_S, _LAST_TRY_S, _LOOKS_EVERY_S = 0.2, 10.0, 5.0
_CANCELS_EVERY_S = 1.0
_THREADS = 16
_WITHOUT_BOUND = 2_147_483_647
_STOP_WITHIN_S = 5.0


def serve(
    settings: Settings, port: int = 0, *, on_listening: Callable[[str], object] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT; `port` 0: a free one. `on_listening` is told the address.

    Raises SettingsError without the addresses of Restate and Redis, RegistryError, CoreUnreachable, and
    FleetError for a port that is taken.
    """
    if settings.restate_admin_url is None or settings.restate_ingress_url is None:
        raise SettingsError(
            "RESTATE_ADMIN_URL or RESTATE_INGRESS_URL is not set",
            fix="Set both, or start the fleet with `joelclaw up --with-restate`, which serves this too.",
        )
    registry = Registry.load(settings.registry_dir)
    store = Store.connect(settings)
    # Never with a spool: a job that waits in a file has no end that could be waited for.
    emitter = Emitter(settings, registry, store)
    world = World(emitter, Notifier.of(settings), JobWatch(store))
    client = RestateClient.of(settings)
    try:
        with _listening(port) as listener:
            on_listening(_url_of(listener))
            asyncio.run(_serve(world, client, listener, settings))
    finally:
        client.close()


async def _serve(world: World, client: RestateClient, listener: socket.socket, settings: Settings) -> None:
    import hypercorn.asyncio
    import hypercorn.config
    import restate
    from restate.server import install_shutdown_hook

    from joelclaw_tasks.restate.dag import dag_services

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "step"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        install_shutdown_hook(loop, stop.set, number)  # the SDK takes SIGTERM away from the server
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.h2_max_concurrent_streams = _WITHOUT_BOUND
    config.keep_alive_max_requests = _WITHOUT_BOUND
    config.keep_alive_timeout = _WITHOUT_BOUND
    config.graceful_timeout = _STOP_WITHIN_S
    services, store = dag_services(world), world.emitter.store
    deployments = Deployments(client, _url_of(listener), [service.name for service in services])
    beside = [
        asyncio.create_task(_stay_registered(deployments)),
        asyncio.create_task(follow(world.emitter, settings)),
        asyncio.create_task(_cancel_calls(CancelledCalls(store, client, lambda: world.emitter.registry))),
    ]
    try:
        app = restate.app(services=services)
        await hypercorn.asyncio.serve(app, config, mode="asgi", shutdown_trigger=stop.wait)
    finally:
        for each in beside:
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await world.close()


async def _stay_registered(deployments: Deployments) -> None:
    """Until it is cancelled: Restate may come later than we do, or lose its memory."""
    wait_s, told = _FIRST_TRY_S, False
    while True:
        try:
            is_new = await asyncio.to_thread(deployments.register)
            if is_new or not told:
                log.info("%s at %s", REGISTERED, deployments.url)
            wait_s, told = _LOOKS_EVERY_S, True
        except (RestateAway, RestateRefused) as error:
            wait_s = min(_LAST_TRY_S, wait_s * 2) if wait_s < _LAST_TRY_S else _FIRST_TRY_S
            log.warning("not registered with Restate yet: %s", error)
        await asyncio.sleep(wait_s)


async def _cancel_calls(calls: CancelledCalls) -> None:
    while True:
        try:
            await asyncio.to_thread(calls.look)
        except (CoreUnreachable, RestateAway, RestateRefused):
            pass  # what was not seen is seen by the next look
        await asyncio.sleep(_CANCELS_EVERY_S)


def _url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise FleetError(
            f"port {port} cannot be listened on: {error.strerror}", fix="Give another --port, or 0."
        ) from None
    return listener
