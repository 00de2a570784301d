"""A store with a clock that the test moves, and a look at all of Redis when each test ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.reply import Claim
from joelclaw_tasks.core.store import Store
from tests.core.structure import Structure

SLACK_MS = (0, 60_000, 300_000, 900_000)


class Clock:
    """Epoch milliseconds that move only when told."""

    def __init__(self) -> None:
        self.now = 1_760_000_000_000

    def advance(self, ms: int) -> int:
        self.now += ms
        return self.now


class Core:
    """A store and what tests do with it again and again."""

    def __init__(self, store: Store, clock: Clock, text: redis.Redis) -> None:
        self.store = store
        self.clock = clock
        self.text = text  # a client that answers text
        self.key = store.keys
        self._numbers = count(1)

    def job(self, id: str | None = None, **fields: Any) -> Job:
        """A job with sensible values; `lane` defaults to one of the handler's."""
        fields = {"queue": "q", "family": "fam", "handler": "h", "priority": 2, **fields}
        fields.setdefault("slack_ms", dict(enumerate(SLACK_MS)).get(fields["priority"], 0))
        fields.setdefault("lane", f"{fields['queue']}|{fields['handler']}|")
        id = f"j{next(self._numbers):05}" if id is None else id
        return Job(id=id, **{"payload": f"payload of {id}", **fields})

    def admit(self, id: str | None = None, **fields: Any) -> str:
        """Admit one job; answers its id."""
        job = self.job(id, **fields)
        self.store.admit([job])
        return job.id

    def claim(self, *queues: str, most: int = 1, holder: str = "w1") -> Claim:
        """As a worker does: take the tokens of the queues, then claim."""
        queues = queues or ("q",)
        for queue in queues:
            self.text.lpop(self.key.wake(queue))
        return self.store.claim(queues, most, holder)

    def claim_ids(self, *queues: str, most: int = 1, holder: str = "w1") -> list[str]:
        """The ids of the jobs claimed, in order."""
        return [one.tag.split("#")[0] for one in self.claim(*queues, most=most, holder=holder).jobs]

    def start(self, *queues: str, holder: str = "w1") -> str:
        """Claim exactly one job; answers its delivery tag."""
        (job,) = self.claim(*queues, holder=holder).jobs
        return job.tag

    def state(self, id: str) -> str | None:
        return self.text.hget(self.key.job(id), "state")

    def field(self, id: str, name: str) -> str | None:
        return self.text.hget(self.key.job(id), name)

    def gate_of(self, lane: str) -> str | None:
        """Where a lane is parked; an empty string when it is ready, None when it is gone."""
        return self.text.hget(self.key.lane_meta(lane), "parked")

    def entries(self, verb: str | None = None) -> list[dict[str, str]]:
        """The transitions stream, or one verb of it."""
        found = [entry for _, entry in self.text.xrange(self.key.transitions)]
        return [entry for entry in found if verb is None or entry["verb"] == verb]

    def image(self) -> dict[str, Any]:
        """Everything in Redis except the stream, the tokens and the time of the last look."""
        left_out = {self.key.transitions, self.key.seen_at}
        return {
            name: value_of(self.text, name)
            for name in sorted(self.text.keys("*"))
            if name not in left_out and not name.startswith(self.key.wake(""))
        }

    def structure(self) -> Structure:
        return Structure(self.text, self.key)


def value_of(client: redis.Redis, name: str) -> Any:
    kind = client.type(name)
    if kind == "stream":
        return client.xrange(name)
    if kind == "hash":
        return client.hgetall(name)
    if kind == "zset":
        return client.zrange(name, 0, -1, withscores=True)
    if kind == "set":
        return client.smembers(name)
    return client.lrange(name, 0, -1) if kind == "list" else client.get(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def core(redis_url: str, client: redis.Redis, clock: Clock) -> Iterator[Core]:
    """A store on an empty Redis; when the test ends, everything there must fit together."""
    raw = redis.Redis.from_url(redis_url)
    core = Core(Store(raw, Keys("{jc}:"), now_ms=lambda: clock.now), clock, client)
    yield core
    faults = core.structure().faults()
    raw.close()
    assert [] == faults
