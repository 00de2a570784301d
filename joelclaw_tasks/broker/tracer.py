"""Tracer: a task that has run always ends, also when Celery fails while it winds the task up.

Celery stores a failure in the result backend before it tells the worker. When that raises, and raises
again as the failure of the task, the threads, gevent and solo pools hear of no end at all: the job would
stay with this worker for as long as it lives.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Reject
from celery.utils.serialization import get_pickleable_etype, get_pickleable_exception


class TracerSlot:
    """Stands for `Task.__trace__`: what Celery's worker puts there is wrapped once."""

    _NAME = "_joelclaw_tracer"

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        return self if task is None else task.__dict__.get(self._NAME)

    def __set__(self, task: Any, tracer: Callable[..., Any] | None) -> None:
        task.__dict__[self._NAME] = None if tracer is None else _always_ending(tracer)


def _always_ending(tracer: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(tracer)
    def trace(*args: Any, **kwargs: Any) -> Any:
        try:
            return tracer(*args, **kwargs)
        except (Reject, MemoryError):
            raise  # the worker knows what to do with them
        except Exception as error:  # noqa: BLE001  # whatever it is, the job must end
            kind, _, traceback = sys.exc_info()
            shown = (get_pickleable_etype(kind), get_pickleable_exception(error), traceback)
            return trace_ok_t(
                ExceptionInfo(shown, internal=True), TraceInfo(states.FAILURE, error), 0.0, None
            )

    return trace
