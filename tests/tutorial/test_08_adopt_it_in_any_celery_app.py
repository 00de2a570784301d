"""Lesson 8: adopt it in any Celery app.

An app that has never heard of events or registries adopts the admission layer with one call, before its
first task is sent: `joelclaw_tasks.install(app)`. Its tasks, its calls and its results stay as they are. What
the old app left on the plain Celery list is not lost: the new worker admits it and runs it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

import joelclaw_tasks

SHOP = """
import os
import celery
import joelclaw_tasks

app = celery.Celery("shop", broker=os.environ["SHOP_REDIS"], backend=os.environ["SHOP_REDIS"])
joelclaw_tasks.install(app)

@app.task
def add(x, y):
    return x + y
"""


@pytest.fixture
def start_worker(tmp_path, redis_url):
    """Starts a real worker of the shop: one process, one task at a time."""
    workers = []

    def start():
        (tmp_path / "shop.py").write_text(SHOP)
        paths = [str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo", "-l", "WARNING"],
                cwd=tmp_path,
                env={**os.environ, "SHOP_REDIS": redis_url, "PYTHONPATH": os.pathsep.join(paths)},
            )
        )

    yield start
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        assert 0 == worker.wait(20)


def test_a_plain_celery_app_works_as_before_and_loses_nothing_on_the_way(redis_url, start_worker):
    before = Celery("shop", broker=redis_url, backend=redis_url, set_as_current=False)
    sent_before = before.send_task("shop.add", (1, 2))

    after = joelclaw_tasks.install(Celery("shop", broker=redis_url, backend=redis_url, set_as_current=False))
    sent_after = after.send_task("shop.add", (3, 4))
    start_worker()

    assert 7 == sent_after.get(timeout=30)
    assert 3 == sent_before.get(timeout=30)
    for app in (before, after):
        app.close()
