"""A client stops asking a tier that fails, for its purpose, and asks again to see."""

from __future__ import annotations

from joelclaw_tasks.intelligence.breaker import Circuit
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Fallback
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.reason import Reason
from tests.intelligence.conftest import (
    BUDGET_MS,
    CIRCUIT,
    Clock,
    a_question,
    a_score,
    reason_of,
)


def test_three_failures_open_the_circuit_and_one_answer_closes_it(
    api: MessagesApi, client: ModelClient, clock: Clock
):
    api.script(*[Fault.OVERLOADED] * 3, a_score(), a_score())

    reasons = [reason_of(client) for _ in range(4)]
    assert [Reason.OVERLOADED] * 3 + [Reason.CIRCUIT_OPEN] == reasons
    assert Circuit.OPEN == client.breaker.circuit(CIRCUIT)
    assert 3 == len(api.requests)

    clock.now += 30_000
    assert [None, None] == [reason_of(client), reason_of(client)]
    assert Circuit.CLOSED == client.breaker.circuit(CIRCUIT)


def test_a_probe_that_fails_opens_it_for_twice_as_long(api: MessagesApi, client: ModelClient, clock: Clock):
    api.script(*[Fault.OVERLOADED] * 4, a_score())
    for _ in range(3):
        reason_of(client)

    clock.now += 30_000
    assert Reason.OVERLOADED == reason_of(client)
    clock.now += 59_999
    assert Reason.CIRCUIT_OPEN == reason_of(client)
    clock.now += 1
    assert reason_of(client) is None


def test_a_rate_limit_opens_the_circuit_until_its_time(api: MessagesApi, client: ModelClient, clock: Clock):
    api.script(Act(fault=Fault.RATE_LIMITED, retry_after_s=12), a_score())

    assert Reason.RATE_LIMITED == reason_of(client)
    clock.now += 11_999
    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)
    assert isinstance(fallback, Fallback)
    assert (Reason.CIRCUIT_OPEN, 1) == (fallback.reason, fallback.retry_after_ms)
    clock.now += 1
    assert reason_of(client) is None


def test_another_purpose_has_a_circuit_of_its_own(api: MessagesApi, client: ModelClient):
    api.script(*[Fault.OVERLOADED] * 3, a_score())
    for _ in range(3):
        reason_of(client)

    assert isinstance(client.decide(a_question(purpose="digest"), budget_ms=5_000), Answer)
