"""One ingress process for each test file, on the Redis of this test process."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import redis

from tests.ingress.served import SECRET, TOKEN, ServedIngress, serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[ServedIngress]:
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()  # what tests of other folders left in the Redis of this test process
    ingress = serve(
        tmp_path_factory.mktemp("ingress"),
        redis_server,
        GITHUB_WEBHOOK_SECRET=SECRET,
        JOELCLAW_EVENTS_TOKEN=TOKEN,
    )
    yield ingress
    assert 0 == ingress.stop(), ingress.log


@pytest.fixture(scope="module")
def http(served: ServedIngress) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client
