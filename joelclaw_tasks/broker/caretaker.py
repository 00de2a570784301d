"""Caretaker: what one worker or another must do for all, now and then."""

from __future__ import annotations

import random
import threading
import time

import redis
from kombu.log import get_logger

from joelclaw_tasks.core.promises import EVICTION_FIX, read_promises
from joelclaw_tasks.core.store import Store

TRIM_INTERVAL_S = 60.0
logger = get_logger(__name__)


class Caretaker:
    """Trims the dead letter, tells callers of jobs whose worker died, warns of a Redis that may evict.

    Every worker has one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trim_at = 0.0
        self._look_at = 0.0
        self._judge_at = 0.0
        self._may_evict = False
        self._telling: threading.Thread | None = None

    def look(self, *, soon: bool = False) -> None:
        """Do what is due; `soon`: a worker was found dead just now. Raises CoreUnreachable."""
        now = time.monotonic()
        if now >= self._trim_at:
            goes_on = self._store.trim_dead() > 0
            # Not all workers at once; and at once again while there is more.
            self._trim_at = now + (0.0 if goes_on else TRIM_INTERVAL_S * random.uniform(0.8, 1.2))  # noqa: S311
        if soon or now >= self._look_at:
            self._look_at = now + self._store.lease_ms / 3000
            self._tell_callers()
        if now >= self._judge_at:
            self._judge_at = now + self._store.lease_ms / 1000
            self._warn_of_eviction()

    def _warn_of_eviction(self) -> None:
        """No worker starts on such a Redis, but somebody may change it later."""
        try:
            promises = read_promises(self._store.client)
        except redis.exceptions.NoPermissionError:
            return  # the worker said at its start that it cannot ask
        if promises.may_evict and not self._may_evict:
            logger.warning(
                "Redis may evict accepted work: its maxmemory-policy is %s now. %s",
                promises.eviction_policy,
                EVICTION_FIX,
            )
        elif self._may_evict and not promises.may_evict:
            logger.warning("Redis evicts nothing any more")
        self._may_evict = promises.may_evict

    def _tell_callers(self) -> None:
        store = self._store
        is_busy = self._telling is not None and self._telling.is_alive()
        if is_busy or not store.client.exists(store.keys.orphans):
            return
        # Celery's worker takes long to import, and few workers ever die.
        from joelclaw_tasks.broker.orphans import tell_callers

        # A result backend may take its time, and leases must be renewed meanwhile.
        self._telling = threading.Thread(
            target=tell_callers, args=(store,), name="joelclaw-orphans", daemon=True
        )
        self._telling.start()
