"""Elements: a batch as the worker gets it, and those of its elements that failed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from kombu.utils.json import dumps, loads

from joelclaw_tasks.broker.evidence import describe
from joelclaw_tasks.broker.jobs import REASON_PROPERTY, SPLIT_PROPERTY
from joelclaw_tasks.core.masking import secrets_of_call
from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.core.retrying import asked_wait_s, is_worth_retrying, retry_delay_s
from joelclaw_tasks.core.spec import RetrySpec
from joelclaw_tasks.errors import BatchFailed, ElementFailed, PermanentFailure

#: How the payload of a batch begins (see core/lua/shared/enter.lua).
BATCH_PREFIX = b'{"jc_batch":['
#: Member of an element: under which id its own call was accepted.
ID_MEMBER = "jc_id"


def batch_message(payload: bytes) -> dict[str, Any]:
    """One Celery message of a batch: that of its first element, with a list of all elements as argument.

    An element is the event of a handler's call, or {"args", "kwargs"} of a plain call; with its id.
    """
    messages = loads(payload.decode())["jc_batch"]
    message: dict[str, Any] = messages[0]
    elements = [_element_of(one) for one in messages]
    body = [[elements], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    message["body"] = base64.b64encode(dumps(body).encode()).decode()
    message["properties"]["body_encoding"] = "base64"
    headers = message["headers"]
    headers["argsrepr"], headers["kwargsrepr"] = f"({len(elements)} elements)", "{}"
    return message


def messages_of(payload: bytes) -> list[bytes]:
    """The messages of a payload as they are: one, or those of a batch. Raises ValueError."""
    if not payload.startswith(BATCH_PREFIX):
        return [payload]
    text, found, decoder = payload.decode(), list[bytes](), json.JSONDecoder()
    start, following = len(BATCH_PREFIX), ","
    while following == ",":
        _, end = decoder.raw_decode(text, start)
        found.append(text[start:end].encode())
        start, following = end + 1, text[end : end + 1]
    if text[start - 1 :] != "]}":
        raise ValueError("not a batch")
    return found


def _element_of(message: Mapping[str, Any]) -> dict[str, Any]:
    args, kwargs, *_ = _body_of(message)
    is_event = len(args) == 1 and not kwargs and isinstance(args[0], dict) and "data" in args[0]
    element = args[0] if is_event else {"args": args, "kwargs": kwargs}
    return {**element, ID_MEMBER: message["headers"]["id"]}


def _body_of(message: Mapping[str, Any]) -> Sequence[Any]:
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body).decode()
    found: Sequence[Any] = json.loads(body)
    return found


def run_controlled(
    task: Task, policy: RetrySpec, run: Callable[[], Any], elements: Sequence[Mapping[str, Any]]
) -> Any:
    """Call `run`, and do what the policy says when it fails; `elements` are those of its batch, if any.

    Of a batch of several, those that failed go on alone and the others are done.
    """
    try:
        result = run()
        if isinstance(result, BatchFailed):
            raise result
        return result
    except (Ignore, Reject, Retry, PermanentFailure):
        raise
    except Exception as error:
        if isinstance(error, BatchFailed) and len(elements) > 1 and _names_elements(error, elements):
            _split_batch(task, error, elements, policy)
            return None
        only = error.failures.get(0) if isinstance(error, BatchFailed) and len(elements) == 1 else None
        cause = error if only is None else _as_error(only)
        if isinstance(cause, PermanentFailure) or not is_worth_retrying(cause, policy):
            if cause is error:
                raise
            raise cause from None
        countdown = max(retry_delay_s(task.request.retries, policy), asked_wait_s(cause))
        secrets = secrets_of() | secrets_of_call(task, task.request.args, task.request.kwargs)
        reason = redacted(describe(cause), secrets)
        raise task.retry(exc=cause, countdown=countdown, **{REASON_PROPERTY: reason}) from None


def _names_elements(failed: BatchFailed, elements: Sequence[Mapping[str, Any]]) -> bool:
    return bool(failed.failures) and set(failed.failures) <= set(range(len(elements)))


def _split_batch(
    task: Task, failed: BatchFailed, elements: Sequence[Mapping[str, Any]], policy: RetrySpec
) -> None:
    retries = task.request.retries + 1
    for position, reason in sorted(failed.failures.items()):
        error = _as_error(reason)
        split = {"from": task.request.id}
        if (
            retries > policy.max
            or isinstance(error, PermanentFailure)
            or not is_worth_retrying(error, policy)
        ):
            split["error"] = describe(error)
        element = dict(elements[position])
        job_id = element.pop(ID_MEMBER)
        args, kwargs = (element["args"], element["kwargs"]) if "args" in element else ([element], {})
        task.apply_async(
            args,
            kwargs,
            task_id=job_id,
            retries=retries,
            countdown=retry_delay_s(retries - 1, policy),
            **{SPLIT_PROPERTY: split},
        )


def _as_error(reason: BaseException | str) -> BaseException:
    return reason if isinstance(reason, BaseException) else ElementFailed(str(reason))
