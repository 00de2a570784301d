"""The ingress as an ASGI application: `joelclaw_tasks.ingress.app:app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError
from joelclaw_tasks.following import follow
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.events import receive_events
from joelclaw_tasks.ingress.express import ExpressWebhook
from joelclaw_tasks.ingress.funnel import Funnel
from joelclaw_tasks.ingress.health import RedisProbe
from joelclaw_tasks.ingress.protocol import EXPRESS
from joelclaw_tasks.ingress.providers import Provider
from joelclaw_tasks.ingress.providers.github import GitHub
from joelclaw_tasks.ingress.replies import (
    RETRY_AFTER_S,
    FaultBarrier,
    JsonReply,
    Refusal,
    on_http_error,
    on_joelclaw_error,
    on_refusal,
)
from joelclaw_tasks.ingress.shared_throttle import SharedThrottle
from joelclaw_tasks.ingress.telegram import receive_telegram
from joelclaw_tasks.ingress.webhooks import webhook_route
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

#: Only a caller that brings an emitter of its own may leave the URL out.
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
#: After this a sender gets its 503.
REDIS_ANSWERS_WITHIN_S = 2.0

PROVIDERS: tuple[Provider, ...] = (GitHub(),)


def create_app(
    settings: Settings | None = None,
    emitter: Emitter | None = None,
    throttle: SharedThrottle | None = None,
) -> Starlette:
    """The application. What is not given is made when the server starts, from the environment.

    `throttle` is for one of several processes; without it nobody else's failures are heard of.
    Starting raises SettingsError or RegistryError; Redis need not answer yet.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        own = settings if settings is not None else Settings.load()
        app.state.emitter = emitter if emitter is not None else emitter_of(own)
        door = Door(own, app.state.emitter, Funnel(app.state.emitter.admit))
        app.state.door = door
        app.state.probe = RedisProbe(own.redis_url or DEFAULT_REDIS_URL)
        if throttle is not None:
            door.throttle = throttle
            asyncio.get_running_loop().add_reader(throttle.mailbox, throttle.hear)
        tasks = [
            asyncio.create_task(follow(app.state.emitter, own)),
            asyncio.create_task(asyncio.to_thread(_load_admit, app.state.emitter)),
        ]
        yield {
            EXPRESS: {f"/webhooks/{provider.name}": ExpressWebhook(provider, door) for provider in PROVIDERS}
        }
        for task in tasks:
            task.cancel()
        await door.funnel.close()
        await app.state.probe.close()

    routes = [
        Route("/healthz", _health),
        Route("/webhooks", _webhooks),
        Route("/webhooks/", _webhooks),
        *(
            Route(f"/webhooks/{provider.name}", webhook_route(provider), methods=["POST"])
            for provider in PROVIDERS
        ),
        Route("/webhooks/telegram", receive_telegram, methods=["POST"]),
        Route("/events", receive_events, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(FaultBarrier)],
        exception_handlers={
            Refusal: on_refusal,
            JoelclawError: on_joelclaw_error,
            HTTPException: on_http_error,
        },
    )
    app.router.redirect_slashes = False
    return app


async def _health(request: Request) -> Response:
    """200 when Redis answers, else 503: the ingress can accept nothing without it."""
    alive = await request.app.state.probe.alive()
    if alive:
        return JsonReply({"ok": True, "redis": True})
    error = {"code": CoreUnreachable.code, "message": "Redis does not answer"}
    return JsonReply(
        {"ok": False, "redis": False, "error": error, "fix": CoreUnreachable.fix},
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


async def _webhooks(_request: Request) -> Response:
    """Which providers there are."""
    names = [provider.name for provider in PROVIDERS]
    return JsonReply({"service": "joelclaw-webhooks", "status": "running", "providers": names})


def _load_admit(emitter: Emitter) -> None:
    """Do before the first event what it would wait for: splice the script and hand it to Redis.

    When that fails, for example because Redis is not there yet, the first event does it.
    """
    with suppress(JoelclawError, RedisError):
        emitter.store.load_scripts("admit")


def emitter_of(settings: Settings) -> Emitter:
    """The emitter that the settings describe; it connects when it first emits.

    Raises RegistryError; CoreUnreachable when no Redis is known at all.
    """
    store = Store.connect(settings, timeout_s=REDIS_ANSWERS_WITHIN_S)
    return Emitter(settings, Registry.load(settings.registry_dir), store, spool=settings.spool)


app = create_app()
