"""A ledger never lets more be spent than the budget, by however many processes, and adds up exactly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import AccountDay, Spending, split
from joelclaw_tasks.core.store import Store
from tests.intelligence.conftest import tiers

DAY_MS = 86_400_000
SPEND = """
import sys, redis
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store

spending = Spending(Store(redis.Redis.from_url(sys.argv[1]), Keys("{jc}:")))
bought = 0
sys.stdin.readline()
for _ in range(500):
    hold = spending.hold("haiku", 1_000, 300_000)
    if hold is not None:
        bought += 1
        spending.settle(hold, 999, counts={"calls": 1}, causes={"a": 1, "b": 1, "c": 1})
print(bought)
"""


class Day:
    """A clock of a store, in epoch milliseconds, at noon of a day."""

    def __init__(self) -> None:
        self.number = 20_000

    def __call__(self) -> int:
        return self.number * DAY_MS + DAY_MS // 2


@pytest.fixture
def day() -> Day:
    return Day()


@pytest.fixture
def ledger(redis_url: str, day: Day) -> Iterator[Spending]:
    client = redis.Redis.from_url(redis_url)
    yield Spending(Store(client, Keys("{jc}:"), now_ms=day))
    client.close()


def of_today(ledger: Spending) -> AccountDay:
    return next(iter(ledger.days(1).values())).get("haiku", AccountDay())


def test_a_hold_takes_from_the_budget_and_a_release_gives_it_back(ledger: Spending):
    first = ledger.hold("haiku", 600, 1_000)
    assert first is not None
    assert ledger.hold("haiku", 401, 1_000) is None
    assert 600 == of_today(ledger).held_nano_usd

    ledger.release(first)

    assert ledger.hold("haiku", 1_000, 1_000) is not None


def test_what_is_paid_takes_the_place_of_what_was_held(ledger: Spending):
    hold = ledger.hold("haiku", 900, 1_000)
    assert hold is not None

    ledger.settle(hold, 100, counts={"calls": 1}, causes={"a": 1})

    assert (100, 0) == (of_today(ledger).cost_nano_usd, of_today(ledger).held_nano_usd)
    assert ledger.hold("haiku", 900, 1_000) is not None
    assert ledger.hold("haiku", 1, 1_000) is None


def test_accounts_and_days_have_budgets_of_their_own(ledger: Spending, day: Day):
    assert ledger.hold("haiku", 1_000, 1_000) is not None
    assert ledger.hold("opus", 1_000, 1_000) is not None
    assert ledger.hold("haiku", 1, 1_000) is None

    day.number += 1

    assert ledger.hold("haiku", 1_000, 1_000) is not None


def test_what_was_ordered_before_midnight_is_paid_from_that_day(ledger: Spending, day: Day):
    hold = ledger.hold("haiku", 500, 1_000)
    assert hold is not None
    day.number += 1

    ledger.settle(hold, 400, counts={}, causes={"a": 1})

    costs = {
        when: accounts.get("haiku", AccountDay()).cost_nano_usd for when, accounts in ledger.days(3).items()
    }
    assert {date(2024, 10, 5): 0, date(2024, 10, 4): 400, date(2024, 10, 3): 0} == costs


@pytest.mark.parametrize("family", ["a|b", "", "a b\n", "schön/neu"])
def test_a_family_may_have_any_name(ledger: Spending, family: str):
    hold = ledger.hold("haiku", 500, 1_000)
    assert hold is not None

    ledger.settle(hold, 7, counts={}, causes={family: 3})

    assert {family: 7} == of_today(ledger).shares


@pytest.mark.timeout(120)
def test_two_processes_never_spend_more_than_the_budget(redis_url: str, store: Store):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPEND, redis_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    bought = sum(int(process.communicate(timeout=60)[0]) for process in processes)

    haiku = of_today(Spending(store))
    assert 300_000 // 1_000 == bought
    assert (bought * 999, 0) == (haiku.cost_nano_usd, haiku.held_nano_usd)
    assert {"calls": bought} == haiku.counts
    assert {"a": bought * 333, "b": bought * 333, "c": bought * 333} == haiku.shares


@given(st.integers(0, 10**15), st.dictionaries(st.text(), st.integers(0, 1_000), min_size=1))
def test_the_parts_of_an_amount_add_up_to_it(amount: int, weights: dict[str, int]):
    parts = split(amount, weights)

    assert set(weights) == set(parts)
    assert (amount if sum(weights.values()) else 0) == sum(parts.values())
    assert all(part >= 0 for part in parts.values())


@given(*[st.integers(0, 10**7)] * 4)
def test_the_cost_of_many_calls_is_the_sum_of_their_costs(new: int, out: int, write: int, read: int):
    prices = tiers()["haiku"].prices
    one = prices.cost_nano_usd(input=new, output=out, cache_write=write, cache_read=read)

    assert new * 100 + out * 500 + write * 125 + read * 10 == one
