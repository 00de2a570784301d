"""Faults of workers and beats: killed, frozen, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from chaos.fault import Course, a_busy_worker, a_future_zombie, a_worker, fault, noted
from chaos.fleet import Fleet
from chaos.process import Process
from joelclaw_tasks.fleet.tether import tether

#: These take so long that they are for long runs only.
LONG = frozenset({"freeze-worker-for-a-minute"})
#: A job of the busy worker ends within this, and with its end the next one is claimed.
_CLAIMS_WITHIN_S = 1.5


def _kill(fleet: Fleet, name: str, *, group: bool) -> Course:
    worker = yield from a_busy_worker(fleet, 4, 1.0)
    with noted(fleet, name, worker, kills=True):
        worker.send(signal.SIGKILL, group=group)
    return worker.name


@fault
def kill_worker(fleet: Fleet) -> Course:
    """SIGKILL of a worker's parent alone: its children go on for a while."""
    return _kill(fleet, "kill-worker", group=False)


@fault
def kill_worker_tree(fleet: Fleet) -> Course:
    """SIGKILL of a worker and its children at once."""
    return _kill(fleet, "kill-worker-tree", group=True)


@fault
def kill_child(fleet: Fleet) -> Course:
    """SIGKILL of one process of the prefork pool, as an out-of-memory killer does it."""
    yield from a_busy_worker(fleet, 4, 1.0)
    prefork = fleet.workers[0]
    while not (prefork.is_ready() and (children := prefork.children())):
        yield 0.1
    victim = fleet.random.choice(children)
    with noted(fleet, "kill-child", pids=[victim], kills=True), suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    return f"{prefork.name} pid {victim}"


@fault
def kill_after_effect(fleet: Fleet) -> Course:
    """A task kills its process once its effect is there and before anybody has heard of it."""
    job = fleet.send("last_words", 0.02, "a")
    yield 1.0
    return job


@fault
def kill_before_hand_over(fleet: Fleet) -> Course:
    """SIGKILL of a worker and its children whose claim was carried out and whose answer has not arrived."""
    worker = yield from a_busy_worker(fleet, 12, 0.4)
    proxy, held_before = fleet.proxies[worker.role], fleet.held_by(worker)
    with noted(fleet, "kill-before-hand-over", worker, kills=True):
        proxy.silence(True)
        until = time.monotonic() + _CLAIMS_WITHIN_S
        while not (unheard := fleet.held_by(worker) - held_before) and time.monotonic() < until:
            yield 0.02
        worker.send(signal.SIGKILL, group=True)
    proxy.silence(False)
    return f"{worker.name}, {len(unheard)} claimed and not heard of"


@fault
def freeze_worker(fleet: Fleet) -> Course:
    """SIGSTOP for longer than a lease, then SIGCONT: the zombie's finishes must count for nothing."""
    worker = yield from a_future_zombie(fleet)
    lasts_s = fleet.lease_ms / 1000 * 1.1
    return (yield from _freeze(fleet, "freeze-worker", worker, lasts_s, outlasts_lease=True))


@fault
def freeze_worker_for_a_minute(fleet: Fleet) -> Course:
    """SIGSTOP for 60 s, then SIGCONT: its connections, its watchdog and its jobs are all of another time."""
    worker = yield from a_future_zombie(fleet)
    return (yield from _freeze(fleet, "freeze-worker-for-a-minute", worker, 60.0, outlasts_lease=True))


@fault
def freeze_worker_briefly(fleet: Fleet) -> Course:
    """SIGSTOP for a third of a lease: nothing of it may be lost or start again."""
    worker = yield from a_worker(fleet)
    return (yield from _freeze(fleet, "freeze-worker-briefly", worker, fleet.lease_ms / 1000 * 0.33))


def _freeze(fleet: Fleet, name: str, worker: Process, lasts_s: float, **fields: Any) -> Course:
    group = worker.pid
    with noted(fleet, name, worker, **fields):
        worker.send(signal.SIGSTOP, group=True)
        yield lasts_s
        with suppress(ProcessLookupError):  # it may be another life's turn by now
            os.killpg(group, signal.SIGCONT)
    return worker.name


@fault
def stop_worker(fleet: Fleet) -> Course:
    """SIGTERM with running and reserved work, as in a deploy: no start may be wasted."""
    worker = yield from a_busy_worker(fleet, 4, 1.0)
    name, deadline = worker.name, time.monotonic() + 20
    with noted(fleet, "stop-worker", worker):
        worker.send(signal.SIGTERM)
        while worker.name == name and worker.is_running() and time.monotonic() < deadline:
            yield 0.1
    if worker.name == name and worker.is_running():
        with noted(fleet, "stop-worker-killed", worker, kills=True):
            worker.send(signal.SIGKILL, group=True)
        return f"{name}, which had to be killed"
    return name


@fault
def stop_then_kill_worker(fleet: Fleet) -> Course:
    """SIGTERM and, a moment later, SIGKILL."""
    worker = yield from a_busy_worker(fleet, 4, 1.0)
    name = worker.name
    with noted(fleet, "stop-then-kill-worker", worker, kills=True):
        worker.send(signal.SIGTERM)
        yield 0.3
        if worker.name == name:
            worker.send(signal.SIGKILL, group=True)
    return name


@fault
def kill_beat(fleet: Fleet) -> Course:
    """SIGKILL of one of two beats."""
    yield 0.0
    beat = fleet.random.choice(fleet.beats)
    with noted(fleet, "kill-beat", beat, kills=True):
        beat.send(signal.SIGKILL)
    return beat.name


@fault
def burn_cpu(fleet: Fleet) -> Course:
    """Twice as many busy processes as there are CPUs, for two leases: nobody may be taken for dead."""
    command = [sys.executable, "-c", "while True: pass"]
    with noted(fleet, "burn-cpu"):
        burners = [
            subprocess.Popen(command, preexec_fn=tether())  # noqa: PLW1509  # it calls the kernel only
            for _ in range(2 * (os.cpu_count() or 1))
        ]
        try:
            yield fleet.lease_ms / 1000 * 2
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
    return f"{len(burners)} processes"
