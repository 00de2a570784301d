"""How a worker waits for an answer: awake for a moment where answers come at once, else asleep."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from joelclaw_tasks.broker import leases
from joelclaw_tasks.broker.leases import LeaseKeeper
from joelclaw_tasks.broker.patience import AWAKE_S, Patience
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from tests.conftest import wait_until


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_an_answer_that_is_there_is_seen_at_once(ends):
    ours, theirs = ends
    patience = Patience()
    theirs.send(b"+OK\r\n")

    assert patience.has_answer(ours.fileno(), within_s=60)
    assert patience.stays_awake


def test_who_waited_awake_for_nothing_sleeps_from_then_on(ends):
    ours, _ = ends
    patience = Patience()

    began, cpu_began = time.monotonic(), time.thread_time()
    assert not patience.has_answer(ours.fileno(), within_s=0.1)
    assert not patience.stays_awake
    for _ in range(10):
        assert not patience.has_answer(ours.fileno(), within_s=0.02)
    slept_s, worked_s = time.monotonic() - began, time.thread_time() - cpu_began

    assert slept_s >= 0.3
    assert worked_s < AWAKE_S + 0.02  # ten more of them would be no more than the calls cost


def test_an_answer_that_comes_late_is_told_and_the_next_is_waited_for_asleep(ends):
    ours, theirs = ends
    patience = Patience()
    late = threading.Timer(0.05, theirs.send, [b"+OK\r\n"])
    late.start()

    assert patience.has_answer(ours.fileno(), within_s=60)
    assert not patience.stays_awake
    late.join()


def test_who_sleeps_stays_awake_again_once_an_answer_came_soon(ends):
    ours, theirs = ends
    patience = Patience()
    assert not patience.has_answer(ours.fileno(), within_s=0)
    theirs.send(b"+OK\r\n")

    def is_awake_again() -> bool:
        assert patience.has_answer(ours.fileno(), within_s=60)
        return patience.stays_awake

    wait_until(is_awake_again, "a look was not interrupted by other processes")


def test_the_end_of_a_connection_is_an_answer(ends):
    ours, theirs = ends
    theirs.close()

    assert Patience().has_answer(ours.fileno(), within_s=60)


@pytest.fixture
def many_files() -> Iterator[None]:
    """More open files than `select` can tell apart, so that whatever is opened next has a high number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_096)), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    while opened[-1] < 1_024:
        opened.append(os.dup(opened[0]))
    yield
    for each in opened:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_process_with_many_open_files_hears_answers_too():
    with contextlib.ExitStack() as stack:
        number = 0
        while number < 1_024:  # a thread may have closed a file of a low number meanwhile
            ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
            number = ours.fileno()
        patience = Patience()
        assert not patience.has_answer(number, within_s=0.001)
        theirs.send(b"+OK\r\n")
        assert patience.has_answer(number, within_s=60)


@pytest.mark.usefixtures("many_files")
def test_a_process_with_many_open_files_keeps_its_leases(redis_url: str, monkeypatch):
    monkeypatch.setattr(leases, "DETECT_INTERVAL_S", 0.01)
    looks: list[str] = []
    store = Store(redis.Redis.from_url(redis_url), Keys("{jc}:"))
    clients: list[redis.Redis] = []
    while not clients or clients[-1].connection._sock.fileno() < 1_024:
        clients.append(redis.Redis.from_url(redis_url, single_connection_client=True))
    keeper = LeaseKeeper("crowded", store, clients[-1], lambda holder, _: looks.append(holder), lambda: None)
    keeper.start()
    try:
        wait_until(lambda: len(looks) > 3, "it looks again and again", 5)
        assert keeper.is_alive()
    finally:
        keeper.stop()
        keeper.join(5)
        for client in (*clients, store.client):
            client.close()
