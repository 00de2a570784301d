"""Handlers of the tests: small, and each wrong in one way."""

from __future__ import annotations

import threading

from joelclaw_tasks.errors import PermanentFailure

BARRIER: dict[str, threading.Event] = {}


def succeed(event, deps):
    return {"seen": dict(event.data), "at": deps.now().isoformat()}


def follow(event, deps):
    for number in range(event.data["count"]):
        deps.emit("test/done", {"number": number}, id=f"{event.id}:{number}", source=event.name)
    deps.notify("followed", cause="test")
    return "followed"


def gather(events, deps):
    deps.notify(",".join(str(event.data["n"]) for event in events), cause="test")
    return len(events)


def fail(event, deps):
    raise ConnectionError("the shop is closed")


def fail_until(event, deps):
    if deps.now().timestamp() < event.data["open_at"]:
        raise ConnectionError("the shop is closed")


def refuse(event, deps):
    raise PermanentFailure("no such order")


def echo(event, deps):
    deps.emit("test/echo", {"of": event.id})


def wait(event, deps):
    BARRIER[event.data["name"]].wait(10)
