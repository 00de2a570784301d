"""The local Messages API speaks the protocol of the real one, as the real SDK sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from joelclaw_tasks.intelligence.connection import schema_of
from joelclaw_tasks.intelligence.guard import AnswerModel
from joelclaw_tasks.intelligence.local.act import STATUS, Act, Asked, Fault
from joelclaw_tasks.intelligence.local.message import simplest, tokens_of
from joelclaw_tasks.intelligence.local.server import MessagesApi
from tests.intelligence.conftest import KEY, Score

Ask = Callable[..., Any]


class Seconds:
    """A clock of the cache."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def api(seconds: Seconds) -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}, now_s=seconds) as running:
        yield running


@pytest.fixture
def ask(api: MessagesApi) -> Iterator[Ask]:
    client = anthropic.Anthropic(api_key=KEY, base_url=api.url, max_retries=0, timeout=10)

    def asking(**changes: Any) -> Any:
        message = {"role": "user", "content": "Score this."}
        fields = {"model": "claude-haiku-5-5", "max_tokens": 1_000, "messages": [message]}
        return client.messages.create(**(fields | changes))

    yield asking
    client.close()


def formatted(schema: Any) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": schema}}


def test_without_script_and_rule_it_answers_the_simplest_value_of_the_schema(ask: Ask):
    message = ask(output_config=formatted(schema_of(Score)))

    assert "end_turn" == message.stop_reason
    assert Score.model_validate_json(message.content[0].text).score == 50


def test_the_simplest_value_fits_any_schema_of_ours():
    class Inner(AnswerModel):
        kind: str | None
        weights: list[float]

    class Outer(AnswerModel):
        inner: Inner
        many: list[Inner]
        flag: bool

    assert Outer.model_validate(simplest(schema_of(Outer)))


def test_a_rule_sees_the_request_and_decides(api: MessagesApi, ask: Ask):
    def rule(asked: Asked) -> Any:
        return Fault.OVERLOADED if "P0" in asked.per_call else {"saw": asked.fixed, "number": asked.number}

    api.rule = rule

    assert '{"saw": "be brief", "number": 1}' == ask(system="be brief").content[0].text
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(messages=[{"role": "user", "content": [{"type": "text", "text": "a P0"}]}])
    assert 529 == caught.value.status_code


def test_a_script_goes_before_the_rule_and_ends(api: MessagesApi, ask: Ask):
    api.rule = lambda _: "by rule"
    api.script("first", {"second": 2})

    assert ["first", '{"second": 2}', "by rule"] == [ask().content[0].text for _ in range(3)]


@pytest.mark.parametrize("fault", STATUS)
def test_faults_of_the_api_have_its_status_its_type_and_a_request_id(
    api: MessagesApi, ask: Ask, fault: Fault
):
    api.script(Act(fault=fault, message="as told", retry_after_s=3))

    with pytest.raises(anthropic.APIStatusError) as caught:
        ask()

    assert STATUS[fault] == (caught.value.status_code, caught.value.type)
    assert "as told" in str(caught.value)
    assert caught.value.request_id == "req_local_000001"
    retry_after = caught.value.response.headers.get("retry-after")
    assert ("3" if fault is Fault.RATE_LIMITED else None) == retry_after


def test_a_fixed_part_is_written_once_read_while_it_lasts_and_forgotten(
    api: MessagesApi, ask: Ask, seconds: Seconds
):
    def usage(text: str, ttl: str) -> tuple[int, int, int, int]:
        block = {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}
        found = ask(system=[block]).usage
        return (
            found.cache_creation_input_tokens, found.cache_read_input_tokens,
            found.cache_creation.ephemeral_5m_input_tokens, found.cache_creation.ephemeral_1h_input_tokens,
        )  # fmt: skip

    assert (600, 0, 600, 0) == usage("a" * 2_400, "5m")
    seconds.now += 299
    assert (0, 600, 0, 0) == usage("a" * 2_400, "5m")
    seconds.now += 299  # each use makes it last longer
    assert (0, 600, 0, 0) == usage("a" * 2_400, "5m")
    seconds.now += 301
    assert (600, 0, 600, 0) == usage("a" * 2_400, "5m")
    assert (600, 0, 0, 600) == usage("b" * 2_400, "1h")
    assert (0, 0, 0, 0) == usage("too short to be cached", "5m")


def test_usage_counts_prompt_schema_and_answer(api: MessagesApi, ask: Ask):
    api.script("x" * 40, Act(text="x" * 40, usage={"output_tokens": 7}))

    counted, given = ask(system="s" * 400).usage, ask(system="s" * 400).usage

    assert 100 + tokens_of("Score this.") == counted.input_tokens == given.input_tokens
    assert (10, 7) == (counted.output_tokens, given.output_tokens)


def test_an_answer_longer_than_max_tokens_is_cut_off(api: MessagesApi, ask: Ask):
    api.script("x" * 400)

    message = ask(max_tokens=10)

    assert ("max_tokens", 40, 10) == (
        message.stop_reason, len(message.content[0].text), message.usage.output_tokens,
    )  # fmt: skip


def test_a_refusal_is_a_message_with_details(api: MessagesApi, ask: Ask):
    api.script(Fault.REFUSAL)

    message = ask()

    assert ("refusal", "cyber") == (message.stop_reason, message.stop_details.category)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"messages": []}, "messages: at least one"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role: must be user or assistant"),
        ({"messages": [{"role": "user", "content": ""}]}, "content: must not be empty"),
        ({"max_tokens": 0}, "max_tokens: must be"),
        ({"model": ""}, "model: Field required"),
        ({"extra_body": {"temperature": 0}}, "temperature: not supported"),
        ({"extra_body": {"tempo": 1}}, "tempo: Extra inputs"),
        (
            {"output_config": formatted({"type": "object", "properties": {}})},
            "additionalProperties must be false",
        ),
        (
            {"output_config": formatted(
                {"type": "array", "items": {"type": "integer", "minimum": 0}}
            )},
            "schema.items: the keyword minimum is not supported",
        ),
    ],
)  # fmt: skip
def test_a_request_that_the_real_api_refuses_is_refused_here(ask: Ask, changes: Any, wrong: str):
    with pytest.raises(anthropic.BadRequestError, match="invalid_request_error") as caught:
        ask(**changes)

    assert wrong in str(caught.value)


def test_a_wrong_key_is_refused_and_not_repeated(api: MessagesApi):
    with (
        anthropic.Anthropic(api_key="sk-another", base_url=api.url, max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(
            model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "?"}]
        )

    assert "sk-another" not in str(caught.value)
    assert [] == api.requests


def test_it_stops_at_once_with_a_slow_answer_and_a_kept_connection_open(seconds: Seconds):
    with MessagesApi(now_s=seconds) as api:
        with anthropic.Anthropic(api_key="k", base_url=api.url, max_retries=0, timeout=0.3) as client:
            api.script(Fault.SLOW)
            with pytest.raises(anthropic.APITimeoutError):
                client.messages.create(
                    model="claude-haiku-5-5", max_tokens=9, messages=[{"role": "user", "content": "?"}]
                )
        began = time.monotonic()

    assert time.monotonic() - began < 2


def test_the_fixture_for_tests_of_your_own_names_it_in_the_settings(joelclaw_models: MessagesApi):
    from joelclaw_tasks.settings import Settings

    settings = Settings.load()

    assert (joelclaw_models.url, "local") == (settings.anthropic_base_url, settings.anthropic_api_key)
