"""A real Restate server and service that tests stop and kill, and real workers that send to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import RestateAway
from joelclaw_tasks.fleet.restate_server import prepare
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.server import free_port
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.restate)


class Durable:
    """A Restate server, and the service of effects_service.py that is registered with it."""

    def __init__(self, directory: Path) -> None:
        ports = {name: free_port() for name in ("ingress_port", "admin_port", "node_port")}
        self.server = prepare(directory / "restate", **ports)
        self.effects_file = directory / "effects"
        self.effects_file.touch()
        self._log = (directory / "log").open("ab")
        self.client = RestateClient(self.server.ingress_url, self.server.admin_url, timeout_s=5)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        port = free_port()
        self._service = subprocess.Popen(
            [sys.executable, "-m", "tests.restate.effects_service", str(port), str(self.effects_file)],
            cwd=ROOT, stdout=self._log, stderr=self._log,
        )  # fmt: skip

        def registered() -> bool:
            try:
                self.client.register(f"http://127.0.0.1:{port}")
            except RestateAway:
                return False
            return True

        wait_until(registered, "the service is registered", 30)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.server.argv, env=dict(self.server.environ), stdout=self._log, stderr=self._log
        )

        def healthy() -> bool:
            try:
                self.client.check_health()
            except RestateAway:
                return False
            return True

        wait_until(healthy, "Restate is healthy", 30)

    def kill(self) -> None:
        """Kill -9, as a machine does that loses its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def effects(self) -> Counter[str]:
        """How often each effect has happened."""
        return Counter(self.effects_file.read_text().splitlines())

    def counts(self, prefix: str) -> dict[str, int]:
        """How often each object whose key begins so was counted up, by the state that Restate keeps of it.

        A line in the file may come twice, when a step was killed before Restate knew that it had ended.
        """
        try:
            rows = self.client.query(
                "select service_key, value_utf8 from state where service_name = 'Tally' and key = 'count' "
                f"and service_key like '{prefix}%'"
            )
        except RestateAway:  # it has just started
            return {}
        return {row["service_key"]: int(row["value_utf8"]) for row in rows}

    def end(self) -> None:
        for process in (self._service, self._process):
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
        self.client.close()
        self._log.close()


@pytest.fixture(scope="session")
def durable_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Durable]:
    durable = Durable(tmp_path_factory.mktemp("restate"))
    yield durable
    durable.end()


@pytest.fixture
def durable(durable_server: Durable) -> Durable:
    """The server and the service, up."""
    if not durable_server.is_up:
        durable_server.start()
    return durable_server


def handler(name: str, *, queue: str = "default", retries: dict[str, Any] | None = None, **called: Any):
    """The JSON form of a handler of type restate; three quick retries unless others are given."""
    retries = {"max": 3, "base_s": 0.1, "cap_s": 0.3} if retries is None else retries
    return {"name": name, "type": "restate", "queue": queue, "retries": retries, "restate": called}


PATIENT = {"max": 60, "base_s": 0.2, "cap_s": 1.0}
EVENTS = {
    "thing/sent": handler("thing.send", service="Effects", handler="add", retries=PATIENT),
    "thing/called": handler("thing.call", service="Effects", handler="add", mode="call", retries=PATIENT),
    "thing/slow": handler("thing.slow", service="Effects", handler="slowly", mode="call", deadline_s=60),
    "thing/late": handler("thing.late", service="Effects", handler="slowly", mode="call", deadline_s=0.5),
    "thing/refused": handler("thing.refuse", service="Effects", handler="refuse", mode="call"),
    "thing/stumbled": handler("thing.stumble", service="Effects", handler="stumble", mode="call"),
    "thing/unknown": handler("thing.unknown", service="Nobody", handler="add"),
    "thing/kept": handler("thing.keep", service="Tally", handler="add_to", key="data.user", mode="call"),
    "thing/counted": handler(
        "thing.count", service="Tally", handler="add_to", key="data.user", retries=PATIENT
    ),
    "thing/counted-call": handler(
        "thing.count-call", service="Tally", handler="add_to", key="data.user", mode="call", retries=PATIENT
    ),
    "thing/flowed": handler("thing.flow", service="Flow", workflow=True, mode="call"),
    "thing/later": handler("thing.later", service="Effects", handler="add", mode="call", delay_s=1.0),
    "thing/pinged": handler("thing.ping", service="Effects", handler="ping", mode="call", input="none"),
    "thing/plain": {"name": "thing.plain", "type": "task", "target": "os.path:join"},
}  # fmt: skip


@pytest.fixture(scope="session")
def registry_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("registry")
    (directory / "events").mkdir()
    for name, one in EVENTS.items():
        event = {"name": name, "description": "Something.", "priority": "P2", "handlers": [one]}
        (directory / "events" / f"{name.replace('/', '-')}.json").write_text(json.dumps(event))
    return directory


@pytest.fixture
def store(redis_server: str) -> Iterator[Store]:
    store = store_of(redis_server)
    yield store
    store.client.close()


@pytest.fixture
def emitter(redis_server: str, registry_dir: Path, store: Store) -> Emitter:
    return emitter_of(redis_server, registry_dir, store)


def store_of(redis_url: str) -> Store:
    return Store(redis.Redis.from_url(redis_url), Keys("{jc}:"))


def emitter_of(redis_url: str, registry_dir: Path, store: Store) -> Emitter:
    settings = Settings(redis_url=redis_url, registry_dir=registry_dir)
    return Emitter(settings, Registry.load(registry_dir), store)


def emit(emitter: Emitter, event: str, data: dict[str, Any], **options: Any) -> str:
    """Emit an event; answers the id of its job."""
    [job] = emitter.emit(event, data, **options).jobs
    return job.job_id


class Workers:
    """Workers of the fleet's own app, which can be killed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self.running: list[psutil.Popen] = []

    def start(self, *, pool: str = "threads", size: int = 4, wait: bool = True) -> psutil.Popen:
        path = self._directory / f"worker-{os.urandom(3).hex()}.log"
        with path.open("wb") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", pool,
                 "-c", str(size), "-Q", "default", "-l", "INFO", "-n", path.stem, "--without-gossip",
                 "--without-mingle"],
                cwd=ROOT, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.running.append(process)
        if wait:
            wait_until(lambda: b" ready." in path.read_bytes(), "the worker is ready", 40)
        return process

    def kill(self, worker: psutil.Popen) -> None:
        """SIGKILL, to its pool too."""
        for member in [*worker.children(recursive=True), worker]:
            member.send_signal(signal.SIGKILL)
        worker.wait(10)
        self.running.remove(worker)

    def end(self) -> None:
        for worker in list(self.running):
            self.kill(worker)


@pytest.fixture(scope="module")
def worker(
    redis_server: str, registry_dir: Path, tmp_path_factory: pytest.TempPathFactory, durable_server: Durable
) -> Iterator[Workers]:
    """One worker for all tests of a file; each of them has names of its own."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    home = tmp_path_factory.mktemp("home")
    workers = workers_of(redis_server, registry_dir, home, durable_server.server.ingress_url)
    workers.start(size=2)
    yield workers
    workers.end()


@pytest.fixture
def workers(redis_url: str, registry_dir: Path, tmp_path: Path, durable: Durable) -> Iterator[Workers]:
    """Workers of one test alone, and an empty Redis."""
    workers = workers_of(redis_url, registry_dir, tmp_path, durable.server.ingress_url)
    yield workers
    workers.end()


def workers_of(redis_url: str, registry_dir: Path, home: Path, ingress_url: str) -> Workers:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url, "JOELCLAW_HOME": str(home),
        "JOELCLAW_REGISTRY_DIR": str(registry_dir), "RESTATE_INGRESS_URL": ingress_url,
        "JOELCLAW_LEASE_MS": "2000",
    }  # fmt: skip
    return Workers(home, environment)


def moves(store: Store, job_id: str, verb: str | None = None) -> list[dict[str, str]]:
    """What the transitions stream says of a job, in order."""
    found = store.client.xrange(store.keys.transitions)
    entries = [{name.decode(): value.decode() for name, value in entry.items()} for _, entry in found]
    return [entry for entry in entries if entry.get("job") == job_id and verb in (None, entry["verb"])]


def ended(store: Store, *job_ids: str) -> Callable[[], bool]:
    """Whether every job is done, or in the dead letter."""
    return lambda: (
        set(job_ids)
        <= {
            entry[b"job"].decode()
            for _, entry in store.client.xrange(store.keys.transitions)
            if entry[b"verb"] in (b"complete", b"discard")
        }
    )


def result_of(store: Store, job_id: str) -> Any:
    """What the result backend has of a job."""
    return json.loads(store.client.get(f"celery-task-meta-{job_id}"))["result"]
