"""Sinks: where notifications go, as the settings say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.notify.console import Console
from joelclaw_tasks.notify.sink import Sink
from joelclaw_tasks.notify.telegram import BotApi, Telegram
from joelclaw_tasks.notify.todoist import Todoist
from joelclaw_tasks.notify.webhook import Webhook
from joelclaw_tasks.settings import Settings

KINDS = ("console", "telegram", "todoist", "webhook")
#: A number, negative for a group, or the name of a public channel.
_CHAT = re.compile(r"-?\d{1,20}|@\w{3,64}", re.ASCII)


def kinds_of(settings: Settings) -> list[str]:
    """The kinds that JOELCLAW_NOTIFY names, the console always first. Raises SettingsError."""
    named = [kind for part in settings.notify.split(",") if (kind := part.strip().lower())]
    unknown = [kind for kind in named if kind not in KINDS]
    if unknown:
        raise SettingsError(f"JOELCLAW_NOTIFY knows no {unknown[0]!r:.40}, only {', '.join(KINDS)}")
    return ["console", *(kind for kind in KINDS[1:] if kind in named)]


def chats_of(settings: Settings) -> list[str]:
    """The chats that are told, and may press buttons. Raises SettingsError."""
    chats = [chat for part in settings.telegram_chat_ids.split(",") if (chat := part.strip())]
    wrong = [chat for chat in chats if not _CHAT.fullmatch(chat)]
    if wrong:
        raise SettingsError(f"TELEGRAM_CHAT_IDS must be numbers with commas between, not {wrong[0]!r:.40}")
    return list(dict.fromkeys(chats))


def bot_of(settings: Settings) -> BotApi:
    """The bot. Raises SettingsError when it has no token."""
    tokens = Credentials(settings.telegram_bot_token, settings.telegram_bot_token_file)
    return BotApi(settings.telegram_base_url, _needed(tokens, "telegram", "TELEGRAM_BOT_TOKEN"))


def names_of(settings: Settings) -> list[str]:
    """What the outboxes of the sinks are called; needs no secrets. Raises SettingsError."""
    names = []
    for kind in kinds_of(settings):
        names += [f"telegram:{chat}" for chat in chats_of(settings)] if kind == "telegram" else [kind]
    return names


def sinks_of(
    settings: Settings, notices: Notices | None = None, console: Console | None = None
) -> Sequence[Sink]:
    """One sink for each address. Raises SettingsError when one lacks what it needs."""
    sinks: list[Sink] = []
    most = settings.notify_most_per_hour
    for kind in kinds_of(settings):
        if kind == "console":
            sinks.append(console or Console())
        elif kind == "telegram":
            bot, chats = bot_of(settings), chats_of(settings)
            if not chats:
                raise SettingsError("JOELCLAW_NOTIFY names telegram: set TELEGRAM_CHAT_IDS")
            sinks += [Telegram(bot, chat, most) for chat in chats]
        elif kind == "todoist":
            tokens = Credentials(settings.todoist_api_token, settings.todoist_api_token_file)
            tokens = _needed(tokens, kind, "TODOIST_API_TOKEN")
            sinks.append(Todoist(settings.todoist_base_url, tokens, notices, most))
        else:
            secrets = Credentials(settings.notify_webhook_secret, settings.notify_webhook_secret_file)
            if settings.notify_webhook_url is None:
                raise SettingsError("JOELCLAW_NOTIFY names webhook: set JOELCLAW_NOTIFY_WEBHOOK_URL")
            secrets = _needed(secrets, kind, "JOELCLAW_NOTIFY_WEBHOOK_SECRET")
            sinks.append(Webhook(settings.notify_webhook_url, secrets, most))
    return sinks


def _needed(credentials: Credentials, kind: str, variable: str) -> Credentials:
    if not credentials():
        raise SettingsError(f"JOELCLAW_NOTIFY names {kind}: set {variable}, or {variable}_FILE")
    return credentials
