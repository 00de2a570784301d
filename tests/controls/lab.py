"""A registry of one handler, a clock that the test moves, workers that only keep books, and their history."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from joelclaw_tasks.admission import limits_of, rates_of
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_schema import read_event
from joelclaw_tasks.settings import Settings

START_MS = 1_760_000_000_000
STEP_MS = 50
DROPPED = {"duplicate", "throttled", "skipped", "expired"}


@dataclass
class Call:
    """One event that came in, and what was decided."""

    at: int
    data: dict[str, Any]
    job: str
    decision: str
    into: str | None

    @property
    def is_accepted(self) -> bool:
        return self.decision not in DROPPED


@dataclass
class Start:
    """One start of a job, with the events that it got; it ends at `until`."""

    at: int
    job: str
    tag: str
    events: list[dict[str, Any]]
    inspected: dict[str, Any]
    until: int
    is_retry: bool = False


@dataclass
class History:
    calls: list[Call] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    withdrawn: list[tuple[int, Any]] = field(default_factory=list)
    paused: list[tuple[int, int]] = field(default_factory=list)
    cancelled: dict[str, int] = field(default_factory=dict)

    def accepted(self) -> list[Call]:
        return [call for call in self.calls if call.is_accepted]


def registry_of(**controls: Any) -> Registry:
    """A registry with one handler that has these controls. Fails with the faults of the file."""
    handler = {"name": "h", "type": "task", "target": "os.path:join", "queue": "q", **controls}
    base = {"description": "d", "priority": "P2"}
    found = []
    for name, handlers in (("x", [handler]), ("stop", [{**handler, "name": "s", "queue": "other"}])):
        plain = [{k: one[k] for k in ("name", "type", "target", "queue")} for one in handlers]
        spec, faults = read_event({**base, "name": name, "handlers": handlers if name == "x" else plain})
        assert spec is not None, faults
        found.append(spec)
    return Registry(found, {"nas": 2})


class Lab:
    """Emits and runs at a clock of its own."""

    def __init__(self, url: str, **controls: Any) -> None:
        self.now = START_MS
        self.raw = redis.Redis.from_url(url)
        self.store = Store(self.raw, Keys("{jc}:"), now_ms=lambda: self.now)
        self.registry = registry_of(**controls)
        self.emitter = Emitter(Settings(), self.registry, self.store, now_ms=lambda: self.now)
        self.store.limit(limits_of(self.registry), actor="registry", reason="")
        self.store.rate(rates_of(self.registry), actor="registry", reason="")
        self.history = History()
        self.running: list[Start] = []
        self.to_retry: set[int] = set()

    def close(self) -> None:
        self.raw.close()

    def emit(self, data: dict[str, Any], **options: Any) -> Call:
        [job] = self.emitter.emit("x", data, **options).jobs
        call = Call(self.now, data, job.job_id, job.decision, job.into)
        self.history.calls.append(call)
        return call

    def withdraw(self, value: Any) -> None:
        self.emitter.emit("stop", {"c": value})
        self.history.withdrawn.append((self.now, value))

    def step(self, ms: int = STEP_MS, most: int = 3, run_ms: int = 350) -> None:
        """Time passes: jobs end, others start."""
        self.now += ms
        for one in [one for one in self.running if one.until <= self.now]:
            self.running.remove(one)
            number = one.events[0]["data"].get("n")
            if number in self.to_retry and not one.is_retry:
                self.to_retry.discard(number)
                self.store.retry(self._again(one))
            self.store.complete([one.tag])
        for claimed in self.store.claim(["q"], most - len(self.running), "w1").jobs:
            job_id = claimed.tag.split("#")[0]
            events = list(events_of(claimed.payload))
            claims = int(claimed.tag.split("#")[2])
            start = Start(
                self.now,
                job_id,
                claimed.tag,
                events,
                self.store.inspect(job_id),
                self.now + run_ms,
                claims > 1,
            )
            self.history.starts.append(start)
            self.running.append(start)

    def _again(self, one: Start) -> Job:
        known = one.inspected
        return Job(
            id=one.job, queue="q", family="x", handler="h", lane=known["lane"], gates=tuple(known["gates"]),
            priority=int(known["priority"][1]), payload=self.payload_of(one.job),
            keep_ms=int(known["keep_ms"]),
            due_ms=self.now + 100, retries=1, lease_tag=one.tag,
        )  # fmt: skip

    def payload_of(self, job_id: str) -> str:
        return self.raw.hget(self.store.keys.job(job_id), "payload").decode()

    def drain(self, most_ms: int = 120_000) -> None:
        """Until nothing waits and nothing runs."""
        end = self.now + most_ms
        while self.running or self.store.queue_size("q"):
            assert self.now < end, f"not drained: {self.store.snapshot()}"
            self.step()
        self.store.cancel_queue("other", actor="t", reason="the test is over")


def events_of(payload: bytes) -> Iterator[dict[str, Any]]:
    """The events that a handler would get."""
    message = json.loads(payload)
    for one in message.get("jc_batch", [message]):
        yield json.loads(base64.b64decode(one["body"]))[0][0]
