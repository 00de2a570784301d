"""Process: one member of the fleet, started again under a new name whenever it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from joelclaw_tasks.fleet.tether import tether

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A command whose `name` in CHAOS_WORKER is `<role>.<number of its life>`. It ends with our thread."""

    def __init__(self, role: str, command: Sequence[str], env: Mapping[str, str], logs_dir: Path) -> None:
        self.role = role
        self.lives = 0
        self._command = [sys.executable, *command]
        self._env = {**os.environ, **env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._logs_dir = logs_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The name of its present life."""
        return f"{self.role}.{self.lives}"

    @property
    def pid(self) -> int:
        """The process id of its present or last life."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What its present life has printed."""
        path = self._logs_dir / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Begin the next life. What is left of the one before is killed first, as by a supervisor."""
        if self._process is not None:
            self.send(signal.SIGKILL, group=True)
        self.lives += 1
        command = [part.replace("{name}", self.name) for part in self._command]
        with (self._logs_dir / f"{self.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
                env={**self._env, "CHAOS_WORKER": self.name}, preexec_fn=tether(),  # noqa: PLW1509  # it calls the kernel only
            )  # fmt: skip

    def is_running(self) -> bool:
        """Whether its present life goes on."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether it says so in its log."""
        return self.is_running() and (" ready." in self.log or "beat: Starting" in self.log)

    def children(self) -> list[int]:
        """The pids of its children."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal it, or it and all its children. One that is gone is none of our business."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            pass

    def end(self, grace_s: float = 15.0) -> bool:
        """SIGTERM; SIGKILL to all of it when that took too long. Whether it ended by itself."""
        if self._process is None:
            return True
        if self.is_running():
            self.send(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.send(signal.SIGKILL, group=True)
            self._process.wait()

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until it is ready. Raises RuntimeError with its last words."""
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready after {timeout_s:.0f} s:\n{self.log[-2000:]}")
            time.sleep(0.05)
