"""A whole fleet under a steady stream of events: `python -m bench.soak --minutes 10 --rate 50`.

Starts `joelclaw up` in a home of its own, sends signed webhooks and events through its ingress at a fixed
rate (open loop: a slow reply does not delay the next request), and reads the resident memory of all its
processes every few seconds. Prints one line a minute; the last line is JSON. Exits with 1 when anything was
refused, failed or left, when Flower does not show the tasks, when the fleet was ever above 700 MB, or when a
process still grew in the second half.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import httpx
import psutil

from bench.measure import percentile
from bench.processes import child_environment, running, wait_for
from joelclaw_tasks.cli.demo_events import webhook_headers
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.settings import Settings

MOST_MB = 700.0
#: Of one process, from the third quarter to the last.
GROWTH_MOST_MB = 5.0
_SAMPLE_EVERY_S = 5.0
_SENDERS = 16
_ADR = "content/decisions/0001-one-door.md"
_ADR_TEXT = (
    "---\nstatus: accepted\ndate: 2026-01-02\n---\n# ADR-0001: One door\n\nAll that arrives is admitted.\n"
)


@dataclass(slots=True)
class Stream:
    """The requests of one run, and how they were answered."""

    client: httpx.Client
    webhook_secret: str
    events_token: str
    statuses: Counter[int] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)

    def send(self, number: int) -> None:
        """Request `number`: of ten, 7 are webhooks, 2 changed files, 1 a find (of ten, 9 known)."""
        began = time.perf_counter()
        if number % 10 < 7:
            body = json.dumps(_workflow_run(number)).encode()
            path = "/webhooks/github"
            headers = webhook_headers(body, f"soak-{number}", self.webhook_secret)
        else:
            body = json.dumps(_event(number)).encode()
            path = "/events"
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.events_token}"}
        answer = self.client.post(path, content=body, headers=headers)
        self.statuses[answer.status_code] += 1
        self.took_ms.append((time.perf_counter() - began) * 1000)


def _event(number: int) -> dict[str, Any]:
    if number % 10 < 9:
        return {"name": "content/updated", "data": {"path": _ADR.removeprefix("content/")}}
    url = f"https://example.com/finds/{number // 100}"
    return {"name": "discovery/noted", "data": {"url": url, "title": "A find"}}


def _workflow_run(number: int) -> dict[str, Any]:
    name = ("build", "test", "lint", "docs")[number % 4]
    return {
        "action": "completed",
        "workflow": {"id": number % 4, "name": name},
        "workflow_run": {"id": number + 1, "name": name, "status": "completed", "conclusion": "success"},
        "repository": {"full_name": "example/soak"},
    }


class Memory:
    """Resident megabytes of every process of a fleet, those that it started counted with it.

    A page that several processes share counts for each by its part, so that the sum is what is used.
    """

    def __init__(self, home: Path, supervisor: int, store: Store) -> None:
        self._state = home / "fleet.json"
        self._supervisor = supervisor
        self._store = store
        self._redis_without_stream: list[float] = []
        self.samples: list[dict[str, float]] = []
        #: The most that all had together when each page counts in every process that has it.
        self.peak_unshared_mb = 0.0

    def sample(self) -> dict[str, float]:
        """Read all of them now."""
        processes = json.loads(self._state.read_text())["processes"]
        families = {"supervisor": [psutil.Process(self._supervisor)]}
        for name, process in processes.items():
            own = psutil.Process(process["pid"])
            families[name] = [own, *own.children(recursive=True)]
        sizes = {name: list(_sizes(family)) for name, family in families.items()}
        found = {name: sum(size.pss for size in family) / (1 << 20) for name, family in sizes.items()}
        unshared_mb = sum(size.rss for family in sizes.values() for size in family) / (1 << 20)
        self.peak_unshared_mb = max(self.peak_unshared_mb, unshared_mb)
        self.samples.append(found)
        # The stream of transitions grows until it has `transitions_max` entries, after some ten minutes here.
        used = self._store.client.info("memory")["used_memory"]  # type: ignore[index]
        stream = self._store.client.memory_usage(self._store.keys.transitions, samples=0) or 0
        self._redis_without_stream.append((used - stream) / (1 << 20))  # type: ignore[operator]
        return found

    @property
    def peak_mb(self) -> float:
        """The most that all had together."""
        return max(sum(sample.values()) for sample in self.samples)

    def growth_mb(self) -> dict[str, float]:
        """What `growth` says of each process, and of Redis without its stream of transitions."""
        courses = {name: [sample[name] for sample in self.samples] for name in self.samples[-1]}
        return growth(courses | {"redis": self._redis_without_stream})


def growth(courses: dict[str, list[float]]) -> dict[str, float]:
    """How much more the mean of the last quarter of each course is than the mean of the quarter before."""
    found = {}
    for name, course in courses.items():
        quarter = max(1, len(course) // 4)
        found[name] = round(mean(course[-quarter:]) - mean(course[-2 * quarter : -quarter]), 1)
    return found


def complaints(figures: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    wrong = {
        "not every request was accepted": any(status >= 300 for status in figures["statuses"]),
        "not every job was completed": set(figures["ends"]) != {"completed"},
        "Flower does not show finished tasks": not figures["flower"].get("SUCCESS"),
        f"more than {MOST_MB:.0f} MB": figures["peak_mb"] > MOST_MB,
        "a process still grows": max(figures["growth_mb"].values()) > GROWTH_MOST_MB,
    }
    return [text for text, is_wrong in wrong.items() if is_wrong]


def _sizes(family: list[psutil.Process]) -> Iterator[Any]:
    for each in family:
        with suppress(psutil.NoSuchProcess):  # the look of a health check, which is over by now
            yield each.memory_full_info()


def soak(minutes: float, rate: float) -> dict[str, Any]:
    """Run it once; the figures of the last line."""
    secret, token = secrets.token_hex(32), secrets.token_hex(32)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))) / "home"
        (home / "data" / _ADR).parent.mkdir(parents=True)
        (home / "data" / _ADR).write_text(_ADR_TEXT)
        environment = child_environment(
            home, GITHUB_WEBHOOK_SECRET=secret, JOELCLAW_EVENTS_TOKEN=token, FLOWER_UNAUTHENTICATED_API="1"
        )
        command = [sys.executable, "-m", "joelclaw_tasks.cli.app", "up", "--json"]
        began = time.monotonic()
        fleet = stack.enter_context(
            running(command, name="fleet", env=environment, stdout=-1, text=True, stop_s=60.0)
        )
        assert fleet.stdout is not None
        urls = json.loads(fleet.stdout.readline())["result"]
        print(f"ready after {time.monotonic() - began:.1f} s: Flower at {urls['flower_url']}", flush=True)
        store = Store.connect(Settings(redis_url=urls["redis_url"]))
        stack.callback(store.client.close)
        client = stack.enter_context(httpx.Client(base_url=urls["ingress_url"], timeout=30, trust_env=False))
        stream, memory = Stream(client, secret, token), Memory(home, fleet.pid, store)
        sent, waiting_most = _send_steadily(stream, memory, store, minutes, rate)
        wait_for(lambda: store.snapshot()["total"] == 0, "all is done", 60)
        ends = Counter(
            entry.text("to") for entry in store.history.read(verbs=("complete", "discard", "retry"))
        )
        return {
            "sent": sent,
            "statuses": dict(stream.statuses),
            "reply_ms": {f"p{share}": round(percentile(stream.took_ms, share), 1) for share in (50, 95)},
            "waiting_most": waiting_most,
            "ends": dict(ends),
            "flower": _seen_by_flower(urls["flower_url"]),
            "peak_mb": round(memory.peak_mb, 1),
            "peak_unshared_mb": round(memory.peak_unshared_mb, 1),
            "growth_mb": memory.growth_mb(),
        }


def _send_steadily(
    stream: Stream, memory: Memory, store: Store, minutes: float, rate: float
) -> tuple[int, int]:
    """How many requests were sent, and the most jobs that were not finished when somebody looked."""
    count, waiting_most = int(minutes * 60 * rate), 0
    began = sampled_at = said_at = time.monotonic()
    with ThreadPoolExecutor(_SENDERS) as senders:
        asked = []
        for number in range(count):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            asked.append(senders.submit(stream.send, number))
            now = time.monotonic()
            if now - sampled_at >= _SAMPLE_EVERY_S:
                sampled_at, waiting = now, int(store.snapshot()["total"])
                memory.sample()
                waiting_most = max(waiting_most, waiting)
            if now - said_at >= 60 or number == count - 1:
                said_at = now
                parts = ", ".join(f"{name} {mb:.0f}" for name, mb in memory.sample().items())
                total_mb = sum(memory.samples[-1].values())
                print(
                    f"{(now - began) / 60:.1f} min: {number + 1} sent; {total_mb:.0f} MB: {parts}", flush=True
                )
        for each in asked:
            each.result()
    return count, waiting_most


def _seen_by_flower(url: str) -> dict[str, int]:
    """How many tasks of each state Flower shows (the fleet's keeps the last 5,000)."""
    tasks = httpx.get(f"{url}/api/tasks", trust_env=False, timeout=60).raise_for_status().json()
    return dict(Counter(task["state"] for task in tasks.values()))


def main() -> int:
    """Run it and say what was seen; 0 when all of it is as wanted."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    options = parser.parse_args()
    figures = soak(options.minutes, options.rate)
    wrong = complaints(figures)
    for text in wrong:
        print(f"soak: {text}", file=sys.stderr)
    print(json.dumps({"verdict": "red" if wrong else "green", **figures}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
