"""PriorityRouter: what the registry says of a task, as Celery routing options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.routes import Router, prepare

from joelclaw_tasks.admission import admission_of
from joelclaw_tasks.broker.declared import OPTION, call_controls, cancels_of, declared_specs, spec_of
from joelclaw_tasks.broker.jobs import SPEC_PROPERTY, current_task
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.rank import from_celery
from joelclaw_tasks.core.rules import Rules
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

_WATCHERS = "_joelclaw_watchers"


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
            controls = controls_of_call(name, args, kwargs, options, task) or {}
            if chosen is None:
                chosen = controls.get("priority", default)
            return {SPEC_PROPERTY: {**controls, "priority": chosen}}
        family, priority = self._families[name]
        event = _event_of(family, args)
        handler = self._registry.handlers[name]
        if chosen is None and event.priority is None and handler.priority is not None:
            chosen = handler.priority
        if chosen is None:
            chosen = priority if event.priority is None else event.priority
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


class DeclaredRouter:
    """For `task_routes`, before all others: adds what a plain task, or a call of it, declares as `jc`."""

    def __init__(self, app: Celery, others: Any) -> None:
        """`others` is the app's own `task_routes`."""
        self._app = app
        self._rest = prepare(others)
        self._others = Router(self._rest)

    def __call__(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        task: Any = None,
        **_: Any,
    ) -> dict[str, Any] | None:
        """Celery's router protocol. Raises InvalidControls and InvalidEvent."""
        controls = controls_of_call(name, args, kwargs, options, task or self._app.tasks.get(name))
        if controls is None:
            return self._others.lookup_route(name, args, kwargs, options, task) if self._rest else None
        retried = _retry_priority(name, options)
        if retried is not None or options.get("priority") is not None:
            controls["priority"] = from_celery(options["priority"]) if retried is None else retried
        route = self._others.lookup_route(name, args, kwargs, options, task)
        return {**({"queue": route} if isinstance(route, str) else route or {}), SPEC_PROPERTY: controls}


def controls_of_call(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Any
) -> dict[str, Any] | None:
    """What goes into the message of a call of a plain task; None when nothing is declared.

    Takes the caller's `jc` out of the options. Raises InvalidControls and InvalidEvent.
    """
    of_call = options.pop(OPTION, None) if OPTION in options else None  # type: ignore[attr-defined]
    declared = getattr(task, OPTION, None)
    cancels = cancels_of(_watchers(task.app), name, args, kwargs) if task is not None else None
    if declared is None and of_call is None:
        return {"rules": cancels.encode()} if cancels else None
    controls = call_controls(spec_of(name, declared, of_call), args, kwargs)
    if cancels:
        rules = Rules.decode(controls["rules"]) if controls.get("rules") else Rules()
        controls["rules"] = replace(rules, cancels=cancels.cancels).encode()
    return controls


def _watchers(app: Celery) -> Sequence[HandlerSpec]:
    """The controls of those tasks of an app that calls of others may cancel."""
    known: tuple[int, Sequence[HandlerSpec]] = app.__dict__.get(_WATCHERS, (0, ()))
    if known[0] != len(app.tasks):
        specs = [spec for spec in declared_specs(app).values() if spec.rules and spec.rules.cancel_on]
        known = app.__dict__[_WATCHERS] = (len(app.tasks), specs)
    return known[1]


def _is_envelope(args: Sequence[Any]) -> bool:
    return bool(args) and isinstance(args[0], Mapping) and isinstance(args[0].get("data"), Mapping)


def _event_of(family: str, args: Sequence[Any]) -> Event:
    if args and isinstance(args[0], list):
        args = args[0]  # a batch that is tried again: all of its elements have the same keys
    if _is_envelope(args):
        wire = {"id": "", "source": "celery", "at_ms": 0, **args[0], "name": family}
        return Event.from_wire(wire)
    return Event(id="", name=family, source="celery", data={}, at_ms=0)
