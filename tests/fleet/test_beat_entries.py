"""What beat emits is known to the registry of this fleet, whatever the schedule that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

ROOT = Path(__file__).parents[2]
FEEDS = "subscription-check-feeds-requested.json"


def entries(tmp_path: Path, *files: str) -> set[str]:
    (tmp_path / "events").mkdir()
    for name in files:
        (tmp_path / "events" / name).write_text((ROOT / "registry" / "events" / name).read_text())
    app = make_app(Settings(redis_url="redis://127.0.0.1:1/0", home=tmp_path), Registry.load(tmp_path))
    app.close()
    return set(app.conf.beat_schedule)


def test_an_event_that_the_registry_knows_is_fired(tmp_path: Path) -> None:
    assert {"feeds-hourly", "health-pulse-redis", "notify"} == entries(tmp_path, FEEDS)


def test_an_event_of_another_registry_is_not_a_dead_job_an_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    assert {"health-pulse-redis", "notify"} == entries(tmp_path, "discovery-noted.json")

    assert ["beat leaves out feeds-hourly: the registry has no event subscription/check-feeds.requested"] == [
        record.getMessage() for record in caplog.records if record.name == "joelclaw_tasks.fleet.app"
    ]
