"""The test's side of drive.py: a small fleet as a process whose words are collected."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from joelclaw_tasks.fleet.leftovers import start_mark
from tests.conftest import wait_until

DRIVE = Path(__file__).with_name("drive.py")
#: A process that stays until TERM, and says so.
STAYS = """
import signal, sys, time
def leave(*_):
    print("bye"); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("here")
while True: time.sleep(60)
"""


def stays(name: str, **spec: object) -> dict[str, object]:
    return {"name": name, "code": STAYS, "ready_line": "here", **spec}


class Driven:
    """A running drive.py."""

    def __init__(self, home: Path, *processes: dict[str, object], **wanted: object) -> None:
        document = json.dumps({"processes": processes, **wanted})
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVE), str(home), document],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.home = home
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, line) is not None for line in self.lines)

    def says(self, pattern: str, times: int = 1, timeout_s: float = 10.0) -> None:
        wait_until(lambda: self.count(pattern) >= times, f"{pattern!r} x{times} in {self.lines}", timeout_s)

    def pid(self, name: str) -> int | None:
        try:
            running = json.loads((self.home / "fleet.pids").read_text())
        except FileNotFoundError:
            return None
        return next((entry["pid"] for entry in running if entry["name"] == name), None)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(20)
        self._reader.join(5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


def is_gone(pid: int) -> bool:
    return start_mark(pid) is None


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
