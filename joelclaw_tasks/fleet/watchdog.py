"""Watchdog: ends a worker that stands still while there is work for it; its supervisor starts it again.

A worker stands still when jobs are ready in its queues and, for `stall_s` on end, its event loop has not
turned, or it has free places and has not asked for work. What is paused, limited or waits for a rate is
parked, not ready, and a worker whose places are all taken still turns its loop: neither is a stall. A solo
worker is blocked by its own task, and is watched between tasks.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from time import monotonic
from typing import Any

from celery.bootsteps import StartStopStep
from kombu.log import get_logger
from opentelemetry import trace

from joelclaw_tasks.broker.running import give_back
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.settings import Settings

logger = get_logger(__name__)
_tracer = trace.get_tracer("joelclaw_tasks")

#: Exit code of a worker that ended itself because it stood still (EX_SOFTWARE).
STALLED = 70
#: So many looks make up `stall_s`; all of them must find the worker standing still.
_LOOKS = 9
#: So long it may take to give back what it holds; then that happens because its connection is gone.
_SETTLE_S = 3.0


def watchdog_step(settings: Settings) -> type[StartStopStep]:
    """A step for the consumer of a Celery app, which watches for as long as it consumes."""

    class Watch(StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **kwargs: Any) -> None:
            self._watchdog: Watchdog | None = None
            super().__init__(consumer, **kwargs)

        def start(self, consumer: Any) -> None:
            """Watch this connection's channel."""
            if settings.stall_s and consumer.task_consumer is not None:
                self._watchdog = Watchdog(consumer, settings)
                self._watchdog.start()

        def stop(self, consumer: Any) -> None:  # noqa: ARG002
            """The worker stops, or connects anew."""
            if self._watchdog is not None:
                self._watchdog.stop()

        shutdown = terminate = stop

    return Watch


class Watchdog(threading.Thread):
    """Looks nine times in `stall_s` whether the consumer of this process stands still, until `stop`."""

    def __init__(self, consumer: Any, settings: Settings) -> None:
        super().__init__(name="joelclaw-watchdog", daemon=True)
        self._consumer = consumer
        self._channel = consumer.task_consumer.channel
        self._stall_s = float(settings.stall_s)
        self._store = Store.connect(settings)
        self._stopped = threading.Event()
        self._turned_at = monotonic()
        self._is_solo = type(consumer.pool).__module__ == "celery.concurrency.solo"
        consumer.timer.call_repeatedly(min(1.0, self._stall_s / _LOOKS / 2), self._turn)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        """Look until stopped, or until the worker stands still."""
        looks = 0
        # Counted in looks, not by the clock: a process that was frozen as a whole looks again first.
        while not self._stopped.wait(self._stall_s / _LOOKS):
            try:
                looks = looks + 1 if self._stands_still() else 0
            except CoreUnreachable:
                looks = 0  # nobody can work
            if looks >= _LOOKS and not self._stopped.is_set():
                self._end()

    def _turn(self) -> None:
        self._turned_at = monotonic()

    def _stands_still(self) -> bool:
        silent_since = monotonic() - self._stall_s / _LOOKS - 1.0
        channel = self._channel
        if self._is_solo and channel.qos._delivered:
            return False
        is_hung = not self._is_solo and self._turned_at < silent_since
        asks_no_more = channel.qos.room() > 0 and channel.intake.look_again_at < silent_since
        return (is_hung or asks_no_more) and self._has_work()

    def _has_work(self) -> bool:
        store = self._store
        queues = list(self._channel.admitting)
        return any(store.ask(lambda: store.client.zcard(store.keys.ready(queue))) for queue in queues)  # noqa: B023

    def _end(self) -> None:
        """Say so, leave nothing behind that a living process could have finished, and go."""
        logger.critical(
            "this worker stood still for %g s while jobs were ready for it; it ends, to be started again",
            self._stall_s,
        )
        with _tracer.start_as_current_span("worker stalled") as span:
            span.set_attribute("joelclaw.stall_s", self._stall_s)
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(2_000)
        faulthandler.dump_traceback(2)  # where it hangs; lines of code only, no values
        # What hangs may hold any lock: this thread must not wait for one.
        settling = threading.Thread(target=self._settle, name="joelclaw-settle", daemon=True)
        settling.start()
        settling.join(_SETTLE_S)
        for process in getattr(getattr(self._consumer.pool, "_pool", None), "_pool", None) or ():
            if pid := getattr(process, "pid", None):
                os.kill(pid, signal.SIGKILL)  # they would go on with jobs that start elsewhere
        os._exit(STALLED)

    def _settle(self) -> None:
        """Tell what finished and give back what has not started. What runs counts as killed."""
        holder = self._channel._holder
        if holder is not None:
            self._store.complete(list(holder._finished))
            unstarted = give_back(tuple(self._channel.qos._delivered.items()))
            self._store.release([tag for tag in unstarted if holder.owns(tag)], reason="worker stood still")
