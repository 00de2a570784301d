"""An app whose plain tasks take secrets as arguments, and put them into errors, results and log lines."""

from __future__ import annotations

import logging
import os
import time

import redis
from celery import Celery, Task

import joelclaw_tasks

log = logging.getLogger(__name__)


def make_app(broker_url: str, *, installed: bool = True) -> Celery:
    app = Celery("careless", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue="careless",
        task_ignore_result=True,
        worker_send_task_events=True,
        task_send_sent_event=installed,
        broker_connection_retry_on_startup=True,
    )
    if installed:
        joelclaw_tasks.install(app)
    for name, (function, options) in tasks.items():
        app.task(**{"name": name, "shared": False, **options})(function)
    return app


tasks = {}


def task(**options):
    def note(function):
        tasks[f"careless.{function.__name__}"] = (function, options)
        return function

    return note


@task()
def login(user, password, **options):
    """Fails, and says with what."""
    log.warning("logging %s in with %s", user, password)
    raise ValueError(f"{user} is not known with {password} {options}")


@task()
def echo(api_token):
    return api_token


@task()
def fetch(url, headers):
    """Its names say nothing; what it takes looks like secrets, or is one of the environment."""
    raise OSError(f"{url} refuses {headers}")


@task(bind=True, max_retries=1)
def again(self: Task, secret):
    raise self.retry(exc=KeyError(secret), countdown=0)


@task()
def wait(key, password):
    """Runs until somebody sets the key."""
    with redis.Redis.from_url(os.environ["CARELESS_BROKER"]) as client:
        deadline = time.monotonic() + 30
        while not client.exists(key) and time.monotonic() < deadline:
            time.sleep(0.02)


if "CARELESS_BROKER" in os.environ:
    app = make_app(os.environ["CARELESS_BROKER"])
    app.set_default()
