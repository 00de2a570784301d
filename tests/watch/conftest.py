"""A watched folder: with a watcher that the test moves, or a fleet of real workers and a real watcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from joelclaw_tasks.handlers.files import file_name
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.watch.state import WatchState
from joelclaw_tasks.watch.watcher import Watcher
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
ADR = "---\nstatus: accepted\ndate: 2026-03-01\n---\n\n# ADR-{number}: Use lanes\n\n{text}\n"
QUIET_S = 0.2


class Desk:
    """A folder, its state, and a watcher on a clock of the test; `told` are the events, in order."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = (tmp_path / "vault").resolve()
        self.root.mkdir()
        self.folder = tmp_path / "state"
        self.now_s = 1_000.0
        self.told: list[NewEvent] = []
        self.said: list[str] = []
        self.fault: Exception | None = None
        self.emit_many: Callable[[list[NewEvent]], object] = lambda _: None
        self.state = WatchState(self.folder)
        self.watcher = self.begin()

    def begin(self) -> Watcher:
        """A watcher as after a start: it knows what is on the disk only."""
        self.state.close()
        self.state = WatchState(self.folder)
        self.watcher = Watcher(
            {self.root: self.root}, self.state, self._emit, quiet_s=QUIET_S, say=self.said.append,
            now=lambda: self.now_s,
        )  # fmt: skip
        return self.watcher

    def _emit(self, events: list[NewEvent]) -> None:
        if self.fault is not None:
            raise self.fault
        self.emit_many(events)
        self.told += events

    def write(self, path: str, text: str | bytes = "# A\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def settle(self, *paths: Path, passes_s: float = QUIET_S + 0.01) -> list[str]:
        """The system tells of the paths, and time passes; answers the paths of the events since."""
        before = len(self.told)
        self.watcher.told(map(str, paths))
        self.watcher.step()
        self.now_s += passes_s
        self.watcher.step()
        return sorted(event.data["path"] for event in self.told[before:])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.state.close()


class Fleet:
    """Workers of two pools on the real registry, and a watcher of their content folder."""

    def __init__(self, home: Path, redis_url: str, stack: ExitStack) -> None:
        self.home, self.data = home, home / "data"
        self.content, self.rules = self.data / "content", self.data / "rules"
        self.content.mkdir(parents=True)
        self.rules.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        self.env = kept | {
            "REDIS_URL": redis_url, "JOELCLAW_HOME": str(home), "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1", "JOELCLAW_RULES_LIMIT_MS": "500",
        }  # fmt: skip
        self.redis_url = redis_url
        self._stack = stack

    def start(self, name: str, *arguments: str, ready: bytes, **env: str) -> subprocess.Popen[bytes]:
        log = self.home / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.env | env, cwd=ROOT, stdout=out, stderr=out
            )
        self._stack.callback(_end, process)
        process.log = log  # type: ignore[attr-defined]
        process.is_ready = lambda: ready in log.read_bytes()  # type: ignore[attr-defined]
        return process

    def worker(self, pool: str, size: int) -> Any:
        command = f"celery -A joelclaw_tasks worker -P {pool} -c {size} -Q default -l INFO --without-gossip"
        return self.start(pool, *command.split(), "-n", f"{pool}@%h", ready=b" ready.")

    def watch(self, **env: str) -> Any:
        process = self.start("watch", "joelclaw_tasks.watch", ready=b"watch: watching", **env)
        wait_until(process.is_ready, "the watcher runs", 20)
        return process

    def write(self, path: str, text: str) -> Path:
        """Save as careful editors do: whole, by rename."""
        file = self.content / path
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.tmp")
        partial.write_text(text)
        partial.replace(file)
        return file

    def rule(self, name: str, source: str) -> None:
        partial = self.rules / f".{name}.tmp"
        partial.write_text(source)
        partial.replace(self.rules / f"{name}.py")

    def report(self, path: str) -> dict[str, Any]:
        file = self.data / "reports" / "content" / file_name(path)
        return json.loads(file.read_text()) if file.exists() else {}

    def findings(self, path: str, rule: str) -> list[str]:
        found = self.report(path).get("findings", [])
        return [finding["message"] for finding in found if finding["rule"] == rule]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def fleet(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    client = redis.Redis.from_url(redis_server)
    client.flushall()
    client.close()
    with ExitStack() as stack:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), redis_server, stack)
        workers = [fleet.worker("threads", 2), fleet.worker("prefork", 2)]
        for worker in workers:
            wait_until(worker.is_ready, "the workers are ready", 40)
        fleet.threads_pid = workers[0].pid  # type: ignore[attr-defined]
        yield fleet
