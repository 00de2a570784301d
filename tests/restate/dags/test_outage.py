"""Redis is killed under a DAG, and comes back: steps wait for it, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.testing.server import free_port, start_redis
from tests.conftest import wait_until
from tests.notify.servers import BotServer
from tests.restate.conftest import Durable
from tests.restate.dags.conftest import Fleet, task

KEEPS = ("--appendonly", "yes")


@pytest.fixture
def own_durable(tmp_path: Path) -> Iterator[Durable]:
    durable = Durable(tmp_path)
    yield durable
    durable.end()


@pytest.mark.timeout(120)
def test_a_redis_that_is_killed_holds_a_run_up_and_no_more(own_durable: Durable, tmp_path: Path):
    port = free_port()
    server = start_redis(tmp_path, port, *KEEPS)
    with BotServer("42").running() as bot:
        (tmp_path / "fleet").mkdir()
        fleet = Fleet(tmp_path / "fleet", f"redis://127.0.0.1:{port}/0", own_durable, bot)
        try:
            fleet.workers.start(size=2, wait=False)
            fleet.service.start()
            nodes = [task("a", data={"name": "a", "seconds": 1}), task("b", "a"), task("c", "b")]
            run = fleet.start({"nodes": nodes})
            wait_until(lambda: "begin a" in fleet.file.read_text(), "its first job runs", 30)
            os.kill(server.pid, signal.SIGKILL)
            server.wait(10)
            other = fleet.start({"nodes": [task("late")]})
            wait_until(lambda: "running" == fleet.node(other, "late")["state"], "it has begun", 20)
            server = start_redis(tmp_path, port, *KEEPS)
            assert ["completed"] * 2 == [fleet.ended(each, 60)["status"] for each in (run, other)]
            assert {"a": 1, "b": 1, "c": 1, "late": 1} == dict(fleet.effects)
        finally:
            fleet.end()
            server.terminate()
            server.wait(10)
