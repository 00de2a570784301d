"""What a client spends is in the ledger to the last billionth, and never more than the budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.breaker import Circuit
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until
from tests.intelligence.conftest import (
    CIRCUIT,
    KEY,
    WHIM_MS,
    a_question,
    a_score,
    haiku_today,
    reason_of,
    tiers,
)


def test_the_ledger_adds_up_to_the_last_billionth(api: MessagesApi, client: ModelClient, spending: Spending):
    usage = {
        "input_tokens": 333, "output_tokens": 77,
        "cache_creation_input_tokens": 1_001, "cache_read_input_tokens": 12_345,
    }  # fmt: skip
    api.script(*[Act(value=a_score(), usage=usage)] * 7)

    answers = [client.decide(a_question(causes={"a/b": 2, "c/d": 1}), budget_ms=5_000) for _ in range(7)]

    one = 333 * 100 + 77 * 500 + 1_001 * 125 + 12_345 * 10  # prices in nano-USD for a token
    haiku = haiku_today(spending)
    assert [one] * 7 == [answer.cost_nano_usd for answer in answers]
    assert (7 * one, 0) == (haiku.cost_nano_usd, haiku.held_nano_usd)
    assert 7 * one == sum(haiku.shares.values())
    assert {"a/b", "c/d"} == set(haiku.shares)
    assert {
        "calls": 7, "answered": 7, "input_tokens": 7 * 333, "output_tokens": 7 * 77,
        "cache_write_tokens": 7 * 1_001, "cache_read_tokens": 7 * 12_345,
    } == haiku.counts  # fmt: skip


def test_an_answer_that_is_no_use_is_paid_for(api: MessagesApi, client: ModelClient, spending: Spending):
    api.script(Fault.REFUSAL, Fault.NOT_JSON)

    spent = sum(client.decide(a_question(), budget_ms=5_000).cost_nano_usd for _ in range(2))

    haiku = haiku_today(spending)
    assert spent == haiku.cost_nano_usd > 0
    assert (1, 1) == (haiku.counts["refused"], haiku.counts["invalid_json"])


def test_a_call_without_a_bill_counts_as_dear_as_it_may_be(
    api: MessagesApi, client: ModelClient, spending: Spending
):
    api.script(Fault.HALF_BODY, Fault.SERVER_ERROR)

    assert Reason.MALFORMED == reason_of(client)
    held = haiku_today(spending).held_nano_usd
    assert held > 1_000 * 500, "at the least all tokens that the answer may have"
    assert Reason.SERVER_ERROR == reason_of(client)

    assert (held, 0) == (haiku_today(spending).held_nano_usd, haiku_today(spending).cost_nano_usd)


def test_a_call_that_is_given_up_ends_as_a_timeout_in_the_ledger_too(
    api: MessagesApi, client: ModelClient, spending: Spending
):
    api.script(Fault.SLOW)

    assert Reason.TIMEOUT == reason_of(client, budget_ms=200)

    wait_until(lambda: haiku_today(spending).counts.get("timeout"), "the timeout is counted")
    assert haiku_today(spending).held_nano_usd > 0


def test_a_budget_of_0_asks_nobody(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    client = model_client(tier={"daily_budget_usd": 0})

    assert Reason.BUDGET_SPENT == reason_of(client)

    assert [] == api.requests
    wait_until(lambda: haiku_today(spending).counts.get("budget_spent"), "the refusal is counted")
    assert Circuit.CLOSED == client.breaker.circuit(CIRCUIT)


def test_many_at_once_never_spend_more_than_the_budget(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    budget = 0.01
    api.rule = lambda asked: Act(value=a_score(), usage={"output_tokens": asked.body["max_tokens"]})
    client = model_client(tier={"daily_budget_usd": budget})
    outcomes: list[Reason | None] = []

    def spend() -> None:
        outcomes.extend(reason_of(client, budget_ms=20_000) for _ in range(6))

    threads = [threading.Thread(target=spend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {None, Reason.BUDGET_SPENT} == set(outcomes)
    assert 0 < haiku_today(spending).cost_nano_usd <= budget * 1e9
    assert outcomes.count(None) == len(api.requests) > 10


def test_without_redis_nobody_is_asked(api: MessagesApi):
    away = Store.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    client = ModelClient(tiers(), Spending(away), Credentials(KEY), base_url=api.url)
    client.warm_up()

    assert Reason.NO_LEDGER == reason_of(client, budget_ms=10_000)
    assert [] == api.requests


def test_a_redis_that_hangs_costs_the_budget_and_no_more(api: MessagesApi, deaf: str):
    away = Store.connect(Settings(redis_url=deaf.replace("http", "redis") + "/0"))
    client = ModelClient(tiers(), Spending(away), Credentials(KEY), base_url=api.url)
    client.warm_up()

    began = time.monotonic()
    assert Reason.TIMEOUT == reason_of(client, budget_ms=300)

    assert time.monotonic() - began < 0.3 + WHIM_MS / 1000
    assert Circuit.CLOSED == client.breaker.circuit(CIRCUIT), "the API is not to blame"


def test_the_ledger_has_keys_under_the_prefix_and_they_go_by_themselves(
    api: MessagesApi, client: ModelClient, store: Store
):
    api.script(a_score())
    client.decide(a_question(), budget_ms=5_000)

    [key] = store.client.keys("*")
    assert key.startswith(b"{jc}:spending:")
    assert 92 * 86_400 < store.client.ttl(key) <= 93 * 86_400
    assert Keys("{jc}:").spending("1") == "{jc}:spending:1"


def test_a_redis_user_without_the_right_to_write_is_no_ledger(api: MessagesApi, redis_url: str):
    root = redis.Redis.from_url(redis_url)
    root.acl_setuser(
        "reader", enabled=True, passwords=["+geheim12"], keys=["*"], categories=["+@read", "+@all"]
    )
    root.acl_setuser("reader", enabled=True, categories=["-@write"])
    reader = redis.Redis.from_url(redis_url.replace("//", "//reader:geheim12@"))
    client = ModelClient(tiers(), Spending(Store(reader, Keys("{jc}:"))), Credentials(KEY), base_url=api.url)
    client.warm_up()

    fallback = client.decide(a_question(), budget_ms=5_000)

    root.acl_deluser("reader")
    root.close()
    reader.close()
    assert isinstance(fallback, Fallback)
    assert (Reason.NO_LEDGER, "NoPermissionError", []) == (fallback.reason, fallback.detail, api.requests)
