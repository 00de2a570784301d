"""The clock of the machine jumps by ten minutes, forth and back: Redis and workers live by it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from workers import HERE, Site

from tests.conftest import free_port, start_redis, wait_until

STEP_S = 600


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives whoever preloads it a clock that can be moved."""
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Werror")
    subprocess.run(["cc", *flags, "-o", str(path), str(HERE / "clock.c")], check=True)
    return path


@pytest.fixture
def set_clock(tmp_path: Path, library: Path, monkeypatch) -> Callable[[int], None]:
    """Says by how many seconds the clock is wrong from now on, for all that the test starts."""
    file = tmp_path / "offset"
    file.write_bytes(bytes(8))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET", str(file))

    def set_clock(offset_s: int) -> None:
        with file.open("r+b") as shared:
            shared.write(offset_s.to_bytes(8, "little", signed=True))

    return set_clock


@pytest.fixture
def site(tmp_path: Path, set_clock: Callable[[int], None]) -> Iterator[Site]:
    port = free_port()
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
    job = site.work.delay("work", 8.0)  # longer than the other worker takes to start on a busy machine
    wait_until(lambda: site.effects("work:started"), "it runs")
    site.start("threads").wait_ready()
    assert [] == site.effects("work:finished")
    set_clock(-STEP_S)
    doomed.kill()
    wait_until(lambda: 2 == len(site.effects("work:started")), "it started elsewhere", 8)
    site.wait_gone(job.id, 20)
    assert [job.id] == site.effects("work:finished")


def test_what_waits_for_a_time_follows_the_clock(site: Site, set_clock: Callable[[int], None]):
    site.start("threads").wait_ready()
    later = site.note.apply_async(("later", "ran"), countdown=STEP_S - 60)
    wait_until(lambda: "scheduled" == site.job(later.id)["state"], "it waits in Redis")
    set_clock(STEP_S)
    wait_until(lambda: ["ran"] == site.effects("later"), "its time has come", 5)
    site.wait_gone(later.id)
