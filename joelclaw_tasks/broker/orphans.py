"""Tells the callers of jobs that were discarded because their worker died: nobody else stores a result.

Such a job waits in the list of orphans until a worker of an app that knows its task comes by.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import current_app
from celery.app.task import Context
from celery.utils.log import get_logger

from joelclaw_tasks.broker.evidence import describe
from joelclaw_tasks.core.store import Store

logger = get_logger(__name__)

_AT_ONCE = 100


def tell_callers(store: Store) -> None:
    """Store a failure in the result backend for each orphan whose task this app knows."""
    try:
        client: Any = store.client  # redis-py types every reply as str | bytes | None
        ids = [job_id.decode() for job_id in client.lrange(store.keys.orphans, 0, _AT_ONCE - 1)]
        known = {job["id"]: job for job in store.dead.jobs(ids, payload=True)}
        for job_id in ids:
            _tell(store, client, job_id, known.get(job_id))
    except Exception as error:  # noqa: BLE001  # the next look comes soon
        logger.warning("callers of jobs whose worker died hear of it later: %s", describe(error))


def _tell(store: Store, client: Any, job_id: str, job: dict[str, Any] | None) -> None:
    # Whoever takes it off the list tells; one that is dead no more has nothing to be told of.
    if not client.lrem(store.keys.orphans, 1, job_id) or job is None:
        return
    try:
        told = _store_failure(job)
    except Exception:
        client.rpush(store.keys.orphans, job_id)
        raise
    if not told:
        client.rpush(store.keys.orphans, job_id)  # behind the others: a worker of another app knows it


def _store_failure(job: dict[str, Any]) -> bool:
    """Whether it could be told: an app that does not have the task has another result backend, perhaps."""
    try:
        message = json.loads(job["payload"])
        headers, properties = message["headers"], message["properties"]
        task = current_app.tasks.get(headers["task"])
    except (ValueError, LookupError, TypeError):
        return True  # not a call of a task: nobody waits
    if task is None:
        return False
    request = Context(
        {
            **headers,
            **_embedded(message),
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "delivery_info": properties.get("delivery_info") or {},
        }
    )
    ignored = headers.get("ignore_result", task.ignore_result)
    task.backend.mark_as_failure(
        job["id"],
        WorkerLostError(job["error"]),
        request=request,
        store_result=task.store_errors_even_if_ignored or not ignored,
    )
    return True


def _embedded(message: dict[str, Any]) -> dict[str, Any]:
    """What the body says beside the arguments: errbacks, chord, chain."""
    try:
        body = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        _, _, embedded = json.loads(body)
        return dict(embedded or {})
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}  # its caller can be told without
