"""Handlers that count their effects: a line in a file for each, and one when they begin."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from joelclaw_tasks.broker.cancelling import cancelled
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure

FILE = "DAG_EFFECTS_FILE"


def note(line: str) -> None:
    with open(os.environ[FILE], "a") as file:  # noqa: PTH123  # one write of O_APPEND: whole lines
        file.write(line + "\n")


def work(event: Event, deps: object) -> dict[str, Any]:
    """One effect for each job, however often it is run; its result says what it was given."""
    name = str(event.data["name"])
    note(f"begin {name}")
    ends_at = time.monotonic() + event.data.get("seconds", 0)
    while time.monotonic() < ends_at and not cancelled():
        time.sleep(0.02)
    if cancelled():
        return {}
    done = Path(os.environ[FILE]).read_text().splitlines()
    if f"done {event.id}" not in done:  # idempotent by the id of its event, as handlers are to be
        note(f"{name}\ndone {event.id}")
    return {"name": name, "items": event.data.get("items", []), "saw": event.data.get("saw")}


def fail(event: Event, deps: object) -> None:
    raise PermanentFailure(f"no such customer: {event.data['name']}")


def large(event: Event, deps: object) -> dict[str, str]:
    return {"text": "x" * 300_000}
