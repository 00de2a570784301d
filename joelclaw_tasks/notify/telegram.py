"""Telegram: notifications by a bot, with buttons. Speaks the Bot API."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from joelclaw_tasks.notify.buttons import signed_buttons
from joelclaw_tasks.notify.http import Redirected, bounded, check, printable
from joelclaw_tasks.notify.notification import Notice
from joelclaw_tasks.notify.sink import SinkAway
from joelclaw_tasks.retry_after import read_retry_after_s

#: Telegram counts UTF-16 units, after the entities are parsed.
MOST_UNITS = 4_096
_MARKS = {"warning": "⚠️", "error": "🔴", "critical": "🚨"}
#: Never connected to: the real address and the token are put in below the client (see Redirected).
_HERE = "http://telegram"


class BotApi:
    """The Bot API with one bot's token. `tokens` answers those that count now; the first is used."""

    def __init__(self, base_url: str, tokens: Callable[[], Sequence[str]]) -> None:
        self._base_url = base_url
        self.tokens = tokens

    @property
    def token(self) -> str:
        """The token. Raises SinkAway when there is none."""
        tokens = self.tokens()
        if not tokens:
            raise SinkAway("telegram has no token: set TELEGRAM_BOT_TOKEN")
        return tokens[0].strip()

    def call(self, method: str, **fields: Any) -> Any:
        """The result of a method. Raises SinkAway and SinkRefused, whose texts hold no token."""
        token = self.token

        def ask() -> httpx.Response:
            transport = Redirected(self._base_url, f"/bot{token}")
            with httpx.Client(base_url=_HERE, transport=transport) as client:
                return client.post(f"/{method}", json=fields)

        response = bounded(ask, "telegram")
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        answer = answer if isinstance(answer, dict) else {}
        if response.status_code == 200 and answer.get("ok") is True:
            return answer.get("result")
        said = printable(answer.get("description", "")).replace(token, "***")
        if response.status_code == 429:
            parameters = answer.get("parameters")
            wait_s = parameters.get("retry_after") if isinstance(parameters, dict) else None
            raise SinkAway(f"telegram answered 429: {said}", read_retry_after_s(str(wait_s)))
        if response.status_code == 404:
            # No such bot: the token is wrong, which somebody may put right.
            raise SinkAway(f"telegram answered 404: {said}; is TELEGRAM_BOT_TOKEN right?")
        check(response, "telegram", said)
        raise SinkAway("telegram answered something that is no Bot API")


class Telegram:
    """The sink of one chat."""

    merges = True

    def __init__(self, api: BotApi, chat: str, most_per_hour: int) -> None:
        self.name = f"telegram:{chat}"
        self.most_per_hour = most_per_hour
        self._api = api
        self._chat = chat

    def send(self, notice: Notice) -> None:
        """Send it as one message of the bot."""
        fields: dict[str, Any] = {
            "chat_id": self._chat,
            "text": text_of(notice),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
            # At night nobody is woken up by what is only worth knowing.
            "disable_notification": notice.severity == "info",
        }
        if notice.buttons:
            fields["reply_markup"] = {"inline_keyboard": signed_buttons(notice, self._chat, self._api.token)}
        self._api.call("sendMessage", **fields)


def text_of(notice: Notice) -> str:
    """The text in Telegram's HTML, cut to what a message may hold."""
    mark = _MARKS.get(notice.severity)
    head = f"{mark} {notice.severity}\n" if mark else ""
    body = "\n".join((notice.text, *(f"• {line}" for line in notice.lines)))
    return f"<b>{html.escape(head)}</b>{escaped(body, MOST_UNITS - units(head))}" if head else escaped(body)


def escaped(text: str, most_units: int = MOST_UNITS) -> str:
    """Plain text as Telegram's HTML; what is over `most_units` is cut before it is escaped."""
    return html.escape(cut(text, most_units), quote=False)


def cut(text: str, most_units: int) -> str:
    """Text of at most so many UTF-16 units, with an ellipsis where something is missing."""
    if units(text) <= most_units:
        return text
    kept = text.encode("utf-16-le", "replace")[: 2 * (most_units - 1)]
    return kept.decode("utf-16-le", "ignore") + "…"


def units(text: str) -> int:
    """How long Telegram says that a text is."""
    return len(text.encode("utf-16-le", "replace")) // 2


def answered_text(before: str, outcome: str, now_ms: int) -> str:
    """What a message says once one of its buttons was pressed."""
    clock = f"{datetime.fromtimestamp(now_ms / 1_000, UTC):%H:%M} UTC"
    line = f"\n\n✓ {clock}: {outcome}"
    return escaped(cut(before, MOST_UNITS - units(line)) + line)
