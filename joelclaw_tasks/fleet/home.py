"""The home of a fleet (JOELCLAW_HOME): who holds it, its ports, and the file that says what runs.

- `fleet.lock`: held by the running `joelclaw up`
- `fleet.json`: URLs and processes, while it is ready
- `fleet.pids`: what a killed fleet would leave behind
- `ports.json`: the ports of last time
- `redis/` data and password of the embedded Redis, `restate/` data of the Restate server
- `logs/` one per process, `data/` what handlers write
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.whole_file import write_whole


class FleetHome:
    """Paths and files of one home, made absolute so that children in other folders agree on it."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.redis_dir = self.path / "redis"
        self.restate_dir = self.path / "restate"
        self.logs_dir = self.path / "logs"
        self.record_file = self.path / "fleet.pids"
        self.state_file = self.path / "fleet.json"
        self._ports_file = self.path / "ports.json"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the home while a fleet runs on it; FleetError when another one does.

        The kernel drops the hold with the process, however it ends.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / "fleet.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FleetError(
                f"the home {self.path} cannot be used: {error.strerror}",
                fix="Give a directory that you may write to, with --home or JOELCLAW_HOME.",
            ) from error
        with os.fdopen(descriptor, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read().strip()
                raise FleetError(
                    f"a fleet already runs on {self.path} (process {holder or 'not known yet'})",
                    fix="Use it as it is, stop it (Ctrl-C, or `kill` its process), or give another --home.",
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def read_state(self) -> dict[str, Any] | None:
        """What the running fleet says of itself; None when none is ready."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Publish what runs (mode 0600: it holds the URL of Redis with its password)."""
        write_whole(self.state_file, (json.dumps(state, indent=2) + "\n").encode())

    def forget_state(self) -> None:
        """No fleet is ready any more."""
        self.state_file.unlink(missing_ok=True)

    def choose_ports(self, asked: Mapping[str, int]) -> dict[str, int]:
        """A port per name: the asked one (0: any), else the one of last time if free, else a free one.

        Raises FleetError when an asked port is taken.
        """
        try:
            last = json.loads(self._ports_file.read_text())
        except (OSError, ValueError):
            last = {}
        chosen: dict[str, int] = {}
        for name, wanted in asked.items():
            if wanted:
                if not _is_free(wanted):
                    raise FleetError(
                        f"port {wanted} for {name} is taken", fix="Choose another port, or 0 for a free one."
                    )
                chosen[name] = wanted
                continue
            before = last.get(name) if isinstance(last, dict) else None
            if isinstance(before, int) and before not in chosen.values() and _is_free(before):
                chosen[name] = before
            else:
                chosen[name] = _free_port()
        write_whole(self._ports_file, (json.dumps(chosen) + "\n").encode())
        return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do it: a port whose last connections are only waiting to be forgotten is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
