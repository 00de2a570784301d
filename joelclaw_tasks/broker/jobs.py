"""Reads a Celery message and says which job it is: queue, lane, gates, rank."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from joelclaw_tasks.admission import lane_name
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.rank import from_celery
from joelclaw_tasks.core.rules import Rules

#: Message property in which the router and `emit` say what the registry knows of a job.
SPEC_PROPERTY = "jc"
#: Message property: for how long the job is remembered as a duplicate after it finished, in ms.
KEEP_PROPERTY = "jc_keep_ms"
#: Option of a call, and message property: the batch of which it was an element that failed, and its error.
SPLIT_PROPERTY = "jc_split"
#: Option of a retry: the error that it is for. It is no part of the message that waits.
REASON_PROPERTY = "jc_reason"
#: Message header in which a worker receives the delivery tag of its lease.
TAG_HEADER = "jc_tag"
#: Message property: in how many ms after its admission a call with a countdown is due.
COUNTDOWN_PROPERTY = "jc_countdown_ms"
_YEAR_MS = 366 * 86_400_000


def is_task(message: Mapping[str, Any]) -> bool:
    """Whether this is a Celery task call, and not a control command, a reply or an event."""
    headers = message.get("headers") or {}
    return bool(headers.get("task") and headers.get("id"))


def job_of(queue: str, message: Mapping[str, Any], payload: str | bytes, slack_ms: tuple[int, ...]) -> Job:
    """The job of a message that is_task; one with neither id nor task name is named by its content."""
    headers = message.get("headers") or {}
    properties = message.get("properties") or {}
    spec = properties.get(SPEC_PROPERTY) or {}
    name = str(headers.get("task") or queue)
    handler = spec.get("handler", name)
    priority = spec.get("priority")
    if priority is None:
        priority = from_celery(_number(properties.get("priority")))
    split = properties.get(SPLIT_PROPERTY)
    # What is to come in a while is said so: the clock of whoever says it may be minutes off.
    eta_ms = -_number(properties.get(COUNTDOWN_PROPERTY)) or due_ms(headers.get("eta"))
    retries = _number(headers.get("retries"))
    delay_ms = min(_number(spec.get("delay_ms")), _YEAR_MS)
    if delay_ms > 0 and not eta_ms and not retries:
        eta_ms = -delay_ms
    return Job(
        id=str(headers.get("id") or properties.get("correlation_id") or _content_id(payload)),
        queue=queue,
        family=spec.get("family", name),
        handler=handler,
        lane=lane_name(queue, handler, spec.get("lane", "")),
        payload=payload,
        gates=tuple(spec.get("gates", ())),
        priority=priority,
        slack_ms=slack_ms[priority],
        due_ms=eta_ms,
        keep_ms=spec.get("keep_ms") or _number(properties.get(KEEP_PROPERTY)),
        retries=retries,
        actor=spec.get("actor", ""),
        trace=str(headers.get("traceparent") or ""),
        rules=_split_rules(split) if split else spec.get("rules", ""),
    )


def passes_gates(message: Any) -> bool:
    """Whether a message that a worker received says that its job passed gates: others may wait at them."""
    spec = (getattr(message, "properties", None) or {}).get(SPEC_PROPERTY)
    return isinstance(spec, Mapping) and bool(spec.get("gates"))


def _split_rules(split: Mapping[str, Any]) -> str:
    return Rules(split_from=split.get("from", ""), error=split.get("error", "")).encode()


def undecodable_job(queue: str, payload: bytes, reason: str) -> Job:
    """The job of a message that no worker could ever run: it goes to the dead letter with the reason."""
    return Job(
        id=_content_id(payload),
        queue=queue,
        family="undecodable",
        handler="undecodable",
        lane=lane_name(queue, "undecodable", ""),
        payload=payload,
        refusal=reason,
    )


def due_ms(eta: object) -> int:
    """An ISO 8601 ETA as epoch milliseconds, 0 without one. A time without a zone is UTC."""
    if not eta:
        return 0
    try:
        moment = eta if isinstance(eta, datetime) else datetime.fromisoformat(str(eta))
    except ValueError:
        return 0  # the worker reads the header itself and reports it
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))


def current_tag(job_id: str) -> str:
    """The delivery tag under which this very task runs now in this thread, or an empty string."""
    task = current_task()
    if task is None or task.request.id != job_id:
        return ""
    return str(getattr(task.request, TAG_HEADER, "") or "")


def current_task() -> Any:
    """The Celery task that runs in this thread, or None."""
    state = sys.modules.get("celery._state")
    return state.get_current_task() if state else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _content_id(payload: str | bytes) -> str:
    data = payload.encode() if isinstance(payload, str) else payload
    return "sha256:" + hashlib.sha256(data).hexdigest()
