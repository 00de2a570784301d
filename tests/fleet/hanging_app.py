"""The fleet's own app, whose main thread, where the event loop is, hangs when SIGUSR2 comes."""

import signal
import time

from celery.signals import worker_ready

from joelclaw_tasks.fleet.app import make_app

app = make_app()


@worker_ready.connect(weak=False)
def _arm(**_):
    signal.signal(signal.SIGUSR2, lambda *_: time.sleep(600))


def slow(event, deps):
    time.sleep(event.data["seconds"])
    return {}
