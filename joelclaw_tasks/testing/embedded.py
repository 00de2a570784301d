"""fleet: a worker in this process on a Redis of its own. Everything is as in production but the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

from joelclaw_tasks.admission import limits_of, rates_of
from joelclaw_tasks.broker.router import PriorityRouter
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import emitting_with
from joelclaw_tasks.fleet.task import add_handler_task
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from joelclaw_tasks.testing.clock import Clock
from joelclaw_tasks.testing.record import Outcome, Record, RecordingEmitter, Run
from joelclaw_tasks.testing.server import redis_server
from joelclaw_tasks.testing.worker import LEASE_MS, borrowed, working
from joelclaw_tasks.testing.world import TestWorld, registry_of, surroundings

_ENDS: dict[str, Outcome] = {
    "completed": "completed",
    "discarded": "discarded",
    "cancelled": "cancelled",
    "retryable": "retried",
}
_WAITS_FOR_CLOCK = (State.SCHEDULED, State.RETRYABLE, State.HELD, State.AVAILABLE)
#: More steps than this in one `advance`: a job comes back for ever.
_MOST_STEPS = 10_000


class Fleet(Record):
    """A running worker and its Redis. `queue` is what operators have, `app` the Celery app, `store` the core.

    The clock stands still: what waits for it runs when the test calls `advance`.
    """

    def __init__(
        self, app: Celery, settings: Settings, registry: Registry, clock: Clock, queues: Iterable[str]
    ) -> None:
        super().__init__()
        self.app = app
        self.url = str(settings.redis_url)
        self.registry = registry
        self.clock = clock
        self.data_dir = settings.files_dir
        self.queues = tuple(queues)
        self.store = Store.connect(settings, now_ms=clock.now_ms)
        self.queue = Queue(self.store, settings, actor="test")
        self.emitter = _TickingEmitter(settings, registry, self.store, now_ms=clock.now_ms)
        self.emitter.record = self
        self._last_runs: list[Run] | None = None  # once its Redis is gone

    def emit(self, name: str, data: Mapping[str, Any], **options: Any) -> Receipt:
        """Emit an event, with the options of `emit`; a worker thread runs its handlers."""
        return self.emitter.emit(name, data, **options)

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Return once nothing runs and nothing can start before the clock moves or a gate opens.

        Raises AssertionError, which names what still runs, after `timeout_s` seconds of real time.
        """
        deadline = time.monotonic() + timeout_s
        self.wake()
        while busy := self._busy():
            if time.monotonic() > deadline:
                raise AssertionError(f"not idle within {timeout_s:g} s: {busy}")
            time.sleep(0.002)

    def advance(self, seconds: float | None = None, *, timeout_s: float = 10.0) -> None:
        """Let time pass, and wait for what comes due, each at its time. None: until nothing waits.

        What waits at a gate that no time opens stays where it is. `timeout_s` is for each step.
        """
        self.wait_idle(timeout_s)
        target_ms = None if seconds is None else self.clock.now_ms() + int(seconds * 1000)
        steps = 0
        while (due_ms := self._next_due_ms()) is not None and (target_ms is None or due_ms <= target_ms):
            if target_ms is None and not self._waiting():
                break
            if (steps := steps + 1) > _MOST_STEPS:
                raise AssertionError(f"{steps} steps and no end: does a job come back for ever?")
            self.clock.move_to(due_ms)
            self.wait_idle(timeout_s)
        if target_ms is not None:
            self.clock.move_to(target_ms)
            self.wait_idle(timeout_s)

    def wake(self) -> None:
        """Let the worker look at its queues and at the clock."""
        for queue in self.queues:
            self.store.client.lpush(self.store.keys.wake(queue), "1")

    def _busy(self) -> str:
        keys = self.store.keys
        pipe = self.store.client.pipeline()  # one moment: a job may leave one key for another
        pipe.hgetall(keys.counts)
        pipe.zcount(keys.timers, "-inf", self.clock.now_ms())
        for queue in self.queues:
            pipe.zcard(keys.ready(queue))
        counts, due, *ready = pipe.execute()
        executing = {
            field.decode().partition("\n")[2].rsplit("|", 2)[0]: int(jobs)
            for field, jobs in counts.items()
            if field.endswith(b"|executing") and int(jobs) > 0
        }
        reasons = []
        if executing:
            reasons.append("running: " + ", ".join(f"{jobs} of {name}" for name, jobs in executing.items()))
        if sum(ready):
            reasons.append(f"{sum(ready)} lanes could start")
        if due:
            reasons.append(f"{due} timers are due")
        return "; ".join(reasons)

    def _next_due_ms(self) -> int | None:
        client: Any = self.store.client  # redis-py types every reply as str | bytes | None
        first = client.zrange(self.store.keys.timers, 0, 0, withscores=True)
        # Leases are the last timers of all, far away.
        due = [int(score) for _, score in first if score < self.clock.now_ms() + LEASE_MS / 2]
        return due[0] if due else None

    def _waiting(self) -> bool:
        by_state = self.store.snapshot()["by_state"]
        return any(by_state[state.value] for state in _WAITS_FOR_CLOCK)

    def close(self) -> None:
        """Note what ran, and leave Redis."""
        self._last_runs = list(self._runs())
        self.store.client.close()

    def _runs(self) -> Sequence[Run]:
        if self._last_runs is not None:
            return self._last_runs
        # A job that others were debounced into runs with the data of the last.
        data = {job.into or job.job_id: one.data for one in self.emitted() for job in one.receipt.jobs}
        runs = []
        for entry in self.store.history.read():
            retried = entry.verb == Verb.RETRY and entry.to_state != ""
            outcome = "retried" if retried else _ENDS.get(entry.to_state)
            if outcome is None or not entry.job:
                continue
            due_at = (entry.number("due_at") or entry.at) if retried else None
            runs.append(
                Run(
                    entry.text("handler"),
                    entry.job,
                    outcome,
                    entry.number("attempt") or 0,
                    data.get(entry.job),
                    error=entry.text("reason"),
                    retry_in_s=None if due_at is None else (due_at - entry.at) / 1000,
                )
            )
        return runs


class _TickingEmitter(RecordingEmitter):
    record: Fleet

    def emit_many(self, events: Iterable[NewEvent]) -> list[Receipt]:
        self.record.clock.tick()  # jobs of one time would run in the order of their ids
        return super().emit_many(events)


@contextmanager
def fleet(
    registry: Registry | Path | None = None,
    *,
    app: Celery | None = None,
    queues: Iterable[str] = (),
    concurrency: int = 4,
    data_dir: Path | None = None,
    clock: Clock | None = None,
    http: httpx.Client | None = None,
) -> Iterator[Fleet]:
    """In this block, a worker runs the handlers of a registry, or the tasks of a Celery `app`.

    `registry` is one, or its directory (None: the one that the settings name). An `app` of yours is
    borrowed: its broker is the test's until the end. `queues` are consumed beside those of the registry and
    the app's own. One fleet at a time in a process. Raises AssertionError at the end for jobs that were
    discarded and not expected by `assert_discarded`, and FleetError when this machine has no Redis server.
    """
    known, clock = registry_of(registry), clock or Clock()
    with surroundings(data_dir, http) as (folder, client), redis_server() as url:
        settings = Settings(redis_url=url, data_dir=folder, lease_ms=LEASE_MS)
        own = Celery("joelclaw_testing", set_as_current=False) if app is None else app
        with borrowed(own, url, clock, settings):
            consumed = {own.conf.task_default_queue, *own.amqp.queues.consume_from, *queues}
            if app is None:
                consumed |= known.queues
            running = Fleet(own, settings, known, clock, sorted(consumed))
            if app is None:
                world = TestWorld(folder, running.emitter.emit, running.note_notification, client, clock)
                own.conf.task_routes = (PriorityRouter(settings, known),)
                for handler in known.handlers.values():
                    add_handler_task(own, handler, lambda: world)
                running.store.limit(limits_of(known), actor="registry", reason="testing")
                running.store.rate(rates_of(known), actor="registry", reason="testing")
            with (
                closing(running),
                working(own, running.queues, concurrency, running.wake),
                emitting_with(running.emitter),
            ):
                yield running
            running.check()
