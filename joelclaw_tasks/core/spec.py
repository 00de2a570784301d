"""What the registry says of an event and of its handlers: values only, no file reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HandlerType = Literal["task", "restate", "http", "inngest"]


@dataclass(frozen=True, slots=True)
class ConcurrencySpec:
    """At most `limit` places: of the handler, or of each value of `key` (JMESPath over the event).

    A job takes `weight` places while it runs.
    """

    limit: int
    key: str | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RateSpec:
    """At most `limit` starts in `period_ms`, `burst` at once after a quiet time; by handler or by `key`."""

    limit: int
    period_ms: int
    burst: int = 1
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ShareSpec:
    """The values of `key` take turns: of each, as many jobs a turn as `weights` says, or `default_weight`."""

    key: str
    weights: tuple[tuple[str, int], ...] = ()
    default_weight: int = 1


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """A named resource that a job holds while it runs, `weight` places of it."""

    name: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """Retry at most `max` times; wait base_s * 2**n with full jitter, never more than cap_s.

    `retry_on` names the exceptions, bare or dotted, that are worth it; empty: all.
    """

    max: int = 3
    base_s: float = 2.0
    cap_s: float = 300.0
    retry_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Of events with the same `key`, the first within `window_ms` goes on."""

    window_ms: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class SingletonSpec:
    """One job of each `key` at a time; a later event is dropped or, with `cancel`, ends the earlier job."""

    cancel: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class DebounceSpec:
    """Runs `wait_ms` after the last event of each `key`, at most `max_wait_ms` after the first."""

    wait_ms: int
    max_wait_ms: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Events of each `key` run together: `size` of them, or what came within `max_wait_ms`."""

    size: int
    max_wait_ms: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class CancelOnSpec:
    """`event` cancels those jobs whose own event gives `of` the value that it itself gives `match`."""

    event: str
    match: str
    of: str


@dataclass(frozen=True, slots=True)
class RulesSpec:
    """The rules of admission of a handler; 0 means none."""

    dedup: WindowSpec | None = None
    throttle: WindowSpec | None = None
    singleton: SingletonSpec | None = None
    debounce: DebounceSpec | None = None
    batch: BatchSpec | None = None
    cancel_on: tuple[CancelOnSpec, ...] = ()
    expires_ms: int = 0
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class RestateSpec:
    """What a handler of type restate invokes: `handler` of a service, of an object (`key`) or of a workflow.

    `key` is JMESPath over the event. A call waits `deadline_ms` for its output, a send for nothing. `input`
    says what is sent of the event. Restate itself waits `delay_ms` before it runs.
    """

    service: str
    handler: str
    key: str | None = None
    workflow: bool = False
    mode: Literal["send", "call"] = "send"
    input: Literal["data", "event", "none"] = "data"
    delay_ms: int = 0
    deadline_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler of one event. `target` is `module:function` for type task, `service/handler` for restate.

    A job may run for `timeout_s`, then it is told to stop, and at `hard_timeout_s` it is ended. `depends_on`
    names the checks of the health pulse without which it cannot do its work.
    """

    name: str
    type: HandlerType
    target: str
    queue: str
    concurrency: tuple[ConcurrencySpec, ...] = ()
    resources: tuple[ResourceSpec, ...] = ()
    rate: tuple[RateSpec, ...] = ()
    share: ShareSpec | None = None
    retries: RetrySpec = RetrySpec()
    timeout_s: float | None = None
    hard_timeout_s: float | None = None
    priority: int | None = None
    rules: RulesSpec | None = None
    restate: RestateSpec | None = None
    depends_on: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """By name: every emit looks a handler up in several caches."""
        return hash(self.name)

    @property
    def time_limits_s(self) -> tuple[float | None, float | None]:
        """Soft and hard limit in seconds; between the two a job has time to clean up."""
        if self.hard_timeout_s is None and self.timeout_s is not None:
            return self.timeout_s, self.timeout_s + 5
        return self.timeout_s, self.hard_timeout_s


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event name: a family."""

    name: str
    description: str
    priority: int
    handlers: tuple[HandlerSpec, ...]
    protected: bool = False
