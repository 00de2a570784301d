"""Which deliveries have started: what started keeps its lease, what was given back must not start."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

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
            if not getattr(message, "started", False) and not _is_with_a_process(message):
                message.given_back = True
                tags.append(tag)
    return tags


def _is_with_a_process(message: Any) -> bool:
    """Whether a process of the prefork pool has the task: it starts it before the worker hears of that."""
    request = getattr(message, "request", None)
    result = getattr(request and request(), "_apply_result", None)
    return getattr(result and result(), "_write_to", None) is not None
