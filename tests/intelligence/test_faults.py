"""Whatever API, network and key do becomes a reason, within the time of the decision."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.prompt import Rendered
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until
from tests.intelligence.conftest import (
    BUDGET_MS,
    KEY,
    WHIM_MS,
    a_question,
    haiku_today,
    reason_of,
    tiers,
)

REASONS = {
    Fault.BAD_REQUEST: Reason.INVALID_REQUEST,
    Fault.WRONG_KEY: Reason.AUTH,
    Fault.FORBIDDEN: Reason.AUTH,
    Fault.NOT_FOUND: Reason.INVALID_REQUEST,
    Fault.TOO_LARGE: Reason.TOO_LARGE,
    Fault.RATE_LIMITED: Reason.RATE_LIMITED,
    Fault.SERVER_ERROR: Reason.SERVER_ERROR,
    Fault.OVERLOADED: Reason.OVERLOADED,
    Fault.SLOW: Reason.TIMEOUT,
    Fault.DRIP: Reason.TIMEOUT,
    Fault.HANG_UP: Reason.MALFORMED,
    Fault.HALF_BODY: Reason.MALFORMED,
    Fault.HALF_JSON: Reason.MALFORMED,
    Fault.OTHER_JSON: Reason.MALFORMED,
    Fault.HTML: Reason.MALFORMED,
    Fault.EMPTY: Reason.MALFORMED,
    Fault.REFUSAL: Reason.REFUSED,
    Fault.CUT_OFF: Reason.CUT_OFF,
    Fault.NOT_JSON: Reason.INVALID_JSON,
    Fault.WRONG_SCHEMA: Reason.INVALID_ANSWER,
    Fault.UNSAFE: Reason.UNSAFE_ANSWER,
}


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_becomes_its_reason_within_the_budget(
    api: MessagesApi, client: ModelClient, fault: Fault, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    api.script(Act(fault=fault, message=f"no, {KEY} will not do"))

    began = time.monotonic()
    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)
    took_ms = (time.monotonic() - began) * 1000

    assert isinstance(fallback, Fallback)
    assert REASONS[fault] == fallback.reason
    assert took_ms < BUDGET_MS + WHIM_MS
    assert KEY not in str(fallback.to_wire()) + caplog.text
    assert len(api.requests) == 1, "nothing is asked twice"


def test_a_rate_limit_says_when_to_come_again(api: MessagesApi, client: ModelClient):
    api.script(Act(fault=Fault.RATE_LIMITED, retry_after_s=12.5))

    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert 12_500 == fallback.retry_after_ms


def test_an_api_that_is_not_there_is_unreachable_and_costs_nothing(
    model_client: Callable[..., ModelClient], spending: Spending
):
    client = model_client(base_url=f"http://127.0.0.1:{free_port()}")

    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert Reason.UNREACHABLE == fallback.reason
    assert 0 == haiku_today(spending).held_nano_usd


def test_a_host_that_says_nothing_times_out_within_the_budget(
    model_client: Callable[..., ModelClient], deaf: str
):
    client = model_client(base_url=deaf)

    began = time.monotonic()
    fallback = client.decide(a_question(), budget_ms=300)

    assert time.monotonic() - began < 0.3 + WHIM_MS / 1000
    assert isinstance(fallback, Fallback)
    assert Reason.TIMEOUT == fallback.reason


def test_two_slow_tiers_share_one_budget(api: MessagesApi, model_client: Callable[..., ModelClient]):
    client = model_client()
    api.script(Fault.SLOW, Fault.SLOW)

    began = time.monotonic()
    fallback = client.decide(a_question(tier="sonnet"), budget_ms=600)

    assert time.monotonic() - began < 0.6 + WHIM_MS / 1000
    assert isinstance(fallback, Fallback)
    assert Reason.TIMEOUT == fallback.reason
    assert 1 == len(fallback.attempts), "the first took it all"


def test_a_wrong_key_is_not_tried_on_the_other_tier(
    model_client: Callable[..., ModelClient], api: MessagesApi
):
    api.keys = {"another"}
    client = model_client()

    fallback = client.decide(a_question(tier="sonnet"), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert ([Reason.AUTH], 0) == ([each.reason for each in fallback.attempts], len(api.requests))


def test_without_a_key_there_is_no_answer_at_once_and_without_redis():
    away = Store.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    client = ModelClient(tiers(), Spending(away), Credentials(None), base_url="http://192.0.2.1")

    began = time.monotonic()
    fallback = client.decide(a_question(), budget_ms=5_000)

    assert time.monotonic() - began < 0.1
    assert isinstance(fallback, Fallback)
    assert Reason.NO_KEY == fallback.reason
    assert "ANTHROPIC_API_KEY is not set" == fallback.detail


@pytest.mark.parametrize("key", ["two words", "key\nwith: a header", "schlüssel-0123456789"])
def test_a_key_that_cannot_be_one_is_not_sent_and_not_shown(
    model_client: Callable[..., ModelClient], api: MessagesApi, key: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)

    fallback = model_client(key=key).decide(a_question(), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert Reason.AUTH == fallback.reason
    assert [] == api.requests
    assert key not in str(fallback.to_wire()) + caplog.text


def test_a_defect_is_a_reason_and_its_text_is_not_logged(
    api: MessagesApi, client: ModelClient, caplog: pytest.LogCaptureFixture
):
    class Broken(Rendered):
        @property
        def per_call(self) -> str:
            raise ValueError(KEY)

        @property
        def bytes(self) -> int:
            return 10

    broken = object.__new__(Broken)
    for name, value in (("name", "x"), ("version", 1), ("sha256", ""), ("fixed", "x")):
        object.__setattr__(broken, name, value)

    fallback = client.decide(a_question(prompt=broken), budget_ms=5_000)

    assert isinstance(fallback, Fallback)
    assert (Reason.ERROR, "ValueError") == (fallback.reason, fallback.detail)
    assert KEY not in caplog.text
    assert "a call of a model failed: ValueError in" in caplog.text


def test_the_thread_of_a_call_that_was_given_up_ends_although_the_server_goes_on(
    api: MessagesApi, client: ModelClient
):
    api.script(Fault.DRIP)  # for 20 s

    assert Reason.TIMEOUT == reason_of(client, budget_ms=200)

    wait_until(
        lambda: "joelclaw-model-call" not in {thread.name for thread in threading.enumerate()},
        "the thread has ended", timeout_s=3,
    )  # fmt: skip
