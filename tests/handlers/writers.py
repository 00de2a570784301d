"""What the tests of concurrency run in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.handlers import discovery, files, github
from joelclaw_tasks.handlers.world import World
from tests.handlers.conftest import NOON_MS, Recorder


def _world(data_dir: Path) -> World:
    recorder = Recorder()
    return World(data_dir=data_dir, emit=recorder.emit, notify=recorder.notify)


def count_up(path: Path, times: int) -> None:
    def change(document: dict[str, Any]) -> None:
        document["count"] = document.get("count", 0) + 1

    for _ in range(times):
        files.update_document(path, change)


def record_runs(data_dir: Path, numbers: list[int]) -> None:
    world = _world(data_dir)
    for number in numbers:
        data = {
            "repository": "acme/site", "workflowName": "CI", "branch": "main", "runId": number,
            "runNumber": number, "conclusion": "success",
        }  # fmt: skip
        github.record_run(
            Event(
                id=f"e-{number}",
                name="github/workflow_run.completed",
                source="test",
                data=data,
                at_ms=NOON_MS,
            ),
            world,
        )


def capture_finds(data_dir: Path, numbers: list[int]) -> None:
    world = _world(data_dir)
    for number in numbers:
        data = {"url": f"https://example.com/{number}", "title": f"Find {number}"}
        discovery.capture(
            Event(id=f"e-{number}", name="discovery/captured", source="test", data=data, at_ms=NOON_MS), world
        )
