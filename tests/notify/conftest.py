"""Who is told: servers on loopback. The clock is the test's; Redis is real."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock
from tests.notify.servers import (
    BOT_TOKEN,
    TODOIST_TOKEN,
    WEBHOOK_SECRET,
    BotServer,
    TodoistServer,
    WebhookReceiver,
)

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Recorder:
    """A sink that keeps what it is given, for tests of what goes out and when."""

    merges = True

    def __init__(self, name: str = "recorder", most_per_hour: int = 0) -> None:
        self.name = name
        self.most_per_hour = most_per_hour
        self.taken: list[Any] = []
        self.fails: list[Exception] = []

    @property
    def texts(self) -> list[str]:
        return [notice.text for notice in self.taken]

    def send(self, notice: Any) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.taken.append(notice)


class Office:
    """One place that tells: real Redis, the test's clock, and a recorder or the sinks of the settings."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.store = Store.connect(settings, now_ms=clock.now_ms)
        self.notices = Notices(self.store)

    def notifier(self, *sinks: Any, **options: Any) -> Notifier:
        from joelclaw_tasks.notify.notifier import Pace

        return Notifier(self.notices, sinks, Pace(**options))

    def configured(self, **options: Any) -> Notifier:
        from dataclasses import replace

        return Notifier.of(replace(self.settings, **options), self.store)

    def wait(self, ms: int) -> None:
        self.clock.move_to(self.clock.now_ms() + ms)


@pytest.fixture
def office(redis_url: str, tmp_path: Any) -> Iterator[Office]:
    office = Office(Settings(redis_url=redis_url, home=tmp_path), Clock(NOON))
    yield office
    office.store.client.close()


@pytest.fixture
def bot() -> Iterator[BotServer]:
    with BotServer("42", "-77").running() as server:
        yield server


@pytest.fixture
def todoist() -> Iterator[TodoistServer]:
    with TodoistServer().running() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver().running() as server:
        yield server


def telegram(bot: BotServer, chats: str = "42") -> dict[str, Any]:
    """Settings for this bot."""
    return {
        "notify": "telegram", "telegram_bot_token": BOT_TOKEN, "telegram_base_url": bot.url,
        "telegram_chat_ids": chats,
    }  # fmt: skip


def tasks(todoist: TodoistServer) -> dict[str, Any]:
    """Settings for this task list."""
    return {"notify": "todoist", "todoist_api_token": TODOIST_TOKEN, "todoist_base_url": todoist.url}


def webhook(receiver: WebhookReceiver, path: str = "/hook") -> dict[str, Any]:
    """Settings for this receiver."""
    return {
        "notify": "webhook", "notify_webhook_url": receiver.url + path,
        "notify_webhook_secret": WEBHOOK_SECRET,
    }  # fmt: skip
