"""A queue whose clock is the test's, on a real Redis, and its digests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.routines.digest.digests import CLOSES_AFTER_MS, Digests
from joelclaw_tasks.routines.digest.window import Window
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock
from tests.diagnosis.conftest import Clinic
from tests.diagnosis.conftest import api as api  # noqa: PLC0414  # as a fixture
from tests.diagnosis.conftest import client_of as client_of  # noqa: PLC0414  # as a fixture
from tests.diagnosis.conftest import clinic as clinic  # noqa: PLC0414  # as a fixture
from tests.diagnosis.conftest import models as models  # noqa: PLC0414  # as a fixture
from tests.diagnosis.conftest import spending as spending  # noqa: PLC0414  # as a fixture
from tests.observer.conftest import World
from tests.observer.conftest import settings as settings  # noqa: PLC0414  # as a fixture

HOUR_MS = 3_600_000


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    """Of some days ago: the stream's own ids are of today, and a window is read from its first id on."""
    world = World(settings, Clock(datetime.now(UTC) - timedelta(days=9)))
    yield world
    world.store.client.close()


def answer(**changes: Any) -> dict[str, Any]:
    told = {
        "summary": "Mail fails. The rest went well.", "key_events": ["Mail failed 3 times."],
        "learnings": [], "connections": ["joel paused note."], "tomorrow": [],
        "open_questions": ["Who runs the mail server?"],
    }  # fmt: skip
    return told | changes


def now_in(length_ms: int) -> Window:
    """The window of that length that has not ended yet, by the clock of the machine."""
    start = int(time.time() * 1_000) // length_ms * length_ms
    return Window(start, start + length_ms)


class Office:
    """Work happens in `now`, the window of an hour that began last; `close` lets it end and closes it."""

    def __init__(self, clinic: Clinic, models: ModelClient, folder: Path) -> None:
        self.clinic, self.world = clinic, clinic.world
        self.digests = Digests(clinic.store, folder, lambda: models)
        self.next_hour()

    @property
    def now(self) -> Window:
        start = self.world.clock.now_ms() // HOUR_MS * HOUR_MS
        return Window(start, start + HOUR_MS)

    def next_hour(self) -> Window:
        """The window that has just ended."""
        ended = self.now
        self.world.clock.move_to(ended.end_at + CLOSES_AFTER_MS)
        return ended

    def close(self, mode: str = "rules", **options: Any) -> Any:
        return self.digests.close(self.next_hour(), mode, **options)

    def page(self, window: str) -> str:
        return Path(self.digests.records.get(window).path).read_text()


@pytest.fixture
def office(clinic: Clinic, models: ModelClient, tmp_path: Path) -> Office:
    return Office(clinic, models, tmp_path / "digests")
