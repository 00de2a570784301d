"""Siblings: the processes behind one door. They share its address, and the kernel deals out what connects."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.fleet.tether import tether

BACKLOG = 2048
_MOST_BY_ITSELF = 2


def processes_for(wanted: int) -> int:
    """How many processes to be: as many as wanted, for 0 two, and one where there is one CPU.

    Only Linux deals out connections; elsewhere it is one.
    """
    if not sys.platform.startswith("linux"):
        return 1
    return wanted or min(_MOST_BY_ITSELF, len(os.sched_getaffinity(0)))


def open_doors(host: str, port: int, processes: int) -> list[list[socket.socket]]:
    """For each process its sockets at this address (port 0: a free one); they are listening already.

    So nobody is refused while the processes start. Raises SettingsError when the address is not to be had.
    """
    doors: list[list[socket.socket]] = [[] for _ in range(processes)]
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, own in sorted({(entry[0], entry[4]) for entry in found}):
            # Sockets that share a port would share it with those of any other program of this user, too.
            with socket.create_server((own[0], port, *own[2:]), family=family) as alone:
                address = alone.getsockname()
            port = address[1]
            for door in doors:
                door.append(
                    socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=processes > 1)
                )
    except OSError as exc:
        for door in doors:
            close(door)
        reason = str(exc.strerror).partition(" (")[0]  # what follows says the address again
        raise SettingsError(
            f"the ingress cannot listen on {host or '*'}, port {port}: {reason}",
            fix="Stop what listens there, or name another address with --host and --port.",
        ) from None
    return doors


def close(door: list[socket.socket]) -> None:
    """Close sockets; what waits at them is refused."""
    for one in door:
        one.close()


class Siblings:
    """The processes that were forked beside this one.

    They live and die together: when this process dies they get SIGTERM, and when one of them dies this one
    is to stop. A process that has threads cannot fork a new one; whoever started it starts all of them again.
    `failed` says that one ended by itself, or not as it was told.
    """

    def __init__(self) -> None:
        self.failed = False
        self._pids: list[int] = []
        self._stopping = False

    def fork(self, processes: int) -> int:
        """Become so many processes; the number of this one, 0 for the one that was there before."""
        tie = tether()
        for number in range(1, processes):
            pid = os.fork()
            if pid == 0:
                tie()
                self._pids = []
                return number
            self._pids.append(pid)
        return 0

    def reap(self) -> None:
        """Notice which of them have ended. Not beside `join`."""
        for pid in list(self._pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._note_end(pid, status)

    def stop(self) -> None:
        """Tell them, once, to finish what is under way and end."""
        pids = [] if self._stopping else list(self._pids)
        self._stopping = True
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def join(self) -> None:
        """Wait until all have ended; each has a deadline of its own for what is under way."""
        for pid in list(self._pids):
            self._note_end(*os.waitpid(pid, 0))

    def _note_end(self, pid: int, status: int) -> None:
        self._pids.remove(pid)
        # By the signal itself ends one that has not begun to serve, or has served to the end.
        self.failed |= not self._stopping or status not in (0, signal.SIGTERM)
