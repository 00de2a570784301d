"""Spool: a file in which events wait while Redis is away, one JSON line each.

    <path>             appended under flock and synced before the producer is told
    <path>.replaying   what a replay has taken; <path>.lock says how much of it is done
    <path>.refused     lines that cannot be sent, each with the reason

A replay that is killed goes on where it was, or a little before: whoever sends the lines must be able
to send one twice. See docs/operations.md.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from joelclaw_tasks.errors import SpoolFailed

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
            with _held_file(self.path) as descriptor:
                _append(descriptor, lines)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise SpoolFailed(f"the spool {self.path} cannot be written: {_reason(error)}") from error

    def has_lines(self) -> bool:
        """Whether anything waits to be sent."""
        return any(_size(path) for path in (self.path, self._replaying_path))

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
            raise SpoolFailed(f"the spool {self.path} cannot be replayed: {_reason(error)}") from error
        return Drained(sent, refused)

    def take_back(self, renew: Callable[[bytes], bytes | None]) -> int:
        """Queue the lines kept aside once more, as `renew` makes them; those of None stay. Answers how many.

        Raises SpoolFailed.
        """
        try:
            with self._alone() as lock:
                if lock is None or not _size(self.refused_path):
                    return 0
                entries = self.refused_path.read_bytes().splitlines(keepends=True)
                renewed = [(entry, renew(_line_of(entry))) for entry in entries]
                lines = [line for _, line in renewed if line is not None]
                self.append(lines)
                rest = self._beside("refused.new")
                with _private(rest, os.O_TRUNC) as descriptor:
                    _write(descriptor, b"".join(entry for entry, line in renewed if line is None))
                rest.replace(self.refused_path)
                return len(lines)
        except OSError as error:
            raise SpoolFailed(f"the spool {self.path} cannot be replayed: {_reason(error)}") from error

    @contextmanager
    def _alone(self) -> Iterator[int | None]:
        """The lock file of the one replay, or None when another one has it. A killed one lets go."""
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True, mode=0o700)
        with _private(self._beside("lock")) as descriptor:
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
        if not _size(self.path):
            return []
        with _held_file(self.path):
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
        with _held_file(self.refused_path) as descriptor:
            _append(descriptor, [json.dumps(entry).encode() for entry in entries])


def _line_of(entry: bytes) -> bytes:
    try:
        return str(json.loads(entry)["line"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


@contextmanager
def _private(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _held_file(path: Path) -> Iterator[int]:
    """The file of that name, alone. It may be renamed while one waits for it: then it is another by now."""
    while True:
        with _private(path, os.O_APPEND) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode):
                raise OSError(errno.EINVAL, "it is not a plain file")
            try:
                is_named_so = path.stat().st_ino == opened.st_ino
            except FileNotFoundError:
                is_named_so = False
            if is_named_so:
                yield descriptor
                return


def _append(descriptor: int, lines: Sequence[bytes]) -> None:
    """All of the lines, or, when the disk is full, none."""
    size = os.fstat(descriptor).st_size
    # Whoever died in the middle of a line must not take the next one along.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    try:
        _write(descriptor, b"\n" * torn + b"".join(line + b"\n" for line in lines))
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _noted(lock: int) -> int:
    """How many bytes of what was taken are done."""
    try:
        return int(os.pread(lock, 32, 0) or b"0")
    except ValueError:
        return 0


def _note(lock: int, done_bytes: int) -> None:
    os.pwrite(lock, b"%20d\n" % done_bytes, 0)
    os.fsync(lock)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
