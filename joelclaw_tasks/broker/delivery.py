"""Delivery: what a consumer receives for a job, read from the job; it knows why it was refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import loads

from joelclaw_tasks.broker.elements import BATCH_PREFIX, batch_message
from joelclaw_tasks.broker.evidence import describe, refusal
from joelclaw_tasks.broker.jobs import TAG_HEADER
from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.format import FORMAT_PROPERTY, require_known
from joelclaw_tasks.core.reply import Claimed


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


#: `json.loads` looks for the encoding of bytes and asks for options with every message.
_read_plain = json.JSONDecoder().decode


def message_of(job: Claimed) -> dict[str, Any]:
    """The message as the worker gets it: under its delivery tag, and with nothing left to wait for."""
    # kombu's reader also knows its own types (dates, UUIDs), which few messages hold, at twice the time.
    read: Callable[[str], dict[str, Any]] = loads if b'"__type__"' in job.payload else _read_plain
    if job.payload.startswith(BATCH_PREFIX):
        message = batch_message(job.payload)
    else:
        message = read(job.payload.decode())
    headers = message.setdefault("headers", {})
    if "id" in headers:
        headers["id"] = job.tag.rsplit("#", 2)[0]  # a debounced call runs as the job that it became part of
    properties = message["properties"]
    require_known(properties.get(FORMAT_PROPERTY, 1), "the message")
    properties["delivery_tag"] = job.tag
    headers[TAG_HEADER] = job.tag
    headers["eta"] = None  # it waited in Redis
    if int(job.tag.rpartition("#")[2]) - 1 > (headers.get("retries") or 0):
        headers["redelivered"] = True
        properties.setdefault("delivery_info", {})["redelivered"] = True
    return message
