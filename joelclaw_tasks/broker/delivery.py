"""Delivery: what a consumer receives for a job; it knows why it was refused."""

from __future__ import annotations

import sys
from typing import Any

from kombu.transport import virtual

from joelclaw_tasks.broker.evidence import describe, refusal
from joelclaw_tasks.core.failure import Failure


class Delivery(virtual.Message):
    """kombu's message. `failure` is why the job belongs in the dead letter, or None."""

    failure: Failure | None = None

    @property
    def task_name(self) -> str:
        """The name of the task that is called, or an empty string."""
        headers = self.headers if isinstance(self.headers, dict) else {}
        return str(headers.get("task") or "")

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except Exception as error:
            # Celery acknowledges what it cannot decode, which would lose it.
            reason = f"the body cannot be decoded: {describe(error)}"
            self.failure = refusal("Undecodable", reason, place=self.task_name)
            raise

    def reject_log_error(self, logger: Any, errors: Any, requeue: bool = False) -> None:
        """Called by Celery's consumer for what it has no task for, or cannot make sense of."""
        if self.failure is None:
            self.failure = self._refusal(sys.exc_info()[1])
        super().reject_log_error(logger, errors, requeue)

    def _refusal(self, error: BaseException | None) -> Failure:
        name = self.task_name
        if not name:
            return refusal("NoTask", "no task: the message names none", place="")
        if error is None or isinstance(error, KeyError):
            return refusal("UnknownTask", f"unknown task: this worker has no task {name!r}", place=name)
        return refusal("Unreadable", describe(error), place=name)
