"""CancelledCalls: a call whose job a person has cancelled is cancelled in Restate too.

A job that waits for the output of a call is in Redis, and no worker hears of its end. So the service reads
the transitions stream, in which every cancelled job is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

from joelclaw_tasks.core.spec import RestateSpec
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import RestateRefused
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.client import RestateClient

log = logging.getLogger(__name__)

#: What was cancelled while nobody looked is seen to as well, if it was not longer ago.
_BACK_MS = 600_000
_PAGE = 1_000
_AT_ONCE = 100
_JOB_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)


class CancelledCalls:
    """Looks when it is told to. `registry` answers the one that counts now."""

    def __init__(self, store: Store, client: RestateClient, registry: Callable[[], Registry]) -> None:
        self._store, self._client, self._registry = store, client, registry
        self._seen: str | None = None

    def look(self) -> int:
        """Cancel the calls of jobs that were cancelled since the last look; answers how many invocations.

        Raises CoreUnreachable and RestateAway; the next look begins where this one did.
        """
        calls = {
            handler.name: handler.restate
            for handler in self._registry().handlers.values()
            if handler.restate is not None and handler.restate.mode == "call"
        }
        if self._seen is None:
            self._seen = f"{self._store.now_ms() - _BACK_MS}-0"
        if not calls:
            self._seen = f"{self._store.now_ms()}-0"
            return 0
        count = 0
        while True:
            entries = self._store.ask(
                lambda: self._store.client.xrange(
                    self._store.keys.transitions, min=f"({self._seen}", count=_PAGE
                )
            )
            found = [
                (entry[b"job"].decode(), calls[handler])
                for _, entry in entries
                if entry.get(b"verb") == Verb.CANCEL.encode()
                and (handler := entry.get(b"handler", b"").decode()) in calls
            ]
            jobs = [(job_id, spec) for job_id, spec in found if _JOB_ID.fullmatch(job_id)]
            for start in range(0, len(jobs), _AT_ONCE):
                count += self._cancel(jobs[start : start + _AT_ONCE])
            if entries:
                self._seen = entries[-1][0].decode()
            if len(entries) < _PAGE:
                return count

    def _cancel(self, jobs: list[tuple[str, RestateSpec]]) -> int:
        pipe = self._store.client.pipeline(transaction=False)
        for job_id, _ in jobs:
            pipe.hget(self._store.keys.job(job_id), "state")
        states = self._store.ask(pipe.execute)
        # What was taken back meanwhile is to go on. What Redis has forgotten was cancelled for good.
        gone = {
            job_id
            for (job_id, _), state in zip(jobs, states, strict=True)
            if state is None or state.decode() == State.CANCELLED
        }
        keyed = [job_id for job_id, spec in jobs if job_id in gone and not spec.workflow]
        flows = [job_id for job_id, spec in jobs if job_id in gone and spec.workflow]
        terms = [f"idempotency_key IN ({_listed(keyed)})"] if keyed else []
        if flows:
            terms.append(f"(target_service_key IN ({_listed(flows)}) AND target_handler_name = 'run')")
        if not terms:
            return 0
        rows = self._client.query(f"{_UNDER_WAY} AND ({' OR '.join(terms)})")
        for row in rows:
            try:
                self._client.cancel(str(row["id"]))
            except RestateRefused:  # it has just ended
                continue
            log.info("cancelled %s: its job was cancelled", row["id"])
        return len(rows)


_UNDER_WAY = "SELECT id FROM sys_invocation WHERE status <> 'completed'"


def _listed(ids: Iterable[str]) -> str:
    """For a query; only what looks like the id of a job gets here."""
    return ", ".join(f"'{one}'" for one in ids)
