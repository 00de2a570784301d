"""When Redis is gone or silent: senders are told to come back, and nothing else suffers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import free_port, start_redis, wait_until
from tests.ingress.served import SECRET, TOKEN, ServedIngress, check_error, delivery_headers, payload, serve

COMPLETED = payload("workflow_run.completed")


@dataclass
class Redis:
    """A Redis of our own that may die, and come back on the same port with what it had."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def start(self) -> None:
        self.process = start_redis(
            self.directory, self.port, "--appendonly", "yes", "--appendfsync", "always"
        )


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    port = free_port()
    server = Redis(
        tmp_path, port, start_redis(tmp_path, port, "--appendonly", "yes", "--appendfsync", "always")
    )
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.kill()


@pytest.fixture
def served(tmp_path: Path, redis: Redis) -> Iterator[ServedIngress]:
    ingress = serve(tmp_path, redis.url, GITHUB_WEBHOOK_SECRET=SECRET, JOELCLAW_EVENTS_TOKEN=TOKEN)
    yield ingress
    assert 0 == ingress.stop(), ingress.log


def deliver(http: httpx.Client, delivery: str) -> httpx.Response:
    headers = delivery_headers(COMPLETED, delivery=delivery)
    return http.post("/webhooks/github", content=COMPLETED, headers=headers)


def check_unreachable(reply: httpx.Response) -> None:
    check_error(reply, 503, "REDIS_UNREACHABLE")
    assert "5" == reply.headers["retry-after"]


def test_while_redis_is_down_deliveries_are_put_off_and_the_next_attempt_is_queued_once(
    served: ServedIngress, redis: Redis
):
    before, during = str(uuid.uuid4()), str(uuid.uuid4())
    token = {"Authorization": f"Bearer {TOKEN}"}
    with served.client() as http:
        assert 1 == deliver(http, before).json()["queued"]
        redis.kill()

        check_unreachable(deliver(http, during))
        check_unreachable(http.post("/events", json={"name": "discovery/noted", "data": {}}, headers=token))
        health = http.get("/healthz")
        assert (503, False) == (health.status_code, health.json()["redis"])
        # What needs no Redis is answered as ever.
        assert 200 == http.get("/webhooks/").status_code
        check_error(http.post("/webhooks/github", content=b"{}"), 401, "SIGNATURE_INVALID")

        redis.start()
        assert {"ok": True, "redis": True} == http.get("/healthz").json()
        assert 1 == deliver(http, during).json()["queued"]
        assert [0, 0] == [deliver(http, known).json()["queued"] for known in (before, during)]


def test_an_ingress_starts_without_redis_and_serves_as_soon_as_it_is_there(tmp_path: Path, redis: Redis):
    redis.kill()
    served = serve(tmp_path, redis.url, GITHUB_WEBHOOK_SECRET=SECRET)
    with served.client() as http:
        assert 503 == http.get("/healthz").status_code
        check_unreachable(deliver(http, "first"))

        redis.start()

        assert 1 == deliver(http, "first").json()["queued"]
    assert 0 == served.stop()


@pytest.mark.timing
def test_a_redis_that_is_silent_holds_a_sender_for_seconds_only_and_nobody_else(
    served: ServedIngress, redis: Redis
):
    with served.client() as http:
        assert 1 == deliver(http, "warm-up").json()["queued"]
        os.kill(redis.process.pid, signal.SIGSTOP)

        began_at = time.monotonic()
        check_unreachable(deliver(http, "silent"))
        waited_s = time.monotonic() - began_at

        began_at = time.monotonic()
        assert 503 == http.get("/healthz").status_code
        assert 200 == http.get("/webhooks/").status_code
        health_s = time.monotonic() - began_at
        os.kill(redis.process.pid, signal.SIGCONT)

        # The silent attempt may have been carried out late. Either way the event is queued once.
        wait_until(lambda: http.get("/healthz").status_code == 200, "Redis answers again")
        again = deliver(http, "silent").json()
        assert 1 == again["queued"] + again.get("duplicates", 0)
        assert 0 == deliver(http, "silent").json()["queued"]
    assert 1.5 < waited_s < 5
    assert health_s < 2
