"""Files that several worker processes share: whole or untouched, and no update lost.

A document is replaced by rename, so a reader sees the old or the new one, never half. Whoever
reads, changes and writes does so inside `exclusive(path)`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.whole_file import sync_folder, write_whole

Result = TypeVar("Result")
_GUARDS = ".guards"


def file_name(identity: str, suffix: str = ".json") -> str:
    """A safe file name for any text: readable, and distinct for distinct texts."""
    readable = re.sub(r"[^a-z0-9]+", "-", identity.lower()).strip("-")[:60].strip("-")
    digest = hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()[:10]
    return f"{readable}-{digest}{suffix}" if readable else f"{digest}{suffix}"


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Be the only process and thread that changes `path`; waits for the others.

    The kernel lets go when the holder dies. Never nest two of one folder: they may share a guard.
    """
    guards = path.parent / _GUARDS
    guards.mkdir(parents=True, exist_ok=True)
    # The guard is a file beside the document, since a rename would take a lock on the document
    # itself away with the old inode. 256 guards a folder bound their number.
    guard = guards / f"{zlib.crc32(path.name.encode()) & 0xFF:02x}"
    descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def append_whole(path: Path, body: bytes) -> None:
    """Append `body` on a fresh line: all of it, or, when the disk is full, nothing. Raises OSError.

    The file keeps its inode, so an editor that has it open keeps seeing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
            if stream.read(1) != b"\n":
                body = b"\n" + body
        try:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(stream.fileno(), size)
            raise
    if not size:
        sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The JSON document at `path`, or None when there is no such file.

    Raises PermanentFailure when it is not JSON: starting afresh would lose what it held.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        return json.loads(text)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as fault:
        raise PermanentFailure(
            f"{path.name} is not valid JSON: {fault}", fix="Correct the file or move it away, then retry."
        ) from None


def write_json(path: Path, document: Any) -> None:
    """Replace the JSON document at `path`."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    # A lone surrogate cannot be UTF-8; backslashreplace writes it as the JSON escape that it is.
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object at `path`; empty when there is no such file. Raises PermanentFailure."""
    document = read_json(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise PermanentFailure(f"{path.name} must hold a JSON object, not {type(document).__name__}")
    return document


def update_document(path: Path, change: Callable[[dict[str, Any]], Result]) -> Result:
    """Let `change` edit the JSON object at `path` (empty at first) in place; answer what it answers.

    Nothing is written when `change` raises or leaves the object as it was.
    """
    with exclusive(path):
        document = read_document(path)
        before = json.dumps(document)
        answer = change(document)
        if json.dumps(document) != before:
            write_json(path, document)
        return answer
