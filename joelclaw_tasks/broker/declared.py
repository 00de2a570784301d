"""Declared: the controls of a plain Celery task, `@app.task(jc={...})`, and of one call of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial, wraps
from time import time
from typing import Any

from celery import Celery, Task
from pydantic import ValidationError

from joelclaw_tasks.admission import controls_of
from joelclaw_tasks.admission_rules import topic_of
from joelclaw_tasks.broker.elements import run_controlled
from joelclaw_tasks.core.rules import Rules
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.errors import InvalidControls
from joelclaw_tasks.registry_faults import plain_faults
from joelclaw_tasks.registry_keys import KeyExpression
from joelclaw_tasks.registry_schema import CONTROL_MODELS, ControlsModel

#: Option of `app.task` and of `apply_async`.
OPTION = "jc"
#: What key expressions of a plain task read.
CALL_FIELDS = ("args", "kwargs")
#: What belongs to all calls of a task, so that no single call can set it.
_OF_THE_TASK = (
    "concurrency", "resources", "rate", "share", "retries", "timeout_s", "hard_timeout_s", "cancel_on",
)  # fmt: skip


def spec_of(task: str, declared: object, of_call: object = None) -> HandlerSpec:
    """The controls of a task and of one call of it, checked. Raises InvalidControls with every fault."""
    for given in (declared, of_call):
        if given is not None and not isinstance(given, Mapping):
            raise InvalidControls(f"jc of task {task} must be a dict of controls, not {type(given).__name__}")
    both = {**dict(declared or {}), **dict(of_call or {})}  # type: ignore[call-overload]
    for name in _OF_THE_TASK:
        if isinstance(of_call, Mapping) and name in of_call:
            raise InvalidControls(f"{name} belongs to task {task} as a whole; set it with @app.task(jc=...)")
    try:
        return _spec(task, json.dumps(both, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise InvalidControls(f"jc of task {task} must be JSON values: {error}") from None


@cache
def _spec(task: str, declared: str) -> HandlerSpec:
    document = json.loads(declared)
    try:
        model = ControlsModel.model_validate(document, context={"key_fields": CALL_FIELDS})
    except ValidationError as error:
        faults = plain_faults(error, document, CONTROL_MODELS.get)
        listing = "\n".join(f"  - {place}: {text}" if place else f"  - {text}" for place, text in faults)
        raise InvalidControls(f"the controls of task {task} cannot be meant:\n{listing}") from None
    return model.spec_of(task, "", "")


def call_controls(spec: HandlerSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Lane, gates, rules and priority of one call. Raises InvalidEvent for a key that cannot be one."""
    document = {"args": list(args or ()), "kwargs": dict(kwargs or {})}
    controls = controls_of(spec, lambda key: _value(key, document, spec.name), int(time() * 1000))
    if spec.priority is not None:
        controls["priority"] = spec.priority
    return controls


def _value(key: str, document: dict[str, Any], task: str) -> str | None:
    return _expression(key).value_in(document, f"call of {task}")


@cache
def _expression(key: str) -> KeyExpression:
    return KeyExpression(key, CALL_FIELDS)


def cancels_of(
    specs: Iterable[HandlerSpec], task: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Rules | None:
    """What a call of `task` cancels among the jobs of tasks with these controls; None: nothing."""
    document = {"args": list(args or ()), "kwargs": dict(kwargs or {})}
    topics = [
        topic_of(spec.name, number, value)
        for spec in specs
        for number, one in enumerate(spec.rules.cancel_on if spec.rules else ())
        if one.event == task and (value := _value(one.match, document, task)) is not None
    ]
    return Rules(cancels=tuple(topics)) if topics else None


def declared_specs(app: Celery) -> dict[str, HandlerSpec]:
    """The controls of every task of the app that declares some. Raises InvalidControls."""
    found = {name: getattr(task, OPTION, None) for name, task in app.tasks.items()}
    return {name: spec_of(name, declared) for name, declared in found.items() if declared is not None}


def prepare(task: Task) -> None:
    """Make a task of this worker do what its controls say of a run: time limits, retries, batches."""
    spec = spec_of(task.name, getattr(task, OPTION, None))
    soft_s, hard_s = spec.time_limits_s
    task.soft_time_limit = task.soft_time_limit if soft_s is None else soft_s
    task.time_limit = task.time_limit if hard_s is None else hard_s
    retries = "retries" in getattr(task, OPTION)
    is_batch = spec.rules is not None and spec.rules.batch is not None
    if (retries or is_batch) and not hasattr(task, "_jc_run"):
        task.max_retries = spec.retries.max
        task._jc_run = task.run
        task.run = _controlled(task, spec, is_batch=is_batch)


def _controlled(task: Task, spec: HandlerSpec, *, is_batch: bool) -> Callable[..., Any]:
    original = task._jc_run

    @wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not is_batch:
            return run_controlled(task, spec.retries, partial(original, *args, **kwargs), ())
        elements = [{"args": list(args), "kwargs": kwargs}]  # one alone comes as the call that it was
        if task.request.id.startswith("batch:"):
            [elements] = args
        calls = [{"args": one["args"], "kwargs": one["kwargs"]} for one in elements]
        return run_controlled(task, spec.retries, partial(original, calls), elements)

    return run
