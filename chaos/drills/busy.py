"""busy: every CPU is at its limit for minutes, and Redis starts anew twice; no lease is lost for that.

After a restart Redis counts its client ids from the beginning, so an id that a lease carries is nobody's by
then (the first time), or somebody else's (the second).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import psutil

from chaos.drills.outcome import Outcome, Say, expired, second_starts
from chaos.fault import noted
from chaos.fleet import Fleet
from chaos.history import History
from chaos.verdict import Verdict
from joelclaw_tasks.fleet.tether import tether

#: At a third of the time, and at two thirds.
_ENDS = (signal.SIGTERM, signal.SIGKILL)
_LEAST_CPU_PERCENT = 90.0
_SPENT_IDS = 300


def busy(fleet: Fleet, minutes: float, say: Say) -> Outcome:
    """Burn all CPUs for so long beside a fleet at work, and judge whether anybody was taken for dead."""
    _use_up_ids(fleet.port)
    fleet.start()
    command = [sys.executable, "-c", "while True: pass"]
    burners = [
        subprocess.Popen(command, preexec_fn=tether())  # noqa: PLW1509  # it calls the kernel only
        for _ in range(os.cpu_count() or 1)
    ]
    began_at, seconds = time.monotonic(), minutes * 60
    psutil.cpu_percent()
    ids: list[dict[str, int]] = []
    try:
        for number, ending in enumerate(_ENDS):
            _pass(fleet, began_at + seconds * (number + 1) / 3, say)
            before = _highest_id(fleet)
            with noted(fleet, "restart-redis", everywhere=True):
                fleet.end_redis(ending)
                fleet.start_redis()
                _pass(fleet, time.monotonic() + 3.0, say)
            ids.append({"before": before, "after": _highest_id(fleet)})
            say(f"{time.monotonic() - began_at:.0f} s: Redis has started anew after {ending.name}")
        _pass(fleet, began_at + seconds, say)
        cpu_percent = psutil.cpu_percent()
        fleet.wait_whole()
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    fleet.rest()
    outcome = Outcome("busy", {"minutes": minutes, "burners": len(burners), "lease_ms": fleet.lease_ms})
    outcome.at_least("cpu_percent", cpu_percent, _LEAST_CPU_PERCENT)
    outcome.figures["client_ids"] = ids
    if not 0 < ids[0]["after"] < ids[0]["before"]:
        outcome.broken.append("client ids did not start anew, so this has proved nothing of them")
    return judge(History.read(fleet.history_path), outcome)


def _pass(fleet: Fleet, until: float, say: Say) -> None:
    """Let time pass, and say something each minute."""
    while (left_s := until - time.monotonic()) > 0:
        fleet.wait(min(60.0, left_s))
        if left_s > 60:
            say(f"{left_s - 60:.0f} s left of this part")


def _use_up_ids(port: int) -> None:
    """Connect so often that the ids of the fleet are higher than any after a restart."""
    for _ in range(_SPENT_IDS):
        socket.create_connection(("127.0.0.1", port)).close()


def _highest_id(fleet: Fleet) -> int:
    """The highest client id that a lease carries now; 0: none does."""
    return max((int(holder["client_id"]) for holder in fleet.store.holders().values()), default=0)


def judge(history: History, outcome: Outcome) -> Outcome:
    """Judge whether anybody lost a lease."""
    outcome.at_most("expired", expired(history), 0)
    outcome.at_most("second_starts", second_starts(history), 0)
    outcome.at_least("starts", len(history.starts), 1)
    outcome.judge(Verdict.of(history))
    return outcome
