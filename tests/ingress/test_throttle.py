"""Throttle: who has to wait, for how long, and what it costs to remember."""

from __future__ import annotations

import pytest

from joelclaw_tasks.ingress.throttle import FORWARDED, FailureThrottle, client_address


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_twentieth_failure_within_a_minute_blocks_the_address_and_no_other(clock: Clock):
    throttle = FailureThrottle(clock=clock)
    for _ in range(19):
        throttle.record("203.0.113.7")
    assert throttle.retry_after_s("203.0.113.7") is None

    throttle.record("203.0.113.7")

    assert 60 == throttle.retry_after_s("203.0.113.7")
    assert throttle.retry_after_s("203.0.113.8") is None


def test_the_block_ends_when_the_oldest_failure_is_a_minute_old(clock: Clock):
    throttle = FailureThrottle(clock=clock)
    throttle.record("203.0.113.7")
    clock.now_s += 30
    for _ in range(19):
        throttle.record("203.0.113.7")

    assert 30 == throttle.retry_after_s("203.0.113.7")
    clock.now_s += 29.5
    assert 1 == throttle.retry_after_s("203.0.113.7")
    clock.now_s += 0.5
    assert throttle.retry_after_s("203.0.113.7") is None


def test_twenty_failures_spread_over_more_than_a_minute_block_nobody(clock: Clock):
    throttle = FailureThrottle(clock=clock)
    for _ in range(100):
        throttle.record("203.0.113.7")
        clock.now_s += 3.2
        assert throttle.retry_after_s("203.0.113.7") is None


def test_a_million_addresses_cost_no_more_than_the_cap(clock: Clock):
    throttle = FailureThrottle(max_addresses=100, clock=clock)
    for _ in range(20):
        throttle.record("203.0.113.7")
    for number in range(99):
        throttle.record(f"198.51.100.{number}")
    assert 60 == throttle.retry_after_s("203.0.113.7")

    throttle.record("192.0.2.1")

    assert 100 == len(throttle)
    assert throttle.retry_after_s("203.0.113.7") is None


def scope(peer: str | None, *forwarded: str) -> dict[str, object]:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    return {"client": (peer, 40_000) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("request_scope", "trusted", "expected"),
    [
        (scope("203.0.113.7"), False, "203.0.113.7"),
        (scope("203.0.113.7", "198.51.100.1"), False, "203.0.113.7"),
        (scope("127.0.0.1", "198.51.100.1"), False, "127.0.0.1"),
        # Only the last entry was written by the proxy on this machine.
        (scope("127.0.0.1", "198.51.100.1, 203.0.113.9"), True, "203.0.113.9"),
        (scope("127.0.0.1", "198.51.100.1", "203.0.113.9"), True, "203.0.113.9"),
        (scope("::1", "203.0.113.9"), True, "203.0.113.9"),
        (scope("203.0.113.7", "198.51.100.1"), True, "203.0.113.7"),
        (scope("127.0.0.1"), True, "127.0.0.1"),
        (scope("127.0.0.1", "nonsense"), True, "nonsense"),
        (scope("127.0.0.1", "x" * 10_000), True, "x" * 64),
        # What uvicorn's own proxy support makes of a loopback peer.
        (scope("198.51.100.1", "198.51.100.1"), False, FORWARDED),
        (scope("198.51.100.1", "198.51.100.1:5123, 127.0.0.1"), False, FORWARDED),
        # One host owns a /64; an IPv4 address has two spellings.
        (scope("2001:db8:1:2:3:4:5:6"), False, "2001:db8:1:2::/64"),
        (scope("::ffff:203.0.113.7"), False, "203.0.113.7"),
        (scope("127.0.0.1", "[2001:db8:1:2::9]:443"), True, "2001:db8:1:2::/64"),
        (scope(None), False, "unknown"),
    ],
)
def test_a_request_counts_under(request_scope: dict[str, object], trusted: bool, expected: str):
    assert expected == client_address(request_scope, trust_forwarded=trusted)
