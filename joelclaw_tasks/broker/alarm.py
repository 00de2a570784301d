"""Alarm: lets any thread wake the event loop that waits in poll()."""

from __future__ import annotations

import os


class Alarm:
    """A pipe that becomes readable when `ring` is called (the self-pipe trick, D. J. Bernstein)."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._rung = False
        self._closed = False

    def ring(self) -> None:
        """Make the fd readable; many rings before a `clear` count as one."""
        if not self._rung and not self._closed:
            self._rung = True
            try:
                os.write(self._write_fd, b"\0")
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
        if not self._closed:
            self._closed = True
            os.close(self._write_fd)
            os.close(self.fd)
