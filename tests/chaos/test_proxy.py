"""The proxy does the harm that it says, and no other."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chaos.proxy import FaultProxy
from tests.conftest import wait_until


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(urlsplit(redis_url).port)
    yield proxy
    proxy.close()


@pytest.fixture
def far(proxy: FaultProxy) -> Iterator[redis.Redis]:
    """A client through the proxy that gives up at the first error, after half a second."""
    client = redis.Redis(
        port=proxy.port, socket_timeout=0.5, retry=Retry(NoBackoff(), 0), single_connection_client=True
    )
    client.ping()
    yield client
    client.close()


def test_a_reset_ends_every_connection_and_new_ones_work(proxy: FaultProxy, far: redis.Redis) -> None:
    assert 1 == proxy.reset_all()
    with pytest.raises(redis.ConnectionError):
        far.ping()
    assert far.ping()
    assert 1 == proxy.reset_all()


def test_who_is_refused_is_reset_and_who_is_connected_stays(proxy: FaultProxy, far: redis.Redis) -> None:
    proxy.refuse(True)
    with (
        pytest.raises(redis.ConnectionError),
        redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as new,
    ):
        new.ping()
    assert far.ping()
    proxy.refuse(False)
    with redis.Redis(port=proxy.port) as new:
        assert new.ping()


def test_a_blackhole_delivers_when_it_ends(proxy: FaultProxy, far: redis.Redis, client: redis.Redis) -> None:
    proxy.hold(True)
    with pytest.raises(redis.TimeoutError):
        far.set("key", "value")
    assert client.get("key") is None
    proxy.hold(False)
    wait_until(lambda: client.get("key") == "value", "what was held is delivered")


def test_who_is_not_answered_is_obeyed_all_the_same(
    proxy: FaultProxy, far: redis.Redis, client: redis.Redis
) -> None:
    proxy.silence(True)
    with pytest.raises(redis.TimeoutError):
        far.set("asked", "1")
    wait_until(lambda: "1" == client.get("asked"), "it was carried out")
    proxy.silence(False)
    assert far.ping()


def test_a_half_open_connection_says_nothing_ever_again_and_new_ones_work(
    proxy: FaultProxy, client: redis.Redis
) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"PING\r\n")
        assert b"+PONG\r\n" == sock.recv(100)
        assert 1 == proxy.half_open()
        sock.sendall(b"SET key value\r\n")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        assert client.get("key") is None
    with redis.Redis(port=proxy.port) as new:
        assert new.set("key", "other")
    assert client.get("key") == "other"


def test_a_cut_answer_ends_in_the_middle(proxy: FaultProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"PING\r\n")
        assert b"+PONG\r\n" == sock.recv(100)
        assert 1 == proxy.cut_answers(3)
        sock.sendall(b"PING\r\n")
        assert b"+PO" == sock.recv(100)
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_the_command_of_a_cut_answer_was_carried_out(
    proxy: FaultProxy, far: redis.Redis, client: redis.Redis
) -> None:
    proxy.cut_answers(1)
    with pytest.raises(redis.ConnectionError):
        far.set("key", "value")
    assert client.get("key") == "value"


def test_latency_comes_and_goes(proxy: FaultProxy, far: redis.Redis) -> None:
    proxy.latency(60)
    started_at = time.monotonic()
    far.ping()
    assert time.monotonic() - started_at >= 0.06
    proxy.latency(0)
    far.ping()
    started_at = time.monotonic()
    far.ping()
    assert time.monotonic() - started_at < 0.06
