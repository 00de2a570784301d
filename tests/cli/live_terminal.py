"""A terminal of 80 x 24 with a full-screen program on it: keys go in, the picture comes out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable

from tests.cli.conftest import PROGRAM, JoelclawProcess

_STYLE = re.compile(r"\x1b\[[\d;]*m")
_HOME = "\x1b[H"
_ALTERNATE, _BACK = "\x1b[?1049h", "\x1b[?1049l"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"


class LiveTerminal:
    """Runs `joelclaw` with stdin, stdout and stderr on one terminal, until it ends or this is left."""

    def __init__(self, joelclaw: JoelclawProcess, *arguments: str, size: tuple[int, int] = (80, 24)) -> None:
        self._end, program_end = pty.openpty()
        self._program_end = program_end
        self.resize(*size)
        self._modes = termios.tcgetattr(program_end)
        env = {name: value for name, value in joelclaw.env.items() if name not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=program_end, stdout=program_end, stderr=program_end,
            env=env | {"TERM": "xterm-256color"}, cwd=joelclaw.home,
        )  # fmt: skip
        self.seen = ""

    def __enter__(self) -> LiveTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._end)
        os.close(self._program_end)

    @property
    def picture(self) -> str:
        """What is on the screen now, without styles, lines stripped at their ends."""
        frames = _STYLE.sub("", self.seen).split(_HOME)
        return "\n".join(line.rstrip() for line in frames[-1].replace("\r", "").split("\n"))

    @property
    def _is_whole(self) -> bool:
        """Whether the picture has been drawn to its last line: it arrives in pieces on a busy machine."""
        return len(self.picture.split("\n")) >= self._rows

    @property
    def is_restored(self) -> bool:
        """Whether the program gave the terminal back as it was: modes, screen and cursor."""
        return (
            termios.tcgetattr(self._program_end) == self._modes
            and self.seen.rfind(_BACK) > self.seen.rfind(_ALTERNATE) >= 0
            and self.seen.rfind(_SHOW) > self.seen.rfind(_HIDE) >= 0
        )

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self._rows = rows
        fcntl.ioctl(self._program_end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def shows(self, wanted: str | Callable[[str], bool]) -> str:
        """Wait until the picture holds a text, or is as a function wants it; answers the picture."""
        holds = wanted if callable(wanted) else lambda picture: wanted in picture
        end = time.monotonic() + 20
        while not (self._is_whole and holds(self.picture)):
            assert time.monotonic() < end, f"{wanted!r} never showed:\n{self.picture}"
            assert self._take_in() or self.process.poll() is None, f"it ended:\n{self.picture}"
        return self.picture

    def ends(self) -> int:
        """Wait until the program ends; its exit code."""
        end = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it never ended:\n{self.picture}"
            self._take_in()
        while self._take_in(0):
            pass
        return self.process.wait()

    def _take_in(self, patience_s: float = 0.1) -> bool:
        if not select.select([self._end], [], [], patience_s)[0]:
            return False
        with contextlib.suppress(OSError):
            piece = os.read(self._end, 65_536)
            self.seen += piece.decode(errors="replace")
            return bool(piece)
        return False
