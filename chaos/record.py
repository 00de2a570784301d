"""Record: appends what happened to a file that many processes write, one JSON object on each line.

Nothing of the product is involved: a line is one `write` to a file opened with O_APPEND, so lines of several
processes do not mix, and what a process wrote before it was killed is there. `at` is the seconds of the
monotonic clock, which all processes of a machine share and nobody can set.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Record:
    """One file. A process that forks may go on using it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind: str, **fields: Any) -> float:
        """Append one line; answers its `at`, which is now unless it is given."""
        at = fields.pop("at", None)
        at = time.monotonic() if at is None else at
        line = json.dumps({"kind": kind, "at": round(at, 6), **fields}, separators=(",", ":"))
        os.write(self._fd, line.encode() + b"\n")
        return at

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
