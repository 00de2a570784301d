"""Presses: what a button does, once, by the verbs that the command line has too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from joelclaw_tasks.core.diagnoses import Diagnoses, Verdict
from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError, RestateAway, SettingsError
from joelclaw_tasks.intelligence.diagnosis.records import cause_of
from joelclaw_tasks.notify.buttons import ButtonRefused, Press
from joelclaw_tasks.notify.notification import Button
from joelclaw_tasks.notify.notifier import Notifier, telling
from joelclaw_tasks.notify.sink import SinkAway, SinkRefused
from joelclaw_tasks.notify.sinks import bot_of, chats_of
from joelclaw_tasks.notify.telegram import BotApi, answered_text, cut
from joelclaw_tasks.restate.runs import Runs, ServiceAway
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from joelclaw_tasks.steering.ttl import parse_ttl_ms

log = logging.getLogger(__name__)

_REDIS_WITHIN_S = 2.0
#: Telegram takes no longer word for a press.
_MOST_WORD = 190


@dataclass(frozen=True, slots=True)
class Presses:
    """Takes presses from the chats that may. `queue` and `notices` are on the same Redis.

    `tell` tells everybody else of a verdict.
    """

    bot: BotApi
    chats: Sequence[str]
    notices: Notices
    queue: Queue
    tell: Callable[..., object]

    @classmethod
    def of(cls, settings: Settings) -> Presses:
        """As the settings say. Raises SettingsError, CoreUnreachable when no Redis is known."""
        store = Store.connect(settings, timeout_s=_REDIS_WITHIN_S)
        tell = telling(lambda: Notifier.of(settings, store))
        return cls(bot_of(settings), chats_of(settings), Notices(store), Queue(store, settings), tell)

    def take(self, callback: Mapping[str, Any]) -> str:
        """Do what the button of a callback query says, and show it in the chat; answers what came of it.

        Raises CoreUnreachable: then nothing was done, and the same press may come again.
        """
        message = callback.get("message")
        chat = message.get("chat") if isinstance(message, dict) else None
        chat_id = str(chat.get("id")) if isinstance(chat, dict) else ""
        if not isinstance(message, dict) or chat_id not in self.chats:
            log.warning("telegram: a press from a chat that may not: %.40r", chat_id)
            return "this chat may not press buttons"
        try:
            outcome, is_new, note = self._carry_out(callback, chat_id)
        except ButtonRefused as error:
            outcome, is_new, note = str(error), False, {}
        self._show(callback, message, chat_id, outcome, is_new=is_new, note=note)
        return outcome

    def _carry_out(self, callback: Mapping[str, Any], chat_id: str) -> tuple[str, bool, Mapping[str, Any]]:
        press = Press.of(callback.get("data"))
        note = self.notices.with_buttons(press.notice)
        if note is None:
            raise ButtonRefused("this button is too old")
        try:
            button = Button.of(note["buttons"][press.number])
        except (KeyError, IndexError, TypeError, ValueError):
            raise ButtonRefused("this is none of our buttons") from None
        press.check(button, chat_id, self.bot.tokens(), self.notices.now_ms())
        actor = f"telegram:{chat_id}"
        before = self.notices.press(press.key, actor)
        if before is not None:
            return f"Nothing more to do: {before}", False, note
        try:
            outcome = self._act(button, actor, _reason(callback, note))
        except (CoreUnreachable, redis.RedisError):
            self._take_back(press)
            raise
        except (RestateAway, ServiceAway, SettingsError) as error:
            self._take_back(press)
            return f"not done, press again later: {error}", False, note
        except JoelclawError as error:
            outcome = f"not done: {error}"
        self.notices.pressed(press.key, actor, outcome)
        log.info("%s: %s %s: %s", actor, button.verb, button.target, outcome)
        return outcome, True, note

    def _act(self, button: Button, actor: str, reason: str) -> str:
        if button.verb == "mute":
            until_at = self.notices.now_ms() + parse_ttl_ms(button.ttl)
            self.notices.mute(button.target, until_at, actor=actor, reason=reason)
            return f"muted for {button.ttl}"
        if button.verb in ("approve", "deny"):
            return self._answer(button, actor, reason)
        if button.verb in ("accept", "reject"):
            return self._judge(button, actor, reason)
        name = button.target.removeprefix("pause:").partition("/")[2]
        if button.verb == "resume":
            done = self.queue.resume(button.target, actor=actor, reason=reason)
            return f"{name} goes again ({done.id})"
        done = self.queue.pause(button.target, ttl=button.ttl, actor=actor, reason=reason)
        return f"{name} is paused for {button.ttl} ({done.id})"

    def _answer(self, button: Button, actor: str, reason: str) -> str:
        """Answer an approval, which somebody else may have done before. Raises RestateAway."""
        run, _, step = button.target.rpartition("/")
        runs = Runs.of(self.queue.settings)
        try:
            runs.answer(run, step, approved=button.verb == "approve", by=actor, note=reason)
        finally:
            runs.close()
        return f"{step} is {'approved' if button.verb == 'approve' else 'denied'}"

    def _judge(self, button: Button, actor: str, reason: str) -> str:
        verdict: Verdict = "accepted" if button.verb == "accept" else "rejected"
        record = Diagnoses(self.queue.store).judge(button.target, verdict, actor=actor, reason=reason)
        said = f"Diagnosis {record['id']} is {verdict} by {actor}."
        self.tell(said, cause=cause_of(record), change="resolved")
        before = record["verdict"]["before"]
        was = f" (it was {before})" if before not in (None, verdict) else ""
        return f"{record['id']} is {verdict}{was}; nothing else was changed"

    def _take_back(self, press: Press) -> None:
        try:
            self.notices.unpress(press.key)
        except (CoreUnreachable, redis.RedisError):
            pass  # it goes by itself within half a minute

    def _show(
        self,
        callback: Mapping[str, Any],
        message: Mapping[str, Any],
        chat_id: str,
        outcome: str,
        *,
        is_new: bool,
        note: Mapping[str, Any],
    ) -> None:
        """Answer the press; after the first one the message says what was done, and has no buttons."""
        try:
            self.bot.call(
                "answerCallbackQuery",
                callback_query_id=str(callback.get("id")),
                text=cut(outcome, _MOST_WORD),
            )
        except (SinkAway, SinkRefused) as error:
            log.warning("a press was not answered: %s", error)
        if not is_new:
            return
        before = message.get("text")
        text = before if isinstance(before, str) and before else str(note.get("text", ""))
        try:
            self.bot.call(
                "editMessageText",
                chat_id=chat_id,
                message_id=message.get("message_id"),
                text=answered_text(text, outcome, self.notices.now_ms()),
                parse_mode="HTML",
            )
        except (SinkAway, SinkRefused) as error:
            log.warning("a message still shows its buttons: %s", error)


def _reason(callback: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    sender = callback.get("from")
    user = sender.get("id") if isinstance(sender, dict) else None
    who = f"user {user}" if isinstance(user, int) else "somebody"
    return f"button under a notification about {note.get('cause')}, pressed by {who}"
