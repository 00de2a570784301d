"""A worker that is told to reload runs the code that is there now, loses no job and burns no attempt."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import CONCURRENCY, HERE, ROOT, Site

from joelclaw_tasks.broker.preflight import problems
from joelclaw_tasks.fleet.workers import ANSWERS_WITHIN_S, Workers
from tests.conftest import wait_until

CODE = """
from workers_code import effects
from stranger_app import make_app
import os
import time

app = make_app(os.environ["STRANGER_BROKER"], installed=True)
VERSION = {version!r}


@app.task(name="say")
def say(number):
    effects().rpush("said", f"{{VERSION}} {{number}} {{time.time()}}")
"""


LONG = """

@app.task(name="long")
def long():
    import time

    effects().rpush("long", VERSION)
    time.sleep(0 if VERSION == "new" else 60)


app.conf.broker_transport_options = {**app.conf.broker_transport_options, "stop_grace_s": 1}
"""


class Reloadable:
    """A worker whose code is in a directory of the test."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site, self.directory = site, directory
        (directory / "workers_code.py").write_text("from stranger_app import effects\n")
        self.write("old")
        self.log_path = Path(tempfile.mkstemp(prefix="reload-", suffix=".log")[1])

    def write(self, version: str, more: str = "") -> None:
        (self.directory / "moving_app.py").write_text(CODE.format(version=version) + more)

    def start(self, pool: str) -> None:
        self.name = f"moving-{os.urandom(3).hex()}@test"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, self.directory))),
            "PYTHONDONTWRITEBYTECODE": "1",  # two versions within a second have one time stamp
            "STRANGER_BROKER": self.site.url,
            "STRANGER_EFFECTS": self.site.url,
        }
        command = [
            sys.executable, "-m", "celery", "-A", "moving_app", "worker", "-P", pool, "-n", self.name,
            "-c", str(CONCURRENCY[pool]), "-Q", "stranger", "-l", "INFO",
        ]  # fmt: skip
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory, env=environment
            )
        self.wait_ready(1)
        wait_until(lambda: self.code() is not None, "it hears remote control", 20)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, times: int) -> None:
        wait_until(
            lambda: self.log.count(" ready.") >= times, f"ready {times} times:\n{self.log[-2000:]}", 30
        )

    def code(self) -> dict | None:
        answers = self.site.app.control.inspect([self.name], timeout=1.0)._request("joelclaw_code")
        return (answers or {}).get(self.name)

    def reload(self) -> list:
        return self.site.app.control.broadcast("joelclaw_reload", destination=[self.name], reply=True)

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.site.app.send_task("say", (number,), queue="stranger")

    def said(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.site.effects("said")]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.log_path.unlink(missing_ok=True)


@pytest.fixture
def moving(own: Site, tmp_path: Path) -> Iterator[Reloadable]:
    worker = Reloadable(own, tmp_path)
    yield worker
    worker.end()


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_after_a_reload_the_same_process_runs_the_new_code_and_nothing_is_lost(moving: Reloadable, pool: str):
    moving.start(pool)
    before = moving.code()
    moving.say(1)
    wait_until(lambda: ["old 1"] == moving.said(), "the old code runs")
    moving.write("new")

    assert [{moving.name: {"ok": "checking the new code"}}] == moving.reload()
    moving.say(*range(2, 40))
    moving.wait_ready(2)
    moving.say(*range(40, 60))
    moving.site.wait_idle()

    said = moving.said()
    assert list(range(1, 60)) == sorted(int(line.split()[1]) for line in said)
    assert {f"new {number}" for number in range(40, 60)} <= set(said)
    assert {} == moving.site.states()
    after = moving.code()
    assert before["pid"] == after["pid"] == moving.process.pid
    assert after["started_at"] > before["started_at"]
    assert ("none", "") == (after["reload"], after["fault"])


def test_code_that_cannot_be_imported_is_refused_and_the_worker_goes_on(moving: Reloadable):
    moving.start("threads")
    moving.write("new", "import nothing_of_this_name\n")

    moving.reload()
    wait_until(lambda: moving.code()["reload"] == "refused", "the new code is refused", 20)

    assert "No module named 'nothing_of_this_name'" in moving.code()["fault"]
    moving.say(1)
    wait_until(lambda: ["old 1"] == moving.said(), "it works on")
    moving.write("mended")
    moving.reload()
    moving.wait_ready(2)
    moving.say(2)
    wait_until(lambda: ["old 1", "mended 2"] == moving.said(), "the mended code runs", 20)


def test_nobody_waits_for_more_answers_than_there_are_workers(moving: Reloadable):
    moving.start("solo")
    workers = Workers(moving.site.app, moving.site.store)
    wait_until(lambda: 1 == len(moving.site.store.holders()), "its leases are known")

    asked_at = time.monotonic()
    found = workers.all()

    assert [(moving.name, moving.process.pid)] == [(worker.name, worker.pid) for worker in found]
    assert time.monotonic() - asked_at < ANSWERS_WITHIN_S


def test_a_job_that_outlasts_the_grace_starts_again_with_the_new_code_and_no_attempt_is_burned(
    moving: Reloadable,
):
    moving.write("old", LONG)
    text = (moving.directory / "moving_app.py").read_text()
    moving.start("threads")
    job = moving.site.app.send_task("long", queue="stranger").id
    wait_until(lambda: ["old"] == moving.site.effects("long"), "the long job runs")
    (moving.directory / "moving_app.py").write_text(text.replace("'old'", "'new'", 1))

    moving.reload()
    moving.wait_ready(2)
    moving.site.wait_idle()

    assert ["old", "new"] == moving.site.effects("long")
    assert (moving.site.job(job) or {"attempts": 0, "kills": 0})["kills"] == 0


@pytest.mark.timing
def test_under_a_hundred_jobs_a_second_the_new_code_serves_within_10_s_and_nothing_is_lost(
    own: Site, tmp_path: Path
):
    fleet = [Reloadable(own, tmp_path) for _ in range(2)]
    sent, is_over = itertools.count(), threading.Event()

    def produce() -> None:
        while not is_over.wait(0.01):
            fleet[0].say(next(sent))

    producer = threading.Thread(target=produce)
    try:
        for worker, pool in zip(fleet, ("prefork", "threads"), strict=True):
            worker.start(pool)
        producer.start()
        wait_until(lambda: len(fleet[0].said()) > 200, "the fleet works", 20)
        fleet[0].write("new")
        ordered_at = time.time()

        reloaded = Workers(own.app, own.store).reload([worker.name for worker in fleet])

        is_over.set()
        producer.join()
        own.wait_idle()
        said = [line.split() for line in own.effects("said")]
    finally:
        is_over.set()
        for worker in fleet:
            worker.end()
    numbers = [int(number) for _, number, _ in said]
    old_until = max(float(at) for version, _, at in said if version == "old")
    print(f"reload: {[each.took_s for each in reloaded]} s, old code until {old_until - ordered_at:.1f} s,"
          f" {len(numbers)} jobs")  # fmt: skip
    assert list(range(next(sent))) == sorted(numbers)
    assert old_until - ordered_at <= 10
    assert [] == list(own.store.history.read(verbs=("discard", "retry", "expire")))
    assert {"worker stopped"} >= {one.fields["reason"] for one in own.store.history.read(verbs=("release",))}


def test_an_app_that_is_not_there_is_a_problem_and_one_that_is_right_is_none(tmp_path: Path, monkeypatch):
    (tmp_path / "half_an_app.py").write_text("raise ValueError('half')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    place = tmp_path / "half_an_app.py"
    assert [f"ValueError: Couldn't import 'half_an_app': half ({place}:1)"] == problems("half_an_app")
    assert "nothing_here" in problems("nothing_here")[0]
    assert [] == problems("joelclaw_tasks.fleet.app")
