"""The doctor's checks of Restate: whether it is there for the handlers that need it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.fleet.check import Check, fail, ok, warn
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.settings import Settings

_ANSWER_WITHIN_S = 3


def restate_checks(settings: Settings, registry: Registry) -> Iterator[Check]:
    """Whether the server answers, and knows every service that a handler names; nothing when none is used."""
    needed = {one.restate.service for one in registry.handlers.values() if one.restate is not None}
    if settings.restate_ingress_url is None:
        if needed:
            yield fail(
                "restate answers",
                f"handlers need {', '.join(sorted(needed))}, and RESTATE_INGRESS_URL is not set",
                "Set it for the workers, or start the fleet with `joelclaw up --with-restate`.",
            )
        return
    client = RestateClient.of(replace(settings, restate_timeout_s=_ANSWER_WITHIN_S))
    try:
        client.check_health()
        yield ok("restate answers", "it is healthy")
        if settings.restate_admin_url is not None:
            yield _services_check(needed, client.services())
    except JoelclawError as error:
        yield fail("restate answers", str(error), error.fix)
    finally:
        client.close()


def _services_check(needed: set[str], known: set[str]) -> Check:
    missing = sorted(needed - known)
    if missing:
        return warn(
            "restate services",
            f"nobody has registered {', '.join(missing)}: its jobs go to the dead letter",
            "Start the service, and tell Restate its address: POST /deployments of the admin API.",
        )
    return ok("restate services", f"{len(known)} registered" if known else "none is needed")
