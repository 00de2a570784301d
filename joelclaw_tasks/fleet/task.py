"""The Celery task of a registry handler: runs it, retries it by the registry's policy."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

from celery import Celery, Task

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import HandlerSpec, RetrySpec
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers.deps import Deps


def retry_delay_s(retries: int, policy: RetrySpec) -> float:
    """Seconds before retry number `retries` (0 first): exponential with full jitter.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(policy.cap_s, policy.base_s * 2.0 ** min(retries, 60))
    return random.uniform(0, ceiling)  # noqa: S311  # spreads load, guards nothing


def add_handler_task(app: Celery, handler: HandlerSpec, deps: Callable[[], Deps]) -> Task:
    """Register the task that runs a handler; its name is the handler's name."""

    def run(task: Task, wire: dict[str, Any]) -> Any:
        function = load_target(handler.target)
        try:
            return function(Event.from_wire(wire), deps())
        except PermanentFailure:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is its failure
            # Celery's own Retry and Ignore pass through here only if a handler knows Celery: it may not.
            raise task.retry(
                exc=error, countdown=retry_delay_s(task.request.retries, handler.retries)
            ) from None

    options: dict[str, Any] = {"bind": True, "max_retries": handler.retries.max, "ignore_result": True}
    if handler.timeout_s is not None:
        options.update(soft_time_limit=handler.timeout_s, time_limit=handler.timeout_s + 5)
    return app.task(run, name=handler.name, shared=False, **options)  # shared: with every other app here


def load_target(target: str) -> Callable[[Event, Deps], Any]:
    """The function that `module:function` names. Raises ImportError and AttributeError."""
    module, _, name = target.partition(":")
    function: Callable[[Event, Deps], Any] = getattr(import_module(module), name)
    return function
