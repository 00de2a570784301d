"""Bench: what a process needs to play worlds: a Redis, a registry, and models behind a local API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.evaluation.family import write_registry
from joelclaw_tasks.evaluation.play import Stage
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_tiers import NANO_USD, TierSpec
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.server import redis_server

#: No real money, and no real haste: a scripted model may always be asked, however busy the machine is.
_ENOUGH, PATIENCE_MS = 10**9 * NANO_USD, 300_000


@dataclass(frozen=True, slots=True)
class Bench:
    """`scripted` asks the local `api`; `live` the real one, None unless it is wanted.

    Each has its own ledger, on a database that no world empties.
    """

    stage: Stage
    api: MessagesApi
    scripted: ModelClient
    live: ModelClient | None
    _ledgers: Mapping[str, Store]

    def cost_usd(self, name: str) -> float:
        """What the calls of `scripted` or `live` have cost, by the prices of the registry."""
        today = Spending(self._ledgers[name]).days(2)
        return sum(account.cost_nano_usd for day in today.values() for account in day.values()) / NANO_USD


@contextmanager
def open_bench(settings: Settings, *, live: bool = False) -> Iterator[Bench]:
    """A bench as long as the block lasts. `settings`: whose registry names the live models, and whose key.

    Raises FleetError when there is no Redis server binary, RegistryError and SettingsError.
    """
    shipped = Registry.load(Settings().registry_dir).tiers
    with redis_server() as url, MessagesApi() as api, TemporaryDirectory(prefix="joelclaw-eval-") as folder:
        registry_dir = Path(folder) / "registry"
        registry = write_registry(registry_dir)
        own = Settings(redis_url=url, registry_dir=registry_dir, home=Path(folder))
        base, _, _ = url.rpartition("/")
        ledgers = {
            name: Store.connect(replace(own, redis_url=f"{base}/{number}"))
            for number, name in enumerate(("scripted", "live"), 1)
        }
        scripted = ModelClient(
            _unbounded(shipped), Spending(ledgers["scripted"]), Credentials("local"), base_url=api.url
        )
        real = None
        if live:
            real = ModelClient.connect(settings, Registry.load(settings.registry_dir), ledgers["live"])
        stage = Stage(own, registry)
        try:
            yield Bench(stage, api, scripted, real, ledgers)
        finally:
            scripted.close()
            if real is not None:
                real.close()
            for store in ledgers.values():
                store.client.close()


def _unbounded(tiers: Mapping[str, TierSpec]) -> dict[str, TierSpec]:
    return {
        name: replace(tier, daily_budget_nano_usd=_ENOUGH, timeout_ms=PATIENCE_MS)
        for name, tier in tiers.items()
    }
