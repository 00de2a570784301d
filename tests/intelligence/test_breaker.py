"""A breaker opens after failures in a row, lets one through to see, and waits longer each time."""

from __future__ import annotations

from joelclaw_tasks.intelligence.breaker import LONGEST_OPEN_MS, OPEN_MS, WINDOW_MS, Breaker, Circuit
from tests.intelligence.conftest import Clock


def test_two_failures_are_none_of_its_business(clock: Clock):
    breaker = Breaker(clock)

    for _ in range(2):
        breaker.failed("k")

    assert (None, Circuit.CLOSED) == (breaker.wait_ms("k"), breaker.circuit("k"))


def test_an_answer_in_between_begins_the_count_anew(clock: Clock):
    breaker = Breaker(clock)

    for _ in range(5):
        breaker.failed("k")
        breaker.failed("k")
        breaker.succeeded("k")

    assert breaker.wait_ms("k") is None


def test_failures_that_are_far_apart_do_not_add_up(clock: Clock):
    breaker = Breaker(clock)

    for _ in range(6):
        breaker.failed("k")
        clock.now += WINDOW_MS / 2 + 1

    assert breaker.wait_ms("k") is None


def test_it_says_how_long_to_wait_and_half_opens_for_one(clock: Clock):
    breaker = _opened(clock)
    assert OPEN_MS == breaker.wait_ms("k")

    clock.now += OPEN_MS
    waits = [breaker.wait_ms("k") for _ in range(3)]

    assert [None, OPEN_MS, OPEN_MS] == waits
    assert Circuit.HALF_OPEN == breaker.circuit("k")


def test_a_probe_that_was_never_sent_leaves_the_next_one_its_turn(clock: Clock):
    breaker = _opened(clock)
    clock.now += OPEN_MS
    assert breaker.wait_ms("k") is None

    breaker.forget("k")

    assert breaker.wait_ms("k") is None


def test_probes_that_fail_double_the_time_up_to_the_longest(clock: Clock):
    breaker, waits = _opened(clock), []

    for _ in range(9):
        wait_ms = breaker.wait_ms("k")
        assert wait_ms is not None
        waits.append(wait_ms)
        clock.now += wait_ms
        assert breaker.wait_ms("k") is None
        breaker.failed("k")

    assert [min(LONGEST_OPEN_MS, OPEN_MS * 2**n) for n in range(9)] == waits


def test_calls_that_were_under_way_when_it_opened_do_not_make_it_wait_longer(clock: Clock):
    breaker = _opened(clock)

    for _ in range(5):
        breaker.failed("k")

    assert OPEN_MS == breaker.wait_ms("k")


def test_a_server_that_says_when_is_left_alone_until_then_at_most_half_an_hour(clock: Clock):
    breaker = Breaker(clock)

    breaker.failed("a", retry_after_ms=5_000)
    breaker.failed("b", retry_after_ms=10 * LONGEST_OPEN_MS)

    assert [5_000, LONGEST_OPEN_MS, None] == [breaker.wait_ms(key) for key in "abc"]


def _opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(3):
        breaker.failed("k")
    return breaker
