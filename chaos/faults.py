"""Faults by name: each harms a fleet, notes what it did to whom, and takes it back.

A fault is a generator: it yields how many seconds to let pass, so that several can go on at once in one
thread, and returns what it hit. One that costs leases must say so in the history (`kills`,
`outlasts_lease`), for each lost lease allows a job one more start. The others must cost nobody anything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from chaos.fleet import Fleet
from chaos.process import Process

Course = Generator[float, None, str]
FAULTS: dict[str, Callable[[Fleet], Course]] = {}
#: Of these only one at a time: each needs Redis as it found it.
OF_REDIS = frozenset({"restart-redis", "kill-redis", "freeze-redis"})


def fault(act: Callable[[Fleet], Course]) -> Callable[[Fleet], Course]:
    """Register a fault under its name."""
    FAULTS[act.__name__.replace("_", "-")] = act
    return act


def _a_worker(fleet: Fleet) -> Generator[float, None, Process]:
    """A worker that is up; wait for one when there is none."""
    while not (ready := [worker for worker in fleet.workers if worker.is_ready()]):
        yield 0.1
    return fleet.random.choice(ready)


def _a_busy_worker(fleet: Fleet, jobs: int, seconds: float) -> Generator[float, None, Process]:
    """A worker that probably runs one of so many jobs that take so long."""
    for _ in range(jobs):
        fleet.send("lasting", seconds, "a")
        yield 0.0
    yield 0.5
    return (yield from _a_worker(fleet))


def _a_future_zombie(fleet: Fleet) -> Generator[float, None, Process]:
    """A worker that runs what, started again after a lease, still runs when the first start ends."""
    return _a_busy_worker(fleet, 6, fleet.lease_ms / 1000 * 0.6)


@contextmanager
def _noted(fleet: Fleet, name: str, of: Process | None = None, **fields: Any) -> Iterator[None]:
    """The fault lasts as long as the block; `of` is hit in all lives that it has meanwhile."""
    at, first = time.monotonic(), of.lives if of else 0
    try:
        yield
    finally:
        if of is not None:
            fields["workers"] = [f"{of.role}.{life}" for life in range(first, of.lives + 1)]
        fleet.record.note("fault", name=name, at=at, until=time.monotonic(), **fields)


def _kill(fleet: Fleet, name: str, *, group: bool) -> Course:
    worker = yield from _a_busy_worker(fleet, 4, 1.0)
    with _noted(fleet, name, worker, kills=True):
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
    yield from _a_busy_worker(fleet, 4, 1.0)
    prefork = fleet.workers[0]
    while not (prefork.is_ready() and (children := prefork.children())):
        yield 0.1
    victim = fleet.random.choice(children)
    with _noted(fleet, "kill-child", pids=[victim], kills=True), suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    return f"{prefork.name} pid {victim}"


@fault
def kill_after_effect(fleet: Fleet) -> Course:
    """A task kills its process once its effect is there and before anybody has heard of it."""
    job = fleet.send("last_words", 0.02, "a")
    yield 1.0
    return job


@fault
def freeze_worker(fleet: Fleet) -> Course:
    """SIGSTOP for longer than a lease, then SIGCONT: the zombie's finishes must count for nothing."""
    worker = yield from _a_future_zombie(fleet)
    return (yield from _freeze(fleet, "freeze-worker", worker, 1.1, outlasts_lease=True))


@fault
def freeze_worker_briefly(fleet: Fleet) -> Course:
    """SIGSTOP for a third of a lease: nothing of it may be lost or start again."""
    worker = yield from _a_worker(fleet)
    return (yield from _freeze(fleet, "freeze-worker-briefly", worker, 0.33))


def _freeze(fleet: Fleet, name: str, worker: Process, leases: float, **fields: Any) -> Course:
    group = worker.pid
    with _noted(fleet, name, worker, **fields):
        worker.send(signal.SIGSTOP, group=True)
        yield fleet.lease_ms / 1000 * leases
        with suppress(ProcessLookupError):  # it may be another life's turn by now
            os.killpg(group, signal.SIGCONT)
    return worker.name


@fault
def stop_worker(fleet: Fleet) -> Course:
    """SIGTERM with running and reserved work, as in a deploy: no start may be wasted."""
    worker = yield from _a_busy_worker(fleet, 4, 1.0)
    name, deadline = worker.name, time.monotonic() + 20
    with _noted(fleet, "stop-worker", worker):
        worker.send(signal.SIGTERM)
        while worker.name == name and worker.is_running() and time.monotonic() < deadline:
            yield 0.1
    if worker.name == name and worker.is_running():
        with _noted(fleet, "stop-worker-killed", worker, kills=True):
            worker.send(signal.SIGKILL, group=True)
        return f"{name}, which had to be killed"
    return name


@fault
def stop_then_kill_worker(fleet: Fleet) -> Course:
    """SIGTERM and, a moment later, SIGKILL."""
    worker = yield from _a_busy_worker(fleet, 4, 1.0)
    name = worker.name
    with _noted(fleet, "stop-then-kill-worker", worker, kills=True):
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
    with _noted(fleet, "kill-beat", beat, kills=True):
        beat.send(signal.SIGKILL)
    return beat.name


# -- Redis ----------------------------------------------------------------------------------------


@fault
def restart_redis(fleet: Fleet) -> Course:
    """SIGTERM, a second of nothing, and a start on the append-only file."""
    with _noted(fleet, "restart-redis", everywhere=True):
        fleet.end_redis(signal.SIGTERM)
        yield 1.0
        fleet.start_redis()
        yield 1.0  # until everybody is back
    return "redis"


@fault
def kill_redis(fleet: Fleet) -> Course:
    """SIGKILL, and a start on the append-only file."""
    with _noted(fleet, "kill-redis", everywhere=True):
        fleet.end_redis(signal.SIGKILL)
        fleet.start_redis()
        yield 1.0
    return "redis"


@fault
def freeze_redis(fleet: Fleet) -> Course:
    """SIGSTOP for three seconds."""
    with _noted(fleet, "freeze-redis", everywhere=True):
        fleet.signal_redis(signal.SIGSTOP)
        yield 3.0
        fleet.signal_redis(signal.SIGCONT)
    return "redis"


@fault
def flush_scripts(fleet: Fleet) -> Course:
    """SCRIPT FLUSH, five times."""
    with _noted(fleet, "flush-scripts"):
        for _ in range(5):
            fleet.flush_scripts()
            yield 0.1
    return "redis"


# -- network --------------------------------------------------------------------------------------


@fault
def resets(fleet: Fleet) -> Course:
    """RST to all connections of everybody, ten times within two seconds."""
    count = 0
    with _noted(fleet, "resets", everywhere=True):
        for _ in range(10):
            count += sum(proxy.reset_all() for proxy in fleet.proxies.values())
            yield fleet.random.uniform(0.05, 0.35)
    return f"{count} connections"


@fault
def cut_answers(fleet: Fleet) -> Course:
    """Answers end in the middle, ten times within two seconds: what was asked for has been done."""
    count = 0
    with _noted(fleet, "cut-answers", everywhere=True):
        for _ in range(10):
            after_bytes = fleet.random.randint(0, 60)
            count += sum(proxy.cut_answers(after_bytes) for proxy in fleet.proxies.values())
            yield fleet.random.uniform(0.05, 0.35)
    return f"{count} connections"


@fault
def blackhole_worker(fleet: Fleet) -> Course:
    """Nothing of a worker reaches Redis, nor the other way, for longer than a lease; then all of it does."""
    worker = yield from _a_future_zombie(fleet)
    with _noted(fleet, "blackhole-worker", worker, outlasts_lease=True):
        fleet.proxies[worker.role].hold(True)
        yield fleet.lease_ms / 1000 * 1.1
        fleet.proxies[worker.role].hold(False)
        yield 0.5
    return worker.name


@fault
def blackhole_briefly(fleet: Fleet) -> Course:
    """Nothing of anybody reaches Redis for a second."""
    with _noted(fleet, "blackhole-briefly", everywhere=True):
        for proxy in fleet.proxies.values():
            proxy.hold(True)
        yield 1.0
        for proxy in fleet.proxies.values():
            proxy.hold(False)
        yield 0.2
    return "everybody"


@fault
def half_open_worker(fleet: Fleet) -> Course:
    """The connections of a worker are dead, and nobody tells it; new ones would work."""
    worker = yield from _a_worker(fleet)
    with _noted(fleet, "half-open-worker", worker, outlasts_lease=True):
        count = fleet.proxies[worker.role].half_open()
        yield 8.0
    return f"{worker.name}, {count} connections"


@fault
def latency(fleet: Fleet) -> Course:
    """2, 50 and 500 ms more for each round trip of everybody, for two seconds each."""
    with _noted(fleet, "latency", everywhere=True):
        for rtt_ms in (2.0, 50.0, 500.0):
            for proxy in fleet.proxies.values():
                proxy.latency(rtt_ms)
            yield 2.0
        for proxy in fleet.proxies.values():
            proxy.latency(0.0)
        yield 0.5
    return "everybody"
