"""emit: one event in, one job for each of its handlers, admitted in one atomic step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from time import monotonic, time
from types import ModuleType
from typing import Any, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.context import get_current

from joelclaw_tasks.admission import admission_of, job_id_of, lane_name
from joelclaw_tasks.admission_rules import topic_of
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.rank import parse_priority
from joelclaw_tasks.core.reply import Decision as Decided
from joelclaw_tasks.core.rules import Rules, Triage
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, EventRefused, InvalidEvent, PayloadTooLarge
from joelclaw_tasks.message import body_of, message
from joelclaw_tasks.new_event import NewEvent, checked_id, due_ms, expires_at, spooled
from joelclaw_tasks.receipt import JobReceipt, Receipt, receipt_of
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Spool
from joelclaw_tasks.triage_modes import TriageModes
from joelclaw_tasks.triage_ring import Ring

_EVENTS_PER_CALL = 50
_CALLS_PER_ROUND_TRIP = 10
#: So long after Redis was away, events go straight to the spool.
_SPOOL_AT_ONCE_S = 2.0
_tracer = trace.get_tracer("joelclaw_tasks")


class Planned(NamedTuple):
    """An event that was checked, and its jobs; nothing is sent yet. `new` and `at_ms`: what a spool keeps."""

    id: str
    name: str
    jobs: list[Job]
    new: NewEvent | None = None
    at_ms: int = 0

    def to_spool(self) -> bytes:
        """The line that a spool keeps of it."""
        assert self.new is not None  # only tests make plans of their own
        return spooled(self.new, self.id, self.at_ms)


class Emitter:
    """Emits events of one registry into one Redis. Safe to share between threads.

    With a `spool`, events that Redis does not take are kept in that file, and their jobs are answered as
    "spooled". Without a `store` no Redis is known, and all go there.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        store: Store | None,
        *,
        now_ms: Callable[[], int] = lambda: int(time() * 1000),
        spool: Path | None = None,
    ) -> None:
        self.registry = registry
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._spool = None if spool is None else Spool(spool)
        self._spool_until = 0.0
        self._triage = TriageModes.of_settings(settings, registry)
        self._ring = Ring(settings)

    @classmethod
    def connect(cls, settings: Settings, *, spool: Path | None = None) -> Emitter:
        """An emitter for what the settings name. Raises RegistryError and CoreUnreachable."""
        registry, spool = Registry.load(settings.registry_dir), spool or settings.spool
        no_redis_yet = spool is not None and not settings.redis_url
        return cls(settings, registry, None if no_redis_yet else Store.connect(settings), spool=spool)

    def go_by(self, registry: Registry) -> None:
        """Emit by another registry from the next event on."""
        self.registry, self._triage = registry, TriageModes.of_settings(self._settings, registry)

    @property
    def store(self) -> Store:
        """The verbs of the core. Raises CoreUnreachable when no Redis is known."""
        if self._store is None:
            raise CoreUnreachable("no Redis is known: no fleet is running here and REDIS_URL is not set")
        return self._store

    def emit(self, name: str, data: Mapping[str, Any], **options: Any) -> Receipt:
        """Emit one event; see the function `emit`."""
        return self.emit_many([NewEvent(name, data, **options)])[0]

    def emit_many(self, events: Iterable[NewEvent]) -> list[Receipt]:
        """Emit many events in few round trips; a receipt for each, in order.

        Every event is checked before the first is admitted. Raises UnknownEvent, InvalidEvent or
        PayloadTooLarge for the first that is refused (its index is the error's `position`), and
        CoreUnreachable; after that error it is safe to emit the same events again, under the same ids.
        """
        return self.admit(self.plan(events))

    def plan(self, events: Iterable[NewEvent], *, at_ms: int | None = None) -> list[Planned]:
        """Check events and make their jobs, sending nothing. Raises what `emit_many` raises for bad ones.

        `at_ms`: as if it were that time, in epoch milliseconds; delays and expiries count from then.
        """
        events = list(events)
        at_ms = self._now_ms() if at_ms is None else at_ms
        if _nobody_traces():
            return [self._plan_at(position, event, {}, at_ms) for position, event in enumerate(events)]
        label = events[0].name if len(events) == 1 else "many"
        with _tracer.start_as_current_span(f"emit {label}", kind=trace.SpanKind.PRODUCER):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            return [self._plan_at(position, event, carrier, at_ms) for position, event in enumerate(events)]

    def admit(self, planned: Sequence[Planned]) -> list[Receipt]:
        """Send what was planned, in few round trips; a receipt for each, in order.

        Raises CoreUnreachable; with a spool only SpoolFailed, when that cannot take them either.
        """
        if self._spool is None:
            return self._admit(planned)
        if monotonic() >= self._spool_until:
            try:
                return self._admit(planned)
            except CoreUnreachable:
                # The next ones need not wait for the same timeouts.
                self._spool_until = monotonic() + _SPOOL_AT_ONCE_S
        self._spool.append([event.to_spool() for event in planned])
        return [
            Receipt(event.id, event.name, tuple([JobReceipt(j.handler, j.id, "spooled") for j in event.jobs]))
            for event in planned
        ]

    def _admit(self, planned: Sequence[Planned]) -> list[Receipt]:
        calls = [
            [job for event in planned[start : start + _EVENTS_PER_CALL] for job in event.jobs]
            for start in range(0, len(planned), _EVENTS_PER_CALL)
        ]
        now_ms = self._now_ms()
        ring = self._ring.jobs_for(calls, now_ms) if self._triage.base != "off" else []
        if ring:
            calls[-1] += ring
        words: list[Word | Decided] = []
        for start in range(0, len(calls), _CALLS_PER_ROUND_TRIP):
            for reply in self.store.admit_many(calls[start : start + _CALLS_PER_ROUND_TRIP]):
                words.extend(reply)
        if ring:
            words.pop()  # of the ring
            self._ring.rung(now_ms)
        decided = iter(words)
        return [
            Receipt(event.id, event.name, tuple([receipt_of(job, next(decided)) for job in event.jobs]))
            for event in planned
        ]

    def _plan_at(self, position: int, new: NewEvent, carrier: dict[str, str], at_ms: int) -> Planned:
        try:
            return self._plan(new, carrier, at_ms)
        except EventRefused as error:
            error.position = position
            raise

    def _plan(self, new: NewEvent, carrier: dict[str, str], now_ms: int) -> Planned:
        spec = self.registry.event(new.name)
        chosen = parse_priority(new.priority)
        for what, value in (("data", new.data), ("meta", new.meta)):
            if not isinstance(value, Mapping):
                raise InvalidEvent(f"{what} of {new.name} must be a JSON object, not {type(value).__name__}")
        event = Event(
            id=checked_id(new.id),
            name=new.name,
            source=new.source,
            data=dict(new.data),
            at_ms=now_ms,
            priority=chosen,
            meta=dict(new.meta),
        )
        body = self._body(event)
        due = due_ms(new, now_ms)
        jobs = [self._job(event, body, handler, spec.priority, due, carrier) for handler in spec.handlers]
        cancelled = self.registry.cancelled_by(event)
        hold_ms = self._hold_ms(event)
        if cancelled or new.expires_s is not None or hold_ms is not None:
            _add_rules(jobs, cancelled, expires_at(new, now_ms), hold_ms)
        return Planned(event.id, event.name, jobs, new, now_ms)

    def _hold_ms(self, event: Event) -> int | None:
        """For how long its jobs are held for a score; None: they want none."""
        mode = self._triage.of(event.family)
        if mode == "off":
            return None
        # Whoever chose a priority knows better than a model.
        return self._settings.triage_hold_ms if mode == "enforce" and event.priority is None else 0

    def _body(self, event: Event) -> str:
        """The Celery body, base64 as kombu carries it. JSON that a worker could not read is refused here."""
        try:
            wire = _encode_event(event.to_wire()).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(f"data of {event.name} is not JSON: {_plain(error)}") from None
        if len(wire) > self._settings.payload_max_bytes:
            raise PayloadTooLarge(
                f"event {event.name} has {len(wire)} bytes; the cap is {self._settings.payload_max_bytes}"
            )
        return body_of(wire)

    def _job(
        self,
        event: Event,
        body: str,
        handler: HandlerSpec,
        priority: int,
        due_ms: int,
        carrier: dict[str, str],
    ) -> Job:
        job_id = job_id_of(event.id, handler.name)
        if event.priority is not None:
            priority = event.priority
        elif handler.priority is not None:
            priority = handler.priority
        admission = admission_of(self.registry, handler, event, priority, self._settings.keep_finished_ms)
        rules = admission.pop("rules", "")
        delay_ms = admission.pop("delay_ms", 0)
        if delay_ms and not due_ms:
            due_ms = event.at_ms + delay_ms
        return Job(
            id=job_id,
            queue=handler.queue,
            family=event.family,
            handler=handler.name,
            lane=lane_name(handler.queue, handler.name, admission["lane"]),
            gates=tuple(admission["gates"]),
            priority=priority,
            slack_ms=self._settings.slack_ms[priority],
            due_ms=due_ms,
            keep_ms=self._settings.keep_finished_ms,
            actor=event.source,
            trace=carrier.get("traceparent", ""),
            rules=rules,
            # What Flower and logs show of the arguments: never the data, which may hold secrets.
            payload=message(job_id, handler, body, f"({event.name!r}, {event.id!r})", carrier, admission),
        )


def emit(
    name: str,
    data: Mapping[str, Any],
    *,
    id: str | None = None,  # the name that callers expect
    source: str = "python",
    priority: int | str | None = None,
    at: datetime | None = None,
    delay_s: float | None = None,
    expires_s: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Receipt:
    """Emit one event to all of its handlers; returns at once with ids and the decision for each.

    With the same `id`, emitting twice is harmless: the second time every decision is "duplicate".
    `priority` (0..3 or "P0".."P3") overrides the registry's. `at` (aware, or UTC) or `delay_s` keeps the
    jobs waiting until then; those that have not started after `expires_s` never will. Raises UnknownEvent,
    InvalidEvent, PayloadTooLarge or CoreUnreachable; then nothing was queued, or (CoreUnreachable) emitting
    again under the same id is safe.
    With JOELCLAW_SPOOL set, events that Redis does not take wait in that file, and are answered as "spooled".
    """
    return _current().emit(
        name,
        data,
        id=id,
        source=source,
        priority=priority,
        at=at,
        delay_s=delay_s,
        expires_s=expires_s,
        meta=meta or {},
    )


def emit_many(events: Iterable[NewEvent]) -> list[Receipt]:
    """Emit many events in few round trips; see Emitter.emit_many."""
    return _current().emit_many(events)


@contextmanager
def emitting_with(emitter: Emitter) -> Iterator[None]:
    """The functions `emit` and `emit_many` use this emitter meanwhile, in every thread."""
    _stand_ins.append(emitter)
    try:
        yield
    finally:
        _stand_ins.remove(emitter)


_stand_ins: list[Emitter] = []


def _current() -> Emitter:
    return _stand_ins[-1] if _stand_ins else _default()


@cache
def _default() -> Emitter:
    return Emitter.connect(Settings.load())


def _nobody_traces() -> bool:
    """True when a span would be recorded by nobody and there is no context to hand on: saves 6 us."""
    return not get_current() and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _add_rules(
    jobs: list[Job], cancelled: list[tuple[str, int, str]], expires_at: int, hold_ms: int | None
) -> None:
    """What an event means beside its handlers: it may cancel jobs (once, with its first job), and expire.

    With `hold_ms` it wants a score; what is urgent is not held for it, and what is gathered has none.
    """
    for position, job in enumerate(jobs):
        if hold_ms is not None and not (job.rules or cancelled or expires_at):
            job.rules = _for_score(hold_ms if job.priority else 0)
            continue
        rules = Rules.decode(job.rules) if job.rules else Rules()
        if cancelled and position == 0:
            rules = replace(rules, cancels=tuple(topic_of(*one) for one in cancelled))
        if expires_at:
            rules = replace(rules, expires_at=expires_at)
        if hold_ms is not None and not (rules.batch or rules.debounce):
            rules = replace(rules, triage=Triage(hold_ms if job.priority else 0))
        job.rules = rules.encode()


@cache
def _for_score(hold_ms: int) -> str:
    return Rules(triage=Triage(hold_ms)).encode()


def _plain(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it holds a lone surrogate, which is not a character"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "float values" in str(error):
        return "it holds NaN or Infinity, which JSON has no word for"
    return str(error).splitlines()[0][:200]


#: `json.dumps` makes an encoder for every call; this one is made once.
_encode_event = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class _Callable(ModuleType):
    """`joelclaw_tasks.emit` is this module for whoever has imported it, and a function for everybody else."""

    def __call__(self, *args: Any, **kwargs: Any) -> Receipt:
        return emit(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
