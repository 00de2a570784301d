"""What the watcher has told of each file: one row a file in SQLite, so that one edit writes one row.

The id of an event is made from the row before it. Whoever is killed between emitting and saving makes the
same id again, which is a duplicate; a file that goes back to an older content has a later row, which is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from joelclaw_tasks.errors import WatchRunning

#: The version of a file that has gone.
GONE = ""
_TABLES = """
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY, print TEXT NOT NULL, version TEXT NOT NULL,
    turn INTEGER NOT NULL, told_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS era (id TEXT NOT NULL);
"""


class Row(NamedTuple):
    """A file as it was told: `print` of its status, `version` of its content, and how often it was told."""

    print: str
    version: str
    turn: int


class WatchState:
    """The rows of all files, in memory and on disk. For one process at a time (`hold`), and one thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = folder / "state.sqlite3"
        self.is_new = not self._file.exists()
        try:
            self._open()
        except sqlite3.DatabaseError:
            # All files are told again then: validating twice harms nobody.
            self._db.close()
            self._file.replace(folder / "state.broken")
            self.is_new = True
            self._open()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._file, isolation_level=None)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)
        self._db.execute("INSERT INTO era SELECT ? WHERE NOT EXISTS (SELECT 1 FROM era)", (uuid.uuid4().hex,))
        self._era: str = self._db.execute("SELECT id FROM era").fetchone()[0]
        found = self._db.execute("SELECT path, print, version, turn FROM file")
        self.rows = {path: Row(*row) for path, *row in found}

    def event_id(self, path: str, version: str) -> str:
        """The id of the event that tells this version: the same until it is saved, then never again."""
        before = self.rows.get(path)
        turn = before.turn + 1 if before else 1
        text = "\0".join((self._era, path, version, str(turn)))
        return f"content:{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def save(self, told: Iterable[tuple[str, str, str]], *, is_told: bool = True) -> None:
        """Keep (path, print, version) of files, all or none; `is_told` False: only their status changed."""
        rows = []
        for path, status, version in told:
            before = self.rows.get(path)
            turn = (before.turn if before else 0) + is_told
            rows.append((path, status, version, turn, int(time.time())))
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)
        self.rows.update({path: Row(status, version, turn) for path, status, version, turn, _ in rows})

    def forget_gone(self, keep_s: float) -> None:
        """Forget files that have been gone for so long; Redis must not remember their jobs any more."""
        before = int(time.time() - keep_s)
        with self._transaction():
            self._db.execute("DELETE FROM file WHERE version = ? AND told_at < ?", (GONE, before))
        kept = {path for (path,) in self._db.execute("SELECT path FROM file")}
        self.rows = {path: row for path, row in self.rows.items() if path in kept}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only watcher of this home. Raises WatchRunning; the kernel lets go when the holder dies."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WatchRunning("a watcher of this home runs already") from None
        yield
    finally:
        os.close(descriptor)
