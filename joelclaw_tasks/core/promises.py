"""What a Redis server promises: version, eviction, append-only file. Read once, judged here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.errors import UnsafeRedis

#: First version of each release line that closes CVE-2025-49844 (a script may run code on the server).
LUA_FIXED = {(6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)}
_VALKEY_LUA_FIXED = {(7, 2): (7, 2, 11), (8, 0): (8, 0, 6), (8, 1): (8, 1, 4)}
EVICTION_FIX = "Run `CONFIG SET maxmemory-policy noeviction` on it, and put it into its configuration."


@dataclass(frozen=True, slots=True)
class ServerPromises:
    """The facts about a server that decide whether accepted work is safe on it."""

    flavour: str  # "redis" or "valkey"
    version: tuple[int, int, int]
    eviction_policy: str
    append_only: bool
    now_ms: int

    @property
    def has_lua_hole(self) -> bool:
        """Whether a known hole lets whoever may run scripts take over the server."""
        fixed = _VALKEY_LUA_FIXED if self.flavour == "valkey" else LUA_FIXED
        line = self.version[:2]
        return self.version < fixed[line] if line in fixed else line < max(fixed)

    @property
    def may_evict(self) -> bool:
        """Whether accepted work may be thrown away when memory is short."""
        return self.eviction_policy != "noeviction"

    def require_safe(self, place: str, *, may_evict: bool = False) -> None:
        """Raises UnsafeRedis when the server at `place` would evict accepted work, or is too old."""
        if self.may_evict and not may_evict:
            raise UnsafeRedis(
                f"Redis at {place} may evict accepted work: its maxmemory-policy is {self.eviction_policy}",
                fix=EVICTION_FIX,
            )
        if self.version < (6, 2, 0):
            text = ".".join(map(str, self.version))
            raise UnsafeRedis(f"Redis at {place} is version {text}", fix="Use Redis or Valkey 6.2 or newer.")


def read_promises(client: Any) -> ServerPromises:
    """Ask a server. Raises what redis-py raises."""
    facts = client.info()
    seconds, microseconds = client.time()
    is_valkey = "valkey_version" in facts
    version = str(facts["valkey_version" if is_valkey else "redis_version"]).split(".")
    major, minor, patch = (int(part) for part in (*version, "0", "0")[:3])
    return ServerPromises(
        flavour="valkey" if is_valkey else "redis",
        version=(major, minor, patch),
        eviction_policy=str(facts.get("maxmemory_policy", "unknown")),
        append_only=bool(int(facts.get("aof_enabled", 0))),
        now_ms=int(seconds) * 1000 + int(microseconds) // 1000,
    )
