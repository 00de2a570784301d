"""A model client asks within its bounds, and its answer is a value with everything to be recorded."""

from __future__ import annotations

from collections.abc import Callable

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Fallback
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.prompt import MOST_BYTES, Rendered
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.intelligence.conftest import (
    BUDGET_MS,
    FIXED,
    KEY,
    Score,
    a_question,
    a_score,
    reason_of,
    tiers,
)


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


def test_the_other_tier_answers_within_the_same_budget(api: MessagesApi, client: ModelClient):
    api.script(Fault.OVERLOADED, a_score())

    answer = client.decide(a_question(tier="sonnet"), budget_ms=5_000)

    assert isinstance(answer, Answer)
    assert ["sonnet", "haiku"] == [attempt.tier for attempt in answer.attempts]
    assert [Reason.OVERLOADED, None] == [attempt.reason for attempt in answer.attempts]
    assert ("haiku", "claude-haiku-5-5") == (answer.tier, answer.model)


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


def test_a_client_of_the_settings_uses_their_key_their_address_and_the_tiers_of_the_registry(
    api: MessagesApi, store: Store
):
    settings = Settings.load({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url})
    client = ModelClient.connect(settings, Registry([], tiers=tiers()), store)
    client.warm_up()
    api.script(a_score())

    assert reason_of(client) is None
    assert KEY not in repr(settings)
    client.close()


def test_a_key_file_is_read_again_when_it_changes(api: MessagesApi, store: Store, tmp_path):
    file = tmp_path / "key"
    file.write_text("old-key-0123456789\n")
    api.keys = {"new-key-0123456789"}
    settings = Settings.load({"ANTHROPIC_API_KEY_FILE": str(file), "ANTHROPIC_BASE_URL": api.url})
    client = ModelClient.connect(settings, Registry([], tiers=tiers()), store)
    client.warm_up()

    assert Reason.AUTH == reason_of(client)
    file.write_text("new-key-0123456789\n")
    client._api_key.look()
    api.script(a_score())
    assert reason_of(client) is None
    client.close()
