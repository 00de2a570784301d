"""Stops jobs that were asked to while they run in this process.

In the prefork pool the child that runs the task is ended. No other pool can end a task: there the task
itself asks `cancelled()` now and then.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from typing import Any

from celery import signals
from celery.utils.log import get_logger
from celery.worker import state

from joelclaw_tasks.broker.jobs import TAG_HEADER, current_task

logger = get_logger(__name__)

_asked: dict[str, frozenset[str]] = {}  # by holder: delivery tags
_pools: list[Any] = []
_guard = threading.Lock()


def cancelled() -> bool:
    """Whether the job that runs in this thread was asked to stop. Outside a task: False.

    For long tasks on the threads, gevent and solo pools: return as soon as it is convenient. The job then
    ends as cancelled, whatever it returns or raises.
    """
    task = current_task()
    tag = getattr(task.request, TAG_HEADER, None) if task is not None else None
    return tag is not None and was_asked(str(tag))


def was_asked(tag: str) -> bool:
    """Whether the job of a delivery tag was asked to stop, as far as this process has heard."""
    return any(tag in tags for tags in _asked.values())


def stop(holder: str, tags: Iterable[str]) -> None:
    """Note all jobs of a holder that were asked to stop, and end those that can be ended."""
    with _guard:
        known = _asked.get(holder, frozenset())
        _asked[holder] = frozenset(tags)
        news = _asked[holder] - known
    for tag in news:
        request = state.requests.get(tag.rsplit("#", 2)[0])
        if request is not None:
            end(request)


def end(request: Any) -> None:
    """End the process that runs a request, when the request has one of its own and has started."""
    if request.time_start and was_asked(str(request.message.delivery_tag)):
        for pool in _pools:
            pool.terminate_job(request.worker_pid, signal.SIGTERM)


@signals.worker_ready.connect(weak=False)
def _note_pool(sender: Any = None, **_: Any) -> None:
    pool = getattr(sender, "pool", None)
    if type(pool).__module__ == "celery.concurrency.prefork":
        _pools.append(pool)
