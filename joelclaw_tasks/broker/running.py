"""Which deliveries have started: what started keeps its lease, what was given back must not start."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from joelclaw_tasks.core.states import Word

_guard = threading.Lock()


def may_start(message: Any) -> bool:
    """Note that a delivered message starts now; False when it has been given back."""
    with _guard:
        message.started = not getattr(message, "given_back", False)
        return bool(message.started)


def give_back(delivered: Iterable[tuple[str, Any]]) -> list[str]:
    """The delivery tags of those messages that have not started, and from now on must not."""
    tags = []
    with _guard:
        for tag, message in delivered:
            if getattr(message, "started", False):
                continue
            result = _with_a_process(message)
            if result is not None:
                _keep(result, tag, message)
                continue
            message.given_back = True
            tags.append(tag)
    return tags


def _with_a_process(message: Any) -> Any:
    """The pool's record of a task that a process of the prefork pool has, or None.

    The process starts it before the worker hears of that.
    """
    request = getattr(message, "request", None)
    reference = getattr(request and request(), "_apply_result", None)
    result = reference and reference()
    return result if getattr(result, "_write_to", None) is not None else None


def _keep(result: Any, tag: str, message: Any) -> None:
    """Keep the pool from forgetting a task that one of its processes has.

    When the connection is lost, Celery empties the pool of what no process has accepted. The acceptance may
    be on its way: with the record gone nobody would hear that the task finished, and its lease would live
    as long as the worker.
    """
    forget = result.discard

    def discard() -> None:
        if result._write_to._is_alive():
            return
        forget()
        message.given_back = True
        # It may have started: nobody has heard, because the connection was away.
        words = message.channel.holder.release([tag], reason="worker process lost", killed=True)
        request = message.request()
        if Word.DISCARDED in words and request is not None:
            request.on_discarded()

    result.discard = discard
