"""An app that knows nothing of joelclaw_tasks, except for the one call that turns it on.

`STRANGER_BROKER` is its Redis. Without `STRANGER_INSTALL=1` it is an app on stock Celery, so the same
tasks can be compared on both.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time

from celery import Celery, Task, chord, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from joelclaw_tasks import BatchFailed, cancelled
from joelclaw_tasks.address import Address
from joelclaw_tasks.errors import PermanentFailure

tasks = {}


def task(**options):
    """Note a function as a task; `make_app` registers it on every app."""

    def note(function):
        tasks[function.__name__] = (function, options)
        return function

    return note


def make_app(broker_url: str, *, installed: bool, **settings) -> Celery:
    app = Celery("stranger", set_as_current=False)
    app.conf.update(
        Address.parse(broker_url).celery_settings(),
        result_expires=600,
        task_default_queue="stranger",
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    if installed:
        import joelclaw_tasks

        joelclaw_tasks.install(app)
    else:
        app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)
    app.conf.update(settings)
    for name, (function, options) in tasks.items():
        app.task(**{"name": name, "shared": False, **options})(function)
    return app


_clients = {}


def effects():
    """Where tasks note what they did; one client for each process."""
    if os.getpid() not in _clients:
        url = os.environ.get("STRANGER_EFFECTS") or os.environ["STRANGER_BROKER"]
        _clients[os.getpid()] = Address.parse(url).client()
    return _clients[os.getpid()]


@task()
def add(x, y):
    return x + y


@task()
def total(numbers):
    return sum(numbers)


@task(ignore_result=True)
def note(key, value):
    """Append to a list: an effect that can be counted."""
    effects().rpush(key, value)


@task(ignore_result=True)
def stamp(key):
    effects().rpush(key, repr(time.time()))


@task()
def clock():
    return time.time()


@task(bind=True, ignore_result=True)
def work(self: Task, key, seconds):
    """Note start, and end, of this very task."""
    effects().rpush(key + ":started", self.request.id)
    time.sleep(seconds)
    effects().rpush(key + ":finished", self.request.id)


@task()
def fail(text):
    raise ValueError(text)


@task()
def parse(text):
    """Fails on a poison payload, always."""
    return json.loads(text)["order"]


@task(autoretry_for=(OSError,), max_retries=1, retry_backoff=0.01)
def fetch(port):
    """Fails while what it depends on is away."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return port


@task()
def bill(order, switch):
    """Has a bug that is fixed when the switch is on."""
    prices = {} if not effects().exists(switch) else {order: 7}
    effects().rpush(switch + ":billed", prices[order])


class OddError(Exception):
    """Cannot be pickled, and its text cannot be had."""

    def __init__(self, number, handle):
        super().__init__(number)
        self.handle = handle

    def __str__(self):
        raise RuntimeError("no text")


@task()
def fails_oddly(number):
    raise OddError(number, lambda: None)


@task()
def leaks(number):
    """Fails in a library, with secrets in its own code and in the text of its error."""
    json.loads("{}" if number < 0 else f"Bearer abcdef{number}")  # password=hunter2
    return number


@task(bind=True, max_retries=1)
def mended(self: Task, switch, budget):
    """A bug that somebody fixes: it fails, retries included, until the switch is on."""
    effects().rpush(switch + ":tries", self.request.retries)
    if not effects().exists(switch):
        raise self.retry(exc=ZeroDivisionError(f"order {budget} of 'shop {budget}'"), countdown=0)
    return budget


@task()
def fails_then_notes(key):
    if not effects().exists(key + ":on"):
        effects().set(key + ":late", "1", px=800)
        raise ValueError("not yet")
    effects().rpush(key, "ran")


@task(bind=True, max_retries=3)
def flaky(self: Task, failures, countdown=0.05):
    if self.request.retries < failures:
        raise self.retry(countdown=countdown)
    return self.request.retries


@task(bind=True, autoretry_for=(ZeroDivisionError,), max_retries=2, retry_backoff=True, retry_jitter=False)
def divide(self: Task, x, y, key):
    effects().rpush(key, repr(time.time()))
    return x / y


@task(bind=True)
def replaced(self: Task, x):
    raise self.replace(self.app.tasks["add"].s(x, 1000))


@task(bind=True)
def replaced_by_chord(self: Task, n):
    add_task, total_task = self.app.tasks["add"], self.app.tasks["total"]
    raise self.replace(chord([add_task.s(i, i) for i in range(n)], total_task.s()))


@task(bind=True)
def fan_out(self: Task, n, key):
    """Publishes from within a task."""
    group([self.app.tasks["note"].s(key, i) for i in range(n)]).apply_async()
    return n


@task()
def ignored():
    raise Ignore


@task(bind=True)
def rejected(self: Task, key, requeue):
    if effects().incr(key) == 1:
        raise Reject("not now", requeue=requeue)
    return "second run"


@task()
def fails_late(key, seconds):
    effects().rpush(key + ":started", "failed")
    time.sleep(seconds)
    effects().rpush(key, "failed")
    raise ValueError("late")


@task(bind=True)
def rejected_late(self: Task, key, seconds):
    if effects().incr(key + ":runs") > 1:
        effects().rpush(key, "second run")
        return
    effects().rpush(key + ":started", "rejected")
    time.sleep(seconds)
    effects().rpush(key, "rejected")
    raise Reject("late", requeue=True)


@task(bind=True, max_retries=1)
def retries_late(self: Task, key, seconds):
    """Asks for its retry after a while."""
    effects().rpush(key + ":started", self.request.retries)
    time.sleep(seconds)
    effects().rpush(key, self.request.retries)
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@task(bind=True)
def request_of(self: Task):
    """What the worker says of this call."""
    return json.loads(
        json.dumps(
            {
                "id": self.request.id,
                "retries": self.request.retries,
                "redelivered": (self.request.delivery_info or {}).get("redelivered"),
                "correlation_id": self.request.correlation_id,
                "headers": self.request.headers,
            },
            default=str,
        )
    )


@task(soft_time_limit=0.5, time_limit=5)
def soft_limited(key):
    try:
        time.sleep(3)
    except SoftTimeLimitExceeded:
        effects().rpush(key, "soft")
        raise


@task(time_limit=1)
def hard_limited():
    time.sleep(30)


@task(bind=True, ignore_result=False)
def dies(self: Task, key, times):
    """Its process dies under it, `times` times."""
    run = effects().incr(key)
    if run <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return run


@task(bind=True)
def exits(self: Task, key, times):
    run = effects().incr(key)
    if run <= times:
        os._exit(7)
    return run


@task(name="mail.send", bind=True, max_retries=3)
def send_mail(self: Task, event, failures=0):
    """A handler's task, for the tests of the router."""
    effects().rpush("mail", event["data"]["to"])
    if self.request.retries < failures:
        raise self.retry(countdown=60)


# -- tasks with controls: see test_controls.py ----------------------------------------------------


@task(ignore_result=True, jc={"dedup": {"key": "args[1]", "window_s": 60}})
def once(key, value):
    effects().rpush(key, value)


@task(ignore_result=True, jc={"debounce": {"key": "args[0]", "wait_s": 0.3}})
def latest(key, value):
    effects().rpush(key, value)


@task(
    ignore_result=True,
    typing=False,  # it is called with what is one element of the list that it gets
    jc={
        "batch": {"key": "args[0]", "size": 4, "max_wait_s": 0.5},
        "retries": {"max": 1, "base_s": 0.01, "cap_s": 0.02},
    },
)
def together(calls):
    """Note how many calls came together; those of "bad" fail, those of "worse" for good."""
    key = calls[0]["args"][0]
    effects().rpush(key, ",".join(str(call["args"][1]) for call in calls))
    bad = {n: ValueError("bad one") for n, call in enumerate(calls) if call["args"][1] == "bad"}
    worse = {n: PermanentFailure("worse") for n, call in enumerate(calls) if call["args"][1] == "worse"}
    if bad or worse:
        raise BatchFailed(bad | worse)


@task(ignore_result=True, jc={"singleton": {"key": "args[0]", "mode": "cancel"}})
def newest(key, value, seconds):
    """Note start and end, unless it is cancelled."""
    effects().rpush(key, f"start {value}")
    for _ in range(int(seconds * 50)):
        time.sleep(0.02)
        if cancelled():
            return
    effects().rpush(key, f"end {value}")


@task(ignore_result=True, jc={"cancel_on": [{"event": "withdraw", "match": "args[0]"}], "delay_s": 60})
def send(key):
    effects().rpush(key, "sent")


@task(ignore_result=True)
def withdraw(key):
    effects().rpush(key, "withdrawn")


@task(
    bind=True,
    ignore_result=True,
    jc={"retries": {"max": 2, "base_s": 0.01, "cap_s": 0.02, "retry_on": ["LookupError"]}},
)
def tries(self: Task, key, error):
    effects().rpush(key, self.request.retries)
    raise {"KeyError": KeyError, "ValueError": ValueError}[error]("no")


@task(ignore_result=True, jc={"concurrency": [{"limit": 1, "key": "args[0]"}], "priority": "P0"})
def alone(key, value):
    count = effects().incr(key + ":running")
    time.sleep(0.05)
    effects().decr(key + ":running")
    effects().rpush(key, count)


def add_router(app: Celery, registry_dir: str) -> None:
    from pathlib import Path

    from joelclaw_tasks.broker.router import PriorityRouter
    from joelclaw_tasks.registry import Registry
    from joelclaw_tasks.settings import Settings

    app.conf.task_routes = (PriorityRouter(Settings.load({}), Registry.load(Path(registry_dir))),)


if "STRANGER_BROKER" in os.environ:
    app = make_app(
        os.environ["STRANGER_BROKER"],
        installed=os.environ.get("STRANGER_INSTALL") == "1",
        **json.loads(os.environ.get("STRANGER_SETTINGS", "{}")),
    )
    app.set_default()
    if "STRANGER_REGISTRY" in os.environ:
        add_router(app, os.environ["STRANGER_REGISTRY"])
