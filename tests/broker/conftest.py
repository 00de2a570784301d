"""Workers of every pool, each on a database of its own, started once."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workers import POOLS, Site  # found beside this file, as by the workers themselves

from chaos.proxy import FaultProxy
from tests.conftest import free_port, start_redis


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pools of connections are kombu's: they belong to the process and are never closed."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="session")
def broker_redis(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Port of a Redis that no other test flushes."""
    port = free_port()
    process = start_redis(tmp_path_factory.mktemp("broker-redis"), port)
    # Results that a failed test still holds ask it for something at the very end.
    atexit.register(process.wait, 10)
    atexit.register(process.terminate)
    return port


@pytest.fixture(scope="session", params=POOLS)
def site(request: pytest.FixtureRequest, broker_redis: int) -> Iterator[Site]:
    """A worker of one pool that lives as long as the tests, and the app that publishes to it."""
    pool = request.param
    site = Site(f"redis://127.0.0.1:{broker_redis}/{POOLS.index(pool) + 1}")
    site.pool = pool
    site.wait_reachable(site.start(pool).wait_ready())
    yield site
    site.close()


@pytest.fixture(autouse=True)
def _nothing_is_dead(request: pytest.FixtureRequest) -> None:
    """What failed in another file, in whatever order they run, is not what a test finds."""
    if "site" in request.fixturenames:
        site = request.getfixturevalue("site")
        dead = site.client.zrange("{jc}:dead", 0, -1)
        if dead:
            site.store.purge(dead, actor="test", reason="of another test")


@pytest.fixture
def proxy(broker_redis: int) -> Iterator[FaultProxy]:
    """Stands before the Redis of `own`, and does harm on demand."""
    proxy = FaultProxy(broker_redis)
    yield proxy
    proxy.close()


@pytest.fixture
def own(broker_redis: int) -> Iterator[Site]:
    """An empty database without a worker; what a test starts on it ends with the test."""
    url = f"redis://127.0.0.1:{broker_redis}/0"
    site = Site(url)
    site.client.flushdb()
    yield site
    site.close()
