"""Running: follows a history while it is written, and knows which attempts run now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """A start whose end is not written yet."""

    tag: str
    family: str
    worker: str
    pid: int
    at: float

    @property
    def attempt(self) -> int:
        """Which claim of its job it is, from 1."""
        return int(self.tag.rsplit("#", 2)[2])


class Running:
    """`look` reads what was added since; whoever has died stays in `runs`, so ask for a living worker."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self.runs: dict[str, Run] = {}

    def look(self) -> list[dict[str, Any]]:
        """The lines that were added since the last look, oldest first."""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        lines = [json.loads(line) for line in complete]
        for line in lines:
            if line["kind"] == "start":
                run = Run(line["tag"], line["family"], line["worker"], line["pid"], line["at"])
                self.runs[run.tag] = run
            elif line["kind"] == "end":
                self.runs.pop(line["tag"], None)
        return lines

    def of(self, worker: str) -> list[Run]:
        """What the worker of that name runs now."""
        return [run for run in self.runs.values() if run.worker == worker]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
