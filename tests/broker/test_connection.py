"""A connection that breaks in the middle of a publish is replaced within it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

import joelclaw_tasks
from joelclaw_tasks.broker.connection import TRANSPORT, Connection
from tests.conftest import free_port, start_redis


class Sender:
    """What kombu revives after it has connected anew."""

    def __init__(self) -> None:
        self.channels: list[object] = []

    def revive(self, channel: object) -> None:
        self.channels.append(channel)


@pytest.mark.parametrize(
    "policy", [{}, {"interval_start": 0.01, "interval_step": 0.01, "interval_max": 0.02}]
)
def test_what_fails_by_a_lost_connection_is_done_again_on_a_new_one(redis_url: str, policy: dict):
    sender, tries = Sender(), []

    def send() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionResetError
        return "sent"

    with Connection(redis_url, transport=TRANSPORT) as connection:
        assert "sent" == connection.ensure(sender, send, max_retries=3, **policy)()
        assert 2 == len(tries)
        assert [connection.default_channel] == sender.channels


@pytest.fixture
def redis_at(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts a Redis on a port."""
    servers = []

    def start(port: int) -> subprocess.Popen[bytes]:
        place = tmp_path / str(port)
        place.mkdir()
        servers.append(start_redis(place, port))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.wait(10)


@pytest.mark.parametrize("has_connection", [True, False])
def test_a_redis_that_takes_connections_and_is_silent_is_asked_once_more_and_not_again(
    redis_at, has_connection: bool
):
    port = free_port()
    server = redis_at(port)
    app = joelclaw_tasks.install(Celery("silent", broker=f"redis://127.0.0.1:{port}/0", set_as_current=False))
    app.conf.broker_transport_options = {"socket_timeout": 0.5}
    if has_connection:
        app.send_task("anything")
    server.send_signal(signal.SIGSTOP)
    try:
        began_at = time.monotonic()
        with pytest.raises(OperationalError, match="Timeout"):
            app.send_task("anything")
        took_s = time.monotonic() - began_at
    finally:
        server.send_signal(signal.SIGCONT)
    assert 0.4 < took_s < 1.6  # at most two timeouts; Celery alone would wait for five
    assert app.send_task("anything").id
    app.close()


def test_a_producer_that_moves_on_to_the_next_url_stays_on_the_admission_layer(redis_at):
    first, second = free_port(), free_port()
    lost, _ = redis_at(first), redis_at(second)
    urls = [f"redis://127.0.0.1:{port}/0" for port in (first, second)]
    app = joelclaw_tasks.install(Celery("moving", broker=urls, set_as_current=False))
    app.send_task("anything")
    lost.kill()
    lost.wait(10)
    job = app.send_task("anything")
    with redis.Redis(port=second, decode_responses=True) as client:
        assert "available" == client.hget(f"{{jc}}:job:{job.id}", "state")
        assert 0 == client.llen("celery")
    app.close()
