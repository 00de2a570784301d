"""rolling: all workers are restarted one by one, many times, under load, as a deploy does it.

SIGTERM, wait for the end, start the next. Nothing may be lost, and no job may start twice or be taken from
a worker that was only told to stop.
"""

from __future__ import annotations

import signal
import time

from chaos.drills.outcome import Outcome, Say, expired, retries, second_starts, spread
from chaos.drills.running import Running
from chaos.fault import noted
from chaos.fleet import Fleet
from chaos.history import History
from chaos.process import Process
from chaos.verdict import Verdict
from joelclaw_tasks.broker.stopping import STOP_GRACE_S

_LASTS_S = 1.0
_READY_WITHIN_S = 40.0
_BUSY_WITHIN_S = 20.0


def rolling(fleet: Fleet, rounds: int, say: Say) -> Outcome:
    """Restart the whole fleet so many times, worker by worker, and judge what became of the jobs."""
    running = Running(fleet.history_path)
    stops_s: list[float] = []
    restarts_s: list[float] = []
    killed = 0
    fleet.start()
    fleet.wait(1.0)
    for number in range(rounds):
        for worker in fleet.workers:
            _make_busy(fleet, running, worker)
            began_at = time.monotonic()
            killed += not _stop(fleet, worker)
            stops_s.append(time.monotonic() - began_at)
            worker.start()
            worker.wait_ready(_READY_WITHIN_S)
            restarts_s.append(time.monotonic() - began_at)
        say(f"{number + 1} of {rounds} rounds, longest stop {max(stops_s):.1f} s")
    running.close()
    fleet.rest()
    outcome = Outcome("rolling", {"rounds": rounds, "restarts": len(restarts_s), "grace_s": STOP_GRACE_S})
    outcome.figures["stop_s"], outcome.figures["restart_s"] = spread(stops_s), spread(restarts_s)
    outcome.at_most("longest_stop_s", outcome.figures["stop_s"]["max"], STOP_GRACE_S)
    outcome.at_most("killed_after_grace", killed, 0)
    return judge(History.read(fleet.history_path), outcome)


def _make_busy(fleet: Fleet, running: Running, worker: Process) -> None:
    """Return while the worker runs something that takes a second. Raises RuntimeError."""
    deadline, sent_at = time.monotonic() + _BUSY_WITHIN_S, 0.0
    while time.monotonic() < deadline:
        if time.monotonic() - sent_at > _LASTS_S:
            sent_at = time.monotonic()
            for _ in range(5):
                fleet.send("lasting", _LASTS_S, "a")
        fleet.wait(0.02)
        running.look()
        if any(time.monotonic() - run.at < _LASTS_S / 2 for run in running.of(worker.name)):
            return
    raise RuntimeError(f"{worker.name} was not busy within {_BUSY_WITHIN_S:.0f} s")


def _stop(fleet: Fleet, worker: Process) -> bool:
    """SIGTERM, and whether it ended within its grace and a little; one that did not is killed."""
    with noted(fleet, "restart", worker):
        worker.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S + 4.0
        while worker.is_running() and time.monotonic() < deadline:
            time.sleep(0.01)
    if not worker.is_running():
        return True
    with noted(fleet, "kill-after-grace", worker, kills=True):
        worker.send(signal.SIGKILL, group=True)
    return False


def judge(history: History, outcome: Outcome) -> Outcome:
    """Judge what became of the jobs."""
    outcome.at_most("burned", second_starts(history), 0)
    outcome.at_most("expired", expired(history), 0)
    # Claimed but not started when the signal came: handed back at once, which costs no start.
    outcome.figures["given_back_unstarted"] = sum(
        len(attempts) - 1 - retries(history, job) for job, attempts in history.attempts_of.items()
    )
    outcome.judge(Verdict.of(history))
    return outcome
