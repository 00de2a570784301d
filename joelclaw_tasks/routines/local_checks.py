"""Checks of what every fleet rests on: Redis, disk, beat, workers; and whatever function somebody names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import redis

from joelclaw_tasks.address import Address
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.pace import Pace
from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.core.workers import read_workers
from joelclaw_tasks.routines.finding import STATUSES, Finding
from joelclaw_tasks.routines.health import check_redis

_DISK_WARN_BYTES, _DISK_LEAST_BYTES = 1 << 30, 100 << 20
#: An entry of beat that comes later than this is late; later than half its period, beat is as good as down.
_LATE_MS = 10_000


def redis_finding(asked: Mapping[str, Any]) -> Finding:
    """See check_redis."""
    with _client(asked) as client:
        found = check_redis(client)
    return Finding(found.status, found.detail, found.latency_ms)


def check_disk(asked: Mapping[str, Any]) -> Finding:
    """Room under each of `paths`; of one that is not there yet, where it would be."""
    least, where = None, ""
    for path in map(Path, asked["paths"]):
        place = path.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if least is None or free < least:
            least, where = free, str(place)
    assert least is not None
    said = f"has {least / (1 << 30):.1f} GiB free under {where}"
    if least < _DISK_LEAST_BYTES:
        return Finding("down", said)
    return Finding("degraded" if least < _DISK_WARN_BYTES else "healthy", said)


def check_beat(asked: Mapping[str, Any]) -> Finding:
    """How long after it was due this very look was sent, and how long after that it started."""
    with _client(asked) as client:
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
    with _client(asked) as client:
        workers = read_workers(client, Keys(asked["key_prefix"]), Pace())
    unserved = [queue for queue in asked["queues"] if not any(worker.serves(queue) for worker in workers)]
    if unserved:
        return Finding("down", f"are missing for {', '.join(unserved)}: what is admitted there waits")
    return Finding("healthy", f"serve every queue ({len(workers)} alive)")


def check_python(asked: Mapping[str, Any]) -> Finding:
    """What the function says: None is healthy, a text is its detail; or (status, detail)."""
    module, _, name = asked["target"].partition(":")
    began = time.monotonic()
    said = getattr(import_module(module), name)()
    ms = (time.monotonic() - began) * 1_000
    pair: Any = said if isinstance(said, tuple | list) and len(said) == 2 else ("healthy", said)
    status, detail = pair
    if status not in STATUSES or not isinstance(detail, str | None):
        raise TypeError("the function must answer None, a text, or (status, text)")
    return Finding(status, redacted(detail or f"is {status}", secrets_of())[:300], ms)


def _client(asked: Mapping[str, Any]) -> redis.Redis:
    timeout_s = asked["timeout_s"]
    return Address.parse(asked["redis_url"]).client(
        socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )
