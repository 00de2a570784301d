"""The fleet's own app, whose main thread, where the event loop is, hangs when SIGUSR2 comes."""

import os
import signal
import time

from celery.signals import worker_ready

from joelclaw_tasks.fleet.app import make_app

app = make_app()


def _hang(*_):
    os.write(2, b"hangs from now on\n")
    time.sleep(600)


@worker_ready.connect(weak=False)
def _arm(**_):
    signal.signal(signal.SIGUSR2, _hang)


def slow(event, deps):
    time.sleep(event.data["seconds"])
    return {}
