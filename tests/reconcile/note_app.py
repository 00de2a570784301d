"""An app whose results are kept elsewhere, and the handler of an event. Both write down what they did."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

import joelclaw_tasks
from joelclaw_tasks.core.event import Event

EFFECTS = os.environ.get("NOTE_EFFECTS", "")


def did(what: str) -> None:
    with Path(EFFECTS).open("a") as file:
        file.write(f"{what}\n")


def handle(event: Event, deps: object) -> None:
    did(event.id)


def make_app(broker_url: str, result_backend: str) -> Celery:
    app = Celery("note_app", broker=broker_url, backend=result_backend, set_as_current=False)
    app.conf.task_default_queue = "notes"
    joelclaw_tasks.install(app)

    @app.task(name="note", shared=False)
    def note(text: str, after: object = None) -> str:
        did(text)
        return text

    @app.task(name="fail", shared=False)
    def fail(text: str) -> None:
        did(text)
        raise ValueError(text)

    return app


if "NOTE_BROKER" in os.environ:
    app = make_app(os.environ["NOTE_BROKER"], os.environ["NOTE_RESULTS"])
