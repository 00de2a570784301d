"""A pause under fire: once it is answered, nothing of what it holds back starts."""

from __future__ import annotations

import threading
import time

import pytest
from workers import Site

from tests.conftest import wait_until

PER_S = 200


@pytest.mark.timing
@pytest.mark.parametrize("pools", [("threads", "threads"), ("prefork", "solo")])
def test_nothing_of_a_family_starts_more_than_100_ms_after_its_pause_while_200_a_second_flow(
    own: Site, pools: tuple[str, ...]
):
    for pool in pools:
        own.start(pool)
    for worker in own.workers:
        worker.wait_ready()
    done = threading.Event()

    def send() -> None:
        began, sent = time.monotonic(), 0
        with own.app.producer_or_acquire() as producer:
            while not done.is_set():
                while sent < (time.monotonic() - began) * PER_S:
                    own.stamp.apply_async(("starts",), producer=producer)
                    sent += 1
                time.sleep(0.002)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: len(own.effects("starts")) > 1.5 * PER_S, "jobs flow", 20)
        own.store.pause("pause:family/stamp", actor="test", reason="")
        answered_at = time.time()
        time.sleep(1)  # time itself is the subject
    finally:
        done.set()
        sender.join()

    starts = [float(each) for each in own.effects("starts")]
    assert [] == [each - answered_at for each in starts if each > answered_at + 0.1]
    assert PER_S / 2 < sum(answered_at - 1 < each <= answered_at for each in starts)
    assert PER_S / 2 < own.states()["available"]
    own.store.resume("pause:family/stamp", actor="test")
    own.wait_idle(30)
