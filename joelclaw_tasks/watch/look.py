"""Looking at files: which are Markdown of a folder, what their status is, and what they hold."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from joelclaw_tasks.handlers.vault import MARKDOWN, MAX_BYTES

_PASSED_OVER = frozenset({"node_modules", "__pycache__"})
_PART_BYTES = 1 << 20


class Unreadable(Exception):
    """A file that cannot be told, and why."""


def is_passed_over(name: str) -> bool:
    """Whether nothing of this name, file or folder, is looked at."""
    return name.startswith(".") or name in _PASSED_OVER


def is_page(root: Path, path: Path) -> bool:
    """Whether a path below the root is Markdown that is looked at."""
    return path.suffix.lower() in MARKDOWN and not any(map(is_passed_over, path.relative_to(root).parts))


def pages(root: Path) -> Iterator[str]:
    """The paths of all Markdown files below a folder. Links to folders are not followed.

    Raises OSError when the root cannot be listed; folders below it that cannot are passed over.
    """
    waiting = [os.fspath(root)]
    is_root = True
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            if is_root:
                raise
            continue
        is_root = False
        with entries:
            for entry in entries:
                if is_passed_over(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif PurePath(entry.name).suffix.lower() in MARKDOWN:
                    yield entry.path


def status_of(path: str) -> tuple[str, float] | None:
    """A text that differs when the file does, and when it changed last, in epoch seconds; None: gone.

    A link counts as what it leads to. Raises Unreadable for a loop of links.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - 10,000 files: a Path for each is half of the time
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(str(error.strerror).lower()) from None
    if stat.S_ISDIR(found.st_mode):
        return None
    text = f"{found.st_mtime_ns}.{found.st_ctime_ns}.{found.st_size}.{found.st_ino}"
    return text, max(found.st_mtime, found.st_ctime)


def version_of(root: Path, path: str) -> str:
    """The SHA-256 of the content; of a file too large to be validated, of its status. Raises Unreadable."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Unreadable("its name is not UTF-8") from None
    try:
        if not Path(path).resolve().is_relative_to(root):
            raise Unreadable("it is a link that leads out of the folder")
        # Opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable("it is not a file")
            digest = hashlib.sha256()
            if found.st_size > MAX_BYTES:
                digest.update(f"{found.st_size}.{found.st_mtime_ns}".encode())
            else:
                while part := stream.read(_PART_BYTES):
                    digest.update(part)
            return digest.hexdigest()
    except (OSError, RuntimeError) as error:
        raise Unreadable(str(getattr(error, "strerror", None) or error).lower()) from None
