"""Fault: what all faults are made of.

A fault is a generator: it yields how many seconds to let pass, so that several can go on at once in one
thread, and returns what it hit. One that costs leases must say so in the history (`kills`,
`outlasts_lease`), for each lost lease allows a job one more start. The others must cost nobody anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from chaos.fleet import Fleet
from chaos.process import Process

Course = Generator[float, None, str]
FAULTS: dict[str, Callable[[Fleet], Course]] = {}


def fault(act: Callable[[Fleet], Course]) -> Callable[[Fleet], Course]:
    """Register a fault under its name."""
    FAULTS[act.__name__.replace("_", "-")] = act
    return act


def a_worker(fleet: Fleet) -> Generator[float, None, Process]:
    """A worker that is up; wait for one when there is none."""
    while not (ready := [worker for worker in fleet.workers if worker.is_ready()]):
        yield 0.1
    return fleet.random.choice(ready)


def a_busy_worker(fleet: Fleet, jobs: int, seconds: float) -> Generator[float, None, Process]:
    """A worker that probably runs one of so many jobs that take so long."""
    for _ in range(jobs):
        fleet.send("lasting", seconds, "a")
        yield 0.0
    yield 0.5
    return (yield from a_worker(fleet))


def a_future_zombie(fleet: Fleet) -> Generator[float, None, Process]:
    """A worker that runs what, started again after a lease, still runs when the first start ends."""
    return a_busy_worker(fleet, 6, fleet.lease_ms / 1000 * 0.6)


@contextmanager
def noted(fleet: Fleet, name: str, of: Process | None = None, **fields: Any) -> Iterator[None]:
    """The fault lasts as long as the block; `of` is hit in all lives that it has meanwhile."""
    at, first = time.monotonic(), of.lives if of else 0
    try:
        yield
    finally:
        if of is not None:
            fields["workers"] = [f"{of.role}.{life}" for life in range(first, of.lives + 1)]
        fleet.record.note("fault", name=name, at=at, until=time.monotonic(), **fields)
