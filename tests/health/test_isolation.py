"""Checks that crash, hang and segfault in a real worker: each starts again alone, the others never notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.health import Health
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
CHECKS = """
import os, pathlib, time
HERE = pathlib.Path(__file__).parent
def note(name):
    with (HERE / f"{name}.looks").open("a") as file:
        file.write(f"{os.getpid()}\\n")
def steady(): note("steady")
def crash(): note("crash"); raise RuntimeError("boom")
def hang(): note("hang"); time.sleep(600)
def segfault():
    note("segfault")
    import ctypes
    ctypes.string_at(0)
def shaky():
    note("shaky")
    if len((HERE / "shaky.looks").read_text().split()) == 1:
        os.abort()
    return "is there after all"
"""


class Fleet:
    """A worker with checks of its own, and whoever sends what beat would."""

    def __init__(self, home: Path, redis_url: str) -> None:
        (home / "events").mkdir()
        event = json.loads((ROOT / "registry/events/discovery-noted.json").read_text())
        event["handlers"][0]["queue"] = "io"
        (home / "events/discovery-noted.json").write_text(json.dumps(event))
        (home / "isolated_checks.py").write_text(CHECKS)
        names = ("steady", "crash", "hang", "segfault", "shaky")
        checks = {
            name: {"kind": "python", "target": f"isolated_checks:{name}", "timeout_s": 0.5} for name in names
        }
        checks["hang"]["every_s"] = 13  # there is time for one more try
        (home / "health.json").write_text(json.dumps({"checks": checks}))
        self.home = home
        self.settings = Settings(redis_url=redis_url, home=home, registry_dir=home)
        self.store = Store.connect(self.settings)
        self.health = Health(self.store)
        self.app = make_app(self.settings, Registry.load(home))
        self.app.conf.update(broker_url=redis_url, result_backend=redis_url)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        self.env |= {
            "REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{home}", "JOELCLAW_HOME": str(home),
            "JOELCLAW_REGISTRY_DIR": str(home),
        }  # fmt: skip
        self.log = home / "worker.log"

    def worker(self) -> subprocess.Popen[bytes]:
        command = "-m celery -A joelclaw_tasks worker -P threads -c 8 -Q io -l INFO --without-gossip"
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, *command.split()],
                env=self.env,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )

    def send(self, name: str) -> str:
        return str(self.app.send_task(f"health.{name}", queue="io").id)

    def looks(self, name: str) -> list[int]:
        file = self.home / f"{name}.looks"
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []

    def waits_ms(self, job: str) -> list[int]:
        """How long a job waited for each of its starts, after it could have started."""
        entries = self.store.history.read(since_at=0, job=job, verbs=["claim"])
        return [int(entry.number("wait_ms") or 0) for entry in entries]

    def close(self) -> None:
        self.app.close()
        self.store.client.close()


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, redis_url)
    yield fleet
    fleet.close()


@pytest.mark.timing
def test_what_crashes_hangs_or_segfaults_is_started_again_alone(fleet: Fleet) -> None:
    worker = fleet.worker()
    try:
        wait_until(lambda: b" ready." in fleet.log.read_bytes(), "the worker is ready", 40)
        wild = [fleet.send(name) for name in ("crash", "hang", "segfault", "shaky")]
        steady = []
        for _ in range(8):  # a period of a second, while the others die
            steady.append(fleet.send("steady"))
            time.sleep(1)
        names = ["steady", "crash", "hang", "segfault", "shaky"]
        wait_until(lambda: len(fleet.health.checks(names)) == 5, "every look was kept", 40)
        found = fleet.health.checks(names)
        assert worker.poll() is None
    finally:
        worker.terminate()
        worker.wait(30)

    # Each of the wild ones was started again by itself, and what the check died of is what is kept.
    assert {
        "steady": ("healthy", "is healthy", 0),
        "crash": ("unknown", "cannot be checked: RuntimeError: boom", 2),
        "hang": ("unknown", "cannot be checked: it did not end within 5.5 s and was killed", 1),
        "segfault": ("unknown", "cannot be checked: it was ended by SIGSEGV", 2),
        "shaky": ("healthy", "is there after all", 1),
    } == {name: (each.status, each.detail, each.restarts) for name, each in found.items()}
    assert [3, 2, 3, 2] == [len(fleet.looks(name)) for name in ("crash", "hang", "segfault", "shaky")]
    # The steady one looked once for each time it was due, and never came a second late.
    assert 8 == len(set(fleet.looks("steady")))
    assert max(wait for job in steady for wait in fleet.waits_ms(job)) < 1_000
    assert [8] == [hour.looks for hour in fleet.health.hours("steady", 0)]
    # Nothing is left: no process, no dead job, no job that still waits.
    assert [] == [pid for name in names for pid in fleet.looks(name) if _is_alive(pid)]
    assert 0 == fleet.store.client.zcard("{jc}:dead")
    assert [] == fleet.store.held_by("io")
    assert len(wild) == 4


def test_a_look_whose_worker_is_killed_ends_by_itself(tmp_path: Path) -> None:
    (tmp_path / "isolated_checks.py").write_text(CHECKS)
    asked = {"kind": "python", "target": "isolated_checks:hang", "timeout_s": 1, "limit_s": 2}
    waits = f"from joelclaw_tasks.routines.run_check import run_check; run_check({asked!r})"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    looks = tmp_path / "hang.looks"
    with subprocess.Popen([sys.executable, "-c", waits], env=env) as worker:
        wait_until(looks.exists, "it looks", 20)
        worker.kill()

    orphan = int(looks.read_text())
    wait_until(lambda: not _is_alive(orphan), "the orphan ends", 10)


def _is_alive(pid: int) -> bool:
    try:
        state: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
