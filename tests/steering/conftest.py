"""A queue on an empty Redis, and jobs as `emit` and `.delay()` make them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.core.structure import Structure

SLACK_MS = (0, 60_000, 300_000, 900_000)
EVENT = {
    "description": "A note.",
    "priority": "P2",
    "handlers": [
        {
            "name": name, "type": "task", "target": "joelclaw_tasks.handlers.content:validate",
            "queue": "notes", "concurrency": [{"limit": 4}], "resources": ["nas"],
        }
        for name in ("note.index", "note.mail")
    ],
}  # fmt: skip


def job(
    id: str, *, data: Any = None, call: tuple[list[Any], dict[str, Any]] | None = None, **fields: Any
) -> Job:
    """A job of the family note, with the message of an event (`data`) or of a plain call (`call`)."""
    args, kwargs = call or ([{"id": "e", "name": "note", "data": data, "meta": {"by": "ada"}}], {})
    body = base64.b64encode(json.dumps([args, kwargs, {}]).encode()).decode()
    fields = {"queue": "notes", "family": "note", "handler": "note.index", "priority": 2, **fields}
    fields.setdefault("lane", f"{fields['queue']}|{fields['handler']}|")
    fields.setdefault("slack_ms", SLACK_MS[fields["priority"]])
    return Job(
        id=id, payload=json.dumps({"body": body, "properties": {"body_encoding": "base64"}}), **fields
    )  # fmt: skip


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a fleet with one event, note."""
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    (events / "note.json").write_text(json.dumps({"name": "note", **EVENT}))
    (tmp_path / "registry" / "resources.json").write_text(
        json.dumps({"nas": {"limit": 2, "description": "the disks"}})
    )
    return Settings(redis_url=redis_url, registry_dir=tmp_path / "registry", home=tmp_path)


@pytest.fixture
def queue(settings: Settings, client: Any) -> Iterator[Queue]:
    """A queue; when the test ends, everything in Redis must fit together."""
    queue = Queue.connect(settings, actor="joel")
    yield queue
    faults = Structure(client, queue.store.keys).faults()
    queue.store.client.close()
    assert [] == faults
