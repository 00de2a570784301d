"""The event digest in a fleet: beat looks for windows that have ended; a job of its own closes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.digest.digests import Digests, Mode, NotYet
from joelclaw_tasks.routines.digest.window import Window
from joelclaw_tasks.settings import Settings

if TYPE_CHECKING:
    from celery import Celery, Task

LOOK_TASK, WINDOW_TASK = "joelclaw.digest", "joelclaw.digest.window"
#: What fails is tried so often, 5 s later at first and then 4 times as long each time.
MOST_RETRIES, RETRY_S, RETRY_FACTOR = 5, 5, 4
_CREATED = "digest/created"


def digests_of(
    store: Store, settings: Settings, registry: Registry, models: Callable[[], ModelClient] | None = None
) -> Digests:
    """The digests of a fleet; their pages are in `digests` of its files."""
    connect = models or (lambda: ModelClient.connect(settings, registry, store))
    return Digests(store, settings.files_dir / "digests", connect)


def add_digest_tasks(
    app: Celery,
    store: Callable[[], Store],
    settings: Settings,
    registry: Registry,
    models: Callable[[], ModelClient],
    emit: Callable[..., Any],
) -> None:
    """Register them; `store`, `models` and `emit` are those of this process."""

    @app.task(name=LOOK_TASK, shared=False, priority=3)
    def look() -> dict[str, Any]:
        """Send a job for each window that has ended and is not closed; none is sent twice."""
        if settings.digest_mode == "off":
            return {"sent": []}
        windows = digests_of(store(), settings, registry).due(settings.digest_window_s * 1_000)
        for window in windows:
            close.apply_async((window.name,), task_id=f"digest-{window.name}")
        return {"sent": [window.name for window in windows]}

    @app.task(name=WINDOW_TASK, bind=True, shared=False, priority=3, max_retries=None)
    def close(task: Task, name: str, failures: int = 0, looks: int = 0) -> dict[str, Any]:
        """Close one window: make its page, unless it is there. Emits digest/created where that is known."""
        window = Window.of_name(name)
        mode = cast("Mode", "rules" if settings.digest_mode == "off" else settings.digest_mode)
        digests = digests_of(store(), settings, registry, models)
        try:
            found = digests.close(window, mode, attempts=failures + 1, looks=looks)
        except Exception as error:
            if failures >= MOST_RETRIES:
                raise
            raise task.retry(
                exc=error,
                kwargs={"failures": failures + 1, "looks": looks},
                countdown=RETRY_S * RETRY_FACTOR**failures,
            ) from error
        if isinstance(found, NotYet):
            raise task.retry(kwargs={"failures": failures, "looks": looks + 1}, countdown=found.after_s)
        if found.state == "made" and _CREATED in registry.events:
            told: Mapping[str, Any] = {"window": name, "path": found.path, "by": found.by, "jobs": found.jobs}
            emit(_CREATED, told, id=f"digest:{name}", source="digest")
        return found.to_wire()
