"""The registry: which events exist, who handles them, and under which limits."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import EventSpec, HandlerSpec
from joelclaw_tasks.errors import RegistryError, UnknownEvent, UnknownHandler
from joelclaw_tasks.registry_files import event_file, read_directory
from joelclaw_tasks.registry_health import DEFAULT_CHECKS, CheckSpec
from joelclaw_tasks.registry_keys import KeyExpression
from joelclaw_tasks.registry_schedules import ScheduleSpec
from joelclaw_tasks.registry_targets import target_fault
from joelclaw_tasks.registry_tiers import TierSpec


class Registry:
    """All events, handlers, shared resources and model tiers; never changes after it is built.

    `events` and `handlers` are by name, `resources` maps a name to its limit (jobs at once),
    `queues` are the Celery queues that handlers name, `tiers` the models by tier, `checks` those of the
    health pulse by name, `schedules` what beat emits, `version` is a hash of the content.
    """

    __slots__ = (
        "_cancels",
        "_keys",
        "checks",
        "events",
        "handlers",
        "queues",
        "resources",
        "schedules",
        "tiers",
        "version",
    )

    def __init__(
        self,
        events: Iterable[EventSpec],
        resources: Mapping[str, int] | None = None,
        tiers: Mapping[str, TierSpec] | None = None,
        checks: Mapping[str, CheckSpec] | None = None,
        schedules: Mapping[str, ScheduleSpec] | None = None,
    ) -> None:
        """From specs that are already checked; `Registry.load` reads and checks files."""
        by_name = {event.name: event for event in sorted(events, key=lambda event: event.name)}
        handlers = {handler.name: handler for event in by_name.values() for handler in event.handlers}
        self.events: Mapping[str, EventSpec] = MappingProxyType(by_name)
        self.handlers: Mapping[str, HandlerSpec] = MappingProxyType(handlers)
        self.resources: Mapping[str, int] = MappingProxyType(dict(resources or {}))
        self.queues = frozenset(handler.queue for handler in handlers.values())
        self.tiers: Mapping[str, TierSpec] = MappingProxyType(dict(tiers or {}))
        self.checks: Mapping[str, CheckSpec] = MappingProxyType(
            dict(DEFAULT_CHECKS if checks is None else checks)
        )
        self.schedules: Mapping[str, ScheduleSpec] = MappingProxyType(dict(schedules or {}))
        self.version = _version(by_name.values(), self.resources, self.tiers, checks, self.schedules)
        self._keys: dict[str, KeyExpression] = {}
        self._cancels: dict[str, list[tuple[str, int, str]]] = {}
        for handler in handlers.values():
            for number, one in enumerate(handler.rules.cancel_on if handler.rules else ()):
                self._cancels.setdefault(one.event, []).append((handler.name, number, one.match))

    @classmethod
    def load(cls, directory: Path) -> Registry:
        """Read and check every file of a registry directory.

        Imports no handler: see check_targets. Raises RegistryError with all faults of all files.
        """
        contents = read_directory(Path(directory))
        if contents.faults:
            raise RegistryError(contents.faults)
        return cls(contents.events, contents.resources, contents.tiers, contents.checks, contents.schedules)

    def event(self, name: str) -> EventSpec:
        """The event of that name. Raises UnknownEvent, which names the nearest known one."""
        try:
            return self.events[name]
        except KeyError:
            raise UnknownEvent(f"no event is named {_short(name)}{_nearest(name, self.events)}") from None

    def handler(self, name: str) -> HandlerSpec:
        """The handler of that name. Raises UnknownHandler, which names the nearest known one."""
        try:
            return self.handlers[name]
        except KeyError:
            raise UnknownHandler(
                f"no handler is named {_short(name)}{_nearest(name, self.handlers)}"
            ) from None

    def key_value(self, expression: str, event: Event) -> str | None:
        """What a key expression finds in an event: text that is safe in an id, or None.

        Raises InvalidEvent when the expression cannot be applied to this event.
        """
        key = self._keys.get(expression)
        if key is None:
            key = self._keys[expression] = KeyExpression(expression)
        return key.value(event)

    def cancelled_by(self, event: Event) -> list[tuple[str, int, str]]:
        """Whose jobs this event cancels: handler, number of its cancel_on, the value that they must have.

        Raises InvalidEvent when an expression cannot be applied to this event.
        """
        found = []
        for handler, number, match in self._cancels.get(event.name, ()):
            value = self.key_value(match, event)
            if value is not None:
                found.append((handler, number, value))
        return found

    def check_targets(self) -> list[str]:
        """Import the target of every task handler; one sentence for each that cannot be run."""
        faults = []
        for event in self.events.values():
            for position, handler in enumerate(event.handlers):
                fault = target_fault(handler.target) if handler.type == "task" else None
                if fault is not None:
                    faults.append(f"events/{event_file(event.name)}: handlers[{position}].target: {fault}")
        return faults


def _version(
    events: Iterable[EventSpec],
    resources: Mapping[str, int],
    tiers: Mapping[str, TierSpec],
    checks: Mapping[str, CheckSpec] | None,
    schedules: Mapping[str, ScheduleSpec],
) -> str:
    content: dict[str, Any] = {"events": [asdict(event) for event in events], "resources": dict(resources)}
    if tiers:
        content["tiers"] = {name: tier.to_wire() for name, tier in tiers.items()}
    if checks is not None:
        content["checks"] = {name: check.to_wire() for name, check in checks.items()}
    if schedules:
        content["schedules"] = {name: schedule.to_wire() for name, schedule in schedules.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _short(name: str) -> str:
    return repr(name if len(name) <= 120 else name[:117] + "...")


def _nearest(name: str, known: Iterable[str]) -> str:
    # Names come from outside: only their first characters are compared, so that a huge one costs nothing.
    near = difflib.get_close_matches(name[:120], list(known), n=1, cutoff=0.0)
    return f"; the nearest known name is {near[0]!r}" if near else "; the registry is empty"
