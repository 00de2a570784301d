"""The log file of one process of the fleet, kept to a bounded size."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path


class ProcessLog:
    """Appends lines to a private file; past `max_bytes` it becomes `<file>.1` and a new one begins."""

    def __init__(self, path: Path, max_bytes: int = 10_000_000) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=12)
        self._max_bytes = max_bytes
        self._open()

    def write(self, line: str) -> None:
        """Append one line (without its line end)."""
        self.tail.append(line)
        self._size += self._file.write(f"{line}\n".encode(errors="replace"))
        if self._size > self._max_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = os.fstat(descriptor).st_size
