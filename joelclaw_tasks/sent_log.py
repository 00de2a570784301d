"""Sent log: what a replay sent lately, so that it can be told again to a Redis that lost it.

    <path>.sent       {"sent_at": epoch ms, "jobs": [ids that Redis must know from then on], "line": "..."}
    <path>.sent.old   the same, before; it goes when the next one takes its place

A later entry of an event stands for the earlier ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from joelclaw_tasks.spool_files import append, held_file, read_lines, size

#: Of each of the two files.
MOST_BYTES = 67_108_864
_YEAR_10000_MS = 253_402_300_800_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A line of a spool that was sent at `sent_at` (epoch ms). `jobs`: what Redis must know since."""

    sent_at: int
    jobs: tuple[str, ...]
    line: bytes


class SentLog:
    """The log beside a spool. Entries are kept for `keep_ms` at least, unless there are too many."""

    def __init__(self, spool: Path, keep_ms: int) -> None:
        spool = spool.expanduser().absolute()
        self.path = spool.with_name(f"{spool.name}.sent")
        self._old_path = spool.with_name(f"{spool.name}.sent.old")
        self._keep_ms = keep_ms

    def note(self, entries: Sequence[Sent]) -> None:
        """Keep the entries: they are on the disk when this returns. Raises OSError; then none is kept."""
        lines = [
            json.dumps(
                {"sent_at": one.sent_at, "jobs": one.jobs, "line": one.line.decode(errors="replace")}
            ).encode()
            for one in entries
        ]
        if not lines:
            return
        with held_file(self.path) as descriptor:
            if not self._is_full(descriptor, entries[-1].sent_at):
                append(descriptor, lines)
                return
            self.path.replace(self._old_path)
        with held_file(self.path) as descriptor:
            append(descriptor, lines)

    def read(self) -> Iterator[tuple[Path, int, Sent | None]]:
        """All entries, oldest first, with file and number; None for what is none. Raises OSError."""
        for path in (self._old_path, self.path):
            for number, line in read_lines(path):
                yield path, number, None if line is None else _read(line)

    def forget(self, now_ms: int) -> None:
        """Delete what is older than `keep_ms`, file by file: it is the data of events. Raises OSError."""
        for path in (self._old_path, self.path):
            if not size(path):
                continue
            with held_file(path) as descriptor:
                if os.fstat(descriptor).st_mtime * 1000 < now_ms - self._keep_ms:
                    path.unlink()

    def _is_full(self, descriptor: int, now_ms: int) -> bool:
        if os.fstat(descriptor).st_size >= MOST_BYTES:
            return True
        first = _read(os.pread(descriptor, 65_536, 0).partition(b"\n")[0])
        return first is not None and first.sent_at < now_ms - self._keep_ms


def _read(line: bytes) -> Sent | None:
    try:
        entry = json.loads(line)
        jobs = entry["jobs"]
        sent_at = int(entry["sent_at"])
        if not isinstance(jobs, list) or not all(map(_is_id, jobs)) or not 0 <= sent_at < _YEAR_10000_MS:
            return None
        return Sent(sent_at, tuple(jobs), entry["line"].encode())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _is_id(given: object) -> bool:
    return isinstance(given, str) and 0 < len(given) <= 1_024 and given.isprintable()
