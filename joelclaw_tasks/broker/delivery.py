"""Delivery: what a consumer receives for a job; it knows why it was refused."""

from __future__ import annotations

import sys
from typing import Any

from kombu.transport import virtual


class Delivery(virtual.Message):
    """kombu's message. `failure` is why the job belongs in the dead letter, or None."""

    failure: str | None = None

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except Exception as error:
            # Celery acknowledges what it cannot decode, which would lose it.
            self.failure = f"the body cannot be decoded: {describe(error)}"
            raise

    def reject_log_error(self, logger: Any, errors: Any, requeue: bool = False) -> None:
        """Called by Celery's consumer for what it has no task for, or cannot make sense of."""
        if self.failure is None:
            self.failure = self._refusal(sys.exc_info()[1])
        super().reject_log_error(logger, errors, requeue)

    def _refusal(self, error: BaseException | None) -> str:
        name = (self.headers or {}).get("task")
        if not name:
            return "no task: the message names none"
        if error is None or isinstance(error, KeyError):
            return f"unknown task: this worker has no task {name!r}"[:2000]
        return describe(error)


def describe(error: BaseException) -> str:
    """`Type: text` of an error, cut to what a dead letter keeps."""
    return f"{type(error).__name__}: {error}"[:2000]
