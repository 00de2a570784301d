"""The clock of Redis, the only one that the core knows, jumps by ten minutes, forth and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from workers import Site

from tests.conftest import free_port, start_redis, wait_until

LIBRARY = next(Path("/usr/lib").glob("**/libfaketimeMT.so.1"), None)
STEP_S = 600

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (apt-get install faketime)")


@pytest.fixture
def set_clock(tmp_path: Path) -> Callable[[int], None]:
    """Says how many seconds the clock of Redis is wrong by from now on."""

    def set_clock(offset_s: int) -> None:
        new = tmp_path / "clock.new"
        new.write_text(f"{offset_s:+d}s")
        new.replace(tmp_path / "clock")

    return set_clock


@pytest.fixture
def site(tmp_path: Path, monkeypatch, set_clock: Callable[[int], None]) -> Iterator[Site]:
    port = free_port()
    set_clock(0)
    with monkeypatch.context() as only:
        only.setenv("LD_PRELOAD", str(LIBRARY))
        only.setenv("FAKETIME_TIMESTAMP_FILE", str(tmp_path / "clock"))
        only.setenv("FAKETIME_NO_CACHE", "1")
        only.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        server = start_redis(tmp_path, port)
    site = Site(f"redis://127.0.0.1:{port}/0")
    yield site
    site.close()
    server.terminate()
    server.wait(10)


def _seconds(client: redis.Redis) -> int:
    return client.time()[0]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_jump_of_the_clock_loses_nothing_and_starts_nothing_twice(
    site: Site, set_clock: Callable[[int], None], pool: str
):
    worker = site.start(pool, broker_transport_options={"lease_ms": 3_000}).wait_ready()
    asked: list[str] = []
    for offset_s in (STEP_S, 0, -STEP_S, 0):
        before = _seconds(site.client)
        long = site.work.delay("work", 2.0)
        asked.append(long.id)
        wait_until(lambda: long.id in site.effects("work:started"), "it runs while the clock jumps")  # noqa: B023
        set_clock(offset_s)
        wait_until(lambda: abs(_seconds(site.client) - before) > STEP_S / 2, "the clock has jumped")  # noqa: B023
        asked += [site.work.delay("work", 0.05).id for _ in range(20)]
        wait_until(lambda: set(asked) == set(site.effects("work:finished")), "all ran", 15)  # noqa: B023
        site.wait_idle()
    started = site.effects("work:started")
    assert sorted(asked) == sorted(started)
    verbs = {entry["verb"] for _, entry in site.client.xrange("{jc}:transitions") if entry.get("job")}
    assert {"admit", "claim", "complete"} == verbs
    assert {} == site.states()
    assert worker.process.poll() is None


def test_a_worker_that_dies_after_a_jump_back_is_noticed_all_the_same(
    site: Site, set_clock: Callable[[int], None]
):
    doomed = site.start("solo").wait_ready()
    job = site.work.delay("work", 3.0)
    wait_until(lambda: site.effects("work:started"), "it runs")
    site.start("threads").wait_ready()
    set_clock(-STEP_S)
    doomed.kill()
    wait_until(lambda: 2 == len(site.effects("work:started")), "it started elsewhere", 8)
    site.wait_gone(job.id)
    assert [job.id] == site.effects("work:finished")


def test_what_waits_for_a_time_follows_the_clock(site: Site, set_clock: Callable[[int], None]):
    site.start("threads").wait_ready()
    later = site.note.apply_async(("later", "ran"), countdown=STEP_S - 60)
    wait_until(lambda: "scheduled" == site.job(later.id)["state"], "it waits in Redis")
    set_clock(STEP_S)
    wait_until(lambda: ["ran"] == site.effects("later"), "its time has come", 5)
    site.wait_gone(later.id)
