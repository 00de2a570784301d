"""The fleet's beat goes by the schedules of its registry, and by a change of them without a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from joelclaw_tasks.broker.beat import tick_id
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import RegistryError, UnknownJob
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.fleet.beat import FleetScheduler
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

ROOT = Path(__file__).parents[2]
EVENT = "discovery/noted"
NOON = datetime(2090, 7, 1, 12, 0, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Home:
    """A registry directory with one event, on a real Redis."""

    def __init__(self, path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        (path / "events").mkdir()
        shipped = ROOT / "registry" / "events" / "discovery-noted.json"
        (path / "events" / shipped.name).write_text(shipped.read_text())
        monkeypatch.setenv("JOELCLAW_REGISTRY_DIR", str(path))
        monkeypatch.setenv("JOELCLAW_HOME", str(path))
        self.settings = Settings(redis_url=redis_url, home=path, registry_dir=path)
        self.store = Store.connect(self.settings)
        self.apps: list[Celery] = []

    def write(self, **schedules: dict[str, Any]) -> None:
        document = {"schedules": {name: {"event": EVENT, **one} for name, one in schedules.items()}}
        (self.path / "schedules.json").write_text(json.dumps(document))

    def app(self) -> Celery:
        app = make_app(self.settings, Registry.load(self.path))
        app.conf.broker_url = self.settings.redis_url
        self.apps.append(app)
        return app

    def beat(self) -> FleetScheduler:
        return FleetScheduler(app=self.app())

    def has_fired(self, entry: str, due: datetime) -> bool:
        try:
            self.store.inspect(tick_id(entry, due))
        except UnknownJob:
            return False
        return True


@pytest.fixture
def home(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = Home(tmp_path, redis_url, monkeypatch)
    yield home
    for app in home.apps:
        app.close()


def hour(number: int) -> datetime:
    return datetime(2090, 7, 1, number, tzinfo=UTC)


def test_a_registry_without_schedules_emits_nothing_by_the_clock(home: Home):
    assert {"health-pulse-redis", "notify"} == set(home.app().conf.beat_schedule)


def test_what_is_shipped_has_the_feeds(tmp_path: Path):
    app = make_app(
        Settings(redis_url="redis://127.0.0.1:1/0", home=tmp_path), Registry.load(ROOT / "registry")
    )
    app.close()

    assert {"feeds-hourly", "health-pulse-beat", "notify"} <= set(app.conf.beat_schedule)


def test_a_schedule_fires_in_its_own_time_zone_and_one_that_is_off_never(home: Home):
    berlin = {"cron": "0 15 * * *", "timezone": "Europe/Berlin"}  # 13:00 UTC in summer
    home.write(berlin=berlin, off={**berlin, "enabled": False})
    beat = home.beat()

    beat.tick(NOON)
    beat.tick(NOON + HOUR)

    assert home.has_fired("berlin", hour(13))
    assert not home.has_fired("off", hour(13))


def test_a_changed_file_acts_at_the_next_look_and_only_from_then_on(home: Home):
    home.write(stays={"cron": "0 * * * *"}, moves={"cron": "0 * * * *"}, goes={"cron": "0 * * * *"})
    beat = home.beat()
    beat.tick(NOON)

    home.write(stays={"cron": "0 * * * *"}, moves={"cron": "*/15 * * * *"}, comes={"every_s": 3600})
    beat.tick(NOON + timedelta(minutes=40))
    fired_at_once = [
        home.has_fired("moves", hour(12) + timedelta(minutes=30)),
        home.has_fired("comes", hour(12)),
    ]
    beat.tick(NOON + HOUR)

    assert [False, False] == fired_at_once
    assert [True, True, True, False] == [
        home.has_fired(name, hour(13)) for name in ("stays", "moves", "comes", "goes")
    ]
    assert {"health-pulse-redis", "notify", "stays", "moves", "comes"} == set(beat.schedule)


def test_a_broken_file_is_told_and_the_last_good_one_goes_on(home: Home):
    home.write(hourly={"cron": "0 * * * *"})
    beat = home.beat()
    beat.tick(NOON)

    (home.path / "schedules.json").write_text("{")
    beat.tick(NOON + HOUR)
    assert home.has_fired("hourly", hour(13))
    assert "schedules.json: is not JSON" in beat.fault()
    assert beat.fault() == beat.memory.read().fault

    home.write(hourly={"cron": "30 * * * *"})
    beat.tick(NOON + 2 * HOUR)
    assert ("", "") == (beat.fault(), beat.memory.read().fault)
    assert not home.has_fired("hourly", hour(14))


def test_a_schedule_with_the_name_of_another_entry_is_refused(home: Home):
    home.write(notify={"every_s": 60})

    with pytest.raises(RegistryError, match=r"schedules\.notify: is the name of an entry of beat; rename it"):
        home.app()


def test_a_file_that_takes_the_name_of_another_entry_later_changes_nothing(home: Home):
    home.write(hourly={"cron": "0 * * * *"})
    beat = home.beat()
    home.write(notify={"every_s": 60})

    beat.tick(NOON)

    assert "rename it" in beat.fault()
    assert ["joelclaw.emit", "joelclaw.notify"] == [beat.schedule[name].task for name in ("hourly", "notify")]
