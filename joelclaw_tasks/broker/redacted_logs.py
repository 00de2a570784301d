"""Redacted logs: what workers log of errors and of messages that they cannot read holds no secret.

Celery logs the text and the traceback of every failure, and the whole body of a task that it does not know.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from celery import signals

from joelclaw_tasks.core.redaction import MASK, redacted, secrets_of

_MESSAGE = re.compile(r"(The full contents of the message body was:|\n\nbody:|headers:).*", re.DOTALL)


class RedactingFormatter(logging.Formatter):
    """Formats as another one does, and masks secrets from warnings on: what goes well is logged often."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        text = self._inner.format(record)
        if record.levelno < logging.WARNING and record.exc_info is None:
            return text
        if record.name.startswith("celery.worker"):
            text = _MESSAGE.sub(rf"\g<1> {MASK}", text)
        return redacted(text, secrets_of())


@signals.after_setup_logger.connect(weak=False)
@signals.after_setup_task_logger.connect(weak=False)
def _redact(logger: Any = None, **_: Any) -> None:
    for handler in getattr(logger, "handlers", ()):
        if not isinstance(handler.formatter, RedactingFormatter):
            handler.setFormatter(RedactingFormatter(handler.formatter or logging.Formatter()))
