"""What the registry says of an event and of its handlers: values only, no file reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HandlerType = Literal["task", "restate", "http", "inngest"]


@dataclass(frozen=True, slots=True)
class ConcurrencySpec:
    """At most `limit` jobs at once: of the handler, or of each value of `key` (JMESPath over the event)."""

    limit: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """Retry at most `max` times; wait base_s * 2**n with full jitter, never more than cap_s."""

    max: int = 3
    base_s: float = 2.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler of one event. `target` is `module:function` for type task."""

    name: str
    type: HandlerType
    target: str
    queue: str
    concurrency: tuple[ConcurrencySpec, ...] = ()
    resources: tuple[str, ...] = ()
    retries: RetrySpec = RetrySpec()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event name: a family."""

    name: str
    description: str
    priority: int
    handlers: tuple[HandlerSpec, ...]
    protected: bool = False
