"""The health pulse. Its first check: the Redis that everything rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis

Status = Literal["healthy", "degraded", "down"]
#: Above this share of maxmemory the next burst may be refused.
_MEMORY_WARN_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, in plain words. `latency_ms` is None when nothing answered."""

    name: str
    status: Status
    detail: str
    latency_ms: float | None = None

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def check_redis(client: redis.Redis) -> Check:
    """Ping, memory, append-only file and eviction policy of one server."""
    try:
        info: dict[str, Any] = client.info()
        before = client.time()
        after = client.time()
    except redis.RedisError as error:
        return Check("redis", "down", f"does not answer: {type(error).__name__}")
    micros = (after[0] - before[0]) * 1_000_000 + after[1] - before[1]
    faults = []
    if info.get("maxmemory_policy") != "noeviction":
        faults.append(f"may evict accepted work (maxmemory-policy {info.get('maxmemory_policy')})")
    if not int(info.get("aof_enabled", 0)):
        faults.append("keeps nothing over a restart (appendonly is off)")
    if info.get("aof_last_write_status", "ok") != "ok":
        faults.append("could not write its append-only file")
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used > most * _MEMORY_WARN_SHARE:
        faults.append(f"uses {used * 100 // most} % of its memory limit")
    if faults:
        return Check("redis", "degraded", "; ".join(faults), micros / 1000)
    return Check("redis", "healthy", f"{used // 1_048_576} MiB used", micros / 1000)
