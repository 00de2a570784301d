"""Event: what arrives, before anything is decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as handlers receive it.

    `at_ms` is epoch milliseconds of the moment it was accepted. `priority` is 0 (most
    urgent) to 3 when a person or a service set it, else None. `meta` is what the door that
    accepted it noted (provider, delivery id); handlers may read it and must not rely on it.
    """

    id: str
    name: str
    source: str
    data: dict[str, Any]
    at_ms: int
    priority: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The event name: all jobs of one event name form a family."""
        return self.name

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: the envelope that travels in the Celery message."""
        wire: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "source": self.source,
            "at_ms": self.at_ms,
            "data": self.data,
        }
        if self.priority is not None:
            wire["priority"] = self.priority
        if self.meta:
            wire["meta"] = self.meta
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Event:
        """Read an envelope. Unknown keys are ignored, so that an older worker can run newer events."""
        return cls(
            id=wire["id"],
            name=wire["name"],
            source=wire["source"],
            data=wire["data"],
            at_ms=wire["at_ms"],
            priority=wire.get("priority"),
            meta=wire.get("meta", {}),
        )
