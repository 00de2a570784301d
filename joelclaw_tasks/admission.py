"""What the core must know to admit a job of a registry handler: lane, gates, priority, limits and rates."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from joelclaw_tasks.admission_rules import ValueOf, rules_of
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.spec import ConcurrencySpec, HandlerSpec, RateSpec
from joelclaw_tasks.registry import Registry

#: Job ids are derived from event id and handler, so that emitting twice is harmless (RFC 4122, version 5).
_JOB_NAMESPACE = uuid.UUID("9e0d4c0e-6f0e-5b0a-9d0c-6a6f656c6a63").bytes


def admission_of(
    registry: Registry, handler: HandlerSpec, event: Event, priority: int, keep_ms: int
) -> dict[str, Any]:
    """What travels with a job in its message (see broker/jobs.py). Raises InvalidEvent for a bad key."""
    admission = controls_of(handler, lambda key: registry.key_value(key, event), event.at_ms)
    return {"family": event.family, **admission, "priority": priority, "keep_ms": keep_ms}


def controls_of(handler: HandlerSpec, value_of: ValueOf, now_ms: int) -> dict[str, Any]:
    """Lane, gates and, for few, rules and delay_ms of a job that is admitted now. Raises InvalidEvent."""
    gates: list[str] = []
    lane: list[str] = []
    for gate, key, weight in _gates(handler):
        value = None if key is None else value_of(key)
        if key is not None:
            lane.append("-" if value is None else f"={value}")
        if key is None or value is not None:
            gates.append(_line(gate if value is None else f"{gate}={value}", weight))
    controls: dict[str, Any] = {"handler": handler.name, "gates": gates}
    if handler.rules is not None:
        rules = rules_of(handler, handler.rules, value_of, now_ms)
        controls |= {"rules": rules.encode(), "delay_ms": handler.rules.delay_ms}
        if rules.singleton:
            gates.insert(0, f"limit:singleton/{handler.name}={rules.singleton.key}")
            lane.append(rules.singleton.key)
    if handler.share is not None:
        value = value_of(handler.share.key)
        lane.append("-" if value is None else f"={value}")
        weight = dict(handler.share.weights).get(value or "", handler.share.default_weight)
        gates.insert(0, _line(f"share:{handler.name}={value or ''}", weight))
    controls["lane"] = lane_name(*lane)
    return controls


def lane_name(*parts: str) -> str:
    """One name of several parts; different parts never give the same name."""
    name = "|".join(parts)
    if "%" not in name and name.count("|") < len(parts):
        return name
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def limits_of(registry: Registry) -> dict[str, int | None]:
    """Every limit that the registry sets: gate -> most places at once."""
    limits: dict[str, int | None] = {
        f"limit:resource/{name}": limit for name, limit in registry.resources.items()
    }
    return limits | limits_of_handlers(registry.handlers.values())


def limits_of_handlers(handlers: Iterable[HandlerSpec]) -> dict[str, int | None]:
    """Every limit that handlers set, without those of resources."""
    limits: dict[str, int | None] = {}
    for handler in handlers:
        names = _names("limit", handler.name, handler.concurrency)
        for gate, one in zip(names, handler.concurrency, strict=True):
            limits[gate] = one.limit
    return limits


def rates_of(registry: Registry) -> dict[str, Rate | None]:
    """Every rate that the registry sets, by gate."""
    return rates_of_handlers(registry.handlers.values())


def rates_of_handlers(handlers: Iterable[HandlerSpec]) -> dict[str, Rate | None]:
    """Every rate that handlers set, by gate."""
    return {
        gate: Rate(one.limit, one.period_ms, one.burst)
        for handler in handlers
        for gate, one in zip(_names("rate", handler.name, handler.rate), handler.rate, strict=True)
    }


@cache
def _gates(handler: HandlerSpec) -> tuple[tuple[str, str | None, int], ...]:
    """Gate, key expression and weight of each limit, resource and rate, in the order in which they are asked.

    Rates come last: a lane that waits for a place spends nothing of the rate meanwhile.
    """
    limits = zip(_names("limit", handler.name, handler.concurrency), handler.concurrency, strict=True)
    rates = zip(_names("rate", handler.name, handler.rate), handler.rate, strict=True)
    return (
        *((gate, one.key, one.weight) for gate, one in limits),
        *((f"limit:resource/{one.name}", None, one.weight) for one in handler.resources),
        *((gate, one.key, 1) for gate, one in rates),
    )


def _names(kind: str, handler: str, entries: Sequence[ConcurrencySpec | RateSpec]) -> list[str]:
    """A gate name for each entry: by handler without a key, else by key, numbered from the second key on."""
    names: list[str] = []
    for number, one in enumerate(entries):
        name = f"{kind}:{'handler' if one.key is None else 'key'}/{handler}"
        names.append(f"{name}#{number}" if name in names else name)
    return names


def _line(gate: str, weight: int) -> str:
    return gate if weight == 1 else f"{gate}\t{weight}"


def job_id_of(event_id: str, handler: str) -> str:
    """The id of the job that an event becomes for one of its handlers."""
    # As uuid.uuid5, which goes by way of an object and takes four times as long.
    name = f"{event_id}\n{handler}".encode()
    h = hashlib.sha1(_JOB_NAMESPACE + name, usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:32]}"
