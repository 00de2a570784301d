"""Faults of Redis: stopped, killed, frozen, forgetful, full, allowed to evict."""

from __future__ import annotations

import signal
import time

from chaos.fault import Course, a_worker, fault, noted
from chaos.fleet import Fleet

#: Of these only one at a time: each needs Redis as it found it.
OF_REDIS = frozenset({"restart-redis", "kill-redis", "freeze-redis", "fill-memory", "evicting-policy"})
_REFUSES_WITHIN_S = 15.0
_LOADS_WITHIN_S = 120.0


@fault
def restart_redis(fleet: Fleet) -> Course:
    """SIGTERM, a second of nothing, and a start on the append-only file."""
    with noted(fleet, "restart-redis", everywhere=True):
        fleet.end_redis(signal.SIGTERM)
        yield 1.0
        yield from _started(fleet)
        yield 1.0  # until everybody is back
    return "redis"


@fault
def kill_redis(fleet: Fleet) -> Course:
    """SIGKILL, and a start on the append-only file."""
    with noted(fleet, "kill-redis", everywhere=True):
        fleet.end_redis(signal.SIGKILL)
        yield from _started(fleet)
        yield 1.0
    return "redis"


def _started(fleet: Fleet) -> Course:
    """Start it, and wait until it has read what it kept: after an hour of a flood that is a gigabyte."""
    fleet.start_redis()
    deadline = time.monotonic() + _LOADS_WITHIN_S
    while not fleet.redis_answers():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Redis has not read its append-only file within {_LOADS_WITHIN_S:.0f} s")
        yield 0.1


@fault
def freeze_redis(fleet: Fleet) -> Course:
    """SIGSTOP for three seconds."""
    with noted(fleet, "freeze-redis", everywhere=True):
        fleet.signal_redis(signal.SIGSTOP)
        yield 3.0
        fleet.signal_redis(signal.SIGCONT)
    return "redis"


@fault
def flush_scripts(fleet: Fleet) -> Course:
    """SCRIPT FLUSH, five times."""
    with noted(fleet, "flush-scripts"):
        for _ in range(5):
            fleet.flush_scripts()
            yield 0.1
    return "redis"


@fault
def fill_memory(fleet: Fleet) -> Course:
    """No memory left for two seconds: nothing more is accepted, and what runs comes to its end."""
    with noted(fleet, "fill-memory", everywhere=True):
        fleet.configure_redis("maxmemory", "1")
        yield 2.0
        fleet.configure_redis("maxmemory", "0")
        yield 1.0
    return "redis"


@fault
def evicting_policy(fleet: Fleet) -> Course:
    """Redis may evict, and a worker is started on it: it must refuse, until that is mended."""
    fleet.configure_redis("maxmemory-policy", "allkeys-lru")
    worker = yield from a_worker(fleet)
    first, deadline = worker.lives, time.monotonic() + _REFUSES_WITHIN_S
    with noted(fleet, "evicting-policy", worker, kills=True):
        worker.send(signal.SIGKILL, group=True)
        while "its maxmemory-policy is allkeys-lru" not in worker.log or worker.lives == first:
            if time.monotonic() > deadline:
                detail = f"{worker.name} did not refuse a Redis that may evict"
                fleet.record.note(
                    "broken", invariant="I1", code="EVICTION_ACCEPTED", subject="redis", detail=detail
                )
                break
            yield 0.1
    fleet.configure_redis("maxmemory-policy", "noeviction")
    return worker.name
