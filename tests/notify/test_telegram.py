"""Telegram: a local server speaks the Bot API, and refuses what the real one refuses."""

from __future__ import annotations

import logging

import pytest

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.notify.notification import mute_button, resume_button
from joelclaw_tasks.notify.notifier import TELLER_WITHIN_S
from joelclaw_tasks.settings import Settings
from tests.notify.conftest import HOUR, MINUTE, telegram
from tests.notify.servers import BOT_TOKEN, Answer, too_many


def test_a_notification_reaches_every_chat_once(office, bot):
    notifier = office.configured(**telegram(bot, "42,-77"))

    for _ in range(3):
        notifier("The disk is full.", cause="disk", severity="error")

    assert ["🔴 error\nThe disk is full."] * 2 == bot.texts
    assert [42, -77] == [message["chat"]["id"] for message in bot.messages]
    assert [False, False] == [message["silent"] for message in bot.messages]


def test_what_is_only_worth_knowing_makes_no_sound(office, bot):
    office.configured(**telegram(bot))("It works again.", cause="disk")

    assert (["It works again."], True) == (bot.texts, bot.messages[0]["silent"])


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b> & <script>alert(1)</script> a < b > c && d",
        "_markdown_ *of* [all](kinds) `x` ~ > # + - = | { } . !",
        "&lt; stays &lt; &amp; &nosuch;",
        "quotes \" and ' stay",
        "日本語 🚨 café",
    ],
)
def test_text_arrives_as_it_is_whatever_is_in_it(office, bot, text):
    office.configured(**telegram(bot))(text, cause="x")

    assert [text] == bot.texts


@pytest.mark.parametrize("piece", ["x", "&", "<", "🚨", "é\n"])
@pytest.mark.parametrize("severity", ["info", "critical"])
def test_a_text_that_is_too_long_is_cut_to_what_a_message_may_hold(office, bot, piece, severity):
    office.configured(**telegram(bot))(piece * 7_000, cause="x", severity=severity)

    (text,) = bot.texts
    assert text.endswith("…")
    assert 4_094 <= len(text.encode("utf-16-le")) // 2 <= 4_096


def test_a_digest_is_one_message_with_a_line_for_each_cause(office, bot):
    notifier = office.configured(notify_quiet_hours="11:00-13:00 UTC", **telegram(bot))
    for number in range(3):
        notifier(f"<{number}>", cause=f"c{number}")

    office.wait(HOUR)
    notifier.run_due()

    lines = [f"• 12:00 UTC <{number}>" for number in range(3)]
    assert ["\n".join(["3 things were held back:", *lines])] == bot.texts


def test_a_429_is_left_alone_for_as_long_as_it_asks(office, bot):
    notifier = office.configured(**telegram(bot))
    bot.next_answers = [too_many(120)]

    notifier("one", cause="a")
    notifier("two", cause="b")
    office.wait(2 * MINUTE - 1)
    notifier.run_due()
    assert 1 == len(bot.asked)
    office.wait(1)
    notifier.run_due()

    assert ["one", "two"] == bot.texts


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {"ok": False, "description": "Internal Server Error"}),
        Answer(502, "<html>Bad Gateway</html>"),
        Answer(200, "<html>welcome to the hotel</html>"),
        Answer(200, {"ok": False}),
        Answer(200, ["no", "object"]),
        Answer(200, '{"ok": tru'),
        Answer(401, {"ok": False, "description": "Unauthorized"}),
        Answer(403, {"ok": False, "description": "Forbidden: bot was blocked by the user"}),
        Answer(404, {"ok": False, "description": "Not Found"}),
        Answer(429, {"ok": False, "parameters": {"retry_after": "soon"}}),
        Answer(429, {"ok": False, "parameters": None}),
        Answer(302, "", {"Location": "http://127.0.0.1:9/elsewhere"}),
    ],
)
def test_what_may_be_well_later_is_sent_again_later(office, bot, answer):
    notifier = office.configured(**telegram(bot))
    bot.next_answers = [answer]

    notifier("one", cause="a")
    assert 1 == office.notices.sink("telegram:42")["waiting"]
    assert office.notices.sink("telegram:42")["error"]
    office.wait(MINUTE)
    notifier.run_due()

    assert ["one"] == bot.texts
    assert 0 == office.notices.sink("telegram:42")["waiting"]


def test_what_telegram_refuses_for_good_holds_up_nothing(office, bot):
    notifier = office.configured(**telegram(bot, "41,42"))  # nobody knows chat 41

    notifier("one", cause="a")
    notifier("two", cause="b")

    assert ["one", "two"] == bot.texts
    refused = [entry for entry in office.notices.log() if entry["word"] == "refused"]
    assert {"telegram:41"} == {entry["cause"] for entry in refused}
    assert "chat not found" in refused[0]["note"]["text"]


def test_a_server_that_does_not_answer_holds_up_nobody_for_long(office, bot):
    import time

    notifier = office.configured(**telegram(bot))
    bot.next_answers = [Answer(200, {"ok": True}, hold_s=20)]

    began = time.monotonic()
    notifier("one", cause="a")
    notifier("two", cause="b")

    assert time.monotonic() - began < TELLER_WITHIN_S + 2
    assert 1 == len(bot.asked)


def test_nobody_there_at_all_is_no_error_for_whoever_tells(office, capsys):
    notifier = office.configured(
        notify="telegram", telegram_bot_token=BOT_TOKEN, telegram_chat_ids="42",
        telegram_base_url="http://127.0.0.1:9",
    )  # fmt: skip

    notifier("one", cause="a", severity="error")

    assert "error: one\n" == capsys.readouterr().out
    assert "telegram cannot be reached: ConnectError" == office.notices.sink("telegram:42")["error"]


def test_a_proxy_that_the_environment_names_is_used(office, bot, monkeypatch):
    monkeypatch.setenv("http_proxy", bot.url)
    settings = telegram(bot) | {"telegram_base_url": "http://bots.example:8081/api"}

    office.configured(**settings)("one", cause="a")

    assert [f"http://bots.example:8081/api/bot{BOT_TOKEN}/sendMessage"] == [each.path for each in bot.asked]


def test_the_token_reaches_no_log_no_error_and_nothing_in_redis(office, bot, client, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # a worker of an earlier test may have made it quiet
    notifier = office.configured(**telegram(bot, "41,42"))
    bot.next_answers = [
        Answer(403, {"ok": False, "description": f"Forbidden for /bot{BOT_TOKEN}/sendMessage"})
    ]

    notifier("one", cause="a")
    notifier.try_all()
    office.wait(HOUR)
    notifier.run_due()

    assert len(bot.asked) > 2
    assert all(BOT_TOKEN in asked.path for asked in bot.asked)
    kept = "".join(str(client.dump(key)) for key in client.keys("*") if client.type(key) != "none")
    said = caplog.text + "".join(capsys.readouterr()) + repr(notifier.sinks) + repr(office.settings) + kept
    assert "HTTP Request: POST http://telegram/sendMessage" in caplog.text
    assert BOT_TOKEN.partition(":")[2] not in said


def test_a_new_token_in_the_file_counts_without_a_restart(office, bot, tmp_path):
    file = tmp_path / "token"
    file.write_text("1:wrong\n")
    settings = telegram(bot) | {"telegram_bot_token": None, "telegram_bot_token_file": file}
    notifier = office.configured(**settings)
    notifier("one", cause="a")
    assert "telegram answered 404" in office.notices.sink("telegram:42")["error"]

    file.write_text(BOT_TOKEN + "\n")
    for sink in notifier.sinks[1:]:
        sink._api.tokens.look()
    office.wait(HOUR)
    notifier.run_due()

    assert ["one"] == bot.texts


def test_buttons_are_under_the_message_and_fit_into_what_telegram_carries(office, bot):
    buttons = [resume_button("pause:family/" + "x" * 150), mute_button("observer.x")]

    office.configured(**telegram(bot))("paused", cause="observer.x", severity="warning", buttons=buttons)

    (message,) = bot.messages
    assert ["Resume now", "Mute 4 h"] == [button["text"] for button in message["keyboard"]]
    assert {62} == {len(button["callback_data"]) for button in message["keyboard"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"notify": "telegramm"}, "JOELCLAW_NOTIFY knows no 'telegramm'"),
        ({"notify": "telegram"}, "set TELEGRAM_BOT_TOKEN"),
        ({"notify": "telegram", "telegram_bot_token": "1:x"}, "set TELEGRAM_CHAT_IDS"),
        ({"notify": "telegram", "telegram_bot_token": "1:x", "telegram_chat_ids": "me"}, "TELEGRAM_CHAT_IDS"),
        ({"notify": "todoist"}, "set TODOIST_API_TOKEN"),
        ({"notify": "webhook"}, "set JOELCLAW_NOTIFY_WEBHOOK_URL"),
        ({"notify": "webhook", "notify_webhook_url": "http://127.0.0.1/x"}, "JOELCLAW_NOTIFY_WEBHOOK_SECRET"),
        ({"notify_quiet_hours": "at night"}, "JOELCLAW_NOTIFY_QUIET_HOURS must be like"),
    ],
)
def test_a_sink_that_lacks_what_it_needs_is_said_at_the_start(office, options, said):
    with pytest.raises(SettingsError, match=said):
        office.configured(**options)


@pytest.mark.parametrize("name", ["TELEGRAM_BASE_URL", "TODOIST_BASE_URL", "JOELCLAW_NOTIFY_WEBHOOK_URL"])
def test_an_address_that_is_none_is_refused_with_the_name_of_its_variable(name):
    with pytest.raises(SettingsError, match=f"{name} must be http"):
        Settings.load({name: "ftp://x"})
