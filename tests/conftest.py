"""Fixtures of the whole suite: a real Redis of its own for every test process."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that: then the tests
# of Ctrl-C could not interrupt anything.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    """A TCP port on loopback that nothing listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
    """Poll until the predicate holds; fail with the description when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {description}")
        time.sleep(0.005)


def start_redis(directory: Path, port: int, *extra: str) -> subprocess.Popen[bytes]:
    """A redis-server as our child on loopback, ready when this returns."""
    from joelclaw_tasks.fleet.redis_server import find_server

    process = subprocess.Popen(
        [
            str(find_server()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory),
            "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", *extra,
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    client = redis.Redis(port=port, retry=None)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    wait_until(answers, f"redis-server on port {port} answers")
    client.close()
    return process


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis server that lives as long as this test process."""
    port = free_port()
    process = start_redis(tmp_path_factory.mktemp("redis"), port)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """URL of an empty Redis."""
    client = redis.Redis.from_url(redis_server)
    client.flushall()
    yield redis_server
    client.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the empty Redis, answering text."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()
