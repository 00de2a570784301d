"""Unended: jobs that the stream admitted and never brought to an end; those without a record are gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from joelclaw_tasks.core.history import Entry, History
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.states import FINAL

_STEP = 500


class Unended:
    """Hears of every entry of the stream, oldest first. `client` may answer text or bytes."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._last: dict[str, Entry] = {}

    def note(self, entry: Entry) -> None:
        """Remember the last move of a job, until it ends."""
        if entry.job and entry.to_state in FINAL:
            self._last.pop(entry.job, None)
        elif entry.job and entry.to_state:
            self._last[entry.job] = entry

    def gone(self, history: History) -> list[Entry]:
        """The last move of each job without a record. The stream is read again when there seems to be one.

        For a job may have ended, and been forgotten, since its last move was read.
        """
        suspects = self._missing(self._last)
        if not suspects:
            return []
        again = Unended(self._client, self._keys)
        for entry in history.read():
            again.note(entry)
        return [again._last[job] for job in again._missing(set(suspects) & again._last.keys())]

    def _missing(self, jobs: Iterable[str]) -> list[str]:
        ids = sorted(jobs)
        missing: list[str] = []
        for start in range(0, len(ids), _STEP):
            step = ids[start : start + _STEP]
            pipe = self._client.pipeline(transaction=False)
            for job_id in step:
                pipe.exists(self._keys.job(job_id))
            missing += [job_id for job_id, is_there in zip(step, pipe.execute(), strict=True) if not is_there]
        return missing
