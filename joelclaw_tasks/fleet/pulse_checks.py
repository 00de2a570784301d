"""The doctor's check of the health pulse: whether anybody looks, and what is not healthy."""

from __future__ import annotations

from collections.abc import Iterator

from joelclaw_tasks.core.health import Health
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.check import Check, ok, warn
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings


def pulse_checks(settings: Settings, registry: Registry, *, fleet_runs: bool) -> Iterator[Check]:
    """What the pulse says, as one check. That nobody looks is worth a word only where a fleet runs."""
    store = Store.connect(settings)
    try:
        health = Health(store)
        now_ms = health.now_ms()
        known = health.checks(list(registry.checks)).values()
    finally:
        store.client.close()
    fresh = [each for each in known if not each.is_late(now_ms)]
    ill = [each for each in fresh if each.state not in ("healthy", "unknown") or each.status == "unknown"]
    if ill:
        said = "; ".join(f"{each.check} {each.detail}" for each in ill)
        yield warn("health pulse", said, "`joelclaw health` shows every check; docs/health.md explains them.")
    elif fresh:
        yield ok("health pulse", f"all healthy: {', '.join(each.check for each in fresh)}")
    elif known and fleet_runs:
        yield warn("health pulse", "nobody has looked lately", "Beat drives it: read logs/beat.log.")
