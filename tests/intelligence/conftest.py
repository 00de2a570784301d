"""A model client of the local Messages API, by the real SDK, with its ledger in a real Redis."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import AccountDay, Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.breaker import Breaker
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback, Question
from joelclaw_tasks.intelligence.guard import AnswerModel, Reasoning, clamp, shown
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.prompt import Rendered
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry_tiers import read_tiers
from joelclaw_tasks.testing.fixtures import joelclaw_models  # noqa: F401  # as a fixture

KEY = "sk-" + "ant-test-0123456789abcdefghijklmnopqrstuvwxyz"
FIXED = "You score events. " * 200  # 900 tokens of the local API: enough to be cached


class Score(AnswerModel):
    score: Annotated[int, clamp(0, 100)]
    family: Annotated[str, shown("families")]
    reasoning: Reasoning


def a_score(**changes: Any) -> dict[str, Any]:
    return {"score": 70, "family": "mail/received", "reasoning": "A person waits."} | changes


def a_question(**changes: Any) -> Question[Score]:
    fields: dict[str, Any] = {
        "purpose": "triage",
        "tier": "haiku",
        "prompt": Rendered("triage", 3, "5e1f" * 16, FIXED, "<event>{}</event>"),
        "answer": Score,
        "shown": {"families": ["mail/received"]},
        "causes": {"mail/received": 1},
    }
    return Question(**(fields | changes))


def a_tier(**changes: Any) -> dict[str, Any]:
    tier = {
        "model": "claude-haiku-5-5",
        "usd_per_mtok": {"input": 0.1, "output": 0.5, "cache_write": 0.125, "cache_read": 0.01},
        "timeout_s": 10, "max_tokens": 1000, "effort": "low", "daily_budget_usd": 1.0,
    }  # fmt: skip
    return tier | changes


SONNET = {
    "model": "claude-sonnet-5-5",
    "usd_per_mtok": {"input": 2, "output": 10, "cache_write": 2.5, "cache_read": 0.1},
    "fallback": "haiku",
}


def tiers(**changes: Any) -> Any:
    """The tiers haiku, and sonnet that falls back to it; changes are for haiku."""
    document = {"tiers": {"haiku": a_tier(**changes), "sonnet": a_tier(**SONNET)}}
    found, faults = read_tiers(document)
    assert faults == []
    return found


BUDGET_MS = 1_000
#: What a busy machine may add to the budget of a decision.
WHIM_MS = 500
CIRCUIT = ("haiku", "triage")


def haiku_today(spending: Spending) -> AccountDay:
    [accounts] = spending.days(1).values()
    return accounts.get("haiku", AccountDay())


def reason_of(client: ModelClient, budget_ms: float = 5_000) -> Reason | None:
    decision = client.decide(a_question(), budget_ms=budget_ms)
    return decision.reason if isinstance(decision, Fallback) else None


class Clock:
    """A clock of a breaker, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    client = redis.Redis.from_url(redis_url)
    yield Store(client, Keys("{jc}:"))
    client.close()


@pytest.fixture
def spending(store: Store) -> Spending:
    return Spending(store)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model_client(api: MessagesApi, spending: Spending, clock: Clock) -> Iterator[Callable[..., ModelClient]]:
    """Makes clients of the local API; what they are given may be changed."""
    made = []

    def make(**changes: Any) -> ModelClient:
        tier_changes = changes.pop("tier", {})
        key = changes.pop("key", KEY)
        options = {"base_url": api.url, "breaker": Breaker(clock)} | changes
        client = ModelClient(tiers(**tier_changes), spending, Credentials(key), **options)
        client.warm_up()
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(model_client: Callable[..., ModelClient]) -> ModelClient:
    return model_client()


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
