"""Starts and ends real Celery workers, and looks at what they leave in Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from celery import Celery
from stranger_app import make_app

from joelclaw_tasks.address import Address
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import UnknownJob
from tests.conftest import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONCURRENCY = {"prefork": 2, "threads": 8, "solo": 1, "gevent": 20}
POOLS = list(CONCURRENCY)


class Worker:
    """One `celery worker` process of the stranger's app."""

    def __init__(
        self,
        url: str,
        pool: str = "threads",
        *,
        installed: bool = True,
        options: tuple[str, ...] = (),
        concurrency: int | None = None,
        effects_url: str | None = None,
        gossip: bool = False,
        queues: str = "stranger",
        package: Path = ROOT,
        **settings,
    ) -> None:
        self.pool = pool
        self.log_path = Path(tempfile.mkstemp(prefix=f"worker-{pool}-", suffix=".log")[1])
        environment = {
            **os.environ,
            "PYTHONPATH": f"{package}{os.pathsep}{HERE}",
            "PYTHONUNBUFFERED": "1",
            "STRANGER_BROKER": url,
            "STRANGER_EFFECTS": effects_url or url,
            "STRANGER_INSTALL": "1" if installed else "0",
            "STRANGER_SETTINGS": json.dumps(settings),
        }
        self.name = f"{pool}-{os.urandom(3).hex()}@test"
        quiet = () if gossip else ("--without-gossip", "--without-mingle")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "celery", "-A", "stranger_app", "worker", "-P", pool,
                    "-c", str(concurrency or CONCURRENCY[pool]), "-Q", queues, "-l", "INFO",
                    "-n", self.name, *quiet, *options,
                ],
                stdout=log, stderr=subprocess.STDOUT, cwd=HERE, env=environment,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout_s: float = 30.0) -> Worker:
        def ready() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the worker ended with {self.process.returncode}:\n{self.log[-3000:]}")
            return " ready." in self.log

        wait_until(ready, f"the {self.pool} worker is ready", timeout_s)
        return self

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_end(self, timeout_s: float = 20.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the {self.pool} worker did not end:\n{self.log[-3000:]}")

    def kill(self) -> None:
        """SIGKILL, to its pool processes too."""
        try:
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(True)]
        except psutil.NoSuchProcess:
            family = []
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.wait(10)

    def end(self) -> None:
        """Whatever the state of the test: nothing is left running. How a worker stops is tested elsewhere."""
        if self.process.poll() is None:
            self.kill()
        self.log_path.unlink(missing_ok=True)


def close_app(app: Celery) -> None:
    """Close what `Celery.close` leaves to the garbage collector: the connections for results."""
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.close()


class Site:
    """A Redis, an app that publishes to it, and a view of what is queued there."""

    def __init__(self, url: str, **settings) -> None:
        self.url = url
        self.app = make_app(url, installed=True, **settings)
        self.client = Address.parse(url).client(decode_responses=True)
        self.store = Store(Address.parse(url).client(), Keys("{jc}:"))
        self.pool = ""
        self.workers: list[Worker] = []

    def __getattr__(self, name: str):
        """A task of the app by its name."""
        try:
            return self.app.tasks[name]
        except KeyError:
            raise AttributeError(name) from None

    def start(self, pool: str = "threads", **options) -> Worker:
        worker = Worker(options.pop("url", self.url), pool, **options)
        self.workers.append(worker)
        return worker

    def wait_reachable(self, worker: Worker) -> None:
        """The worker hears remote control, which a green worker does a little after it is ready."""
        control = self.app.control
        wait_until(lambda: control.ping(destination=[worker.name], timeout=0.5), f"{worker.name} answers", 20)

    def states(self) -> dict[str, int]:
        """Jobs by state, zeros and finished left out."""
        counted = self.store.snapshot()["by_state"]
        return {state: n for state, n in counted.items() if n and state not in ("completed", "cancelled")}

    def all_states(self) -> dict[str, int]:
        return {state: n for state, n in self.store.snapshot()["by_state"].items() if n}

    def job(self, job_id: str) -> dict | None:
        try:
            return self.store.inspect(job_id)
        except UnknownJob:
            return None

    def wait_dead(self, job_id: str, timeout_s: float = 10.0) -> dict:
        """The job, once it is in the dead letter."""
        wait_until(
            lambda: (self.job(job_id) or {}).get("state") == "discarded",
            f"{job_id} is in the dead letter",
            timeout_s,
        )
        return self.job(job_id)

    def wait_gone(self, job_id: str, timeout_s: float = 10.0) -> None:
        wait_until(lambda: self.job(job_id) is None, f"{job_id} is finished", timeout_s)

    def wait_idle(self, timeout_s: float = 20.0) -> None:
        """Nothing waits and nothing runs."""
        busy = ("scheduled", "held", "available", "executing", "retryable")
        wait_until(
            lambda: not any(self.states().get(state) for state in busy), "the queue is empty", timeout_s
        )

    def effects(self, key: str) -> list[str]:
        return self.client.lrange(key, 0, -1)

    def leases(self) -> dict[str, int]:
        """Leases by holder."""
        return {key: self.client.zcard(key) for key in self.client.scan_iter("{jc}:leases:*")}

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        close_app(self.app)
        self.store.client.close()
        self.client.close()
