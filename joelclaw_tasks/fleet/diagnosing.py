"""Diagnosis in a fleet: as the task `joelclaw.diagnose` that beat sends, and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.observing import health_of
from joelclaw_tasks.fleet.restate_load import restate_failures
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.diagnosis.collect import Collector
from joelclaw_tasks.intelligence.diagnosis.desk import Desk
from joelclaw_tasks.notify.notifier import Notifier, telling
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

TASK = "joelclaw.diagnose"


def desk_of(
    store: Store,
    settings: Settings,
    registry: Registry | None,
    models: Callable[[], ModelClient] | None = None,
    notifier: Callable[[], Notifier] | None = None,
) -> Desk:
    """A desk on the queue of a store. `models` and `notifier` answer those of a process that lives on.

    Without a registry there are no tiers of models, and fixed rules answer. Raises SettingsError.
    """
    collector = Collector(
        store,
        registry,
        registry_dir=settings.registry_dir,
        checkout=settings.registry_dir,  # it is kept in git, with or without the code
        health=lambda: health_of(store, registry),
        restate=lambda services: restate_failures(settings, services),
    )
    known = registry or Registry(())
    connect = models or (lambda: ModelClient.connect(settings, known, store))
    tell = telling(notifier or (lambda: Notifier.of(settings, store)))
    return Desk(store, registry, collector, connect, tell)


def add_diagnosis_task(
    app: Celery,
    store: Callable[[], Store],
    settings: Settings,
    registry: Registry,
    models: Callable[[], ModelClient],
    notifier: Callable[[], Notifier],
) -> None:
    """Register it; `store`, `models` and `notifier` answer those of this process."""

    @app.task(name=TASK, shared=False, priority=0)
    def diagnose() -> dict[str, Any]:
        """Diagnose the first failure that deserves it; answers its id, and one word for what came of it."""
        if settings.diagnosis_mode != "on":
            return {"id": None, "state": "disabled"}
        record = desk_of(store(), settings, registry, models, notifier).look()
        return {"id": None, "state": "nothing"} if record is None else {
            "id": record["id"], "state": record["state"],
        }  # fmt: skip
