"""Records: what the no-op task leaves behind, 16 bytes a run.

The tasks themselves write when they started, so that neither the start-up of a worker nor the
polling of the bench is part of a measurement. One `write` to a file opened with O_APPEND is
atomic between threads and between the children of a prefork pool, and costs about 1 µs.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

_LAYOUT = struct.Struct("<qq")


class Record(NamedTuple):
    """One run of the task. Both are nanoseconds of the machine's monotonic clock."""

    sent_at_ns: int
    started_at_ns: int


class RecordWriter:
    """Appends records to one file, from any number of threads and processes."""

    def __init__(self, path: str | Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, sent_at_ns: int, started_at_ns: int) -> None:
        """Write one record at once: nothing is held back in this process."""
        os.write(self._fd, _LAYOUT.pack(sent_at_ns, started_at_ns))


def count_records(path: Path) -> int:
    """How many records the file holds; 0 when it does not exist yet."""
    try:
        return path.stat().st_size // _LAYOUT.size
    except FileNotFoundError:
        return 0


def read_records(path: Path) -> list[Record]:
    """All records, in the order in which they were written."""
    return [Record(*fields) for fields in _LAYOUT.iter_unpack(path.read_bytes())]
