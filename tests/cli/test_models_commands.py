"""joelclaw models and joelclaw dev: what is configured, what it cost, and a Messages API to try it with."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import PROGRAM, JoelclawProcess
from tests.cli.rules import check_envelope

KEY = "sk-" + "ant-test-0123456789abcdefghijklmnop"


def test_models_list_says_what_is_configured_also_without_redis(joelclaw_offline: JoelclawProcess):
    result = joelclaw_offline("models", "list").result

    assert (True, False, False) == (result["enabled"], result["has_key"], result["asks"])
    assert ["haiku", "sonnet", "opus"] == [tier["tier"] for tier in result["tiers"]]
    assert {None} == {tier["today_usd"] for tier in result["tiers"]}


def test_models_list_never_shows_the_key(joelclaw: JoelclawProcess):
    joelclaw.env["ANTHROPIC_API_KEY"] = KEY

    piped = joelclaw("models", "list")
    seen = joelclaw.on_terminal("models", "list")

    assert piped.result["asks"]
    assert KEY not in json.dumps(piped.envelope) + piped.stderr + seen.screen + seen.stderr
    assert "models are asked" in seen.screen


def test_models_that_are_switched_off_are_said_to_be_off(joelclaw: JoelclawProcess):
    joelclaw.env |= {"ANTHROPIC_API_KEY": KEY, "JOELCLAW_USE_MODELS": "0"}

    assert not joelclaw("models", "list").result["asks"]
    assert "models are switched off" in joelclaw.on_terminal("models", "list").screen


def test_models_cost_of_a_day_without_calls_is_0(joelclaw: JoelclawProcess):
    result = joelclaw("models", "cost").result

    assert (0, 0, [], 1) == (
        result["cost_usd"], result["held_usd"], result["families"], len(result["by_day"]),
    )  # fmt: skip
    assert {"haiku", "sonnet", "opus"} == {tier["tier"] for tier in result["tiers"]}


def test_models_cost_adds_up_the_ledger(joelclaw: JoelclawProcess, store: Store):
    spending = Spending(store)
    counts = {
        "calls": 1, "answered": 1, "input_tokens": 1_000, "output_tokens": 100, "cache_write_tokens": 0,
        "cache_read_tokens": 900,
    }  # fmt: skip
    for cost in (159_000, 141_000):
        hold = spending.hold("haiku", 1_000_000, 250_000_000)
        assert hold is not None
        spending.settle(hold, cost, counts=counts, causes={"mail/received": 2, "a/b": 1})
    assert spending.hold("sonnet", 20_000_000, 1_000_000_000) is not None
    spending.count("sonnet", "timeout")

    result = joelclaw("models", "cost", "--days", "3").result

    assert (0.0003, 0.02, 3) == (result["cost_usd"], result["held_usd"], len(result["by_day"]))
    haiku, sonnet = (next(t for t in result["tiers"] if t["tier"] == name) for name in ("haiku", "sonnet"))
    assert (0.0003, 2, 2, {}) == (haiku["cost_usd"], haiku["calls"], haiku["answered"], haiku["fallbacks"])
    assert {"input": 2_000, "output": 200, "cache_write": 0, "cache_read": 1_800} == haiku["tokens"]
    assert 0.000162 == haiku["saved_by_cache_usd"]
    assert (0.02, {"timeout": 1}) == (sonnet["held_usd"], sonnet["fallbacks"])
    assert [("mail/received", 0.0002), ("a/b", 0.0001)] == [
        (each["family"], each["cost_usd"]) for each in result["families"]
    ]
    seen = joelclaw.on_terminal("models", "cost").screen
    assert "$0.0003" in seen
    assert "1 timeout" in seen


def test_models_cost_without_redis_is_unreachable(joelclaw_offline: JoelclawProcess):
    piped = joelclaw_offline("models", "cost")

    assert (3, "REDIS_UNREACHABLE") == (piped.code, piped.error["code"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "meteor"], "no fault is named 'meteor'"),
        (["--script", "/nowhere/script.jsonl"], "--script /nowhere/script.jsonl cannot be used"),
        (["--port", "70000"], "--port"),
        (["--record", "x.json"], "--record and --upstream go together"),
        (
            ["--record", "/nowhere/x.json", "--upstream", "http://127.0.0.1:1"],
            "--record /nowhere/x.json cannot",
        ),
        (["--record", "x.json", "--upstream", "ftp://a"], "--upstream is no http or https URL"),
        (["--replay", "/nowhere/x.json"], "--replay /nowhere/x.json cannot be used"),
        (["--replay", "x.json", "--fault", "html"], "exclude each other"),
    ],
)
def test_dev_models_refuses_what_it_cannot_do(
    joelclaw_offline: JoelclawProcess, arguments: list[str], message: str
):
    piped = joelclaw_offline("dev", "models", *arguments)

    assert (2, "USAGE") == (piped.code, piped.error["code"])
    assert message in piped.error["message"]


def test_dev_models_names_the_line_of_a_script_that_is_wrong(
    joelclaw_offline: JoelclawProcess, tmp_path: Path
):
    script = tmp_path / "script.jsonl"
    script.write_text('{"value": {"score": 1}}\n\n{"fault": "meteor"}\n')

    piped = joelclaw_offline("dev", "models", "--script", str(script))

    assert "line 3" in piped.error["message"]


def test_dev_models_prints_its_url_serves_the_script_and_stops_at_ctrl_c(
    joelclaw_offline: JoelclawProcess, tmp_path: Path
):
    import anthropic

    script = tmp_path / "script.jsonl"
    script.write_text('{"value": {"score": 42}}\n{"fault": "overloaded"}\n')
    with subprocess.Popen(
        [*PROGRAM, "dev", "models", "--script", str(script)], env=joelclaw_offline.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        envelope = json.loads(process.stdout.readline())
        check_envelope(envelope)
        client = anthropic.Anthropic(
            api_key="local", base_url=envelope["result"]["url"], max_retries=0, timeout=10
        )
        ask = {"model": "claude-haiku-5-5", "max_tokens": 99, "messages": [{"role": "user", "content": "?"}]}
        answered = client.messages.create(**ask)
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(**ask)
        client.close()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)

    assert '{"score": 42}' == answered.content[0].text
    assert 529 == caught.value.status_code
    assert (0, b"") == (process.returncode, stderr)
