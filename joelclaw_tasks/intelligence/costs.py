"""Costs: what the models were paid, out of the ledger, by tier, family and day, and what was saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any

from joelclaw_tasks.core.spending import AccountDay, Spending
from joelclaw_tasks.intelligence.decision import Usage
from joelclaw_tasks.registry_tiers import NANO_USD, Prices, TierSpec

_TOKENS = Usage.__slots__
#: Counts of an account that are no reason of a fallback.
_OTHER_COUNTS = frozenset(
    {"calls", "answered", "batch_calls"}
    | {f"{kind}{name}_tokens" for kind in ("", "batch_") for name in _TOKENS}
)


def cost_report(spending: Spending, tiers: Mapping[str, TierSpec], days: int) -> dict[str, Any]:
    """The last days, today (UTC) included, newest first; money in US dollars. Raises CoreUnreachable.

    `calls` are those with a known price. `held_usd` is set aside for calls on their way, or for calls whose
    price nobody learned. What cache and batches saved is reckoned with the prices of today.
    """
    found = spending.days(days)
    others = {name for accounts in found.values() for name in accounts} - set(tiers)
    names = [*tiers, *sorted(others)]
    by_tier = [_tier(name, tiers.get(name), found) for name in names]
    families: Counter[str] = Counter()
    for accounts in found.values():
        for account in accounts.values():
            families.update(account.shares)
    return {
        "days": days,
        "from": min(found).isoformat(),
        "until": max(found).isoformat(),
        "cost_usd": _usd(sum(account.cost_nano_usd for each in found.values() for account in each.values())),
        "held_usd": _usd(sum(account.held_nano_usd for each in found.values() for account in each.values())),
        "saved_by_cache_usd": round(sum(tier["saved_by_cache_usd"] for tier in by_tier), 9),
        "saved_by_batch_usd": round(sum(tier["saved_by_batch_usd"] for tier in by_tier), 9),
        "tiers": by_tier,
        "families": [{"family": name, "cost_usd": _usd(cost)} for name, cost in families.most_common()],
        "by_day": [
            {
                "day": day.isoformat(),
                "cost_usd": _usd(sum(account.cost_nano_usd for account in accounts.values())),
                "held_usd": _usd(sum(account.held_nano_usd for account in accounts.values())),
            }
            for day, accounts in found.items()
        ],
    }


def spent_today(spending: Spending) -> dict[str, int]:
    """What counts against the budgets of today, by tier, in nano-USD. Raises CoreUnreachable."""
    [accounts] = spending.days(1).values()
    return {name: account.cost_nano_usd + account.held_nano_usd for name, account in accounts.items()}


def _tier(name: str, tier: TierSpec | None, found: Mapping[date, Mapping[str, AccountDay]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    cost = held = 0
    for accounts in found.values():
        account = accounts.get(name, AccountDay())
        counts.update(account.counts)
        cost, held = cost + account.cost_nano_usd, held + account.held_nano_usd
    usage = Usage(**{each: counts[f"{each}_tokens"] for each in _TOKENS})
    batched = Usage(**{each: counts[f"batch_{each}_tokens"] for each in _TOKENS})
    prices = None if tier is None else tier.prices
    by_cache = _saved_by_cache(usage, prices) + _saved_by_cache(batched, prices and prices.halved())
    today = next(iter(found.values())).get(name, AccountDay())
    return {
        "tier": name,
        "model": tier and tier.model,
        "cost_usd": _usd(cost),
        "held_usd": _usd(held),
        "today_usd": _usd(today.cost_nano_usd + today.held_nano_usd),
        "daily_budget_usd": tier and _usd(tier.daily_budget_nano_usd),
        "calls": counts["calls"],
        "answered": counts["answered"],
        "fallbacks": {reason: n for reason, n in sorted(counts.items()) if reason not in _OTHER_COUNTS and n},
        "batch_calls": counts["batch_calls"],
        "tokens": {name: number + batched.to_wire()[name] for name, number in usage.to_wire().items()},
        "saved_by_cache_usd": _usd(by_cache),
        "saved_by_batch_usd": _usd(_saved_by_batch(batched, prices)),
    }


def _saved_by_cache(usage: Usage, prices: Prices | None) -> int:
    if prices is None:
        return 0
    without = Usage(input=usage.input + usage.cache_write + usage.cache_read, output=usage.output)
    return without.cost_nano_usd(prices) - usage.cost_nano_usd(prices)


def _saved_by_batch(usage: Usage, prices: Prices | None) -> int:
    return usage.cost_nano_usd(prices) - usage.cost_nano_usd(prices.halved()) if prices is not None else 0


def _usd(nano_usd: int) -> float:
    return nano_usd / NANO_USD
