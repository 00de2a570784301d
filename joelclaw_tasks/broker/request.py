"""The worker's view of a job: carries why it failed from Celery to the transport."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import ref

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError
from celery.utils.log import get_logger
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import task_ready
from kombu.exceptions import OperationalError

from joelclaw_tasks.broker.arguments import known_secrets, mask_headers, shown_arguments
from joelclaw_tasks.broker.cancelling import end, was_asked
from joelclaw_tasks.broker.evidence import failure_of
from joelclaw_tasks.broker.running import may_start
from joelclaw_tasks.core.masking import secrets_of_call
from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.errors import CoreUnreachable

logger = get_logger(__name__)


class Request(CeleryRequest):
    """Notes start and failure on the message, where the transport's ack and reject find them."""

    acknowledged: bool

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        message.request = ref(self)  # see running.py
        shown = self._request_dict  # others send messages too
        if mask_headers(self._app, self._task, shown, self._args, self._kwargs):
            self._argsrepr, self._kwargsrepr = shown["argsrepr"], shown["kwargsrepr"]

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        if not may_start(self.message):
            # The connection broke between delivery and start: the job is another worker's now.
            raise TaskRevokedError("given back before it started")
        super().on_accepted(pid, time_accepted)
        end(self)  # when it was asked to stop before it started

    def acknowledge(self) -> None:
        """Celery leaves acks to the next turn of its event loop; the solo pool is inside that loop."""
        if self.acknowledged or not self.message.channel.intake.is_delivering():
            super().acknowledge()
            return
        self.message.ack_log_error(logger, self._connection_errors)
        self.acknowledged = True

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, Terminated) and not self._was_meant():
            # The process was ended for the task that it ran before: this one runs again.
            task_ready(self)
            self.message.killed = True
            self.message.on_discarded = partial(self.on_discarded, error)
            self.reject(requeue=True)
            return None
        if isinstance(error, Reject) and isinstance(error.reason, OperationalError | CoreUnreachable):
            # `retry()` could not be sent. The task has not failed: it runs again, this try not counted.
            error.requeue = True
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            self.message.killed = True
            self.message.on_discarded = partial(self.on_discarded, error)
        elif not isinstance(error, Ignore | Retry | Terminated) and not getattr(error, "requeue", False):
            self.message.failure = failure_of(
                error,
                task=self.name,
                traceback=exc_info.traceback or "",
                internal=bool(getattr(exc_info, "internal", False)),
                secrets=self._secrets,
            )
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # Celery's name for it
        if self._eventer and self._eventer.enabled:
            # Flower shows failures and results to whoever looks.
            for name in ("exception", "traceback", "result"):
                if fields.get(name):
                    fields[name] = redacted(str(fields[name]), self._secrets)
        super().send_event(type, **fields)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `inspect`, and with it Flower, shows of a request."""
        found: dict[str, Any] = super().info(safe)
        if not safe:
            shown = shown_arguments(self._task, self._args, self._kwargs)
            found["args"], found["kwargs"] = shown
        return found

    @property
    def _secrets(self) -> frozenset[str]:
        return known_secrets() | secrets_of_call(self._task, self._args, self._kwargs)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        # It is acknowledged next, which would count it as completed.
        try:
            actor = "expiry" if expired else "celery"
            self.message.channel.store.cancel([self.id], actor=actor, reason=reason)
        except CoreUnreachable as error:
            logger.warning("a revoked job counts as completed: %s", error)
        super()._announce_revoked(reason, terminated, signum, expired)

    def _was_meant(self) -> bool:
        return self._already_revoked or self._already_cancelled or was_asked(str(self.message.delivery_tag))

    def on_discarded(self, error: BaseException | None = None) -> None:
        """Celery believes that it runs again and has stored no result: its caller would wait for ever."""
        error = error or WorkerLostError("its process died once too often")
        self.task.backend.mark_as_failure(
            self.id, error, request=self._context, store_result=self.store_errors
        )

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        if not soft:
            self.message.failure = failure_of(TimeLimitExceeded(timeout), task=self.name)
        return super().on_timeout(soft, timeout)
