"""Progress: a spinner on stderr once a command has taken longer than a second."""

from __future__ import annotations

import contextvars
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

_PATIENCE_S = 1.0


class Progress:
    """Shows what a slow command is doing; silent when it is fast or nobody watches.

    With `shown` False, or stderr not a terminal, it never shows anything.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._doing = "working"
        self._status: Status | None = None
        self._ended = False
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Progress:
        _CURRENT.set(self)
        if self._shown:
            self._timer = threading.Timer(_PATIENCE_S, self._begin)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            if self._status is not None:
                self._status.stop()

    def say(self, doing: str) -> None:
        """Say what is being done now."""
        with self._guard:
            self._doing = doing
            if self._status is not None:
                self._status.update(f"{doing} …")

    def be_silent(self) -> None:
        """For a command that writes to the terminal itself, or runs until it is stopped."""
        self.__exit__()

    def _begin(self) -> None:
        from joelclaw_tasks.cli.terminal import console_of

        with self._guard:
            if not self._ended:
                self._status = console_of("stderr").status(f"{self._doing} …")
                self._status.start()


_CURRENT: contextvars.ContextVar[Progress | None] = contextvars.ContextVar("progress", default=None)


def progress() -> Progress:
    """The progress of the command that is being carried out."""
    return _CURRENT.get() or Progress(shown=False)
