"""Alarm: lets any thread wake the event loop that waits in poll()."""

from __future__ import annotations

import os


class Alarm:
    """A pipe that becomes readable when `ring` is called (the self-pipe trick, D. J. Bernstein).

    It opens when it is first used: a connection that only publishes costs no file descriptor.
    """

    def __init__(self) -> None:
        self._fds: tuple[int, int] | None = None
        self._rung = False
        self._closed = False

    @property
    def fd(self) -> int:
        """The end to poll for reading."""
        return self._open()[0]

    def _open(self) -> tuple[int, int]:
        if self._fds is None:
            self._fds = os.pipe()
            for fd in self._fds:
                os.set_blocking(fd, False)
        return self._fds

    def ring(self) -> None:
        """Make the fd readable; many rings before a `clear` count as one."""
        if not self._rung and not self._closed:
            self._rung = True
            try:
                os.write(self._open()[1], b"\0")
            except BlockingIOError:  # full: it is readable anyway
                pass

    def clear(self) -> None:
        """Call before looking for work: a ring during the look makes the fd readable again."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass
        self._rung = False

    def close(self) -> None:
        """Close both ends; later rings do nothing."""
        self._closed = True
        for fd in self._fds or ():
            os.close(fd)
        self._fds = None
