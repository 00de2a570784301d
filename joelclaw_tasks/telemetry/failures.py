"""Notes a failed task on its span, as the instrumentation does, and masks the secrets in its error."""

from __future__ import annotations

import traceback
from typing import Any

from opentelemetry.instrumentation.celery import CeleryInstrumentor, utils
from opentelemetry.trace import Status, StatusCode

from joelclaw_tasks.core.masking import secrets_of_call
from joelclaw_tasks.core.redaction import redacted, secrets_of


def redact_failures() -> None:
    """From now on, in this process; call it before the instrumentation begins. Safe to repeat."""
    CeleryInstrumentor._trace_failure = staticmethod(note_failure)  # type: ignore[method-assign]


def note_failure(*_: Any, **signal: Any) -> None:
    """A receiver of Celery's `task_failure`."""
    task = utils.retrieve_task_from_sender(signal)
    task_id = utils.retrieve_task_id(signal)
    context = None if task is None or task_id is None else utils.retrieve_context(task, task_id)
    if context is None or not context[0].is_recording():
        return
    span, error = context[0], getattr(signal.get("einfo"), "exception", None)
    error = getattr(error, "exc", None) or error
    if isinstance(error, tuple(getattr(task, "throws", None) or ())):
        return
    if error is None:
        span.set_status(Status(StatusCode.ERROR))
        return
    secrets = secrets_of() | secrets_of_call(task, signal.get("args"), signal.get("kwargs"))
    try:
        message = redacted(str(error), secrets)
        stack = redacted("".join(traceback.format_exception(error)), secrets)
    except Exception:  # noqa: BLE001  # an error may have no text
        message = stack = ""
    attributes = {
        "exception.type": type(error).__qualname__,
        "exception.message": message,
        "exception.stacktrace": stack,
    }
    span.add_event("exception", attributes)
    span.set_status(Status(StatusCode.ERROR, message))
