"""Resending: a call whose answer was lost may have been admitted, have run and be forgotten by now.

A plain task may be sent again under its old id once it is over, so Redis forgets it when it ends. A producer
that was cut off before it heard of its call sends that call again, and must not run it twice. Only such a
second try looks into the transitions stream first, so no other call pays for it.
"""

from __future__ import annotations

from time import monotonic

import redis

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable

#: Calls without an answer that are remembered; the oldest go first.
_REMEMBERED = 10_000
#: Celery gives up sooner. A call under the same id after that is meant as a new one.
_REMEMBERED_S = 120.0

_tried_at: dict[str, float] = {}  # job id -> when its call was first tried


def admit_once(store: Store, job: Job) -> None:
    """`admit` one job, however often its call is tried again. Raises CoreUnreachable."""
    if job.keep_ms:  # Redis itself remembers it
        store.admit([job])
        return
    for is_last in (False, True):
        began = monotonic()
        try:
            tried_at = _tried_at.get(job.id, -_REMEMBERED_S)
            if began - tried_at > _REMEMBERED_S or not store.was_admitted(job.id, tried_at):
                store.admit([job], repeatable=False)
        except CoreUnreachable as error:
            _remember(job.id, began)
            # One that does not answer is not waited for twice.
            if is_last or isinstance(error.__cause__, redis.exceptions.TimeoutError):
                raise
        else:
            _tried_at.pop(job.id, None)
            return


def _remember(job_id: str, began: float) -> None:
    if began - _tried_at.get(job_id, -_REMEMBERED_S) > _REMEMBERED_S:
        _tried_at[job_id] = began
    while len(_tried_at) > _REMEMBERED:
        _tried_at.pop(next(iter(_tried_at)), None)
