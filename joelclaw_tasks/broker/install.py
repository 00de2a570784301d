"""Turns the admission layer on for a Celery app, and checks at worker start that it is whole."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from joelclaw_tasks.errors import SettingsError

TRANSPORT = "joelclaw_tasks.broker.transport:Transport"
#: What the leases rest on: setting -> (value, why).
REQUIRED: dict[str, tuple[Any, str]] = {
    "task_acks_late": (True, "a job is finished when its task is, not when it starts"),
    "task_reject_on_worker_lost": (True, "a job whose process died must run again"),
    "task_acks_on_failure": (False, "a failed job belongs in the dead letter, not in the bin"),
    "worker_prefetch_multiplier": (1, "a job reserved behind a busy process could start elsewhere now"),
    "task_serializer": ("json", "only JSON is read: a pickled message could run code"),
    "accept_content": (["json"], "only JSON is read: a pickled message could run code"),
}


def install(app: Celery) -> Celery:
    """Turn the admission layer on: set the transport and the settings that it needs.

    The broker URL stays as it is (redis://, rediss:// or redis+socket://). To take it away again,
    let the workers drain the queues and remove this call. Raises SettingsError when the app
    serialises with something other than JSON.
    """
    if app.conf.task_serializer != "json":
        raise SettingsError(
            f"task_serializer is {app.conf.task_serializer!r}; the admission layer reads JSON only",
            fix="Set task_serializer to 'json', or keep this app on another broker.",
        )
    app.conf.update({name: value for name, (value, _) in REQUIRED.items()})
    app.conf.update(broker_transport=TRANSPORT, task_acks_on_timeout=True)
    app.conf.setdefault("broker_connection_retry_on_startup", True)
    app.Task.Request = "joelclaw_tasks.broker.request:Request"
    return app


def faults(app: Celery) -> list[str]:
    """What keeps this app from running on the admission layer, one sentence each."""
    return [
        f"{name} must be {value!r}, not {app.conf.get(name)!r}: {why}"
        for name, (value, why) in REQUIRED.items()
        if (set(app.conf.get(name)) - {"application/json"} != set(value) if isinstance(value, list)
            else app.conf.get(name) != value)
    ]  # fmt: skip


@signals.celeryd_init.connect(weak=False)
def check_at_start(conf: Any = None, instance: Any = None, **_: Any) -> None:
    """Refuse to start a worker whose settings would lose or repeat work."""
    if conf is None or conf.get("broker_transport") != TRANSPORT:
        return
    found = faults(instance.app)
    if found:
        listing = "\n".join(f"  - {fault}" for fault in found)
        # Celery swallows exceptions of signal receivers, but not SystemExit.
        raise SystemExit(
            f"joelclaw_tasks: these Celery settings would lose or repeat work:\n{listing}\n"
            "Call joelclaw_tasks.install(app), which sets them."
        )
