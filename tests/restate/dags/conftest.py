"""A whole little fleet for DAGs: Restate, a worker, and the service, each of which can be killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import RestateAway
from joelclaw_tasks.restate.runs import Runs
from tests.conftest import free_port, start_redis, wait_until
from tests.notify.servers import BOT_TOKEN, BotServer
from tests.restate.conftest import ROOT, Durable, Workers, emitter_of, store_of
from tests.restate.dags.handlers import FILE

RETRIES = {"max": 2, "base_s": 0.1, "cap_s": 0.2}
HANDLERS = {"work": "dag.work", "fail": "dag.fail", "large": "dag.large"}


class Service:
    """Processes of `joelclaw restate serve`."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self.running: list[subprocess.Popen[bytes]] = []
        self.log = b""

    def start(self, port: int = 0, *, wait: bool = True) -> subprocess.Popen[bytes]:
        path = self._directory / f"service-{os.urandom(3).hex()}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "joelclaw_tasks.cli.app", "restate", "serve", "--port", str(port)],
                cwd=ROOT, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.running.append(process)
        if wait:
            wait_until(lambda: b"registered with Restate at" in path.read_bytes(), "it is registered", 40)
            self.log = path.read_bytes()
        return process

    @property
    def port(self) -> int:
        found = re.search(rb"registered with Restate at http://127\.0\.0\.1:(\d+)/", self.log)
        assert found is not None
        return int(found[1])

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self.running.remove(process)

    def end(self) -> None:
        for process in list(self.running):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill(process)


class Fleet:
    """What a test of DAGs needs."""

    def __init__(self, directory: Path, redis_url: str, durable: Durable, bot: BotServer) -> None:
        self.directory, self.durable, self.bot = directory, durable, bot
        registry = directory / "registry"
        (registry / "events").mkdir(parents=True)
        handlers: dict[str, dict[str, Any]] = {
            short: {"name": name, "type": "task", "target": f"tests.restate.dags.handlers:{short}"}
            for short, name in HANDLERS.items()
        }
        called = {"service": "Dag", "workflow": True, "mode": "call", "deadline_s": 60}
        handlers["ship"] = {"name": "dag.ship", "type": "restate", "restate": called}
        handlers["slow"] = {
            "name": "dag.slow", "type": "restate",
            "restate": {"service": "Effects", "handler": "slowly", "mode": "call", "deadline_s": 900},
        }  # fmt: skip
        for short, handler in handlers.items():
            handler |= {"queue": "default", "retries": RETRIES}
            event = {
                "name": f"dag/{short}", "description": "Something.", "priority": "P2", "handlers": [handler]
            }  # fmt: skip
            (registry / "events" / f"dag-{short}.json").write_text(json.dumps(event))
        self.file = directory / "effects"
        self.file.touch()
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url, "JOELCLAW_HOME": str(directory),
            "JOELCLAW_REGISTRY_DIR": str(registry), "RESTATE_INGRESS_URL": durable.server.ingress_url,
            "RESTATE_ADMIN_URL": durable.server.admin_url, "JOELCLAW_LEASE_MS": "2000", FILE: str(self.file),
            "JOELCLAW_NOTIFY": "telegram", "TELEGRAM_BOT_TOKEN": BOT_TOKEN, "TELEGRAM_BASE_URL": bot.url,
            "TELEGRAM_CHAT_IDS": "42", "JOELCLAW_NOTIFY_MOST_PER_HOUR": "0",
        }  # fmt: skip
        self.store: Store = store_of(redis_url)
        self.emitter = emitter_of(redis_url, registry, self.store)
        self.workers = Workers(directory, self.environment)
        self.service = Service(directory, self.environment)
        self.runs = Runs(durable.client)

    @property
    def effects(self) -> Counter[str]:
        """How often each effect has happened."""
        lines = self.file.read_text().splitlines()
        return Counter(line for line in lines if not line.startswith(("begin ", "done ")))

    def order(self, *names: str) -> list[str]:
        """Those of the effects, in the order in which they happened."""
        return [line for line in self.file.read_text().splitlines() if line in names]

    def start(self, plan: dict[str, Any], run: str | None = None) -> str:
        return self.runs.start(json.dumps(plan).encode(), run)[0]

    def node(self, run: str, id: str) -> dict[str, Any]:
        return self.runs.status(run)["nodes"][id]

    def ended(self, run: str, within_s: float = 20) -> dict[str, Any]:
        """Its status once it has ended."""
        over = ("completed", "failed", "cancelled", "refused")

        def is_over() -> bool:
            try:
                return self.runs.status(run)["status"] in over
            except RestateAway:  # it has just started
                return False

        wait_until(is_over, f"{run} ended", within_s)
        return self.runs.status(run)

    def invocation(self, run: str) -> str:
        """The id of the invocation that carries a run out."""
        [row] = self.durable.client.query(
            "SELECT id FROM sys_invocation WHERE target_handler_name = 'run' "
            f"AND target_service_key = '{run}'"
        )
        return str(row["id"])

    def states(self, run: str) -> dict[str, str]:
        return {id: node["state"] for id, node in self.runs.status(run)["nodes"].items()}

    def cli(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        """The envelope of a command."""
        done = subprocess.run(
            [sys.executable, "-m", "joelclaw_tasks.cli.app", *arguments, "--json"],
            cwd=ROOT, env=self.environment, input=stdin.encode(), capture_output=True, check=False,
        )  # fmt: skip
        return json.loads(done.stdout)

    def end(self) -> None:
        self.service.end()
        self.workers.end()
        self.store.client.close()


@pytest.fixture(scope="session")
def session_fleet(durable_server: Durable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    # A Redis of its own: its worker lives on, and would take the jobs of other tests.
    port = free_port()
    server = start_redis(tmp_path_factory.mktemp("dags-redis"), port)
    with BotServer("42").running() as bot:
        fleet = Fleet(tmp_path_factory.mktemp("dags"), f"redis://127.0.0.1:{port}/0", durable_server, bot)
        fleet.workers.start(size=4, wait=False)
        fleet.service.start()
        yield fleet
        fleet.end()
    server.terminate()
    server.wait(10)


@pytest.fixture
def fleet(session_fleet: Fleet) -> Fleet:
    """Restate, a worker and the service, up; runs and effects have names of their own in each test."""
    if not session_fleet.durable.is_up:
        session_fleet.durable.start()
    return session_fleet


def task(id: str, *after: str, **fields: Any) -> dict[str, Any]:
    """A node that has the effect `name` of its data, which is its id unless something else is given."""
    data = fields.pop("data", {"name": id})
    return {"id": id, "type": "task", "handler": "dag.work", "data": data, "depends_on": [*after], **fields}
