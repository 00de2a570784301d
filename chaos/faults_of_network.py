"""Faults of the network between everybody and Redis."""

from __future__ import annotations

from chaos.fault import Course, a_future_zombie, a_worker, fault, noted
from chaos.fleet import Fleet


@fault
def resets(fleet: Fleet) -> Course:
    """RST to all connections of everybody, ten times within two seconds."""
    count = 0
    with noted(fleet, "resets", everywhere=True):
        for _ in range(10):
            count += sum(proxy.reset_all() for proxy in fleet.proxies.values())
            yield fleet.random.uniform(0.05, 0.35)
    return f"{count} connections"


@fault
def cut_answers(fleet: Fleet) -> Course:
    """Answers end in the middle, ten times within two seconds: what was asked for has been done."""
    count = 0
    with noted(fleet, "cut-answers", everywhere=True):
        for _ in range(10):
            after_bytes = fleet.random.randint(0, 60)
            count += sum(proxy.cut_answers(after_bytes) for proxy in fleet.proxies.values())
            yield fleet.random.uniform(0.05, 0.35)
    return f"{count} connections"


@fault
def blackhole_worker(fleet: Fleet) -> Course:
    """Nothing of a worker reaches Redis, nor the other way, for longer than a lease; then all of it does."""
    worker = yield from a_future_zombie(fleet)
    with noted(fleet, "blackhole-worker", worker, outlasts_lease=True):
        fleet.proxies[worker.role].hold(True)
        yield fleet.lease_ms / 1000 * 1.1
        fleet.proxies[worker.role].hold(False)
        yield 0.5
    return worker.name


@fault
def blackhole_briefly(fleet: Fleet) -> Course:
    """Nothing of anybody reaches Redis for a second."""
    with noted(fleet, "blackhole-briefly", everywhere=True):
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
    worker = yield from a_worker(fleet)
    with noted(fleet, "half-open-worker", worker, outlasts_lease=True):
        count = fleet.proxies[worker.role].half_open()
        yield 8.0
    return f"{worker.name}, {count} connections"


@fault
def latency(fleet: Fleet) -> Course:
    """2, 50 and 500 ms more for each round trip of everybody, for two seconds each."""
    with noted(fleet, "latency", everywhere=True):
        for rtt_ms in (2.0, 50.0, 500.0):
            for proxy in fleet.proxies.values():
                proxy.latency(rtt_ms)
            yield 2.0
        for proxy in fleet.proxies.values():
            proxy.latency(0.0)
        yield 0.5
    return "everybody"
