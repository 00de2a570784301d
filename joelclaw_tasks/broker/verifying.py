"""Verifying: what is claimed by a worker that requires signatures, before it is delivered.

A message whose signature does not fit goes to the dead letter. One that is signed, but was admitted past the
lane or the gates that it names itself, is put where it belongs and claimed from there again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kombu.log import get_logger

from joelclaw_tasks.broker.elements import BATCH_PREFIX, messages_of
from joelclaw_tasks.broker.evidence import describe, refusal
from joelclaw_tasks.broker.holder import Holder
from joelclaw_tasks.broker.jobs import job_of
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.places import Place, bounding
from joelclaw_tasks.core.reply import Claimed
from joelclaw_tasks.core.signing import BATCHED, DEBOUNCED, Signing, merge_of

logger = get_logger(__name__)


class Verifier:
    """Judges claimed jobs. `slack_ms` as in `job_of`."""

    def __init__(self, signing: Signing, holder: Holder, slack_ms: tuple[int, ...]) -> None:
        self._signing = signing
        self._holder = holder
        self._slack_ms = slack_ms

    def passed(self, jobs: Sequence[Claimed]) -> list[Claimed]:
        """Those that may be delivered. The others are dealt with. Raises CoreUnreachable."""
        if not jobs:
            return []
        places = self._holder.store.places([_id_of(job) for job in jobs])
        return [job for job, place in zip(jobs, places, strict=True) if self._passes(job, place)]

    def _passes(self, job: Claimed, place: Place | None) -> bool:
        try:
            fault = self._fault(job)
            signed = None if fault else self._signed(job)
        except Exception as error:  # noqa: BLE001  # whatever somebody has put there
            fault, signed = f"the message cannot be verified: {describe(error)}", None
        if signed is None:
            logger.error("a job of queue %s is not run: %s", job.queue, fault)
            self._holder.discard(job.tag, refusal("NotSigned", fault, place=_task_of(job)))
            return False
        if place is None or self._is_in_place(signed, place):
            return True
        logger.error("job %s was admitted elsewhere than it was signed for: it is put there", signed.id)
        self._holder.put_right(job.tag, signed, reason="admitted elsewhere than signed")
        return False

    def _fault(self, job: Claimed) -> str:
        """The first fault of a message, or of the messages of a batch."""
        faults = (self._signing.fault(job.queue, message) for message in messages_of(job.payload))
        return next(filter(None, faults), "")

    def _signed(self, job: Claimed) -> Job:
        """The job that the message says it is. Raises ValueError when it is no message of this job."""
        messages = messages_of(job.payload)
        is_batch = job.payload.startswith(BATCH_PREFIX)
        says = [
            job_of(job.queue, json.loads(message), message.decode(), self._slack_ms) for message in messages
        ]
        job_id = _id_of(job)
        if is_batch:
            known = {(one.id, one.family, one.handler, one.lane) for one in says}
            if len(known) != len(says) or len({one[1:] for one in known}) != 1:
                raise ValueError("its elements do not belong together")
            if not job_id.startswith("batch:") or any(merge_of(one) != BATCHED for one in messages):
                raise ValueError("its elements were not signed as those of a batch")
        elif says[0].id != job_id and merge_of(job.payload) != DEBOUNCED:
            raise ValueError("it was signed under another id")
        return replace(says[0], id=job_id, payload=job.payload, due_ms=0, rules="")

    def _is_in_place(self, signed: Job, place: Place) -> bool:
        if (signed.family, signed.handler, signed.lane) != (place.family, place.handler, place.lane):
            return False
        passed_by = bounding(signed.gates) - place.gates
        # Gates of a lane change with the registry; those that bound nothing any more were taken away.
        return not passed_by or not self._holder.store.bounded(passed_by)


def _id_of(job: Claimed) -> str:
    return job.tag.rsplit("#", 2)[0]


def _task_of(job: Claimed) -> str:
    """What the message says that it calls, for people: nobody has signed it."""
    try:
        message: Any = json.loads(messages_of(job.payload)[0])
        return str(message["headers"]["task"])[:200]
    except (ValueError, TypeError, LookupError, RecursionError):
        return job.queue
