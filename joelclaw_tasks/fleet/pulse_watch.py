"""Looks whether anybody looks: beat drives the health pulse, and a beat that is dead says nothing of itself.

Each worker has a thread for it. When no check has looked for five periods, what is kept of the check `beat`
is a look that found it down; so people are told as of any other check, once, whichever worker sees it. The
next look of the check itself, which beat sends, says that it is well again.
"""

from __future__ import annotations

import threading
from typing import Any

from celery.bootsteps import StartStopStep
from kombu.log import get_logger

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.pulse import STILL_PERIODS, Pulse, stand_still
from joelclaw_tasks.settings import Settings

logger = get_logger(__name__)

#: Between two looks of one worker.
_LOOK_EVERY_S = 60.0


def pulse_watch_step(settings: Settings, registry: Registry) -> type[StartStopStep]:
    """A step for the consumer of a Celery app, which watches for as long as it consumes."""

    class Watch(StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **kwargs: Any) -> None:
            self._thread: PulseWatch | None = None
            super().__init__(consumer, **kwargs)

        def start(self, consumer: Any) -> None:  # noqa: ARG002
            """With each connection a new one."""
            if "beat" in registry.checks and registry.checks["beat"].enabled:
                # Not at once: when the whole fleet starts, beat has not sent anything yet.
                first_after_s = STILL_PERIODS * registry.checks["beat"].every_ms / 1_000
                self._thread = PulseWatch(settings, registry, first_after_s)
                self._thread.start()

        def stop(self, consumer: Any) -> None:  # noqa: ARG002
            """The worker stops, or connects anew."""
            if self._thread is not None:
                self._thread.stop()

        shutdown = terminate = stop

    return Watch


class PulseWatch(threading.Thread):
    """Looks every minute, the first time after `first_after_s` seconds, until `stop`."""

    def __init__(self, settings: Settings, registry: Registry, first_after_s: float) -> None:
        super().__init__(name="joelclaw-pulse-watch", daemon=True)
        self._settings, self._registry, self._first_after_s = settings, registry, first_after_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def run(self) -> None:
        """Look until stopped. Connects when it first looks, and waits for Redis a short time."""
        pulse: Pulse | None = None
        wait_s = self._first_after_s
        while not self._stopped.wait(wait_s):
            wait_s = _LOOK_EVERY_S
            try:
                if pulse is None:
                    store = Store.connect(self._settings, timeout_s=2.0)
                    notifier = Notifier.of(self._settings, store)
                    pulse = Pulse(self._settings, self._registry, store, notifier)
                if stand_still(pulse, self._registry):
                    logger.warning("no check of the health pulse has looked lately: beat is dead, or late")
            except CoreUnreachable:
                pass  # nobody can look
            except Exception as error:  # noqa: BLE001  # a watch that ends in silence is worse than a log line
                logger.error("the watch of the health pulse failed: %s", type(error).__name__)
