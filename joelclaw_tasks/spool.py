"""Spool: a file in which events wait while Redis is away, one JSON line each.

    <path>             appended under flock and synced before the producer is told
    <path>.replaying   what a replay has taken; <path>.lock says how much of it is done
    <path>.refused     lines that cannot be sent, each with the reason
    <path>.sent        lines that were sent lately (see sent_log.py)

A replay that is killed goes on where it was, or a little before: whoever sends the lines must be able
to send one twice. See docs/operations.md.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from joelclaw_tasks.errors import SpoolFailed
from joelclaw_tasks.spool_files import (
    append,
    held_file,
    private,
    read_lines,
    reason_of,
    size,
    sync_directory,
    write,
)

#: Lines that are sent together, and are sent again when the replay dies on the way.
AT_ONCE = 500

#: Sends lines; answers the reasons of those that can never be sent, by position.
Send = Callable[[Sequence[bytes]], Mapping[int, str]]


@dataclass(frozen=True, slots=True)
class Drained:
    """What a replay did. `busy`: another one is at work, and this one did nothing."""

    sent: int = 0
    refused: int = 0
    busy: bool = False


class Spool:
    """Any number of processes may append, and replay, at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.refused_path = self._beside("refused")
        self._replaying_path = self._beside("replaying")

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep the lines: they are on the disk when this returns. Raises SpoolFailed; then none is kept."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with held_file(self.path) as descriptor:
                append(descriptor, lines)
            sync_directory(self.path.parent)
        except OSError as error:
            raise SpoolFailed(f"the spool {self.path} cannot be written: {reason_of(error)}") from error

    def is_there(self) -> bool:
        """Whether it was ever written here, or copied here, in part at least. Raises OSError."""
        try:
            names = [each.name for each in self.path.parent.iterdir()]
        except FileNotFoundError:
            return False
        return any(f"{name}.".startswith(f"{self.path.name}.") for name in names)

    def has_lines(self) -> bool:
        """Whether anything waits to be sent."""
        return any(size(path) for path in (self.path, self._replaying_path))

    def waiting(self) -> Iterator[tuple[Path, int, bytes | None]]:
        """The lines that no replay has sent: file, number and line (None: too long). Raises OSError."""
        done_bytes = 0
        try:
            with self._beside("lock").open("rb") as lock:
                done_bytes = _noted(lock.fileno())
        except FileNotFoundError:
            pass
        for path, start in ((self._replaying_path, done_bytes), (self.path, 0)):
            for number, line in read_lines(path, start):
                yield path, number, line

    def drain(self, send: Send) -> Drained:
        """Send all lines, oldest first; what `send` refuses is kept aside.

        What `send` raises ends the replay, and the lines that it was given stay. Raises SpoolFailed.
        """
        sent = refused = 0
        try:
            with self._alone() as lock:
                if lock is None:
                    return Drained(busy=True)
                while lines := self._next(lock):
                    reasons = send([line.removesuffix(b"\n") for line in lines])
                    self._keep_aside(lines, reasons)
                    _note(lock, _noted(lock) + sum(map(len, lines)))
                    sent += len(lines) - len(reasons)
                    refused += len(reasons)
        except OSError as error:
            raise SpoolFailed(f"the spool {self.path} cannot be replayed: {reason_of(error)}") from error
        return Drained(sent, refused)

    def take_back(self, renew: Callable[[bytes], bytes | None]) -> int:
        """Queue the lines kept aside once more, as `renew` makes them; those of None stay. Answers how many.

        Raises SpoolFailed.
        """
        try:
            with self._alone() as lock:
                if lock is None or not size(self.refused_path):
                    return 0
                entries = self.refused_path.read_bytes().splitlines(keepends=True)
                renewed = [(entry, renew(_line_of(entry))) for entry in entries]
                lines = [line for _, line in renewed if line is not None]
                self.append(lines)
                rest = self._beside("refused.new")
                with private(rest, os.O_TRUNC) as descriptor:
                    write(descriptor, b"".join(entry for entry, line in renewed if line is None))
                rest.replace(self.refused_path)
                return len(lines)
        except OSError as error:
            raise SpoolFailed(f"the spool {self.path} cannot be replayed: {reason_of(error)}") from error

    @contextmanager
    def _alone(self) -> Iterator[int | None]:
        """The lock file of the one replay, or None when another one has it. A killed one lets go."""
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True, mode=0o700)
        with private(self._beside("lock")) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor

    def _next(self, lock: int) -> list[bytes]:
        """The next lines to send; takes what was appended once all that was taken before is done."""
        if lines := self._read(_noted(lock)):
            return lines
        self._replaying_path.unlink(missing_ok=True)
        _note(lock, 0)  # before the next file: an old number would skip lines of it
        if not size(self.path):
            return []
        with held_file(self.path):
            self.path.rename(self._replaying_path)
        return self._read(0)

    def _read(self, done_bytes: int) -> list[bytes]:
        try:
            with self._replaying_path.open("rb") as file:
                file.seek(done_bytes)
                return [line for _, line in zip(range(AT_ONCE), file, strict=False)]
        except FileNotFoundError:
            return []

    def _keep_aside(self, lines: Sequence[bytes], reasons: Mapping[int, str]) -> None:
        if not reasons:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entries = [
            {
                "reason": reason,
                "refused_at": at,
                "line": lines[position].decode(errors="replace").rstrip("\n"),
            }
            for position, reason in sorted(reasons.items())
        ]
        with held_file(self.refused_path) as descriptor:
            append(descriptor, [json.dumps(entry).encode() for entry in entries])


def _line_of(entry: bytes) -> bytes:
    try:
        return str(json.loads(entry)["line"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


def _noted(lock: int) -> int:
    """How many bytes of what was taken are done."""
    try:
        return int(os.pread(lock, 32, 0) or b"0")
    except ValueError:
        return 0


def _note(lock: int, done_bytes: int) -> None:
    os.pwrite(lock, b"%20d\n" % done_bytes, 0)
    os.fsync(lock)
