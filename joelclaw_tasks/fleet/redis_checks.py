"""The doctor's checks of Redis: which one every part talks to, and what it promises."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from joelclaw_tasks.address import Address, without_password
from joelclaw_tasks.core.promises import ServerPromises
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.fleet.check import Check, fail, ok, warn
from joelclaw_tasks.fleet.redis_policy import ask

_CLOCK_SKEW_WARN_MS = 1_000
_EVICTION_FIX = "Run `CONFIG SET maxmemory-policy noeviction` on it, and put it into its configuration."
_APPEND_ONLY_FIX = "Run `CONFIG SET appendonly yes` on it, and put it into its configuration."


def same_redis_check(state: Mapping[str, Any] | None, env: Mapping[str, str]) -> Check:
    """Whether the running fleet and this shell mean the same Redis."""
    ours = env.get("REDIS_URL") or None
    fleet = str(state["redis_url"]) if state and state.get("redis_url") else None
    if fleet is None:
        detail = "nothing names a Redis" if ours is None else f"{without_password(ours)} (REDIS_URL)"
        return ok("which redis", detail)
    if ours is not None and ours != fleet:
        return warn(
            "which redis",
            f"the fleet uses {without_password(fleet)}, and REDIS_URL in this shell names "
            f"{without_password(ours)}; joelclaw commands follow the fleet, other programs the shell",
            "Unset REDIS_URL in this shell, or stop the fleet and start it again with this REDIS_URL.",
        )
    return ok("which redis", f"every part uses {without_password(fleet)}")


def redis_checks(url: str | None) -> Iterator[Check]:
    """Whether Redis answers and keeps what it accepts; its version; its clock."""
    if url is None:
        yield warn("redis", "no fleet runs here and REDIS_URL is not set", "Start one with `joelclaw up`.")
        return
    asked_at_ms = time.time() * 1000
    try:
        promises = ask(url)
    except CoreUnreachable as error:
        yield fail("redis", str(error), error.fix)
        return
    now_ms = time.time() * 1000
    yield ok("redis", f"{without_password(url)} answered in {now_ms - asked_at_ms:.0f} ms")
    yield _version_check(promises, url)
    if promises.eviction_policy == "noeviction":
        yield ok("eviction", "noeviction")
    else:
        yield fail("eviction", f"{promises.eviction_policy}: accepted work may be evicted", _EVICTION_FIX)
    if promises.append_only:
        yield ok("append-only file", "on")
    else:
        yield warn("append-only file", "off: what it accepted is lost when it stops", _APPEND_ONLY_FIX)
    # Its answer was made somewhere between asking and now.
    skew_ms = max(promises.now_ms - now_ms, asked_at_ms - promises.now_ms, 0)
    if skew_ms > _CLOCK_SKEW_WARN_MS:
        yield warn(
            "clock",
            f"Redis and this machine differ by {skew_ms / 1000:.1f} s",
            "Synchronise both clocks (NTP).",
        )
    else:
        yield ok("clock", f"within {_CLOCK_SKEW_WARN_MS} ms of Redis")


def _version_check(promises: ServerPromises, url: str) -> Check:
    version = f"{promises.flavour} {'.'.join(map(str, promises.version))}"
    if promises.version < (6, 2, 0):
        return fail("redis version", f"{version} is too old", "Use Redis or Valkey 6.2 or newer.")
    if not promises.has_lua_hole:
        return ok("redis version", version)
    hole = f"{version} has a known hole in its scripting (CVE-2025-49844)"
    if Address.parse(url).is_on_this_machine:
        hole += ": fine on loopback behind a password, not on a network"
    return warn("redis version", hole, "Upgrade to 6.2.20, 7.2.11, 7.4.6, 8.0.4, 8.2.2 or newer.")
