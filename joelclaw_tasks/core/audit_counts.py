"""Counts against jobs: what `counts` says for each queue, family, priority and state, while work goes on.

Jobs move while they are read. Those that moved are taken from the stream, which says where each of them
was at the very moment at which the counts were read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from joelclaw_tasks.core.history import Entry, History
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.violation import Violation

_KEPT = {State.COMPLETED.value, State.CANCELLED.value}
_STEP = 500


class CountCheck:
    """Notes jobs as they are read and compares in the end. `client` answers text."""

    def __init__(self, client: Any, keys: Keys, history: History) -> None:
        self._client = client
        self._keys = keys
        self._history = history
        self._since = self._newest()
        self._noted: dict[str, tuple[str, str, str, str]] = {}

    def note(self, job_id: str, job: Mapping[str, str | None]) -> None:
        """Remember the queue, family, priority and state of a job."""
        values = (job["queue"], job["family"], job["priority"], job["state"])
        if None not in values:
            self._noted[job_id] = cast("tuple[str, str, str, str]", values)

    def look_again(self, wrong: Mapping[str, int]) -> None:
        """Read the jobs of these families again: a priority may change without a move."""
        families = {tuple(name.rsplit("|", 2)[0].split("\n")) for name in wrong}
        ids = [job_id for job_id, values in self._noted.items() if values[:2] in families]
        for start in range(0, len(ids), _STEP):
            step = ids[start : start + _STEP]
            found = zip(step, self._read(step), strict=True)
            self._noted.update({job_id: values for job_id, values in found if values})

    def compare(self) -> dict[str, int] | None:
        """By field of `counts`, how much it is off; None when more moved than the stream could hold."""
        until, counts = self._counts()
        moved = self._moved(until)
        if moved is None:
            return None
        jobs = {job_id: values for job_id, values in self._noted.items() if job_id not in moved}
        jobs.update(self._after(moved))
        actual = Counter(
            f"{queue}\n{family}|{priority}|{state}"
            for queue, family, priority, state in jobs.values()
            if state not in _KEPT
        )
        counted = {name: n for name, n in counts.items() if name.rpartition("|")[2] not in _KEPT}
        names = {*actual, *counted}
        return {name: off for name in names if (off := counted.get(name, 0) - actual.get(name, 0))}

    def _after(self, moved: Mapping[str, Entry]) -> dict[str, tuple[str, str, str, str]]:
        """Where moved jobs were; their priority is read, was noted, or came with their admission."""
        ids = [job_id for job_id, entry in moved.items() if entry.to_state not in _KEPT]
        found = {}
        for start in range(0, len(ids), _STEP):
            step = ids[start : start + _STEP]
            for job_id, values in zip(step, self._read(step), strict=True):
                noted = ("", "", self._priorities.get(job_id, ""), "")
                entry, known = moved[job_id], values or self._noted.get(job_id, noted)
                found[job_id] = (entry.text("queue"), entry.family, known[2], entry.to_state)
        return found

    def _moved(self, until: tuple[int, int]) -> dict[str, Entry] | None:
        """The last move of each job that moved since the first look, and until then."""
        moved: dict[str, Entry] = {}
        self._priorities: dict[str, str] = {}
        if until <= self._since:
            return moved
        for entry in self._history.read(newest_first=True):
            at = _order(entry.id)
            if at <= self._since:
                return moved
            if at <= until and entry.job and entry.to_state:
                moved.setdefault(entry.job, entry)
                if entry.text("priority"):
                    self._priorities.setdefault(entry.job, entry.text("priority"))
        return moved if self._since == (0, 0) else None

    def _counts(self) -> tuple[tuple[int, int], dict[str, int]]:
        """The counts, and the stream's newest entry at the same moment."""
        for _ in range(100):
            pipe = self._client.pipeline(transaction=False)
            pipe.xrevrange(self._keys.transitions, count=1)
            pipe.hgetall(self._keys.counts)
            pipe.xrevrange(self._keys.transitions, count=1)
            before, counts, after = pipe.execute()
            if before == after:
                break
        newest = _order(after[0][0]) if after else (0, 0)
        return newest, {name: int(n) for name, n in counts.items() if int(n)}

    def _newest(self) -> tuple[int, int]:
        newest = self._client.xrevrange(self._keys.transitions, count=1)
        return _order(newest[0][0]) if newest else (0, 0)

    def _read(self, ids: list[str]) -> list[tuple[str, str, str, str] | None]:
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self._keys.job(job_id), "queue", "family", "priority", "state")
        return [tuple(values) if None not in values else None for values in pipe.execute()]


def count_violation(keys: Keys, field: str, off: int) -> Violation:
    """A count that is off by so much."""
    queue, _, rest = field.partition("\n")
    family, priority, state = rest.rsplit("|", 2)
    detail = f"{state} jobs of {family}, P{priority}, queue {queue} are counted {off} too many"
    if off < 0:
        detail = f"{state} jobs of {family}, P{priority}, queue {queue} are counted {-off} too few"
    return Violation("I7", "COUNT_WRONG", family, detail, (("HINCRBY", keys.counts, field, -off),))


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number or 0)
