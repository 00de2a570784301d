"""A connection that breaks in the middle of a publish is replaced within it."""

from __future__ import annotations

import signal
import socket
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
def redis_at(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a Redis on a port."""
    servers = []

    def start(port: int, *flags: str) -> subprocess.Popen[bytes]:
        place = tmp_path / str(port)
        place.mkdir()
        servers.append(start_redis(place, port, *flags))
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
        with pytest.raises(OperationalError) as raised:
            app.send_task("anything")
        took_s = time.monotonic() - began_at
    finally:
        server.send_signal(signal.SIGCONT)
    told = f"Redis at 127.0.0.1:{port} does not answer: Timeout reading from socket"
    assert told == str(raised.value)
    assert "REDIS_UNREACHABLE" == raised.value.__cause__.code
    assert 0.4 < took_s < 1.6  # at most two timeouts; Celery alone would wait for five
    assert app.send_task("anything").id
    app.close()


def test_a_redis_that_stops_taking_connections_costs_one_answer_and_one_connect(redis_at):
    port = free_port()
    server = redis_at(port, "--tcp-backlog", "1")
    url = f"redis://:hush@127.0.0.1:{port}/0"
    with redis.Redis(port=port) as client:
        client.config_set("requirepass", "hush")
    app = joelclaw_tasks.install(Celery("hanging", broker=url, set_as_current=False))
    app.conf.broker_transport_options = {"socket_timeout": 0.5, "socket_connect_timeout": 0.7}
    app.send_task("anything")
    server.send_signal(signal.SIGSTOP)
    waiting = [socket.socket() for _ in range(4)]  # the kernel takes these, and no more
    try:
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        began_at = time.monotonic()
        with pytest.raises(OperationalError, match="does not answer: Timeout connecting") as raised:
            app.send_task("anything")
        took_s = time.monotonic() - began_at
        with pytest.raises(OperationalError, match="does not answer: Timeout connecting"):
            app.send_task("anything")
        both_took_s = time.monotonic() - began_at
    finally:
        server.send_signal(signal.SIGCONT)
        for each in waiting:
            each.close()
    assert 1.1 < took_s < 1.9
    assert both_took_s - took_s < 1.4  # nothing is left to wait for but the connect
    assert "hush" not in str(raised.value)
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
