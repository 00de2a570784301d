"""Checks of what Redis knows: how it is itself, whether beat is on time, whether workers live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from joelclaw_tasks.address import Address
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.workers import read_workers
from joelclaw_tasks.routines.finding import Finding, NoAnswer
from joelclaw_tasks.routines.health import check_redis

#: An entry of beat that comes later than this is late; later than half its period, beat is as good as down.
_LATE_MS = 10_000


def check_server(asked: Mapping[str, Any]) -> Finding:
    """See check_redis."""
    with _asking(asked) as client:
        found = check_redis(client)
    return Finding(found.status, found.detail, found.latency_ms)


def check_beat(asked: Mapping[str, Any]) -> Finding:
    """How long after it was due this very look was sent, and how long after that it started."""
    with _asking(asked) as client:
        known: Any = client.hget(Keys(asked["key_prefix"]).job(asked["look"]), "admitted_at")
    started_at, every_ms = asked["started_at"], asked["every_ms"]
    sent_at = min(started_at, int(known)) if known else started_at
    sent_ms = sent_at % every_ms  # beat's due times are a grid since the epoch
    waited_ms = started_at - sent_at
    said = f"sends {sent_ms / 1_000:.1f} s late, and a worker takes it {waited_ms / 1_000:.1f} s later"
    late_ms = sent_ms + waited_ms
    if late_ms > every_ms / 2:
        return Finding("down", said, late_ms)
    return Finding("degraded" if late_ms > _LATE_MS else "healthy", said, late_ms)


def check_workers(asked: Mapping[str, Any]) -> Finding:
    """A living worker for each of `queues`."""
    with _asking(asked) as client:
        workers = read_workers(client, Keys(asked["key_prefix"]), Pace())
    unserved = [queue for queue in asked["queues"] if not any(worker.serves(queue) for worker in workers)]
    if unserved:
        return Finding("down", f"are missing for {', '.join(unserved)}: what is admitted there waits")
    return Finding("healthy", f"serve every queue ({len(workers)} alive)")


@contextmanager
def _asking(asked: Mapping[str, Any]) -> Iterator[redis.Redis]:
    timeout_s = asked["timeout_s"]
    address = Address.parse(asked["redis_url"])
    try:
        with address.client(socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
            yield client
    except redis.RedisError as error:
        said = f"cannot be told: Redis does not answer ({type(error).__name__})"
        raise NoAnswer(Finding("unknown", said)) from None
