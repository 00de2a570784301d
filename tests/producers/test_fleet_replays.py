"""A fleet emits what waits in its spool, at once and again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.fleet.replaying import keep_replaying
from joelclaw_tasks.replay import replay
from joelclaw_tasks.sent_log import SentLog
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until


class Seen:
    def __init__(self) -> None:
        self.events: list[str] = []
        self._heard = asyncio.Event()

    def line(self, name: str, text: str) -> None:
        pass

    def event(self, name: str, what: str) -> None:
        self.events.append(f"{name}: {what}")
        self._heard.set()

    async def hears(self, count: int) -> None:
        while len(self.events) < count:
            self._heard.clear()
            await self._heard.wait()


def test_what_waits_is_emitted_at_once_and_what_comes_later_the_next_time(
    away: Callable[..., Emitter], settings: Settings, store: Store
):
    async def scenario() -> None:
        away().emit("discovery/noted", {"url": "http://a"})
        replaying = asyncio.create_task(keep_replaying(settings, seen, every_s=0.05))
        await seen.hears(1)
        away().emit("discovery/noted", {"url": "http://b"})
        await seen.hears(2)
        replaying.cancel()

    seen = Seen()
    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert ["spool: 1 events emitted"] * 2 == seen.events
    assert 2 == store.snapshot()["total"]


def test_while_redis_is_away_it_says_so_and_tries_again(away: Callable[..., Emitter], settings: Settings):
    async def scenario() -> None:
        away().emit("discovery/noted", {"url": "http://a"})
        elsewhere = replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
        replaying = asyncio.create_task(keep_replaying(elsewhere, seen, every_s=0.05))
        await seen.hears(2)
        replaying.cancel()

    seen = Seen()
    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert all("WARNING: its events wait on: Redis does not answer" in event for event in seen.events)


def test_what_was_noted_of_old_replays_is_deleted(
    away: Callable[..., Emitter], settings: Settings, spool: Path
):
    async def looks(log: SentLog) -> None:
        replaying = asyncio.create_task(keep_replaying(settings, Seen(), every_s=0.01))
        await asyncio.to_thread(wait_until, lambda: not log.path.exists(), "it is deleted")
        replaying.cancel()

    away().emit("discovery/noted", {"url": "http://a"})
    replay(settings)
    log = SentLog(spool, settings.keep_finished_ms)
    assert 1 == len(list(log.read()))
    a_day_ago = time.time() - 86_500
    os.utime(log.path, (a_day_ago, a_day_ago))
    asyncio.run(asyncio.wait_for(looks(log), 20))
    assert [] == list(log.read())
