"""Reloading: a worker takes over the code that is there now, as the same process, under the same supervisor.

It is told by remote control. First a process of its own imports the new code: what cannot be imported is
refused, and the worker works on with what it has. Then the worker stops as after SIGTERM, so no job is lost
and no attempt burned, and where it would end it becomes its own command line again. Nothing of the old code
is left, which importlib.reload cannot promise.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from celery.worker.control import control_command, inspect_command
from kombu.log import get_logger

from joelclaw_tasks.core.redaction import without_url_passwords

logger = get_logger(__name__)

#: Importing takes seconds on a machine that is busy.
CHECK_WITHIN_S = 60
_STARTED_AT_MS = round(time.time() * 1_000)
_DIRECTORY = Path.cwd()
_SAID_MOST = 2_000


class _Reload:
    """Where a reload of this process stands: none, checking, refused (and why), or stopping."""

    state = "none"
    fault = ""


@inspect_command()
def joelclaw_code(state: Any) -> dict[str, Any]:
    """When this worker loaded its code, which registry it has, and how a reload stands."""
    app = state.consumer.app
    return {
        "pid": os.getpid(),
        "started_at": _STARTED_AT_MS,
        "registry": getattr(app, "joelclaw_registry", None),
        "reload": _Reload.state,
        "fault": _Reload.fault,
    }


@control_command()
def joelclaw_reload(state: Any) -> dict[str, Any]:  # noqa: ARG001 - a control command is given it
    """Check the new code, then stop and start with it. Answers at once; see joelclaw_code."""
    if _Reload.state in ("checking", "stopping"):
        return {"ok": f"already {_Reload.state}"}
    _Reload.state, _Reload.fault = "checking", ""
    # Not threading.Thread: its start waits, which gevent forbids here.
    _thread.start_new_thread(_check_and_stop, ())
    return {"ok": "checking the new code"}


def become_new_if_told() -> None:
    """Called where this process is about to end: become it anew if that was the order."""
    if _Reload.state != "stopping":
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.chdir(_DIRECTORY)
    os.execv(sys.executable, _command())  # noqa: S606 - its own command line


def _check_and_stop() -> None:
    try:
        fault = _fault_of_new_code()
    except Exception as error:  # noqa: BLE001 - nothing but a thread would hear of it
        fault = f"the new code could not be checked: {error!r}"
    if fault:
        _Reload.state, _Reload.fault = "refused", fault
        logger.error("reload refused, the worker goes on with the code that it has: %s", fault)
        return
    logger.warning("reloading: the worker stops, and starts with the code that is there now")
    _Reload.state = "stopping"
    # Registered now, so that it comes first of all that is done at exit but after the pool has ended.
    atexit.register(become_new_if_told)
    os.kill(os.getpid(), signal.SIGTERM)


def _fault_of_new_code() -> str:
    app = _app_argument(sys.orig_argv)
    if app is None:
        return ""
    command = [sys.executable, "-m", "joelclaw_tasks.broker.preflight", app]
    try:
        tried = subprocess.run(
            command, cwd=_DIRECTORY, capture_output=True, text=True, timeout=CHECK_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the new code was not imported within {CHECK_WITHIN_S} s"
    if tried.returncode == 0:
        return ""
    return without_url_passwords(tried.stderr.strip()[-_SAID_MOST:]) or f"exit code {tried.returncode}"


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _app_argument(argv: list[str]) -> str | None:
    for position, word in enumerate(argv):
        if word in ("-A", "--app") and position + 1 < len(argv):
            return argv[position + 1]
        if word.startswith("--app="):
            return word.removeprefix("--app=")
    return os.environ.get("CELERY_APP") or os.environ.get("APP")
