"""Starts the process of a look, and ends it when its time is up: whatever it does, whoever waits lives on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.routines.finding import STATUSES, Finding

_COMMAND = (sys.executable, "-m", "joelclaw_tasks.routines.check_process")


def run_check(asked: Mapping[str, Any]) -> Finding:
    """What the process found, or how it died. Waits `limit_s` at most; raises OSError when none can start."""
    with subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(json.dumps(asked).encode(), timeout=asked["limit_s"])
        except subprocess.TimeoutExpired:
            # With all that it started, which would hold its pipe.
            os.killpg(process.pid, signal.SIGKILL)
            return Finding.broken(f"it did not end within {asked['limit_s']:g} s and was killed")
    code = process.returncode
    if code < 0:
        return Finding.broken(f"it was ended by {_name(-code)}")
    try:
        return _read(json.loads(answer))
    except (ValueError, TypeError, KeyError):
        return Finding.broken(f"it ended with exit code {code} and said nothing")


def _read(answer: dict[str, Any]) -> Finding:
    status, latency = answer["status"], answer["latency_ms"]
    if status not in STATUSES:
        raise ValueError(status)
    return Finding(
        status,
        str(answer["detail"])[:300],
        None if latency is None else float(latency),
        is_broken=bool(answer["is_broken"]),
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
