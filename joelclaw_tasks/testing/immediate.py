"""inline: every handler of what is emitted runs at once, in this thread, one by one, without Redis."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.spec import HandlerSpec, RetrySpec
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import emitting_with
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.fleet.task import load_target
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.message import argument_of
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock
from joelclaw_tasks.testing.record import Outcome, Record, RecordingEmitter, Run
from joelclaw_tasks.testing.world import TestWorld, registry_of, surroundings

#: More attempts than this in one go: handlers emit each other for ever.
_MOST_ATTEMPTS = 10_000


@dataclass(order=True, slots=True)
class _Waiting:
    """A job that waits for its turn, in order of time and arrival."""

    due_ms: int
    number: int
    job_id: str
    handler: str
    wire: dict[str, Any]
    attempt: int = 0


class Inline(Record):
    """A record of handlers that run as soon as their events are emitted. Not for several threads.

    `emit` and `joelclaw_tasks.emit` check events, derive ids and know duplicates as in production. Delayed
    events and retries wait for `advance`. Pauses, limits and other controls do not apply, and a batch is one
    event: `fleet` has them. Handlers of type restate call nobody, and are done at once.
    """

    def __init__(self, registry: Registry, data_dir: Path, clock: Clock, http: httpx.Client) -> None:
        super().__init__()
        self.registry = registry
        self.data_dir = data_dir
        self.clock = clock
        self._ended_runs: list[Run] = []
        self._waiting: list[_Waiting] = []
        self._known: set[str] = set()
        self._running = False
        self._numbers = 0
        # All that an emitter asks of a store is `admit_many`.
        self.emitter = _InlineEmitter(
            Settings(data_dir=data_dir), registry, cast(Store, self), now_ms=clock.now_ms
        )
        self.emitter.record = self
        self.world = TestWorld(data_dir, self.emitter.emit, self.note_notification, http, clock)

    def emit(self, name: str, data: Mapping[str, Any], **options: Any) -> Receipt:
        """Emit an event and run its handlers, and those of what they emit; options as for `emit`."""
        return self.emitter.emit(name, data, **options)

    def advance(self, seconds: float | None = None) -> None:
        """Let time pass, and run what comes due, each at its time. None: until nothing waits."""
        target_ms = None if seconds is None else self.clock.now_ms() + int(seconds * 1000)
        while self._waiting and (target_ms is None or self._waiting[0].due_ms <= target_ms):
            self.clock.move_to(self._waiting[0].due_ms)
            self.run_due()
        if target_ms is not None:
            self.clock.move_to(target_ms)

    def run_due(self) -> None:
        """Run everything whose time has come, what is emitted meanwhile included, in order."""
        if self._running:
            return  # a handler emits: its event waits until the handler is done
        self._running = True
        try:
            attempts = 0
            while self._waiting and self._waiting[0].due_ms <= self.clock.now_ms():
                if (attempts := attempts + 1) > _MOST_ATTEMPTS:
                    raise AssertionError(f"{attempts} attempts and no end: do handlers emit each other?")
                self._attempt(heapq.heappop(self._waiting))
        finally:
            self._running = False

    def admit_many(self, batches: Iterable[Sequence[Job]]) -> list[list[Word]]:
        """As the store's, without gates."""
        return [[self._admit(job) for job in jobs] for jobs in batches]

    def _admit(self, job: Job) -> Word:
        if job.id in self._known:
            return Word.DUPLICATE
        self._known.add(job.id)
        wire = argument_of(job.payload)
        self._put(_Waiting(job.due_ms, 0, job.id, job.handler, wire))
        return Word.SCHEDULED if job.due_ms > self.clock.now_ms() else Word.ADMITTED

    def _put(self, waiting: _Waiting) -> None:
        self._numbers += 1
        waiting.number = self._numbers
        heapq.heappush(self._waiting, waiting)

    def _attempt(self, job: _Waiting) -> None:
        handler = self.registry.handler(job.handler)
        event = Event.from_wire(job.wire)
        is_batch = handler.rules is not None and handler.rules.batch is not None
        job.attempt += 1
        try:
            result = self._run(handler, [event] if is_batch else event)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is its failure
            self._failed(job, error, handler.retries)
        else:
            self._note(job, "completed", result=result)

    def _run(self, handler: HandlerSpec, given: Any) -> Any:
        if handler.restate is not None:
            return {"restate": handler.target, "mode": handler.restate.mode}
        function: Callable[[Any, Deps], Any] = load_target(handler.target)
        return function(given, self.world)

    def _failed(self, job: _Waiting, error: Exception, retries: RetrySpec) -> None:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, PermanentFailure) or job.attempt > retries.max:
            self._note(job, "discarded", error=text)
            return
        retry_in_s = min(retries.cap_s, retries.base_s * 2.0 ** (job.attempt - 1))
        self._note(job, "retried", error=text, retry_in_s=retry_in_s)
        job.due_ms = self.clock.now_ms() + int(retry_in_s * 1000)
        self._put(job)

    def _note(self, job: _Waiting, outcome: Outcome, **more: Any) -> None:
        self._ended_runs.append(Run(job.handler, job.job_id, outcome, job.attempt, job.wire["data"], **more))

    def _runs(self) -> Sequence[Run]:
        return self._ended_runs


class _InlineEmitter(RecordingEmitter):
    record: Inline

    def emit_many(self, events: Iterable[NewEvent]) -> list[Receipt]:
        receipts = super().emit_many(events)
        self.record.run_due()
        return receipts


@contextmanager
def inline(
    registry: Registry | Path | None = None,
    *,
    data_dir: Path | None = None,
    clock: Clock | None = None,
    http: httpx.Client | None = None,
) -> Iterator[Inline]:
    """In this block, whatever is emitted runs its handlers at once.

    `registry` is one, or its directory (None: the one that the settings name). `data_dir` (None: one that
    is deleted afterwards), `http` and `clock` are what handlers are given. Raises AssertionError at the end
    for jobs that were discarded and not expected by `assert_discarded`.
    """
    with surroundings(data_dir, http) as (folder, client):
        record = Inline(registry_of(registry), folder, clock or Clock(), client)
        with emitting_with(record.emitter):
            yield record
        record.check()
