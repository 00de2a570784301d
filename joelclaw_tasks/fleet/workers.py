"""The workers of a fleet, asked and reloaded by remote control, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from celery import Celery

from joelclaw_tasks.address import Address
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

#: A worker that is busy answers a little later.
ANSWERS_WITHIN_S = 2.0
#: A grace of 8 s to stop, and a slow start.
RELOADS_WITHIN_S = 90.0
_LOOK_S = 0.2


class ReloadFailed(JoelclawError):
    """A worker did not take over the new code. Those before it did, those after it were not asked."""

    code = "FLEET_RELOAD_FAILED"
    fix = "Mend the code and reload again: workers that were not reloaded run on with what they had."


@dataclass(frozen=True, slots=True)
class WorkerCode:
    """A worker: since when (epoch ms) it has its code, the version of its registry, and how a reload stands.

    `registry` None: its app has none. `reload`: none, checking, refused (then `fault` says why), stopping.
    """

    name: str
    pid: int
    started_at: int
    registry: str | None
    reload: str
    fault: str

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A worker that has taken over the new code, and how long that took, from the order on."""

    name: str
    took_s: float
    registry: str | None

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def control_app(settings: Settings, registry: Registry) -> Celery:
    """The fleet's app, for a program that speaks to the fleet of these settings, whatever its environment."""
    app = make_app(settings, registry)
    own = Address.parse(settings.redis_url or "redis://127.0.0.1:6379/0").celery_settings()
    options = {**app.conf.broker_transport_options, **own.pop("broker_transport_options", {})}
    app.conf.update(own, broker_transport_options={**options, "key_prefix": settings.key_prefix})
    return app


class Workers:
    """All workers that hear remote control. `store`: where they hold their leases."""

    def __init__(self, app: Celery, store: Store) -> None:
        self._app = app
        self._store = store

    def all(self) -> list[WorkerCode]:
        """Those that answer, by name; older versions of this package do not. Raises CoreUnreachable.

        Nobody is waited for once as many have answered as there are holders of leases: one for each worker.
        """
        return sorted(self._ask(None, len(self._store.holders())), key=lambda worker: worker.name)

    def reload(
        self,
        names: Iterable[str],
        on_step: Callable[[str], None] = lambda _: None,
        within_s: float = RELOADS_WITHIN_S,
    ) -> list[Reloaded]:
        """One after the other. Raises ReloadFailed at the first that refuses or does not come back."""
        done = []
        for name in names:
            on_step(name)
            done.append(self._reload(name, within_s))
        return done

    def _reload(self, name: str, within_s: float) -> Reloaded:
        began = time.monotonic()
        before = self._one(name)
        if before is None:
            raise ReloadFailed(f"{name} does not answer")
        self._app.control.broadcast(
            "joelclaw_reload", destination=[name], reply=True, timeout=ANSWERS_WITHIN_S
        )
        while time.monotonic() - began < within_s:
            now = self._one(name)
            if now is not None and now.started_at != before.started_at:
                return Reloaded(name, round(time.monotonic() - began, 1), now.registry)
            if now is not None and now.reload == "refused":
                raise ReloadFailed(f"{name} refused the new code: {now.fault}")
            time.sleep(_LOOK_S)
        raise ReloadFailed(f"{name} was told to reload and is not back after {within_s:g} s; look at its log")

    def _one(self, name: str) -> WorkerCode | None:
        return next(iter(self._ask([name], 1)), None)

    def _ask(self, names: list[str] | None, most: int) -> list[WorkerCode]:
        answers = self._app.control.broadcast(
            "joelclaw_code",
            destination=names,
            reply=True,
            timeout=ANSWERS_WITHIN_S,
            limit=most or None,
        )
        return [
            WorkerCode(name=name, **code)
            for answer in answers or ()
            for name, code in answer.items()
            if "started_at" in code
        ]
