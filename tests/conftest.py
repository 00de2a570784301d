"""Fixtures of the whole suite: a real Redis of its own for every test process."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from joelclaw_tasks.testing.server import free_port, start_redis

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that: then the tests
# of Ctrl-C could not interrupt anything.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


# No test asks a real model, nor does a process that it starts: they have no key and an address of nobody.
for _name in ("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY_FILE", "ANTHROPIC_AUTH_TOKEN"):
    os.environ.pop(_name, None)
os.environ["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9"
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), ".anthropic.com", "127.0.0.1")))
_REAL_HOSTS: list[str] = []
_look_up = socket.getaddrinfo


def _look_up_no_real_model(host: Any, *args: Any, **options: Any) -> Any:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name.lower().rstrip(".").endswith("anthropic.com"):
        _REAL_HOSTS.append(name)
        raise OSError(f"a test wants to ask a real model at {name}; give it the fixture `api`")
    if name.lower().rstrip(".").endswith(("telegram.org", "todoist.com")):
        _REAL_HOSTS.append(name)
        raise OSError(f"a test wants to tell somebody at {name}; give it a local server (tests/notify)")
    return _look_up(host, *args, **options)


socket.getaddrinfo = _look_up_no_real_model


@pytest.fixture(autouse=True)
def real_hosts() -> Iterator[list[str]]:
    """The hosts of real models that the test asked for: there must be none when it ends."""
    _REAL_HOSTS.clear()
    yield _REAL_HOSTS
    assert [] == _REAL_HOSTS, "a test must not ask a real model"


#: Beside other tests a machine is slow for its own reasons. What measures time runs alone and has none of it.
PATIENCE = 2 if "PYTEST_XDIST_WORKER" in os.environ else 1


def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
    """Poll until the predicate holds; fail with the description when it does not in time."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {description}")
        time.sleep(0.005)


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
