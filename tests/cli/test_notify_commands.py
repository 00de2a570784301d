"""joelclaw notify against a real Redis and a local bot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.check import Check
from joelclaw_tasks.fleet.doctor import examine
from joelclaw_tasks.fleet.notify_checks import notify_checks
from joelclaw_tasks.notify.notification import Notification
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
from tests.cli.conftest import JoelclawProcess
from tests.notify.servers import BOT_TOKEN, Answer, BotServer

QUIET = "00:00-00:00 UTC"  # always


@pytest.fixture
def bot() -> Iterator[BotServer]:
    with BotServer("42").running() as server:
        yield server


@pytest.fixture
def env(joelclaw: JoelclawProcess, bot: BotServer) -> dict[str, str]:
    joelclaw.env |= {
        "JOELCLAW_NOTIFY": "telegram", "TELEGRAM_BOT_TOKEN": BOT_TOKEN, "TELEGRAM_BASE_URL": bot.url,
        "TELEGRAM_CHAT_IDS": "42",
    }  # fmt: skip
    return joelclaw.env


def told(env: dict[str, str], store: Store, text: str, **more: str) -> None:
    kept = {name: env[name] for name in env if name.startswith(("JOELCLAW_", "TELEGRAM_", "REDIS_"))}
    Notifier.of(Settings.load(kept), store).tell(Notification.clean(text, cause="disk", **more))


def test_a_test_reaches_every_sink_and_says_so(
    joelclaw: JoelclawProcess, env: dict[str, str], bot: BotServer
) -> None:
    piped = joelclaw("notify", "test")

    assert ["This is a test: joelclaw can reach you here."] == bot.texts
    assert [
        {"sink": "console", "is_ok": True, "detail": ""},
        {"sink": "telegram:42", "is_ok": True, "detail": ""},
    ] == piped.result["sinks"]
    assert "This is a test: joelclaw can reach you here.\n" == piped.stderr


def test_a_sink_that_does_not_take_the_test_is_named_with_what_it_said(
    joelclaw: JoelclawProcess, env: dict[str, str], bot: BotServer
) -> None:
    bot.next_answers = [Answer(401, {"ok": False, "description": "Unauthorized"})]

    piped = joelclaw("notify", "test")

    assert (1, "NOTIFY_TEST_FAILED") == (piped.code, piped.error["code"])
    assert "telegram answered 401: Unauthorized" == piped.error["details"]["sinks"][1]["detail"]
    assert BOT_TOKEN not in str(piped)


def test_the_list_needs_no_secrets_and_shows_what_was_told_held_and_muted(
    joelclaw: JoelclawProcess, env: dict[str, str], bot: BotServer, store: Store
) -> None:
    bot.next_answers = [Answer(500, {"ok": False, "description": "no"})]
    for severity in ("error", "warning"):
        told(env, store, f"It is {severity}.", severity=severity)
    del env["TELEGRAM_BOT_TOKEN"]
    joelclaw("notify", "mute", "net", "--ttl", "1h", "--reason", "the cable is cut")

    listed = joelclaw("notify", "list").result
    screen = joelclaw.on_terminal("notify", "list").screen

    assert ["console", "telegram:42"] == [sink["sink"] for sink in listed["sinks"]]
    assert [(0, 0), (1, 0)] == [
        (sink["waiting"], sink["sent_last_hour"] if sink["sink"] != "console" else 0)
        for sink in listed["sinks"]
    ]
    assert [("held", "It is warning."), ("told", "It is error.")] == [
        (entry["word"], entry["note"]["text"]) for entry in listed["log"]
    ]
    assert [("disk", 1)] == [(each["cause"], each["count"]) for each in listed["held"]]
    assert [("net", "joel@cli", "the cable is cut")] == [
        (each["cause"], each["actor"], each["reason"]) for each in listed["muted"]
    ]
    for text in ("telegram answered 500: no", "muted: net", "held back: disk (1)", "It is error."):
        assert text in " ".join(screen.split())


def test_a_muted_cause_is_silent_until_it_is_unmuted(
    joelclaw: JoelclawProcess, env: dict[str, str], bot: BotServer, store: Store
) -> None:
    muted = joelclaw("notify", "mute", "disk")
    told(env, store, "one", severity="critical")
    assert [] == bot.texts

    assert "joelclaw notify unmute disk" in muted.next_commands
    assert joelclaw("notify", "unmute", "disk").result["was_muted"]
    assert not joelclaw("notify", "unmute", "disk").result["was_muted"]
    told(env, store, "two", severity="critical")

    assert ["🚨 critical\ntwo"] == bot.texts


@pytest.mark.parametrize("ttl", ["soon", "1s"])
def test_a_ttl_that_is_none_is_refused(joelclaw: JoelclawProcess, ttl: str) -> None:
    piped = joelclaw("notify", "mute", "disk", "--ttl", ttl)

    assert (2, "QUEUE_CONTROL_INVALID_TTL") == (piped.code, piped.error["code"])


def test_the_digest_goes_when_somebody_asks_for_it_even_in_quiet_hours(
    joelclaw: JoelclawProcess, env: dict[str, str], bot: BotServer, store: Store
) -> None:
    env["JOELCLAW_NOTIFY_QUIET_HOURS"] = QUIET
    told(env, store, "The disk is slow.")
    assert [] == bot.texts

    piped = joelclaw("notify", "digest")

    assert {"digest": 1, "waiting": {"console": 0, "telegram:42": 0}} == piped.result
    (text,) = bot.texts
    assert text.endswith("UTC The disk is slow.")
    assert 0 == joelclaw("notify", "digest").result["digest"]


def test_a_sink_that_lacks_its_token_fails_the_doctor_and_nothing_else(
    joelclaw: JoelclawProcess, env: dict[str, str]
) -> None:
    del env["TELEGRAM_BOT_TOKEN"]
    offline = {name: value for name, value in env.items() if name != "REDIS_URL"}

    checks = {check.name: check for check in examine(Path(env["JOELCLAW_HOME"]), offline)}

    assert "fail" == checks["notify"].status
    assert "set TELEGRAM_BOT_TOKEN" in checks["notify"].detail
    assert 0 == joelclaw("queue", "observe").code


def checked(env: dict[str, str], **changed: str) -> dict[str, Check]:
    kept = {name: env[name] for name in env if name.startswith(("JOELCLAW_", "TELEGRAM_", "REDIS_"))}
    settings = Settings.load(kept | changed)
    return {check.name: check for check in notify_checks(settings, reachable=True)}


def test_the_doctor_asks_the_bot_who_it_is_and_tells_nobody_anything(
    env: dict[str, str], bot: BotServer, store: Store
) -> None:
    bot.next_answers = [Answer(500, {"ok": False, "description": "no"})]
    told(env, store, "one")

    checks = checked(env)

    assert ("ok", "answers as @joelclaw_bot") == (checks["telegram"].status, checks["telegram"].detail)
    assert "warn" == checks["telegram buttons"].status
    assert "telegram answered 500: no; 1 waiting, 0 dropped" == checks["notify telegram:42"].detail
    assert BOT_TOKEN not in str(checks)
    assert [] == bot.messages
    assert ["notify"] == list(checked(env, JOELCLAW_NOTIFY="console"))
    assert "warn" == checked(env, TELEGRAM_BASE_URL="http://127.0.0.1:9")["telegram"].status
