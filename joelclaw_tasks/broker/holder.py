"""Holder: what this process owns of the queue, whatever happens to its connections.

One per process and Redis. It outlives kombu's channels: a task that was running while the
connection broke still finishes under its lease, through here.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import redis
from kombu.log import get_logger

from joelclaw_tasks.broker.leases import LeaseKeeper
from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.reply import Claim
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Settling, Store
from joelclaw_tasks.errors import CoreUnreachable

logger = get_logger(__name__)

#: A Redis that is away when the process ends, as in a deploy of both, is waited for so long.
CLOSE_WITHIN_S = 3.0
#: More than a worker finishes in the second that an append-only file or a replica may lag behind.
TOLD_KEPT = 5_000

_holders: dict[tuple[int, str], Holder] = {}
_holders_guard = threading.Lock()


class Holder:
    """The leases of this process, and the finishes that are on their way to Redis."""

    def __init__(self, store: Store, keeper_client: redis.Redis) -> None:
        self.id = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.store = store
        self._held: set[str] = set()
        self._finished: deque[str] = deque()
        self._told: deque[str] = deque(maxlen=TOLD_KEPT)  # finishes that Redis has confirmed, the latest
        self._owed: deque[Callable[[], list[Word]]] = deque()  # what Redis could not be told
        self._guard = threading.Lock()
        self._flushing = threading.Lock()
        self._uncertain = False  # a claim may have leased jobs that nobody here knows
        self._under_way = 0  # exchanges whose answer is not read yet
        self._keeper = LeaseKeeper(self.id, store, keeper_client, _hear_of_asked, self.doubt)
        self._keeper.start()

    def serves(self, queues: Iterable[str], slots: int) -> None:
        """Say which queues this process consumes, and how many jobs it runs at once (0: unknown)."""
        self._keeper.tell(list(queues), slots)

    def finish(self, tag: str) -> None:
        """Note a finished job; `exchange` tells Redis."""
        self._finished.append(tag)

    def has_finished(self) -> bool:
        """Whether finished jobs wait for the next `exchange`."""
        return bool(self._finished or self._owed)

    def exchange(
        self, queues: Sequence[str] = (), most: int = 0, inboxes: Sequence[tuple[str, str]] = ()
    ) -> Claim:
        """Tell Redis what finished and claim up to `most` more, in one round trip.

        Raises CoreUnreachable; then nothing is lost: finishes are told again, and jobs whose claim
        never reached us are given back by a later exchange.
        """
        return self.begin_exchange(queues, most, inboxes).end()

    def begin_exchange(
        self, queues: Sequence[str] = (), most: int = 0, inboxes: Sequence[tuple[str, str]] = ()
    ) -> Exchange:
        """`exchange`, without waiting for the answer: `end` it when its socket is readable."""
        with self._guard:
            if self._owed:
                self._pay_owed()
            if self._uncertain and not self._under_way:
                self._give_back_unknown()
            finished = []
            while self._finished:
                finished.append(self._finished.popleft())
            try:
                settling = self.store.begin_settle(finished, queues, most, self.id, inboxes)
            except BaseException:
                self._finished.extendleft(reversed(finished))
                raise
            self._under_way += 1
            return Exchange(self, settling, finished, most)

    def _end_exchange(self, exchange: Exchange) -> Claim:
        try:
            words, claim = exchange.settling.answer()
        except BaseException:
            with self._guard:
                self._under_way -= 1
                self._uncertain = self._uncertain or exchange.most > 0
                self._finished.extendleft(reversed(exchange.finished))
            raise
        with self._guard:
            self._under_way -= 1
            for job in claim.jobs:
                self._held.add(job.tag)
            self._held.difference_update(exchange.finished)
            self._told.extend(exchange.finished)
        lost = words.count(Word.LEASE_LOST)
        if lost:
            logger.warning("%d finished job(s) had lost their lease: another worker runs them", lost)
        return claim

    def flush(self) -> None:
        """Tell Redis what finished, now; what cannot be told is kept for the next exchange.

        One at a time: a hundred greenlets that finish at once need not have a connection each. Whoever comes
        meanwhile leaves it to the one that is at it.
        """
        while self.has_finished() and self._flushing.acquire(blocking=False):
            try:
                self.exchange()
            except CoreUnreachable as error:
                logger.warning("finished jobs are told to Redis later: %s", error)
                return
            finally:
                self._flushing.release()

    def release(self, tags: Sequence[str], *, reason: str, killed: bool = False) -> list[Word]:
        """Give jobs back to their lanes; DISCARDED for one that was killed once too often.

        When Redis does not answer it is told later, as by `discard`; then the answer is empty.
        """
        return self._tell(tags, lambda: self.store.release(tags, reason=reason, killed=killed))

    def discard(self, tag: str, failure: Failure) -> None:
        """Send a failed job to the dead letter."""
        self._tell([tag], lambda: [self.store.discard(tag, failure)])

    def put_right(self, tag: str, successor: Job, *, reason: str) -> None:
        """Let a job that has not started go on as what it should have been from the beginning."""
        successor.lease_tag = tag

        def move() -> list[Word]:
            self.store.retry(successor)
            return self.store.release([tag], reason=reason)

        self._tell([tag], move)

    def _tell(self, tags: Sequence[str], verb: Callable[[], list[Word]]) -> list[Word]:
        # A lease that nobody ends would be renewed for as long as this process lives.
        with self._guard:
            self._held.difference_update(tags)
        try:
            return verb()
        except CoreUnreachable as error:
            logger.warning("%d job(s) are given back or discarded later: %s", len(tags), error)
            self._owed.append(verb)
            return []

    def _pay_owed(self) -> None:
        while self._owed:
            self._owed[0]()  # told twice, it changes nothing: the tag has lost its lease
            self._owed.popleft()

    def owns(self, tag: str) -> bool:
        """Whether this delivery tag is a lease of ours."""
        return tag in self._held

    def close(self, patience_s: float = CLOSE_WITHIN_S) -> None:
        """At process exit: tell what finished, give back the rest, end the keeper.

        A Redis that does not answer is asked again for `patience_s`: what is not given back waits until its
        lease expires, and counts as killed then.
        """
        if os.getpid() != int(self.id.partition("-")[0]):
            return  # a forked child: the leases are its parent's
        self._keeper.stop()
        self._keeper.join(2)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._give_back_all()
                return
            except (CoreUnreachable, redis.RedisError) as error:
                if time.monotonic() > deadline:
                    logger.warning("could not give back running jobs at exit: %s", error)
                    return
            time.sleep(random.uniform(0.1, 0.3))  # noqa: S311  # jitter

    def _give_back_all(self) -> None:
        self.exchange()
        remaining = self.store.held_by(self.id)
        self.store.release(remaining, reason="worker stopped")
        self.store.expire([self.id], reason="worker stopped")  # holds nothing now: only its record goes

    def doubt(self) -> None:
        """Another server answers, or the same after a restart: it may not know the last that it was told.

        The next exchange tells it again. Without that, a job that finished here would stay leased to us.
        """
        with self._guard:
            self._uncertain = True

    def _give_back_unknown(self) -> None:
        # What is still owed is in Redis, and not ours any more: `_pay_owed` comes first.
        unknown = [tag for tag in self.store.held_by(self.id) if tag not in self._held]
        told = set(self._told)
        self.store.complete([tag for tag in unknown if tag in told])
        self.store.release([tag for tag in unknown if tag not in told], reason="claim reply lost")
        self._uncertain = False


class Exchange:
    """An exchange whose answer is not read yet."""

    def __init__(self, holder: Holder, settling: Settling, finished: list[str], most: int) -> None:
        self._holder = holder
        self.settling = settling
        self.finished = finished
        self.most = most

    def fileno(self) -> int:
        """The socket that becomes readable when the answer arrives."""
        return self.settling.fileno()

    def give_up(self, since: float) -> None:
        """End its connection, silent since then (monotonic seconds): `end` then fails at once."""
        self.settling.give_up(since)

    def end(self) -> Claim:
        """Wait for the answer; call it once. Raises CoreUnreachable, as `exchange` does."""
        return self._holder._end_exchange(self)


def holder_for(name: str, make: Callable[[], Holder]) -> Holder:
    """The holder of this process for a Redis, made once. `name` tells one Redis from another."""
    key = (os.getpid(), name)
    with _holders_guard:
        if key not in _holders:
            _holders[key] = make()
            atexit.register(_holders[key].close)
        return _holders[key]


def end_holder(holder: Holder) -> None:
    """Close a holder before the process ends: its Redis goes away, and another may come in its place."""
    with _holders_guard:
        for key in [key for key, known in _holders.items() if known is holder]:
            del _holders[key]
    atexit.unregister(holder.close)
    holder.close()


def _hear_of_asked(holder: str, tags: list[str]) -> None:
    # Celery's worker takes long to import, and few processes are ever asked to stop a job.
    if tags or "joelclaw_tasks.broker.cancelling" in sys.modules:
        from joelclaw_tasks.broker.cancelling import stop

        stop(holder, tags)
