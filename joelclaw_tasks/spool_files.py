"""Files that several processes append lines to: private, locked for a moment, synced to the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: A longer line is nobody's event: what reads a file of strangers must not fill the memory.
LONGEST_LINE = 16_777_216


@contextmanager
def private(path: Path, flags: int = 0) -> Iterator[int]:
    """The file, made readable by its owner only if it is not there. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held_file(path: Path) -> Iterator[int]:
    """The file of that name, alone. It may be renamed while one waits for it: then it is another by now."""
    while True:
        with private(path, os.O_APPEND) as descriptor:
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


def append(descriptor: int, lines: Sequence[bytes]) -> None:
    """All of the lines, or, when the disk is full, none."""
    size = os.fstat(descriptor).st_size
    # Whoever died in the middle of a line must not take the next one along.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    try:
        write(descriptor, b"\n" * torn + b"".join(line + b"\n" for line in lines))
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def write(descriptor: int, data: bytes) -> None:
    """All of the data, synced to the disk."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """The lines from byte `start` on with their numbers, without line ends; None for one that is too long.

    Nobody's half of a line is read, unless whoever wrote it died. None are in a file that is not there.
    Raises OSError, also for what is no plain file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # whoever appends has ended its line
        end = os.fstat(descriptor).st_size
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        file.seek(start)
        number = 0
        while (left := end - file.tell()) > 0:
            line = file.readline(min(left, LONGEST_LINE))
            number += 1
            is_whole = line.endswith(b"\n") or len(line) == left
            yield number, line.removesuffix(b"\n") if is_whole else None
            while not is_whole and (left := end - file.tell()) > 0:
                rest = file.readline(min(left, LONGEST_LINE))
                is_whole = rest.endswith(b"\n") or len(rest) == left


def sync_directory(directory: Path) -> None:
    """What was created and renamed there is on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size(path: Path) -> int:
    """Bytes of a file, 0 when it is not there. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def reason_of(error: OSError) -> str:
    """Why, for people, without the path."""
    return error.strerror or type(error).__name__
