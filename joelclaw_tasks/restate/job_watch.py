"""JobWatch: waits for the end of jobs, many at once, with one look at Redis for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from joelclaw_tasks.core.states import FINAL
from joelclaw_tasks.core.store import Store

#: Member of the meta of an event: the result of its job is kept.
KEEP_RESULT = "keep_result"
#: A step hands on at most so much of what a job answered.
RESULT_MOST_BYTES = 256 << 10
_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 0.5
_FINAL = {state.value for state in FINAL}
_MISSING = "missing"


class JobWatch:
    """For the coroutines of one event loop. `store` is asked in a thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[str, set[asyncio.Future[dict[str, Any]]]] = {}
        self._looker: asyncio.Task[None] | None = None

    async def end_of(self, job_id: str, within_s: float) -> dict[str, Any]:
        """How a job ended: `{state, error, result, left_out_bytes}`; `state` None: not within this time.

        `state` is completed, cancelled or discarded, or missing when Redis knows nothing of it. Raises
        CoreUnreachable.
        """
        waiter: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(waiter)
        if self._looker is None or self._looker.done():
            self._looker = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(waiter, within_s)
        except TimeoutError:
            return {"state": None}
        finally:
            waiting = self._waiters.get(job_id, set())
            waiting.discard(waiter)
            if not waiting:
                self._waiters.pop(job_id, None)

    async def _look(self) -> None:
        wait_s = _FIRST_LOOK_S
        while ids := list(self._waiters):
            try:
                ends = await asyncio.to_thread(self._ends, ids)
            except Exception as error:  # noqa: BLE001  # whoever waits decides
                for waiter in [one for waiting in self._waiters.values() for one in waiting]:
                    if not waiter.done():
                        waiter.set_exception(error)
                return
            wait_s = _FIRST_LOOK_S if ends else min(_LAST_LOOK_S, wait_s * 1.3)
            for job_id, end in ends.items():
                for waiter in self._waiters.pop(job_id, ()):
                    if not waiter.done():
                        waiter.set_result(end)
            await asyncio.sleep(wait_s)

    def _ends(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        keys, client = self._store.keys, self._store.client
        pipe = client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(keys.job(job_id), "state", "error")
        found = self._store.ask(pipe.execute)
        over = {
            job_id: (_text(state) or _MISSING, _text(error))
            for job_id, (state, error) in zip(ids, found, strict=True)
            if state is None or _text(state) in _FINAL
        }
        for job_id in over:
            pipe.get(f"celery-task-meta-{job_id}")
        metas = self._store.ask(pipe.execute) if over else []
        return {
            job_id: _end(state, error, meta)
            for (job_id, (state, error)), meta in zip(over.items(), metas, strict=True)
        }


def _end(state: str, error: str, meta: bytes | None) -> dict[str, Any]:
    try:
        kept = json.loads(meta or b"{}")
        succeeded, result = kept.get("status") == "SUCCESS", kept.get("result")
        succeeded = succeeded and state in ("completed", _MISSING)
    except (ValueError, AttributeError, RecursionError):
        succeeded, result = False, None
    if state == _MISSING and succeeded:
        state = "completed"  # the settings say that ended jobs are not remembered
    size = len(meta or b"") if state == "completed" else 0
    end: dict[str, Any] = {"state": state, "error": error, "result": result if succeeded else None}
    if size > RESULT_MOST_BYTES:
        end |= {"result": None, "left_out_bytes": size}
    return end


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")
