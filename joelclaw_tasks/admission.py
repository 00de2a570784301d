"""What the core must know to admit a job of a registry handler: lane, gates, priority, limits."""

from __future__ import annotations

from functools import cache
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.registry import Registry


def admission_of(
    registry: Registry, handler: HandlerSpec, event: Event, priority: int, keep_ms: int
) -> dict[str, Any]:
    """What travels with a job in its message (see broker/jobs.py). Raises InvalidEvent for a bad key."""
    gates: list[str] = []
    lane: list[str] = []
    for gate, key in _limit_gates(handler):
        if key is None:
            gates.append(gate)
            continue
        value = registry.key_value(key, event)
        if value is not None:
            gates.append(f"{gate}={value}")
        lane.append("-" if value is None else f"={value}")
    gates.extend(f"limit:resource/{name}" for name in handler.resources)
    return {
        "family": event.family,
        "handler": handler.name,
        "lane": lane_name(*lane),
        "gates": gates,
        "priority": priority,
        "keep_ms": keep_ms,
    }


def lane_name(*parts: str) -> str:
    """One name of several parts; different parts never give the same name."""
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def limits_of(registry: Registry) -> dict[str, int | None]:
    """Every limit that the registry sets: gate -> most jobs at once."""
    limits: dict[str, int | None] = {
        f"limit:resource/{name}": limit for name, limit in registry.resources.items()
    }
    for handler in registry.handlers.values():
        for (gate, _), concurrency in zip(_limit_gates(handler), handler.concurrency, strict=True):
            limits[gate] = concurrency.limit
    return limits


@cache
def _limit_gates(handler: HandlerSpec) -> tuple[tuple[str, str | None], ...]:
    """Gate name and key expression of each concurrency entry, in order."""
    gates: list[tuple[str, str | None]] = []
    for number, concurrency in enumerate(handler.concurrency):
        kind = "handler" if concurrency.key is None else "key"
        suffix = f"#{number}" if any(gate == f"limit:{kind}/{handler.name}" for gate, _ in gates) else ""
        gates.append((f"limit:{kind}/{handler.name}{suffix}", concurrency.key))
    return tuple(gates)
