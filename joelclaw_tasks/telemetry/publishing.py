"""Ends the span of a publish that failed.

The instrumentation opens a span before Celery publishes and ends it afterwards, which never comes when
Redis does not answer: the span would stay open, and every later span of the thread would hang below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery import Celery, current_app
from celery.utils import uuid
from opentelemetry.instrumentation.celery import utils


def end_failed_publishes() -> None:
    """From now on, in this process, for every app. Safe to repeat."""
    if not hasattr(Celery.send_task, "ends_failed_publishes"):
        Celery.send_task = _ending(Celery.send_task)


def _ending(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def send_task(  # noqa: PLR0917  # Celery's own signature
        app: Celery,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        task_id: str | None = None,
        *others: Any,
        **options: Any,
    ) -> Any:
        task_id = task_id or uuid()  # chosen here, to find the span by it
        try:
            return send(app, name, args, kwargs, countdown, eta, task_id, *others, **options)
        except BaseException as error:
            _end_span(name, task_id, error)
            raise

    send_task.ends_failed_publishes = True  # type: ignore[attr-defined]
    return send_task


def _end_span(name: str, task_id: str, error: BaseException) -> None:
    task = current_app.tasks.get(name)
    opened = utils.retrieve_context(task, task_id, is_publish=True)
    if opened is not None:
        _, activation, _ = opened
        activation.__exit__(type(error), error, error.__traceback__)
        utils.detach_context(task, task_id, is_publish=True)
