"""The Celery task of a registry handler: runs it, retries it by the registry's policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

from celery import Celery, Task

from joelclaw_tasks.broker.elements import run_controlled
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.restate.job_watch import KEEP_RESULT


def add_handler_task(app: Celery, handler: HandlerSpec, deps: Callable[[], Deps]) -> Task:
    """Register the task that runs a handler; its name is the handler's name."""
    is_batch = handler.rules is not None and handler.rules.batch is not None

    def run(task: Task, wire: dict[str, Any] | list[dict[str, Any]]) -> Any:
        function = load_target(handler.target)
        elements = wire if isinstance(wire, list) else [wire]
        given = [Event.from_wire(one) for one in elements] if is_batch else Event.from_wire(elements[0])
        result = run_controlled(
            task, handler.retries, lambda: function(given, deps()), elements if is_batch else ()
        )
        if any(isinstance(meta := one.get("meta"), dict) and meta.get(KEEP_RESULT) for one in elements):
            _keep(task, result)
        return result

    options: dict[str, Any] = {"bind": True, "max_retries": handler.retries.max, "ignore_result": True}
    options["soft_time_limit"], options["time_limit"] = handler.time_limits_s
    return app.task(run, name=handler.name, shared=False, **options)  # shared: with every other app here


def _keep(task: Task, result: Any) -> None:
    """For the step of a DAG that waits for it. The work is done: what is no JSON is kept as nothing."""
    try:
        json.dumps(result)
    except (TypeError, ValueError, RecursionError):
        result = None
    task.backend.store_result(task.request.id, result, "SUCCESS")


def load_target(target: str) -> Callable[..., Any]:
    """The function that `module:function` names. Raises ImportError and AttributeError."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
