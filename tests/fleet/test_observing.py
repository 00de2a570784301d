"""The observer as a task of the fleet, and as an entry of beat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.settings import Settings

ROOT = Path(__file__).parents[2]


def beat_entries(**env: str) -> dict[str, object]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOELCLAW_", "QUEUE_"))}
    code = "import json, beat_schedule; print(json.dumps(beat_schedule.beat_schedule, default=str))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept | env, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def test_beat_sends_the_observer_only_when_somebody_wants_it() -> None:
    assert "observer" not in beat_entries()
    assert {"task": "joelclaw.observe", "schedule": 60.0, "options": {"expires": 55.0}} == beat_entries(
        QUEUE_OBSERVER_MODE="dry-run", QUEUE_OBSERVER_INTERVAL_SECONDS="30"
    )["observer"]
    assert (
        300.0
        == beat_entries(QUEUE_OBSERVER_MODE="enforce", QUEUE_OBSERVER_INTERVAL_SECONDS="300")["observer"][
            "schedule"
        ]
    )


@pytest.mark.parametrize(
    ("mode", "statuses"), [("off", ["disabled", "disabled"]), ("dry-run", ["dry-run", "skipped"])]
)
def test_the_task_makes_one_pass_an_interval(
    redis_url: str, tmp_path: Path, mode: str, statuses: list[str]
) -> None:
    app = make_app(Settings(redis_url=redis_url, home=tmp_path, observer_mode=mode))

    records = [app.tasks["joelclaw.observe"].apply(throw=True).get() for _ in range(2)]

    app.close()
    assert statuses == [record["status"] for record in json.loads(json.dumps(records))]
