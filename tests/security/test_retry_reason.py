"""Why a job is retried stands in the transitions stream, without what its payload calls a secret."""

from __future__ import annotations

import json
from pathlib import Path

from joelclaw_tasks.testing.embedded import fleet


def test_a_reason_holds_no_secret_of_the_payload(tmp_path: Path) -> None:
    handler = {
        "name": "leak.refuse", "type": "task", "target": "tests.security.leaking_tasks:refuse",
        "queue": "io", "retries": {"max": 3, "base_s": 60},
    }  # fmt: skip
    event = {"name": "leak/asked", "description": "Fails.", "priority": "P1", "handlers": [handler]}
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "leak-asked.json").write_text(json.dumps(event))
    (tmp_path / "resources.json").write_text("{}")

    with fleet(tmp_path, data_dir=tmp_path) as run:
        run.emit("leak/asked", {"password": "correct-horse-battery"})
        run.wait_idle()
        reasons = [entry.text("reason") for entry in run.store.history.read(verbs=["retry"])]

    assert ["ValueError: *** was refused"] == reasons
