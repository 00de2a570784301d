"""Handlers that note what they get, and fail as the event says."""

from __future__ import annotations

import time

from joelclaw_tasks import BatchFailed, cancelled
from joelclaw_tasks.errors import PermanentFailure

SEEN: list[object] = []
ERRORS = {"bad": ValueError("bad one"), "worse": PermanentFailure("worse"), "key": KeyError("no")}


def gather(events, deps):
    """Note the list; elements named in ERRORS fail."""
    SEEN.append([event.data["n"] for event in events])
    failed = {n: ERRORS[event.data["n"]] for n, event in enumerate(events) if event.data["n"] in ERRORS}
    if failed:
        raise BatchFailed(failed)


def fail(event, deps):
    SEEN.append(event.data["n"])
    raise ERRORS[event.data["n"]]


def last(event, deps):
    """Run until it is cancelled, or not at all when the event says so."""
    SEEN.append(event.data["n"])
    while event.data["n"] and not cancelled():
        time.sleep(0.01)
