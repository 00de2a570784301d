"""Stopping: what a worker does with its jobs after SIGTERM, so that a deploy burns no attempt.

Celery's warm shutdown waits for running tasks without end, and whoever sent the signal loses patience and
kills. So: what has not started is given back at once, what runs has `stop_grace_s` to finish, and what runs
then is ended and given back, to start again elsewhere. Nothing of this counts as a crash.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import time
from typing import Any

from celery import signals

from joelclaw_tasks.broker.running import give_back

logger = logging.getLogger(__name__)

#: Docker kills after 10 s. The transport option `stop_grace_s` says otherwise; 0: wait without end.
STOP_GRACE_S = 8.0
_consumers: list[Any] = []


@signals.worker_ready.connect(weak=False)
def _note(sender: Any = None, **_: Any) -> None:
    _consumers[:] = [sender]


@signals.worker_shutting_down.connect(weak=False)
def _stop_soon(how: str = "", **_: Any) -> None:
    """A signal handler, which may have interrupted anything: a thread does the work."""
    channel = _channel()
    if how == "Warm" and channel is not None:
        # Not threading.Thread: its start waits, which gevent forbids here.
        _thread.start_new_thread(_stop, (channel,))


def _channel() -> Any:
    consumer = getattr(_consumers[0], "task_consumer", None) if _consumers else None
    channel = getattr(consumer, "channel", None)
    return channel if hasattr(channel, "holder") else None  # not of our transport


def _stop(channel: Any) -> None:
    holder, qos = channel.holder, channel.qos
    qos.room = lambda: 0  # some loops turn once more, and would claim what is given back
    tags = [tag for tag in give_back(tuple(qos._delivered.items())) if holder.owns(tag)]
    if tags:
        holder.release(tags, reason="worker stopped")
    # Of the app: the connection may have broken, and its channel forgets whose it was.
    options = _consumers[0].app.conf.broker_transport_options or {}
    grace_s = float(options.get("stop_grace_s", STOP_GRACE_S))
    if not grace_s:
        return
    time.sleep(grace_s)  # the process may end meanwhile, and this thread with it
    pool = _consumers[0].pool
    children = [pid for process in getattr(getattr(pool, "_pool", None), "_pool", None) or ()
                if (pid := getattr(process, "pid", None))]  # fmt: skip
    _send(children, signal.SIGSTOP)  # none of them works on while its job starts elsewhere
    logger.warning(
        "tasks still ran %g s after the worker was told to stop; they start again elsewhere", grace_s
    )
    holder.close(patience_s=1.0)  # tells what finished, gives back the rest
    _send(children, signal.SIGKILL)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reloading = sys.modules.get("joelclaw_tasks.broker.reloading")
    if reloading is not None:
        reloading.become_new_if_told()
    os._exit(0)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
