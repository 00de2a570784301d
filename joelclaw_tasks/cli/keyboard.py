"""Keyboard: single keys of a terminal, without waiting for a line."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import tty
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

_ESCAPE = 0x1B
_NAMES = {b"A": "up", b"B": "down", b"C": "right", b"D": "left", b"5~": "page up", b"6~": "page down"}
_SEQUENCE = re.compile(rb"\x1b[\[O]([0-9;]*[A-Za-z~])|\x1b|[^\x1b]", re.DOTALL)
#: How long the rest of an escape sequence may be on its way: over a slow line it comes in pieces.
_PATIENCE_S = 0.05


class Keyboard:
    """Reads keys from `terminal` while it is entered, and puts the terminal back as it was.

    Ctrl-C keeps its meaning. What is no terminal, or closed (None), has no keys.
    """

    def __init__(self, terminal: TextIO | None) -> None:
        self.fd = -1 if terminal is None else terminal.fileno()
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Keyboard:
        if self.fd >= 0 and os.isatty(self.fd):
            self._before = termios.tcgetattr(self.fd)
            tty.setcbreak(self.fd, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            # The terminal may be gone by now: then there is nothing to put back.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSAFLUSH, self._before)

    @property
    def is_there(self) -> bool:
        """Whether there are keys to read."""
        return self._before is not None

    def read(self) -> Iterator[str]:
        """The keys that were pressed: a character, or up, down, left, right, page up, page down, escape.

        Call it when `fd` is readable. A terminal that is gone answers `q`.
        """
        pressed = self._take()
        while pressed.endswith((b"\x1b", b"\x1b[", b"\x1bO")) and self._more():
            pressed += self._take()
        if not pressed:
            yield "q"
        for match in _SEQUENCE.finditer(pressed):
            if match[0] == b"\x1b":
                yield "escape"
            elif match[0][0] == _ESCAPE:
                yield _NAMES.get(match[1], "")
            else:
                yield match[0].decode(errors="replace")

    def _take(self) -> bytes:
        try:
            return os.read(self.fd, 256)
        except OSError:
            return b""

    def _more(self) -> bool:
        return bool(select.select([self.fd], [], [], _PATIENCE_S)[0])
