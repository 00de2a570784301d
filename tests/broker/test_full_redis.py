"""A Redis at its memory limit: callers hear why, and workers, also new ones, make room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from workers import Site

from joelclaw_tasks.errors import CoreReadOnly
from tests.conftest import free_port, start_redis, wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    port = free_port()
    server = start_redis(tmp_path, port)
    site = Site(f"redis://127.0.0.1:{port}/0")
    yield site
    site.close()
    server.terminate()
    server.wait(10)


def _fill(site: Site) -> None:
    site.client.config_set("maxmemory", "1")


def _give_room(site: Site) -> None:
    site.client.config_set("maxmemory", "0")


def _verbs(site: Site) -> list[str]:
    return [entry["verb"] for _, entry in site.client.xrange("{jc}:transitions") if entry.get("job")]


@pytest.mark.parametrize("connected", [True, False])
def test_a_caller_hears_that_the_memory_is_full(site: Site, connected: bool):
    accepted = [site.note.delay("effect", "before").id] if connected else []
    _fill(site)
    for _ in range(3):  # the first costs the connection: a new one has more to ask for
        with pytest.raises((OperationalError, CoreReadOnly)) as raised:
            site.note.apply_async(("effect", "refused"), retry=False)
        assert "Redis answers, but writes nothing: its memory is full" in str(raised.value)
    assert len(accepted) == site.states().get("available", 0)
    _give_room(site)
    site.note.delay("effect", "after")
    assert {"available": len(accepted) + 1} == site.states()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_that_starts_on_a_full_redis_drains_it(site: Site, redis_url: str, pool: str):
    waiting = [site.work.delay("work", 0.01).id for _ in range(20)]
    _fill(site)
    worker = site.start(pool, effects_url=redis_url).wait_ready()
    wait_until(lambda: {} == site.states(), "all ran", 15)
    _give_room(site)
    site.note.delay("effect", "after")
    wait_until(lambda: len(waiting) + 1 == _verbs(site).count("complete"), "it goes on by itself", 10)
    assert worker.process.poll() is None
    assert len(waiting) + 1 == _verbs(site).count("claim")
