"""What a request used is free once it is answered, and the first one finds ready what can be ready."""

from __future__ import annotations

import gc
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from redis import Redis

from joelclaw_tasks.core.scripts import load_source
from joelclaw_tasks.ingress.app import create_app
from joelclaw_tasks.ingress.protocol import PunctualProtocol
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until
from tests.ingress.crowd import deliver_at_once, raw_request
from tests.ingress.served import ROOT, SECRET, TOKEN, delivery_headers, payload

COMPLETED = payload("workflow_run.completed")


@pytest.fixture
def port(tmp_path: Path, redis_url: str, client: Redis) -> Iterator[int]:
    """Of an ingress within this process, in which no collector runs meanwhile."""
    settings = Settings(
        redis_url=redis_url,
        home=tmp_path,
        registry_dir=ROOT / "registry",
        github_webhook_secret=SECRET,
        events_token=TOKEN,
    )
    client.script_flush()
    chosen = free_port()
    config = uvicorn.Config(create_app(settings), port=chosen, http=PunctualProtocol, log_config=None)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the ingress serves", timeout_s=20)
    gc.collect()
    gc.disable()
    yield chosen
    gc.enable()
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_connections_that_are_over_leave_nothing_to_the_collector(port: int):
    deliveries = [raw_request(delivery_headers(COMPLETED), COMPLETED) for _ in range(60)]
    unsigned = raw_request({"Content-Type": "application/json"}, COMPLETED)
    event = b'{"name": "discovery/noted", "data": {"url": "https://example.org/squid"}}'
    accepted = raw_request({"Authorization": f"Bearer {TOKEN}"}, event, path="/events")

    crowd = deliver_at_once(port, [*deliveries, unsigned, accepted])

    assert [b"HTTP/1.1 200 OK", b"HTTP/1.1 202 Accepted", b"HTTP/1.1 401 Unauthorized"] == sorted(
        {answer.status for answer in crowd.answers}
    )
    wait_until(lambda: not connections(), "nothing is left of them", timeout_s=5)


def test_a_connection_that_stays_open_keeps_no_body(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw_request(delivery_headers(COMPLETED), COMPLETED))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")

        [kept] = connections()
        assert b"" == kept.cycle.body


def test_the_script_that_admits_is_in_redis_before_the_first_event(port: int, client: Redis):
    sha = hashlib.sha1(load_source("admit").encode()).hexdigest()

    wait_until(lambda: [True] == client.script_exists(sha), "it is loaded", timeout_s=10)

    assert [] == client.keys("*")


def connections() -> list[PunctualProtocol]:
    return [one for one in gc.get_objects() if type(one) is PunctualProtocol]
