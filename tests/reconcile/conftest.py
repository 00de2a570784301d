"""A Redis that can lose what it was told last, workers on it, and `joelclaw` as a process beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.cli.conftest import JoelclawProcess
from tests.conftest import free_port, start_redis, wait_until
from tests.core.conftest import value_of
from tests.core.structure import Structure
from tests.reconcile.note_app import make_app
from tests.steering.conftest import job

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EVENT = "note/written"


class Place:
    """A Redis with one event, and a producer with a spool."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        events = folder / "registry" / "events"
        events.mkdir(parents=True)
        handler = {"name": "note.keep", "type": "task", "target": "note_app:handle", "queue": "notes"}
        event = {"name": EVENT, "description": "A note.", "priority": "P1", "handlers": [handler]}
        (events / "note-written.json").write_text(json.dumps(event))
        self.spool = folder / "spool.jsonl"
        self.settings = Settings(
            home=folder, redis_url=self.url, registry_dir=folder / "registry", spool=self.spool
        )
        self.store = Store.connect(self.settings)
        self.client = redis.Redis.from_url(self.url, decode_responses=True)

    def image(self) -> dict[str, Any]:
        """All of Redis, the stream included; not what a look at the clock or a token changes."""
        names = [name for name in sorted(self.client.keys("{jc}:*")) if ":wake:" not in name]
        return {name: value_of(self.client, name) for name in names if not name.endswith(":seen_at")}

    def state(self, job_id: str) -> str | None:
        return self.client.hget(f"{{jc}}:job:{job_id}", "state")

    def faults(self) -> list[str]:
        return list(Structure(self.client, self.store.keys).faults())

    def emit_while_away(self, *ids: str, **options: Any) -> list[Receipt]:
        """Events of a producer that does not reach Redis: they go to the spool."""
        elsewhere = Store.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
        registry = Registry.load(self.settings.registry_dir)
        clock = {"now_ms": options.pop("now_ms")} if "now_ms" in options else {}
        emitter = Emitter(self.settings, registry, elsewhere, spool=self.spool, **clock)
        return [emitter.emit(EVENT, {"text": each}, id=each, **options) for each in ids]

    def close(self) -> None:
        self.store.client.close()
        self.client.close()


def joelclaw_at(place: Place, results: str) -> JoelclawProcess:
    """`joelclaw` as a process, which finds the event's handler and the app."""
    process = JoelclawProcess(place.folder, place.url)
    process.env |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "JOELCLAW_SPOOL": str(place.spool),
        "JOELCLAW_REGISTRY_DIR": str(place.folder / "registry"),
        "NOTE_BROKER": place.url,
        "NOTE_RESULTS": results,
        "NOTE_EFFECTS": str(place.folder / "effects"),
    }
    return process


class Near(Place):
    """`queue` finds and mends in this process; `forget` is a Redis that loses some jobs whole."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.queue = Queue(self.store, self.settings, actor="ann")
        self.results = url.removesuffix("/0") + "/1"
        self.app = make_app(url, self.results)

    def admit(self, *ids: str, **fields: Any) -> None:
        self.store.admit([job(each, queue="notes", **fields) for each in ids])

    def store_result(self, job_id: str, state: str = "SUCCESS") -> None:
        self.app.backend.store_result(job_id, ValueError("no") if state == "FAILURE" else 1, state)

    def found(self, **options: Any) -> dict[str, int]:
        """What a reconcile finds, or mends, by kind."""
        done = self.queue.reconcile(app=self.app, **options)
        return {each.kind: each.mended if options.get("apply") else each.count for each in done.findings}

    def lose_all(self) -> None:
        self.client.flushdb()

    def close(self) -> None:
        self.app.close()
        self.app.backend.client.close()
        super().close()


class Site(Place):
    """Everything of one test: a Redis of its own, a spool, workers, and what their tasks did."""

    def __init__(self, folder: Path, results: str) -> None:
        self.data, self.copy = folder / "redis", folder / "copy"
        self.data.mkdir()
        self.port = free_port()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._server = self._start()
        super().__init__(folder, f"redis://127.0.0.1:{self.port}/0")
        self.results = results
        self.joelclaw = joelclaw_at(self, results)

    def _start(self) -> subprocess.Popen[bytes]:
        return start_redis(self.data, self.port, "--appendonly", "yes", "--appendfsync", "everysec")

    # -- Redis --------------------------------------------------------------------------------

    def remember(self) -> None:
        """From here on, what Redis is told is its tail."""
        shutil.copytree(self.data, self.copy)

    def lose_tail(self) -> None:
        """SIGKILL, and a start with the data of before."""
        self.stop_redis()
        shutil.rmtree(self.data)
        shutil.copytree(self.copy, self.data)
        self._server = self._start()

    def stop_redis(self) -> None:
        self._server.kill()
        self._server.wait(10)

    def finishes(self, job_id: str) -> int:
        """How often the job came to its end, by the history."""
        entries = self.store.history.read(job=job_id)
        return sum(entry.to_state in ("completed", "cancelled", "discarded") for entry in entries)

    # -- workers ------------------------------------------------------------------------------

    def work(self, app: str, until_done: int) -> None:
        """Run a worker until tasks have done so much, and nothing waits or runs; then stop it."""
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [
                    sys.executable, "-m", "celery", "-A", app, "worker", "-P", "threads", "-c", "4",
                    "-Q", "notes", "-l", "INFO", "--without-gossip", "--without-mingle", "-n", "w@test",
                ],
                stdout=log, stderr=subprocess.STDOUT, cwd=HERE, env=self.joelclaw.env,
            )  # fmt: skip
        self._workers.append(worker)
        wait_until(lambda: len(self.did()) >= until_done, f"{until_done} effects: {self.did()}", 30)
        wait_until(lambda: self.store.snapshot()["total"] == 0 and not self._runs(), "nothing is left", 20)
        worker.send_signal(signal.SIGTERM)
        assert 0 == worker.wait(20)

    def _runs(self) -> int:
        return int(self.store.snapshot()["by_state"]["executing"])

    def did(self) -> list[str]:
        """What tasks did, in order."""
        try:
            return (self.folder / "effects").read_text().split()
        except FileNotFoundError:
            return []

    def reconcile(self, *options: str) -> dict[str, Any]:
        """`joelclaw queue reconcile`; what it answers, with counts by kind as `found` and `mended`."""
        result = self.joelclaw("queue", "reconcile", *options).result
        found = {each["kind"]: each["count"] for each in result["findings"]}
        mended = {each["kind"]: each["mended"] for each in result["findings"] if each["mended"]}
        return {**result, "found": found, "mended": mended}

    def sample(self, result: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        return next(each["sample"] for each in result["findings"] if each["kind"] == kind)

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait(10)
        super().close()
        self.stop_redis()


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """A site whose results are in another Redis, one that loses nothing."""
    site = Site(tmp_path, redis_url)
    yield site
    site.close()


@pytest.fixture
def near(tmp_path: Path, redis_url: str) -> Iterator[Near]:
    """A queue of this process on an empty Redis, with an app that keeps its results in another database."""
    near = Near(tmp_path, redis_url)
    yield near
    near.close()
