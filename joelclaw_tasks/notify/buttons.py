"""Buttons: what a press sends back, signed, so that nobody can make one up.

The 64 bytes that Telegram carries hold which notification and button it is, until when it counts, and a
signature over these, the chat, and what the button does. That is kept in Redis with the notification; the
signature says that it is still the same.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.notify.notification import Button, Notice

#: How long a button may be pressed.
COUNTS_S = 86_400
_DATA = re.compile(r"([0-3]-[0-9a-f]{32})\.(\d)\.([0-9a-f]{8})\.([\w-]{16})", re.ASCII)


class ButtonRefused(JoelclawError):
    """A press does not count: it is too old, or not one of ours."""

    code = "NOTIFY_BUTTON_REFUSED"
    fix = "Use the same command on the command line; `joelclaw queue depth` shows what is paused."


@dataclass(frozen=True, slots=True)
class Press:
    """What came back: the id of the notification, the number of its button, until when it counts."""

    notice: str
    number: int
    until_s: int
    signature: str

    @property
    def key(self) -> str:
        """The same for every press of the same button, in whichever chat."""
        return f"{self.notice}.{self.number}"

    @classmethod
    def of(cls, data: object) -> Press:
        """Of the data of a callback. Raises ButtonRefused."""
        match = _DATA.fullmatch(data) if isinstance(data, str) else None
        if match is None:
            raise ButtonRefused("this is none of our buttons")
        return cls(match[1], int(match[2]), int(match[3], 16), match[4])

    def check(self, button: Button, chat: str, tokens: Sequence[str], now_ms: int) -> None:
        """Raise ButtonRefused unless it was signed for this chat and button, and still counts."""
        is_ours = False
        for token in tokens:
            expected = _signature(token.strip(), self.notice, self.number, self.until_s, chat, button)
            is_ours |= hmac.compare_digest(expected, self.signature)
        if not is_ours:
            raise ButtonRefused("this is none of our buttons")
        if now_ms >= self.until_s * 1_000:
            raise ButtonRefused("this button is too old")


def signed_buttons(notice: Notice, chat: str, token: str) -> list[list[dict[str, str]]]:
    """The inline keyboard of a notice for a chat: a row for each button."""
    until_s = notice.at // 1_000 + COUNTS_S
    rows = []
    for number, button in enumerate(notice.buttons[:10]):
        signature = _signature(token, notice.id, number, until_s, chat, button)
        rows.append(
            [{"text": button.label, "callback_data": f"{notice.id}.{number}.{until_s:08x}.{signature}"}]
        )
    return rows


def _signature(token: str, notice: str, number: int, until_s: int, chat: str, button: Button) -> str:
    key = hmac.digest(token.encode("utf-8", "surrogateescape"), b"joelclaw buttons", "sha256")
    said = json.dumps([notice, number, until_s, chat, button.to_wire()], sort_keys=True)
    return urlsafe_b64encode(hmac.digest(key, said.encode(), "sha256")[:12]).decode()
