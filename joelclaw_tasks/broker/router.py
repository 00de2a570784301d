"""PriorityRouter: what the registry says of a task, as Celery routing options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from joelclaw_tasks.admission import admission_of
from joelclaw_tasks.broker.jobs import SPEC_PROPERTY, current_task
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.rank import from_celery
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings


class PriorityRouter:
    """For `task_routes`: turns the registry into queue, lane, gates and priority for every call.

    A call of a handler's task (`send_task`, `.delay()`, a retry) gets what `emit` would give it. Any other
    task is admitted under its own name, with the default priority unless the caller set one.
    """

    def __init__(self, settings: Settings | None = None, registry: Registry | None = None) -> None:
        self._settings = settings or Settings.load()
        self._given = registry

    @cached_property
    def _registry(self) -> Registry:
        return self._given or Registry.load(self._settings.registry_dir)

    @cached_property
    def _families(self) -> dict[str, tuple[str, int]]:
        return {
            handler.name: (event.name, event.priority)
            for event in self._registry.events.values()
            for handler in event.handlers
        }

    def __call__(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        task: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Celery's router protocol: options that the caller did not set himself."""
        celery_priority = options.get("priority")
        chosen = None if celery_priority is None else from_celery(celery_priority)
        retried = _retry_priority(name, options)
        if retried is not None:
            chosen = retried
        if name not in self._families:
            default = self._settings.default_priority
            return {SPEC_PROPERTY: {"priority": default if chosen is None else chosen}}
        family, priority = self._families[name]
        event = _event_of(family, args)
        if chosen is None:
            chosen = priority if event.priority is None else event.priority
        handler = self._registry.handlers[name]
        admission = admission_of(self._registry, handler, event, chosen, self._settings.keep_finished_ms)
        if not _is_envelope(args):
            admission["keep_ms"] = 0  # a plain call: its id may be used again, as on stock Celery
        return {"queue": handler.queue, SPEC_PROPERTY: admission}


def _retry_priority(name: str, options: Mapping[str, Any]) -> int | None:
    """With which priority a task was admitted that now retries, or None when this call is no retry.

    Celery hands on the priority of the message, which is 0 where nobody chose one.
    """
    task = current_task()
    # Of all calls only that of a retry names the origin of the first call.
    if task is None or task.name != name or "origin" not in options:
        return None
    priority = ((task.request.properties or {}).get(SPEC_PROPERTY) or {}).get("priority")
    return priority if isinstance(priority, int) else None


def _is_envelope(args: Sequence[Any]) -> bool:
    return bool(args) and isinstance(args[0], Mapping) and isinstance(args[0].get("data"), Mapping)


def _event_of(family: str, args: Sequence[Any]) -> Event:
    if _is_envelope(args):
        wire = {"id": "", "source": "celery", "at_ms": 0, **args[0], "name": family}
        return Event.from_wire(wire)
    return Event(id="", name=family, source="celery", data={}, at_ms=0)
