"""Faults of the work itself: it kills its worker, comes all at once, fails all at once, or is garbage."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import redis

from chaos.fault import Course, fault, noted
from chaos.fleet import Fleet
from chaos.traffic import QUEUE
from joelclaw_tasks.errors import JoelclawError

_BURIED_WITHIN_S = 40.0


@fault
def poison(fleet: Fleet) -> Course:
    """A job that kills whoever runs it: after three deaths it must be in the dead letter."""
    job = fleet.send("poison", 0.02, "a")
    yield from _until_buried(fleet, job)
    return job


@fault
def retry_storm(fleet: Fleet) -> Course:
    """150 jobs that fail at the same moment, and try again at the same moment."""
    for _ in range(150):
        fleet.send("retried", 0.0, "a")
    yield 2.0
    return "150 jobs"


@fault
def due_at_once(fleet: Fleet) -> Course:
    """Thousands of jobs that are due in the same moment."""
    fleet.schedule(fleet.due_at_once, delay_s=3.0)
    yield 6.0
    return f"{fleet.due_at_once} jobs"


@fault
def garbage(fleet: Fleet) -> Course:
    """What old or strange producers push on the plain list: into the dead letter with it."""
    unread = b"\x80\x04 no message " + str(fleet.random.random()).encode()
    pushed = {"sha256:" + hashlib.sha256(unread).hexdigest(): ("undecodable", unread)}
    for family, content_type in (
        ("no.such.task", "application/json"),
        ("unreadable", "application/x-python-serialize"),
        ("unreadable", "application/x-yaml"),
        ("unreadable", "text/unheard-of"),
    ):
        job = fleet.new_id()
        pushed[job] = (family, json.dumps(_message(job, family, content_type)).encode())
    with noted(fleet, "garbage"):
        for job, (family, payload) in pushed.items():
            fleet.record.note("asked", job=job, family=family, by="stock")
            try:
                fleet.store.client.lpush(QUEUE, payload)
                fleet.record.note("accepted", job=job)
            except redis.RedisError as error:  # another fault has it just now
                fleet.record.note("failed", job=job, error=type(error).__name__)
        yield from _until_buried(fleet, *pushed)
    return f"{len(pushed)} messages"


def _message(job: str, task: str, content_type: str) -> dict[str, Any]:
    """A message as kombu's own Redis transport writes it, with a body that says nothing."""
    headers = {
        "lang": "py",
        "task": task,
        "id": job,
        "root_id": job,
        "retries": 0,
        "eta": None,
        "expires": None,
    }
    body = base64.b64encode(b'[[0.0, "a"], {}, {}]').decode()
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": headers,
        "properties": {
            "correlation_id": job, "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_tag": job, "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }  # fmt: skip


def _until_buried(fleet: Fleet, *jobs: str) -> Course:
    """Wait for jobs to be in the dead letter; that they get there in the end is what the checker asks."""
    deadline = time.monotonic() + _BURIED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if all(fleet.store.inspect(job)["state"] == "discarded" for job in jobs):
                break
        except (JoelclawError, redis.RedisError):
            pass  # Redis is away, or a job is not there yet
        yield 0.2
    return jobs[0]
