"""Limits under fire: eight processes, two of them killed, and a checker that reads all that happened."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.store import Store
from tests.conftest import wait_until
from tests.core.structure import Structure, split_line

ROOT = Path(__file__).resolve().parents[2]
LEASE_MS = 1_000
JOBS, KEYS, PER_KEY, PER_RESOURCE = 10_000, 50, 2, 5
RESOURCES = ("disk", "gpu", "nas")


def a_job(number: int) -> Job:
    key, queue = random.randrange(KEYS), f"q{'ab'[number % 2]}"
    weight = 2 if number % 7 == 0 else 1
    resource = f"limit:resource/{RESOURCES[key % 3]}"
    return Job(
        id=f"j{number:05}", queue=queue, family="f", handler="h", payload="", priority=number % 4,
        lane=f"{queue}|{key}|{weight}", slack_ms=number % 4 * 100,
        gates=(f"limit:key/h={key}", f"{resource}\t2" if weight == 2 else resource),
    )  # fmt: skip


def what_was_wrong(entries: list[dict[str, str]]) -> list[str]:
    """Every instant at which more ran than a gate allowed, and every job that ran twice at once."""
    faults, limits, running = [], dict[str, int](), Counter[str]()
    held: dict[str, list[tuple[str, int]]] = {}
    for entry in entries:
        job = entry.get("job", "")
        if entry["verb"] == "limit":
            limits[entry["gate"]] = int(entry["limit"])
        elif entry["verb"] == "claim":
            if job in held:
                faults.append(f"{job} was started while it ran")
            held[job] = [split_line(line) for line in entry["gates"].split("\n")]
            for gate, weight in held[job]:
                running[gate] += weight
                most = limits[gate if gate in limits else gate.partition("=")[0]]
                if running[gate] > most:
                    faults.append(f"{running[gate]} places of {gate} were taken at {entry['at']}, of {most}")
        elif entry.get("from") == "executing":
            for gate, weight in held.pop(job):
                running[gate] -= weight
    return faults + [f"{job} is still running" for job in held]


@pytest.mark.timing
@pytest.mark.timeout(180)
def test_no_instant_is_over_any_limit_while_eight_processes_work_and_two_are_killed(
    redis_url: str, client: redis.Redis
) -> None:
    raw: Any = redis.Redis.from_url(redis_url)
    store = Store(raw, Keys("{jc}:"), transitions_max=1_000_000)
    resources = {f"limit:resource/{name}": PER_RESOURCE for name in RESOURCES}
    store.limit({"limit:key/h": PER_KEY, **resources}, actor="t", reason="")
    command = [sys.executable, "-m", "tests.core.fire_worker", redis_url]
    workers = [
        subprocess.Popen([*command, f"w{n}", str(LEASE_MS)], cwd=ROOT, stderr=subprocess.PIPE)
        for n in range(8)
    ]

    def completed() -> int:
        counts = {field: int(n) for field, n in client.hgetall(store.keys.counts).items()}
        return sum(n for field, n in counts.items() if field.endswith("|completed"))

    try:
        jobs = [a_job(number) for number in range(JOBS)]
        for start in range(0, JOBS, 500):
            store.admit(jobs[start : start + 500])
        for number, after in enumerate((JOBS // 4, JOBS // 2)):
            wait_until(lambda after=after: completed() > after, f"{after} are done", 90)
            wait_until(lambda number=number: store.held_by(f"w{number}"), "it holds jobs", 10)
            workers[number].kill()
        store.limit({"limit:resource/nas": 3}, actor="t", reason="while it is full")
        wait_until(lambda: completed() == JOBS, "all are done", 90)
    finally:
        client.set("stop", 1)
        for worker in workers:
            worker.wait(20)
            assert worker.stderr is not None
            worker.stderr.close()
        client.delete("stop")

    entries = [entry for _, entry in client.xrange(store.keys.transitions)]
    assert [] == what_was_wrong(entries)
    assert [-9, -9, 0, 0, 0, 0, 0, 0] == [worker.returncode for worker in workers]
    killed = [entry for entry in entries if entry["verb"] == "expire"]
    assert killed
    assert {"w0", "w1"} >= {entry["holder"] for entry in killed}
    ends = Counter(entry["job"] for entry in entries if entry["verb"] == "complete")
    assert {f"j{n:05}": 1 for n in range(JOBS)} == ends
    structure = Structure(client, store.keys)
    assert [] == structure.faults()
    for kind in ("running", "leases", "parked", "ready", "lane"):
        assert {} == structure.of(kind), kind
    raw.close()


@pytest.mark.timing
def test_real_claims_take_nearly_all_that_a_rate_allows_and_never_more(
    redis_url: str, client: redis.Redis
) -> None:
    raw: Any = redis.Redis.from_url(redis_url)
    store = Store(raw, Keys("{jc}:"), transitions_max=1_000_000)
    limit, period_ms, burst, run_ms = 200, 2_000, 20, 6_000
    store.rate({"rate:handler/h": Rate(limit, period_ms, burst)}, actor="t", reason="")
    command = [sys.executable, "-m", "tests.core.fire_worker", redis_url]
    workers = [
        subprocess.Popen([*command, f"w{n}", "15000"], cwd=ROOT, stderr=subprocess.PIPE) for n in range(3)
    ]
    try:
        gates = ("rate:handler/h",)
        store.admit([
            Job(f"j{n:04}", "qa", "f", "h", f"qa|h|{n % 5}", "", gates=gates) for n in range(1_000)
        ])  # fmt: skip
        store.admit([Job(f"o{n:04}", "qb", "g", "other", "qb|other|", "") for n in range(2_000)])

        def starts() -> list[int]:
            found = (entry for _, entry in client.xrange(store.keys.transitions))
            return [
                int(entry["at"]) for entry in found if entry["verb"] == "claim" and entry["handler"] == "h"
            ]

        wait_until(lambda: (found := starts()) and found[-1] - found[0] >= run_ms, "it ran for 6 s", 30)
        found = starts()
        found = [at for at in found if at - found[0] <= run_ms]
    finally:
        client.set("stop", 1)
        store.cancel_queue("qa", actor="t", reason="")
        for worker in workers:
            worker.wait(20)
            assert worker.stderr is not None
            worker.stderr.close()
        client.delete("stop")

    allowed = burst + run_ms * limit / period_ms
    assert 0.97 * allowed <= len(found) <= allowed
    for first in range(len(found)):
        for last in range(first, len(found)):
            assert last - first + 1 <= burst + (found[last] - found[first]) * limit / period_ms + 1e-6
    others = [entry for _, entry in client.xrange(store.keys.transitions) if entry.get("handler") == "other"]
    assert 2_000 == sum(entry["verb"] == "complete" for entry in others)
    raw.close()
