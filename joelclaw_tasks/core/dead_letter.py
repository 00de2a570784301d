"""DeadLetter: what was discarded and why, jobs that failed alike together. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rank import PRIORITIES

_PAGE = 1_000
_FIELDS = (
    "family", "handler", "queue", "priority", "claims", "retries", "kills", "error", "signature",
    "admitted_at", "discarded_at", "refused",
)  # fmt: skip
_NUMBERS = {"claims", "retries", "kills", "admitted_at", "discarded_at"}

#: Ids to purge, the newest discarded_at among them, and why.
Overdue = tuple[list[str], int, str]


class DeadLetter:
    """Reads the dead letter. `client` answers bytes; times are epoch milliseconds."""

    def __init__(self, client: Any, keys: Keys, now_ms: Callable[[], int]) -> None:
        self._client = client
        self._keys = keys
        self._now_ms = now_ms

    def count(self) -> int:
        """How many jobs are in the dead letter."""
        return int(self._client.zcard(self._keys.dead))

    def groups(self, limit: int = 100) -> list[dict[str, Any]]:
        """The groups of jobs that failed alike, the one that failed last first.

        Each with `signature`, `count`, `first_at`, `last_at`, `place`, `error` (that of the last) and
        `sample`, the id of the job that failed last.
        """
        found = self._client.hgetall(self._keys.dead_groups)
        groups = [{"signature": name.decode(), **_record(record)} for name, record in found.items()]
        groups = sorted(groups, key=lambda group: (-group["last_at"], group["signature"]))[: max(0, limit)]
        pipe = self._client.pipeline(transaction=False)
        for group in groups:
            pipe.zcard(self._keys.dead_jobs(group["signature"]))
            pipe.zrange(self._keys.dead_jobs(group["signature"]), -1, -1)
        replies = pipe.execute()
        counted = zip(groups, replies[::2], replies[1::2], strict=True)
        # A group that was emptied between the two reads is gone.
        return [
            {**group, "count": count, "sample": newest[0].decode()}
            for group, count, newest in counted
            if newest
        ]

    def signatures(self) -> list[str]:
        """The signatures of all groups, sorted."""
        return sorted(name.decode() for name in self._client.hkeys(self._keys.dead_groups))

    def ids(self, signature: str | None = None) -> list[str]:
        """The ids of all jobs in the dead letter, or of one group, the oldest first."""
        key = self._keys.dead if signature is None else self._keys.dead_jobs(signature)
        return [job_id.decode() for job_id in self._client.zrange(key, 0, -1)]

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """One line of each of the jobs that were discarded last, the newest first."""
        ids = self._client.zrevrange(self._keys.dead, 0, limit - 1) if limit > 0 else []
        return list(self.jobs([job_id.decode() for job_id in ids]))

    def jobs(self, ids: Sequence[str], *, payload: bool = False) -> Iterator[dict[str, Any]]:
        """One line of each of these jobs that is in the dead letter; with its `payload` (bytes) if asked."""
        fields = ("state", *_FIELDS, *(("payload",) if payload else ()))
        for start in range(0, len(ids), _PAGE):
            pipe = self._client.pipeline(transaction=False)
            page = ids[start : start + _PAGE]
            for job_id in page:
                pipe.hmget(self._keys.job(job_id), *fields)
            for job_id, (state, *values) in zip(page, pipe.execute(), strict=True):
                if state == b"discarded":
                    yield _line(job_id, values)

    def overdue(self, keep_ms: int, most: int, at_once: int) -> list[Overdue]:
        """What has to go: what is here for longer than `keep_ms`, and the oldest of more than `most`."""
        key, found = self._keys.dead, []
        pipe = self._client.pipeline(transaction=False)
        pipe.zrange(key, 0, 0, withscores=True)
        pipe.zcard(key)
        oldest, count = pipe.execute()
        kept_since = self._now_ms() - keep_ms if keep_ms else 0
        if oldest and oldest[0][1] < kept_since:
            reason = f"kept for {keep_ms // 3_600_000} h"
            old = self._client.zrangebyscore(key, "-inf", f"({kept_since}", 0, at_once)
            found.append(([job_id.decode() for job_id in old], kept_since, reason))
        if most and count > most:
            rest = self._client.zrange(key, 0, min(count - most, at_once) - 1, withscores=True)
            reason = f"more than {most} in the dead letter"
            found.append(([job_id.decode() for job_id, _ in rest], int(rest[-1][1]), reason))
        return found


def _record(record: bytes) -> dict[str, Any]:
    # The error was cut by bytes once, so what is no character any more must not stop anybody.
    group: dict[str, Any] = json.loads(record.decode(errors="replace"))
    return {name: group.get(name) for name in ("first_at", "last_at", "place", "error")}


def _line(job_id: str, values: Sequence[bytes | None]) -> dict[str, Any]:
    job: dict[str, Any] = {"id": job_id}
    for name, value in zip(_FIELDS, values, strict=False):
        text = None if value is None else value.decode(errors="replace")
        job[name] = int(text) if text is not None and name in _NUMBERS else text
    job["priority"] = PRIORITIES[int(job["priority"])]
    job["refused"] = job["refused"] is not None
    if len(values) > len(_FIELDS):
        job["payload"] = values[-1]
    return job
