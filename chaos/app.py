"""The app of the fleet under test: tasks that write down their own starts and ends, past everything.

Its environment: CHAOS_BROKER (a Redis URL), CHAOS_HISTORY (the file), CHAOS_WORKER (who we are),
CHAOS_LEASE_MS; for a build that is broken on purpose, CHAOS_BUILD; CHAOS_SIDE=stock for plain Celery; and
CHAOS_DEFAULT_TIMEOUTS=1 for the timeouts that everybody has who sets none.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from functools import cache
from pathlib import Path

from celery import Celery, Task

from chaos.builds import break_build
from chaos.record import Record
from chaos.traffic import QUEUE

if os.environ.get("CHAOS_BUILD"):
    break_build(os.environ["CHAOS_BUILD"])

import joelclaw_tasks

TIMEOUTS = {"socket_timeout": 6, "socket_connect_timeout": 3}
if os.environ.get("CHAOS_DEFAULT_TIMEOUTS"):
    TIMEOUTS = {}


def make_app() -> Celery:
    """The app, on the admission layer or, for comparison, on Celery's own transport with late acks."""
    app = Celery("chaos", broker=os.environ["CHAOS_BROKER"], set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    if os.environ.get("CHAOS_SIDE") == "stock":
        app.conf.update(
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            worker_prefetch_multiplier=1,
            broker_connection_max_retries=None,
            broker_transport_options=STOCK_OPTIONS,
        )
        return app
    app.conf.update(
        broker_transport_options={
            **TIMEOUTS,
            "lease_ms": int(os.environ.get("CHAOS_LEASE_MS", "15000")),
            "transitions_max": 10_000_000,
        },
        beat_schedule={"each-second": {"task": "tick", "schedule": 1.0}},
    )
    return joelclaw_tasks.install(app)


#: Redelivery within the run, as often and as soon as Celery can; the default is an hour.
STOCK_OPTIONS = {"visibility_timeout": 10, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
if os.environ.get("CHAOS_STOCK_DEFAULTS"):
    STOCK_OPTIONS = {}

app = make_app()


@cache
def _record() -> Record:
    return Record(Path(os.environ["CHAOS_HISTORY"]))


def _run(task: Task, seconds: float, *gates: str) -> None:
    tag = getattr(task.request, "jc_tag", None) or f"{task.request.id}#0#{uuid.uuid4().hex}"
    _record().note(
        "start", tag=tag, family=task.name, gates=gates, worker=os.environ["CHAOS_WORKER"], pid=os.getpid()
    )
    time.sleep(seconds)
    _record().note("end", tag=tag)


@app.task(name="plain", bind=True)
def plain(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)


@app.task(name="small", bind=True)
def small(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)


@app.task(name="pausable", bind=True)
def pausable(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)


@app.task(name="lasting", bind=True)
def lasting(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)


@app.task(name="limited", bind=True, jc={"concurrency": [{"limit": 2}]})
def limited(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds, "limit:handler/limited")


@app.task(name="keyed", bind=True, jc={"concurrency": [{"limit": 1, "key": "args[1]"}]})
def keyed(self: Task, seconds: float, key: str) -> None:
    _run(self, seconds, f"limit:key/keyed={key}")


@app.task(name="rated", bind=True, jc={"rate": [{"limit": 20, "period_s": 1, "burst": 3}]})
def rated(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)


@app.task(name="retried", bind=True, max_retries=1)
def retried(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)
    if self.request.retries == 0:
        raise self.retry(countdown=0.2)


@app.task(name="failing", bind=True)
def failing(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    _run(self, seconds)
    raise ValueError("it is meant to")


@app.task(name="tick", bind=True)
def tick(self: Task) -> None:
    _run(self, 0.0)


@app.task(name="last_words", bind=True)
def last_words(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    """Dies once its effect is there and before anybody hears of it; the second time it does not."""
    _run(self, seconds)
    if not (self.request.delivery_info or {}).get("redelivered"):
        # All attempts of a worker without children have its pid, in a prefork pool only this one has.
        _record().note("fault", name="kill_after_effect", pids=[os.getpid()], kills=True)
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="poison", bind=True)
def poison(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    """Kills whoever runs it."""
    _run(self, seconds)
    _record().note("fault", name="poison", pids=[os.getpid()], kills=True)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="unreadable", bind=True)
def unreadable(self: Task, seconds: float, key: str) -> None:  # noqa: ARG001
    """Called by messages that nobody may read."""
    _run(self, seconds)
