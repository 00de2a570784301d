"""The Celery task of a handler of type restate, and how it waits without a worker."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import Reject, Retry

from joelclaw_tasks.broker.elements import run_controlled
from joelclaw_tasks.broker.jobs import REASON_PROPERTY
from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import HandlerSpec, RestateSpec
from joelclaw_tasks.restate.tasks import Done, Waiting, look, start

if TYPE_CHECKING:
    from joelclaw_tasks.restate.client import RestateClient

#: Member of the envelope: the call whose output is waited for.
WAITING_MEMBER = "jc_restate"


def add_restate_task(
    app: Celery, handler: HandlerSpec, spec: RestateSpec, client: Callable[[], RestateClient]
) -> Task:
    """Register the task of a handler; `client` answers that of this process. Its result is stored."""

    def run(task: Task, wire: dict[str, Any]) -> Any:
        found = run_controlled(task, handler.retries, lambda: _step(task, spec, wire, client()), ())
        if isinstance(found, Waiting):
            raise _again(task, {**wire, WAITING_MEMBER: found.to_wire()}, found, spec)
        return found.to_wire()

    options: dict[str, Any] = {"bind": True, "max_retries": handler.retries.max, "ignore_result": False}
    options["soft_time_limit"], options["time_limit"] = handler.time_limits_s
    return app.task(run, name=handler.name, shared=False, **options)


def _step(task: Task, spec: RestateSpec, wire: dict[str, Any], client: RestateClient) -> Done | Waiting:
    waiting = wire.get(WAITING_MEMBER)
    if waiting is not None:
        return look(client, spec, Waiting.from_wire(waiting), _now_ms())
    return start(client, spec, Event.from_wire(wire), task.request.id, _now_ms())


def _again(task: Task, wire: dict[str, Any], waiting: Waiting, spec: RestateSpec) -> Retry:
    """Put the job off as `Task.retry` does, but as the same attempt. Raises Reject if Redis is away."""
    wait_s = waiting.next_look_s(spec, _now_ms())
    reason = f"{waiting.status} by Restate: waits for the output of {waiting.invocation_id}"
    call = task.signature_from_request(
        task.request,
        args=(wire,),
        kwargs={},
        countdown=wait_s,
        retries=task.request.retries,
        **{REASON_PROPERTY: reason},
    )
    try:
        call.apply_async()
    except Exception as error:
        raise Reject(error, requeue=False) from error
    return Retry("waits for Restate", when=wait_s)


def _now_ms() -> int:
    return int(time() * 1000)
