"""Credentials: secrets that are shared with others. A file of them is read again when it changes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from joelclaw_tasks.errors import SettingsError

log = logging.getLogger(__name__)

#: How long a changed file may go unnoticed.
_LOOK_EVERY_S = 1.0
_MOST_BYTES = 65_536


class Credentials:
    """One value from the environment, and those of a file, one a line: all of them are accepted.

    So a secret is rotated without a restart: add the new line, change the senders, take the old line away.
    Raises SettingsError for a file that cannot be read at the start; later the values read last stay.
    """

    def __init__(self, value: str | None, file: Path | None = None) -> None:
        self._fixed = () if value is None or not value.strip() else (value,)
        self._file = file
        self._mark: tuple[int, int, int] | None = None
        self._look_at = 0.0
        self._values = self._fixed
        if file is not None:
            try:
                self._read(file)
            except OSError as error:
                raise SettingsError(f"{file} cannot be read: {error.strerror}") from None

    def __call__(self) -> tuple[str, ...]:
        """Every value that is accepted now; none: everything is refused."""
        now = time.monotonic()
        if self._file is not None and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            try:
                self._read(self._file)
            except OSError as error:
                log.warning("%s cannot be read (%s): what it held before counts", self._file, error.strerror)
        return self._values

    def look(self) -> None:
        """Read the file with the next use, if it has changed by then, however short ago it was looked at."""
        self._look_at = 0.0

    def _read(self, file: Path) -> None:
        found = file.stat()
        mark = (found.st_mtime_ns, found.st_ino, found.st_size)
        if mark == self._mark:
            return
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
        lines = (line.strip() for line in text.splitlines())
        if self._mark is not None:
            log.info("%s has changed: its values count from now on", file)
        self._values = (*self._fixed, *(line for line in lines if line))
        self._mark = mark
