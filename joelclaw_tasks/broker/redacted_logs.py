"""Redacted logs: what workers log of errors and of messages that they cannot read holds no secret.

Celery logs the text and the traceback of every failure, and the whole body of a task that it does not know.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from celery import signals

from joelclaw_tasks.broker.jobs import current_task
from joelclaw_tasks.core.masking import secrets_of_call
from joelclaw_tasks.core.redaction import MASK, may_hold_secret, redacted, secrets_of

#: What Celery logs of messages that it cannot read, and in debug mode of each call.
_MESSAGE = re.compile(
    r"(The full contents of the message body was:|\n\nbody:|headers:|TaskPool: Apply [^\n]{0,300}\(args:).*",
    re.DOTALL,
)


class RedactingFormatter(logging.Formatter):
    """Formats as another one does, and masks secrets, of the running task's arguments as well."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        text = self._inner.format(record)
        if record.name.startswith("celery."):
            text = _MESSAGE.sub(rf"\g<1> {MASK}", text)
        own = _secrets_of_running()
        if record.levelno < logging.WARNING and not own and not may_hold_secret(text):
            return text  # what goes well is logged often
        return redacted(text, secrets_of() | own)


def _secrets_of_running() -> set[str]:
    task = current_task()
    request = getattr(task, "request", None)
    return set() if request is None else secrets_of_call(task, request.args, request.kwargs)


@signals.after_setup_logger.connect(weak=False)
@signals.after_setup_task_logger.connect(weak=False)
def _redact(logger: Any = None, **_: Any) -> None:
    for handler in getattr(logger, "handlers", ()):
        if not isinstance(handler.formatter, RedactingFormatter):
            handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter()))
