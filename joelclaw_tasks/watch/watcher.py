"""The watcher: from a file that changed to one event, whatever happens to the file, Redis or us.

    the system tells, or a scan finds ──► waits until it is quiet ──► hashed ──► emitted ──► saved

What the system tells is a hint only. Every scan compares all files with what was saved, so that what was
missed, or could not be emitted, is found again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joelclaw_tasks.errors import CoreUnreachable, EventRefused
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.watch.look import Unreadable, is_page, is_passed_over, pages, status_of, version_of
from joelclaw_tasks.watch.state import GONE, WatchState

EVENT = "content/updated"
_MOST_AT_ONCE = 200
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 5.0
#: So many changes found at once are a folder that came, not a person who writes: they stand back.
_MANY = 100
#: A folder that held more than this and is empty was unmounted rather than emptied.
_EMPTIED = 10


@dataclass(slots=True)
class _Pending:
    print: str | None
    quiet_at: float
    is_many: bool = False


@dataclass(slots=True)
class Counts:
    """What the watcher did since it started; `waiting` changes are found and not told yet."""

    emitted: int = 0
    waiting: int = 0
    unchanged: int = 0
    scans: int = 0
    problems: dict[str, str] = field(default_factory=dict)


class Watcher:
    """Tells changes of Markdown below `roots` (resolved). Not for several threads.

    A root that is below another folder is told relative to that one, one with None by absolute paths.
    `emit_many` may raise CoreUnreachable and EventRefused. `say` is told what a person should know, once.
    `now` is a monotonic clock in seconds.
    """

    def __init__(
        self,
        roots: Mapping[Path, Path | None],
        state: WatchState,
        emit_many: Callable[[list[NewEvent]], object],
        *,
        quiet_s: float = 0.2,
        rescan_s: float = 60.0,
        say: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roots, self._state, self._emit_many = dict(roots), state, emit_many
        self._quiet_s, self._rescan_s, self._say, self._now = quiet_s, rescan_s, say, now
        self._pending: dict[str, _Pending] = {}
        self._scan_at = now()
        self._retry_at, self._retry_s = 0.0, _FIRST_RETRY_S
        self._away: set[Path] = set()
        self.counts = Counts()

    @property
    def is_waiting_for_redis(self) -> bool:
        """Whether changes are kept back because Redis does not take them."""
        return self._retry_at > 0

    @property
    def is_settled(self) -> bool:
        """Whether everything was looked at, and nothing waits to be told."""
        return self.counts.scans > 0 and not self._pending

    def told(self, paths: Iterable[str]) -> None:
        """The system says that something happened there."""
        for path in map(Path, paths):
            root = self._root_of(path)
            if root is None:
                continue
            if is_page(root, path):
                self._note(str(path))
            # isfile answers False where Path.is_file raises: in a folder that may not be entered.
            if not any(map(is_passed_over, path.relative_to(root).parts)) and not os.path.isfile(path):  # noqa: PTH113
                # A folder came, was renamed or went: the system says nothing of the files in it.
                self._scan_at = min(self._scan_at, self._now() + self._quiet_s)

    def step(self) -> float:
        """Do what is due; answers after how many seconds something may be due again."""
        if self._now() >= self._scan_at:
            self._scan()
        if self._now() >= self._retry_at:
            self._settle()
        self.counts.waiting = len(self._pending)
        soonest = min((each.quiet_at for each in self._pending.values()), default=self._scan_at)
        due_at = max(min(soonest, self._scan_at), min(self._retry_at, self._scan_at))
        return max(0.005, due_at - self._now())

    def _root_of(self, path: Path) -> Path | None:
        within = [root for root in self._roots if path.is_relative_to(root)]
        return max(within, key=lambda root: len(root.parts), default=None)

    def _scan(self) -> None:
        first = self.counts.scans == 0
        self.counts.scans += 1
        # Right after the start once more: what happened before the system was listening is not told.
        self._scan_at = self._now() + (min(1.0, self._rescan_s) if first else self._rescan_s)
        changed: list[str] = []
        for root in self._roots:
            changed += self._changed_below(root)
        is_many = len(changed) > _MANY
        for path in changed:
            self._note(path, is_found=True, is_many=is_many)

    def _changed_below(self, root: Path) -> list[str]:
        prefix = f"{root}/"
        known = {path: row for path, row in self._state.rows.items() if path.startswith(prefix)}
        living = sum(row.version != GONE for row in known.values())
        try:
            present = set(pages(root))
            is_empty = not present and not any(root.iterdir())
        except OSError as error:
            self._root_away(root, str(error.strerror).lower())
            return []
        if is_empty and living > _EMPTIED:
            self._root_away(root, "it is empty all at once; is it mounted?")
            return []
        if root in self._away:
            self._away.discard(root)
            self._say(f"{root} is there again")
        changed = [path for path in present if self._differs(path)]
        gone = [path for path, row in known.items() if row.version != GONE and path not in present]
        return changed + gone

    def _root_away(self, root: Path, why: str) -> None:
        if root not in self._away:
            self._away.add(root)
            self._say(f"{root} cannot be watched: {why}; its files do not count as deleted")

    def _differs(self, path: str) -> bool:
        row = self._state.rows.get(path)
        try:
            found = status_of(path)
        except Unreadable:
            return True
        return (row.print if row else "") != (found[0] if found else "")

    def _note(self, path: str, *, is_found: bool = False, is_many: bool = False) -> None:
        before = self._pending.get(path)
        if before is not None and is_found:
            return
        status, changed_at = self._look(path)
        quiet_s = self._quiet_s
        if is_found:  # what changed long ago is quiet; a clock that went back must not make us wait
            quiet_s -= min(quiet_s, max(0.0, time.time() - changed_at))
        self._pending[path] = _Pending(status, self._now() + quiet_s, is_many)

    def _look(self, path: str) -> tuple[str | None, float]:
        try:
            return status_of(path) or (None, 0.0)
        except Unreadable:
            return None, 0.0

    def _settle(self) -> None:
        now = self._now()
        told: list[tuple[str, str, str]] = []
        same: list[tuple[str, str, str]] = []
        many: set[str] = set()
        for path, pending in list(self._pending.items()):
            if now < pending.quiet_at or len(told) >= _MOST_AT_ONCE:
                continue
            status, _ = self._look(path)
            if status != pending.print:
                self._pending[path] = _Pending(status, now + self._quiet_s)
                continue
            version = self._version(path, status)
            if version is not None and self._look(path)[0] != status:
                self._pending[path] = _Pending(self._look(path)[0], now + self._quiet_s)
                continue
            row = self._state.rows.get(path)
            if version is None or (version == GONE and (row is None or row.version == GONE)):
                del self._pending[path]
            elif row is not None and row.version == version:
                same.append((path, status or "", version))
            else:
                told.append((path, status or "", version))
                many |= {path} if pending.is_many else set()
        if same:
            self._state.save(same, is_told=False)
            self.counts.unchanged += len(same)
            self._done(same)
        if told:
            self._tell(told, many)

    def _version(self, path: str, status: str | None) -> str | None:
        """The version of a quiet file; None when it cannot be told, which is said once for each reason."""
        root = self._root_of(Path(path))
        try:
            if root is None or root in self._away:
                return None
            if status is None and status_of(path) is None:
                self.counts.problems.pop(path, None)
                # When the whole folder has gone, its files do not count as deleted.
                return GONE if os.path.isdir(root) else None  # noqa: PTH112 - raises nothing
            version = version_of(root, path)
        except Unreadable as problem:
            self._problem(path, str(problem))
            return None
        self.counts.problems.pop(path, None)
        return version

    def _problem(self, path: str, why: str) -> None:
        if self.counts.problems.get(path) != why:
            self.counts.problems[path] = why
            self._say(
                f"{path!a} is passed over: {why}"
                if not path.isprintable()
                else f"{path} is passed over: {why}"
            )

    def _tell(self, told: Sequence[tuple[str, str, str]], many: set[str]) -> None:
        left = list(told)
        while left:
            events = [self._event(path, version, path in many) for path, _, version in left]
            try:
                self._emit_many(events)
                break
            except CoreUnreachable as error:
                if not self.is_waiting_for_redis:
                    self._say(f"waits for Redis, which does not take events: {error}")
                self._retry_at = self._now() + self._retry_s
                self._retry_s = min(_LAST_RETRY_S, self._retry_s * 2)
                return
            except EventRefused as error:  # nothing was admitted: without this one the others are
                path, _, _ = left.pop(error.position)
                self._problem(path, str(error))
                del self._pending[path]
        if self.is_waiting_for_redis:
            self._say("Redis takes events again")
        self._retry_at, self._retry_s = 0.0, _FIRST_RETRY_S
        if left:
            self._state.save(left)
            self.counts.emitted += len(left)
            self._done(left)

    def _done(self, files: Iterable[tuple[str, str, str]]) -> None:
        for path, _, _ in files:
            self._pending.pop(path, None)

    def _event(self, path: str, version: str, is_many: bool) -> NewEvent:
        root = self._root_of(Path(path))
        assert root is not None
        # A path of the content folder is told as everybody else tells it: relative to that folder.
        base = self._roots[root]
        shown = path if base is None else Path(path).relative_to(base).as_posix()
        data = {"path": shown, "source": "watch", "sha256": version or None}
        return NewEvent(
            EVENT,
            data | ({"deleted": True} if version == GONE else {}),
            id=self._state.event_id(path, version),
            source="watch",
            priority="P3" if is_many else None,
        )
