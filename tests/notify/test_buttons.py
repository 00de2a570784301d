"""Buttons: pressed in Telegram, answered by a real ingress, carried out once by the steering verbs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest
import redis

from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.ingress.app import create_app
from joelclaw_tasks.ingress.presses import Presses
from joelclaw_tasks.notify.buttons import COUNTS_S, ButtonRefused, Press, signed_buttons
from joelclaw_tasks.notify.notification import (
    Button,
    Notice,
    approve_pause_button,
    mute_button,
    resume_button,
    verdict_buttons,
)
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.ingress.served import ServedIngress, check_error, serve
from tests.notify.conftest import telegram
from tests.notify.servers import BOT_TOKEN, Answer, BotServer

SECRET = "secret-of-the-webhook"
GATE = "pause:family/mail"
CAUSE = "observer.mail"
HTTP = httpx.Client(trust_env=False, verify=False)


@pytest.fixture(scope="module")
def bots() -> Iterator[BotServer]:
    with BotServer("42", "-77").running() as server:
        yield server


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: Any, redis_server: str, bots: BotServer) -> Iterator[ServedIngress]:
    served = serve(
        tmp_path_factory.mktemp("telegram"), redis_server,
        TELEGRAM_BOT_TOKEN=BOT_TOKEN, TELEGRAM_BASE_URL=bots.url, TELEGRAM_CHAT_IDS="42,-77",
        TELEGRAM_WEBHOOK_SECRET=SECRET,
    )  # fmt: skip
    yield served
    assert 0 == served.stop(), served.log
    assert BOT_TOKEN not in served.log
    assert SECRET not in served.log


@dataclass
class Chat:
    """A queue, a person's chat, and the way back to the ingress."""

    url: str
    bot: BotServer
    queue: Queue
    notices: Notices
    notifier: Notifier
    _numbers: Any = field(default_factory=lambda: count(1))

    def told(self, *buttons: Button, cause: str = CAUSE) -> dict[str, Any]:
        """The message about something, as the person sees it."""
        self.notifier("mail is <held> back.", cause=cause, severity="warning", buttons=buttons)
        return self.bot.messages[-1]

    def press(
        self, message: dict[str, Any], number: int = 0, *, secret: str | None = SECRET, chat: Any = None,
        data: Any = None,
    ) -> httpx.Response:  # fmt: skip
        id = f"cb{next(self._numbers)}"
        update = {
            "update_id": next(self._numbers),
            "callback_query": {
                "id": id,
                "from": {"id": 7, "is_bot": False, "first_name": "Joel"},
                "message": {
                    "message_id": message["message_id"],
                    "chat": {"id": message["chat"]["id"] if chat is None else chat, "type": "private"},
                    "date": 1_772_323_200,
                    "text": message["text"],
                },
                "chat_instance": "1",
                "data": message["keyboard"][number]["callback_data"] if data is None else data,
            },
        }
        return self.post(update, secret)

    def post(self, update: Any, secret: str | None = SECRET) -> httpx.Response:
        headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
        return HTTP.post(f"{self.url}/webhooks/telegram", content=json.dumps(update), headers=headers)

    @property
    def said(self) -> list[str]:
        """What whoever pressed has read."""
        return list(self.bot.answered.values())

    def pauses(self) -> list[str]:
        return [each["gate"] for each in self.queue.store.snapshot()["pauses"]]


@pytest.fixture
def chat(ingress: ServedIngress, bots: BotServer, redis_url: str, tmp_path: Any) -> Iterator[Chat]:
    bots.messages.clear()
    bots.answered.clear()
    bots.asked.clear()
    settings = Settings(redis_url=redis_url, home=tmp_path, **telegram(bots))
    store = Store.connect(settings)
    yield Chat(
        ingress.url,
        bots,
        Queue(store, settings, actor="observer"),
        Notices(store),
        Notifier.of(settings, store),
    )
    store.client.close()


def test_resume_lets_a_family_go_as_whoever_pressed_it(chat):
    chat.queue.pause(GATE, reason="circuit: it fails")
    message = chat.told(resume_button(GATE), mute_button(CAUSE))

    reply = chat.press(message)

    assert 200 == reply.status_code
    assert [] == chat.pauses()
    act = chat.queue.acts()[-1]
    assert ("resume", GATE, "telegram:42") == (act.verb, act.target, act.actor)
    assert "button under a notification about observer.mail, pressed by user 7" == act.reason
    assert [f"mail goes again ({act.id})"] == chat.said
    assert message["text"].startswith("⚠️ warning\nmail is <held> back.\n\n✓ ")
    assert message["text"].endswith(f" UTC: mail goes again ({act.id})")
    assert [] == message["keyboard"]


def test_a_button_acts_once_however_often_and_by_how_many_it_is_pressed(chat):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))
    data = message["keyboard"][0]["callback_data"]

    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(chat.press(message, data=data).status_code))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chat.queue.pause(GATE)
    chat.press(message, data=data)

    assert [200] * 6 == replies
    assert [GATE] == chat.pauses()
    assert 1 == [act.verb for act in chat.queue.acts()].count("resume")
    assert 1 == message["text"].count("✓")
    assert 6 == sum(said.startswith("Nothing more to do: telegram:42: ") for said in chat.said)


def test_the_same_button_in_another_chat_is_answered_and_does_nothing(chat):
    chat.notifier = Notifier.of(
        Settings(
            redis_url=chat.queue.settings.redis_url, **telegram(chat.bot, "42,-77")
        ), chat.queue.store,
    )  # fmt: skip
    chat.queue.pause(GATE)
    chat.told(resume_button(GATE))
    first, second = chat.bot.messages

    chat.press(first)
    chat.press(second)

    assert 1 == [act.verb for act in chat.queue.acts()].count("resume")
    assert chat.said[1].startswith("Nothing more to do: telegram:42: mail goes again")


def test_approve_carries_out_the_pause_that_was_proposed(chat):
    message = chat.told(approve_pause_button(GATE, "1h"), mute_button(CAUSE))

    chat.press(message)

    (control,) = chat.queue.controls()
    assert ("pause", GATE, "telegram:42", 3_600_000) == (
        control.verb, control.target, control.actor, control.until_at - control.at,
    )  # fmt: skip
    assert [f"mail is paused for 1h ({control.id})"] == chat.said


def test_mute_stops_a_cause_for_four_hours_and_no_other(chat):
    message = chat.told(resume_button(GATE), mute_button(CAUSE))

    chat.press(message, 1)
    chat.notifier("It fails worse.", cause=CAUSE, severity="critical")
    chat.notifier("The disk is full.", cause="disk")

    assert ["The disk is full."] == chat.bot.texts[1:]
    ((cause, mute),) = chat.notices.mutes().items()
    assert (CAUSE, "telegram:42") == (cause, mute["actor"])
    assert 0 <= chat.notices.now_ms() + 4 * 3_600_000 - mute["until_at"] < 60_000
    assert ["muted for 4h"] == chat.said


def test_what_is_over_by_now_is_said_so(chat):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))
    chat.queue.resume(GATE)

    chat.press(message)

    assert ["not done: pause:family/mail is not paused"] == chat.said
    assert [] == message["keyboard"]


def a_diagnosis(chat: Chat) -> str:
    """A diagnosis that is kept; answers its id."""
    subject = {"kind": "family", "name": "mail", "family": "mail", "handler": "", "signature": "abc123"}
    diagnoses = Diagnoses(chat.queue.store)
    record = {"evidence": {"subject": subject}, "diagnosis": {"candidates": [{}]}}
    id, _ = diagnoses.begin(record, free=["abc123"], hold=["abc123"])
    return id


@pytest.mark.parametrize(("number", "verdict"), [(0, "accepted"), (1, "rejected")])
def test_a_diagnosis_is_judged_by_a_press_and_nothing_else_is_changed(chat, number, verdict):
    chat.queue.pause(GATE)
    acts = len(chat.queue.acts())
    id = a_diagnosis(chat)
    buttons = verdict_buttons(id)
    chat.notifier("Mail fails.", cause="diagnosis.abc123", change="opened", buttons=buttons)
    [message] = chat.bot.messages

    reply = chat.press(message, number)

    assert 200 == reply.status_code
    judged = Diagnoses(chat.queue.store).get(id)["verdict"]
    assert (verdict, "telegram:42") == (judged["verdict"], judged["actor"])
    assert "button under a notification about diagnosis.abc123, pressed by user 7" == judged["reason"]
    assert [f"{id} is {verdict}; nothing else was changed"] == chat.said
    assert [] == message["keyboard"]
    assert ([GATE], acts) == (chat.pauses(), len(chat.queue.acts()))
    newest = chat.notices.log(1)[0]["note"]
    assert (f"Diagnosis {id} is {verdict} by telegram:42.", "diagnosis.abc123", "resolved") == (
        newest["text"], newest["cause"], newest["change"],
    )  # fmt: skip


def test_a_second_thought_takes_the_place_of_the_first_and_says_so(chat):
    id = a_diagnosis(chat)
    message = chat.told(*verdict_buttons(id), cause="diagnosis.abc123")
    accept, reject = (each["callback_data"] for each in message["keyboard"])

    for data in (accept, reject, accept):
        chat.press(message, data=data)

    judged = Diagnoses(chat.queue.store).get(id)["verdict"]
    assert ("rejected", "accepted") == (judged["verdict"], judged["before"])
    assert f"{id} is rejected (it was accepted); nothing else was changed" == chat.said[1]
    assert chat.said[2].startswith(f"Nothing more to do: telegram:42: {id} is accepted")


def test_a_diagnosis_that_is_gone_cannot_be_judged(chat):
    message = chat.told(*verdict_buttons("d404"), cause="diagnosis.abc123")

    chat.press(message)

    assert ["not done: no diagnosis has the id 'd404'"] == chat.said
    assert [] == Diagnoses(chat.queue.store).recent()


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET.upper(), "é"])
def test_without_the_secret_token_nothing_is_read(chat, secret):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))

    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret.encode()}
    reply = HTTP.post(f"{chat.url}/webhooks/telegram", content=b"{not json", headers=headers)

    check_error(reply, 401, "TOKEN_INVALID")
    assert [GATE] == chat.pauses()
    assert 1 == len(message["keyboard"])


def test_a_chat_that_is_not_on_the_list_does_nothing_and_hears_nothing(chat):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))
    before = len(chat.bot.asked)

    replies = [chat.press(message, chat=other) for other in (41, "43", 4.2, -42, [42], {"id": 42})]

    assert [200] * 6 == [reply.status_code for reply in replies]
    assert ([GATE], []) == (chat.pauses(), chat.said)
    assert before == len(chat.bot.asked)


def test_what_was_not_signed_by_us_or_for_another_chat_does_nothing(chat):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE), mute_button(CAUSE))
    first, second = (each["callback_data"] for each in message["keyboard"])
    id, number, until, signature = first.split(".")
    made_up = [
        first[:-1] + ("A" if first[-1] != "A" else "B"),
        f"{id}.1.{until}.{signature}",
        f"{id}.{number}.ffffffff.{signature}",
        f"{id}.7.{until}.{signature}",
        second.replace(id, "2-" + "0" * 32),
        "resume", "", "x" * 64, "3-" + "0" * 32, 7, None, ["x"],
    ]  # fmt: skip

    for data in made_up:
        reply = chat.press(message, data={} if data is None else data)
        assert 200 == reply.status_code, data
    assert 200 == chat.press(message, chat=-77).status_code  # a chat that may, but not with this one

    assert [GATE] == chat.pauses()
    assert {} == chat.notices.mutes()
    assert {"this is none of our buttons", "this button is too old"} == set(chat.said)
    assert 2 == len(message["keyboard"])


def test_what_a_button_does_cannot_be_changed_where_it_is_kept(chat, client):
    message = chat.told(resume_button(GATE))
    key = next(iter(client.keys("{jc}:notify_buttons:*")))
    client.set(key, client.get(key).replace("family/mail", "family/pay"))
    chat.queue.pause("pause:family/pay")

    chat.press(message)

    assert ["pause:family/pay"] == chat.pauses()
    assert ["this is none of our buttons"] == chat.said


def test_a_button_is_good_for_a_day():
    button = mute_button("x")
    notice = Notice("1-" + "0" * 32, 1_000_000, "text", "x", buttons=(button,))
    [[wire]] = signed_buttons(notice, "42", BOT_TOKEN)
    press = Press.of(wire["callback_data"])

    press.check(button, "42", ["another", BOT_TOKEN], 1_000_000 + COUNTS_S * 1_000 - 1)
    with pytest.raises(ButtonRefused, match="too old"):
        press.check(button, "42", [BOT_TOKEN], 1_000_000 + COUNTS_S * 1_000)
    for chat, tokens in (("43", [BOT_TOKEN]), ("42", ["another"]), ("42", [])):
        with pytest.raises(ButtonRefused, match="none of our"):
            press.check(button, chat, tokens, 1_000_000)


@pytest.mark.parametrize(
    "update",
    [
        {}, [], None, 7, "text", {"update_id": 1, "message": {"text": "/start", "chat": {"id": 42}}},
        {"callback_query": None}, {"callback_query": []}, {"callback_query": {}},
        {"callback_query": {"id": 1, "message": None, "data": "x"}},
        {"callback_query": {"id": 1, "message": {"chat": 42}, "data": "x"}},
        {"callback_query": {"id": {}, "message": {"chat": {"id": 42}}, "from": "me", "data": {}}},
    ],
)  # fmt: skip
def test_whatever_else_an_update_is_is_answered_and_does_nothing(chat, update):
    assert 200 == chat.post(update).status_code
    assert [] == chat.queue.acts()


def test_what_is_no_json_or_too_large_is_refused(chat):
    def send(body: bytes) -> httpx.Response:
        headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
        return HTTP.post(f"{chat.url}/webhooks/telegram", content=body, headers=headers)

    check_error(send(b"{"), 400, "JSON_INVALID")
    check_error(send(b"[" * 70_000), 413, "PAYLOAD_TOO_LARGE")


def test_a_press_counts_even_when_telegram_cannot_be_answered(chat):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))
    chat.bot.next_answers = [Answer(500, {"ok": False})] * 2

    assert 200 == chat.press(message).status_code

    assert [] == chat.pauses()
    assert 1 == [act.verb for act in chat.queue.acts()].count("resume")


def test_whoever_died_half_way_leaves_the_button_to_the_next_press(chat, client):
    chat.queue.pause(GATE)
    message = chat.told(resume_button(GATE))
    press = Press.of(message["keyboard"][0]["callback_data"])
    assert chat.notices.press(press.key, "telegram:42") is None  # and died

    chat.press(message)
    assert [GATE] == chat.pauses()
    assert ["Nothing more to do: telegram:42: is being done"] == chat.said
    assert 0 < client.pttl("{jc}:notify_button:" + press.key) <= 30_000
    client.delete("{jc}:notify_button:" + press.key)  # half a minute later
    chat.press(message)

    assert [] == chat.pauses()


def test_while_redis_is_away_telegram_is_asked_to_send_it_again(tmp_path, bots, redis_url):
    from starlette.testclient import TestClient

    settings = Settings(
        redis_url="redis://127.0.0.1:9/0", home=tmp_path, telegram_webhook_secret=SECRET, **telegram(bots)
    )
    with TestClient(create_app(settings)) as http:
        reply = http.post(
            "/webhooks/telegram",
            json={
                "callback_query": {
                    "id": "1", "message": {"chat": {"id": 42}, "message_id": 1},
                    "data": "1-" + "0" * 32 + ".0.ffffffff." + "A" * 16,
                }
            },
            headers={"X-Telegram-Bot-Api-Secret-Token": SECRET},
        )  # fmt: skip

    assert (503, "REDIS_UNREACHABLE") == (reply.status_code, reply.json()["error"]["code"])
    assert "5" == reply.headers["Retry-After"]


def test_without_a_bot_there_are_no_presses(tmp_path, redis_url):
    with pytest.raises(SettingsError, match="TELEGRAM_BOT_TOKEN"):
        Presses.of(Settings(redis_url=redis_url, home=tmp_path))


@pytest.fixture(autouse=True)
def no_leftovers(redis_server: str) -> Iterator[None]:
    yield
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
