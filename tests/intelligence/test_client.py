"""A model client answers with a value, whatever API, network, key and budget do, and within its time."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import AccountDay, Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.breaker import Circuit
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Fallback
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.prompt import MOST_BYTES, Rendered
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until
from tests.intelligence.conftest import FIXED, KEY, Clock, Score, a_question, a_score, tiers

BUDGET_MS = 1_000
#: What a busy machine may add to the budget of a decision.
WHIM_MS = 500
CIRCUIT = ("haiku", "triage")


def test_an_answer_is_the_value_with_everything_that_is_to_be_recorded(api: MessagesApi, client: ModelClient):
    api.script(Act(value=a_score(score=250, reasoning="A\x1b[31m person\n waits.")))

    answer = client.decide(a_question(), budget_ms=5_000)

    assert isinstance(answer, Answer)
    assert Score(score=100, family="mail/received", reasoning="A[31m person waits.") == answer.value
    assert ("haiku", "claude-haiku-5-5", "triage v3") == (answer.tier, answer.model, answer.prompt)
    assert "5e1f" * 16 == answer.prompt_sha256
    assert 0 < answer.latency_ms < 5_000
    assert answer.last.request_id == "req_local_000001"
    wire = answer.to_wire()
    assert wire["fallback_reason"] is None
    assert wire["cost_usd"] == answer.cost_nano_usd / 1e9 > 0
    assert {"input", "output", "cache_write", "cache_read"} == set(wire["attempts"][0]["tokens"])


def test_the_request_has_the_schema_the_cache_mark_and_the_effort(api: MessagesApi, client: ModelClient):
    api.script(a_score())

    client.decide(a_question(), budget_ms=5_000)

    [asked] = api.requests
    assert {"model", "max_tokens", "system", "messages", "output_config"} == set(asked.body)
    assert [
        {"type": "text", "text": FIXED, "cache_control": {"type": "ephemeral", "ttl": "5m"}}
    ] == asked.body["system"]
    assert asked.body["output_config"]["effort"] == "low"
    assert asked.schema is not None
    assert {"score", "family", "reasoning"} == set(asked.schema["properties"])
    assert f"Bearer {KEY}" == asked.headers["authorization"]


def test_no_trace_header_leaves_with_a_request(api: MessagesApi, client: ModelClient):
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")
    api.script(a_score())

    with tracer.start_as_current_span("decide"):
        client.decide(a_question(), budget_ms=5_000)

    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(api.requests[0].headers)


def test_the_second_call_reads_its_fixed_part_from_the_cache(api: MessagesApi, client: ModelClient):
    api.script(a_score(), a_score())

    first, second = (client.decide(a_question(), budget_ms=5_000) for _ in range(2))

    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (900, 0) == (first.usage.cache_write, first.usage.cache_read)
    assert (0, 900) == (second.usage.cache_write, second.usage.cache_read)
    assert second.cost_nano_usd < first.cost_nano_usd


def test_thoughts_before_the_answer_are_passed_over(api: MessagesApi, client: ModelClient):
    api.script(Act(value=a_score(), thinks=True))

    assert isinstance(client.decide(a_question(), budget_ms=5_000), Answer)


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


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_host_that_says_nothing_times_out_within_the_budget(
    model_client: Callable[..., ModelClient], deaf: str
):
    client = model_client(base_url=deaf)

    began = time.monotonic()
    fallback = client.decide(a_question(), budget_ms=300)

    assert time.monotonic() - began < 0.3 + WHIM_MS / 1000
    assert isinstance(fallback, Fallback)
    assert Reason.TIMEOUT == fallback.reason


def test_the_other_tier_answers_within_the_same_budget(api: MessagesApi, client: ModelClient):
    api.script(Fault.OVERLOADED, a_score())

    answer = client.decide(a_question(tier="sonnet"), budget_ms=5_000)

    assert isinstance(answer, Answer)
    assert ["sonnet", "haiku"] == [attempt.tier for attempt in answer.attempts]
    assert [Reason.OVERLOADED, None] == [attempt.reason for attempt in answer.attempts]
    assert ("haiku", "claude-haiku-5-5") == (answer.tier, answer.model)


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


def test_a_tier_that_the_registry_does_not_have_is_disabled(client: ModelClient):
    fallback = client.decide(a_question(tier="opus"), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert Reason.DISABLED == fallback.reason


def test_models_that_are_switched_off_are_not_asked(
    api: MessagesApi, model_client: Callable[..., ModelClient]
):
    fallback = model_client(enabled=False).decide(a_question(), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert (Reason.DISABLED, []) == (fallback.reason, api.requests)


def test_a_prompt_that_is_too_large_does_not_leave(api: MessagesApi, client: ModelClient):
    large = Rendered("triage", 3, "5e1f", "x", "ä" * MOST_BYTES)

    fallback = client.decide(a_question(prompt=large), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert (Reason.TOO_LARGE, []) == (fallback.reason, api.requests)


def test_an_answer_about_a_family_that_was_not_shown_is_refused(api: MessagesApi, client: ModelClient):
    api.script(a_score(family="made/up"))

    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)

    assert isinstance(fallback, Fallback)
    assert Reason.INVALID_ANSWER == fallback.reason
    assert "made/up" not in fallback.detail
    assert fallback.cost_nano_usd > 0, "it was paid for"


# -- the breaker ----------------------------------------------------------------------------------


def test_three_failures_open_the_circuit_and_one_answer_closes_it(
    api: MessagesApi, client: ModelClient, clock: Clock
):
    api.script(*[Fault.OVERLOADED] * 3, a_score(), a_score())

    reasons = [_reason(client) for _ in range(4)]
    assert [Reason.OVERLOADED] * 3 + [Reason.CIRCUIT_OPEN] == reasons
    assert Circuit.OPEN == client.breaker.circuit(CIRCUIT)
    assert 3 == len(api.requests)

    clock.now += 30_000
    assert [None, None] == [_reason(client), _reason(client)]
    assert Circuit.CLOSED == client.breaker.circuit(CIRCUIT)


def test_a_probe_that_fails_opens_it_for_twice_as_long(api: MessagesApi, client: ModelClient, clock: Clock):
    api.script(*[Fault.OVERLOADED] * 4, a_score())
    for _ in range(3):
        _reason(client)

    clock.now += 30_000
    assert Reason.OVERLOADED == _reason(client)
    clock.now += 59_999
    assert Reason.CIRCUIT_OPEN == _reason(client)
    clock.now += 1
    assert _reason(client) is None


def test_a_rate_limit_opens_the_circuit_until_its_time(api: MessagesApi, client: ModelClient, clock: Clock):
    api.script(Act(fault=Fault.RATE_LIMITED, retry_after_s=12), a_score())

    assert Reason.RATE_LIMITED == _reason(client)
    clock.now += 11_999
    fallback = client.decide(a_question(), budget_ms=BUDGET_MS)
    assert isinstance(fallback, Fallback)
    assert (Reason.CIRCUIT_OPEN, 1) == (fallback.reason, fallback.retry_after_ms)
    clock.now += 1
    assert _reason(client) is None


def test_another_purpose_has_a_circuit_of_its_own(api: MessagesApi, client: ModelClient):
    api.script(*[Fault.OVERLOADED] * 3, a_score())
    for _ in range(3):
        _reason(client)

    assert isinstance(client.decide(a_question(purpose="digest"), budget_ms=5_000), Answer)


# -- the ledger -----------------------------------------------------------------------------------


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

    assert Reason.MALFORMED == _reason(client)
    held = haiku_today(spending).held_nano_usd
    assert held > 1_000 * 500, "at the least all tokens that the answer may have"
    assert Reason.SERVER_ERROR == _reason(client)

    assert (held, 0) == (haiku_today(spending).held_nano_usd, haiku_today(spending).cost_nano_usd)


def test_a_call_that_is_given_up_ends_as_a_timeout_in_the_ledger_too(
    api: MessagesApi, client: ModelClient, spending: Spending
):
    api.script(Fault.SLOW)

    assert Reason.TIMEOUT == _reason(client, budget_ms=200)

    wait_until(lambda: haiku_today(spending).counts.get("timeout"), "the timeout is counted")
    assert haiku_today(spending).held_nano_usd > 0


def test_a_budget_of_0_asks_nobody(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    client = model_client(tier={"daily_budget_usd": 0})

    assert Reason.BUDGET_SPENT == _reason(client)

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
        outcomes.extend(_reason(client, budget_ms=20_000) for _ in range(6))

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

    assert Reason.NO_LEDGER == _reason(client, budget_ms=10_000)
    assert [] == api.requests


def test_a_redis_that_hangs_costs_the_budget_and_no_more(api: MessagesApi, deaf: str):
    away = Store.connect(Settings(redis_url=deaf.replace("http", "redis") + "/0"))
    client = ModelClient(tiers(), Spending(away), Credentials(KEY), base_url=api.url)
    client.warm_up()

    began = time.monotonic()
    assert Reason.TIMEOUT == _reason(client, budget_ms=300)

    assert time.monotonic() - began < 0.3 + WHIM_MS / 1000
    assert Circuit.CLOSED == client.breaker.circuit(CIRCUIT), "the API is not to blame"


def test_a_client_of_the_settings_uses_their_key_their_address_and_the_tiers_of_the_registry(
    api: MessagesApi, store: Store
):
    settings = Settings.load({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url})
    client = ModelClient.connect(settings, Registry([], tiers=tiers()), store)
    client.warm_up()
    api.script(a_score())

    assert _reason(client) is None
    assert KEY not in repr(settings)
    client.close()


def test_a_key_file_is_read_again_when_it_changes(api: MessagesApi, store: Store, tmp_path):
    file = tmp_path / "key"
    file.write_text("old-key-0123456789\n")
    api.keys = {"new-key-0123456789"}
    settings = Settings.load({"ANTHROPIC_API_KEY_FILE": str(file), "ANTHROPIC_BASE_URL": api.url})
    client = ModelClient.connect(settings, Registry([], tiers=tiers()), store)
    client.warm_up()

    assert Reason.AUTH == _reason(client)
    file.write_text("new-key-0123456789\n")
    client._api_key.look()
    api.script(a_score())
    assert _reason(client) is None
    client.close()


def haiku_today(spending: Spending) -> AccountDay:
    [accounts] = spending.days(1).values()
    return accounts.get("haiku", AccountDay())


def _reason(client: ModelClient, budget_ms: float = 5_000) -> Reason | None:
    decision = client.decide(a_question(), budget_ms=budget_ms)
    return decision.reason if isinstance(decision, Fallback) else None


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

    assert Reason.TIMEOUT == _reason(client, budget_ms=200)

    wait_until(
        lambda: "joelclaw-model-call" not in {thread.name for thread in threading.enumerate()},
        "the thread has ended", timeout_s=3,
    )  # fmt: skip
