"""Spending: what was paid for, by day, account and cause; and a budget that is never exceeded.

Money is whole billionths of a US dollar (nano-USD), so that sums are exact. A hold takes the most that
something may cost out of the day's budget before it is ordered; `settle` puts the real price in its place.
What is never settled, because nobody learned its price, stays held until the day is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import redis

from joelclaw_tasks.core.store import Store

#: For how long a day is remembered.
KEEP_DAYS = 92
_KEEP_S = (KEEP_DAYS + 1) * 86_400
_DAY_MS = 86_400_000
_COMMITTED, _COST, _SHARE, _COUNT = "committed", "cost", "share", "count"


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside on one day's account."""

    day: int
    account: str
    nano_usd: int


@dataclass(slots=True)
class AccountDay:
    """What one account paid on one day. `held_nano_usd`: set aside, or of unknown price."""

    cost_nano_usd: int = 0
    held_nano_usd: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)


class Spending:
    """The ledger on the Redis of a store. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def hold(self, account: str, nano_usd: int, budget_nano_usd: int) -> Hold | None:
        """Set money aside; None when the budget of the day has not that much left.

        Of two that ask at once for the last of it, both may be refused, but never are both served.
        """
        hold = Hold(self._today(), account, nano_usd)
        if nano_usd > budget_nano_usd:
            return None  # not even tried, so that others are not refused for its sake
        if self._commit(hold, nano_usd) > budget_nano_usd:
            self._commit(hold, -nano_usd)
            return None
        return hold

    def release(self, hold: Hold) -> None:
        """Give the money back: nothing was bought."""
        self._commit(hold, -hold.nano_usd)

    def settle(
        self,
        hold: Hold,
        cost_nano_usd: int,
        *,
        counts: Mapping[str, int],
        causes: Mapping[str, int],
        once: tuple[str, str] | None = None,
    ) -> None:
        """Pay. `counts` are added to those of the account; the cost is shared among `causes` by their weight.

        Should the connection break just then, the cost may be counted twice, never lost. Not with `once`, a
        field of a hash that says that this was paid: whoever comes second pays nothing.
        """
        key, name = self._key(hold.day), hold.account

        def pay() -> None:
            pipe = self._client.pipeline(transaction=True)
            if once is not None:
                pipe.watch(once[0])
                if pipe.hexists(*once):
                    pipe.reset()
                    return
                pipe.multi()
                pipe.hset(*once, 1)
            pipe.hincrby(key, f"{name}|{_COMMITTED}", cost_nano_usd - hold.nano_usd)
            pipe.hincrby(key, f"{name}|{_COST}", cost_nano_usd)
            for what, number in counts.items():
                pipe.hincrby(key, f"{name}|{_COUNT}|{what}", number)
            for cause, part in split(cost_nano_usd, causes).items():
                pipe.hincrby(key, f"{name}|{_SHARE}|{cause}", part)
            pipe.execute()

        while True:
            try:
                self.store.ask(pay)
                return
            except redis.WatchError:
                continue  # another one wrote there: look again whether it was this

    def count(self, account: str, what: str) -> None:
        """Count something that cost nothing, such as a refusal."""
        day = self._today()

        def add() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.hincrby(self._key(day), f"{account}|{_COUNT}|{what}", 1)
            pipe.expire(self._key(day), _KEEP_S)
            pipe.execute()

        self.store.ask(add)

    def days(self, most: int) -> dict[date, dict[str, AccountDay]]:
        """The accounts of the last `most` days, today first; every day is there, also an empty one."""
        today = self._today()
        wanted = [today - back for back in range(most)]

        def read() -> list[dict[bytes, bytes]]:
            pipe = self._client.pipeline(transaction=False)
            for day in wanted:
                pipe.hgetall(self._key(day))
            return list(pipe.execute())

        return {
            date(1970, 1, 1) + timedelta(day): _accounts(found)
            for day, found in zip(wanted, self.store.ask(read), strict=True)
        }

    def _commit(self, hold: Hold, nano_usd: int) -> int:
        def add() -> int:
            pipe = self._client.pipeline(transaction=True)
            pipe.hincrby(self._key(hold.day), f"{hold.account}|{_COMMITTED}", nano_usd)
            pipe.expire(self._key(hold.day), _KEEP_S)
            return int(pipe.execute()[0])

        return int(self.store.ask(add))

    def _today(self) -> int:
        return int(self.store.ask(self.store.now_ms)) // _DAY_MS

    def _key(self, day: int) -> str:
        return self.store.keys.spending(str(day))


def split(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """A whole amount in parts by weight, which add up to it again; nothing for no weights."""
    total, given, seen = sum(weights.values()), 0, 0
    parts = {}
    for name, weight in weights.items():
        seen += weight
        upto = amount * seen // total if total else 0
        parts[name] = upto - given
        given = upto
    return parts


def _accounts(found: Mapping[bytes, bytes]) -> dict[str, AccountDay]:
    accounts: dict[str, AccountDay] = {}
    for name, number in found.items():
        account, what, *rest = name.decode().split("|", 2)
        day, amount = accounts.setdefault(account, AccountDay()), int(number)
        if what == _COMMITTED:
            day.held_nano_usd += amount
        elif what == _COST:
            day.cost_nano_usd += amount
            day.held_nano_usd -= amount
        else:
            (day.shares if what == _SHARE else day.counts)[rest[0]] = amount
    return accounts
