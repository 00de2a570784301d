"""What if: predictions beside what really happened, with holders that claim and complete in real time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from joelclaw_tasks.core.explain import Explainer
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.what_if import Change, WhatIf
from tests.conftest import wait_until

NAS = "limit:resource/nas"
pytestmark = pytest.mark.timing


class Fleet:
    """Holders that take jobs of one queue and run each for as long as its payload says, in seconds."""

    def __init__(self, url: str, holders: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self._chance = random.Random(7)
        self.store = self._connect()
        self._threads = [threading.Thread(target=self._work, args=(f"w{n}",)) for n in range(holders)]
        for thread in self._threads:
            thread.start()

    def _connect(self) -> Store:
        return Store(redis.Redis.from_url(self._url), Keys("{jc}:"))

    def _work(self, holder: str) -> None:
        store = self._connect()
        tags: list[str] = []
        while not self._stop.is_set():
            _, claim = store.settle(tags, ["q"], 1, holder)
            tags = [job.tag for job in claim.jobs]
            time.sleep(float(claim.jobs[0].payload) if tags else 0.003)
        store.complete(tags)
        store.client.close()

    def add(self, family: str, count: int, mean_s: float, prefix: str = "", **fields) -> None:
        """Admit jobs that take some time, `mean_s` in the mean whatever their number."""
        spread = [mean_s * (0.2 + 1.6 * (n + 0.5) / count) for n in range(count)]
        self._chance.shuffle(spread)
        self.store.admit(
            [
                Job(
                    id=f"{prefix}{family}{n}", queue="q", family=family, handler=family,
                    lane=f"q|{family}|", payload=f"{spread[n]:.4f}",
                    **{"slack_ms": 1_000, **fields},
                )
                for n in range(count)
            ]
        )  # fmt: skip

    def busy(self) -> int:
        states = self.store.snapshot()["by_state"]
        return states["available"] + states["executing"]

    def drained_within_ms(self, since: float) -> float:
        wait_until(lambda: not self.busy(), "the queue is empty", 30)
        return (time.monotonic() - since) * 1000

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.store.client.close()


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(redis_url, 6)
    yield fleet
    fleet.close()


def within(share: float, predicted_ms: float, real_ms: float) -> None:
    assert abs(predicted_ms - real_ms) <= share * real_ms, (predicted_ms, real_ms)


def test_the_drain_of_two_families_that_share_the_workers_is_foretold(fleet: Fleet):
    fleet.add("quick", 60, 0.02, "warm")
    fleet.add("slow", 20, 0.08, "warm")
    fleet.drained_within_ms(0)
    fleet.add("quick", 300, 0.02)
    fleet.add("slow", 100, 0.08, priority=1, slack_ms=0)

    since = time.monotonic()
    found = WhatIf(fleet.store).simulate(Change(arrivals={"quick": 0.0001}))

    within(0.15, found["baseline"]["drained_ms"], fleet.drained_within_ms(since))


def test_the_drain_under_a_lower_limit_is_foretold_and_then_tried(fleet: Fleet):
    fleet.store.limit({NAS: 4}, actor="t", reason="r")
    fleet.add("nas", 30, 0.04, "warm", gates=(NAS,))
    fleet.add("free", 30, 0.04, "warm")
    fleet.drained_within_ms(0)
    fleet.add("nas", 150, 0.04, gates=(NAS,))
    fleet.add("free", 100, 0.04)

    since = time.monotonic()
    found = WhatIf(fleet.store).simulate(Change(limits={NAS: 2}))
    fleet.store.limit({NAS: 2}, actor="t", reason="try it")

    within(0.15, found["changed"]["drained_ms"], fleet.drained_within_ms(since))
    assert found["changed"]["drained_ms"] > 1.2 * found["baseline"]["drained_ms"]
    assert "nas" == found["families"][0]["family"]


def test_the_drain_of_keyed_lanes_with_arrivals_and_a_rate_is_foretold(fleet: Fleet):
    fleet.store.limit({"limit:key/repo": 1}, actor="t", reason="r")
    fleet.store.rate({"rate:handler/polled": Rate(40, 1_000, 5)}, actor="t", reason="r")

    def repo(prefix: str, count: int) -> list[Job]:
        return [
            Job(
                id=f"{prefix}-{key}-{n}", queue="q", family="repo", handler="repo", lane=f"q|repo|{key}",
                payload="0.03", gates=(f"limit:key/repo={key}",), slack_ms=1_000,
            )
            for key in range(3)
            for n in range(count)
        ]  # fmt: skip

    fleet.store.admit(repo("warm", 10))
    fleet.add("polled", 20, 0.01, "warm", gates=("rate:handler/polled",))
    fleet.drained_within_ms(0)
    fleet.store.admit(repo("main", 40))
    fleet.add("polled", 100, 0.01, gates=("rate:handler/polled",))

    since = time.monotonic()
    found = WhatIf(fleet.store).simulate(Change(arrivals={"repo": 5.0}))

    within(0.15, found["baseline"]["drained_ms"], fleet.drained_within_ms(since))


def test_on_a_steady_queue_the_estimated_start_is_within_a_quarter_of_the_wait(fleet: Fleet):
    fleet.add("steady", 400, 0.03)
    wait_until(lambda: fleet.busy() < 340, "some have been done")

    found = Explainer(fleet.store).job("steady350")
    fleet.drained_within_ms(0)

    [claimed] = fleet.store.history.read(job="steady350", verbs=("claim",))
    within(0.25, found["estimated_start"]["at"] - found["asked_at"], claimed.at - found["asked_at"])
