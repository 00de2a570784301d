"""One connection whose other end is silently gone tells the others of its process, and no one else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from chaos.proxy import FaultProxy
from joelclaw_tasks.core.store import single_shot_retry
from joelclaw_tasks.silence import heard
from tests.conftest import wait_until

TIMEOUT_S = 0.5


@pytest.fixture
def connect(broker_redis: int) -> Iterator[object]:
    made: list[redis.Connection] = []

    def connect(port: int = broker_redis, timeout_s: float = TIMEOUT_S) -> redis.Connection:
        made.append(heard(redis.Connection)(port=port, socket_timeout=timeout_s, retry=single_shot_retry()))
        assert b"PONG" == ask(made[-1])
        return made[-1]

    yield connect
    for connection in made:
        connection.disconnect()


def ask(connection: redis.Connection) -> object:
    connection.send_command("PING")
    return connection.read_response()


def is_dropped(connection: redis.Connection) -> bool:
    """Whether its end can be read."""
    try:
        return connection._sock is None or connection.can_read(0)
    except redis.ConnectionError:
        return True


def test_idle_connections_as_silent_as_one_that_timed_out_are_dropped(proxy: FaultProxy, connect):
    silent, idle, other = connect(proxy.port), connect(proxy.port), connect()
    proxy.half_open()
    with pytest.raises(redis.TimeoutError):
        ask(silent)
    assert [True, False] == [is_dropped(idle), is_dropped(other)]
    assert b"PONG" == ask(silent)  # on a new connection


def test_whoever_waits_for_an_answer_hears_of_it_at_once(proxy: FaultProxy, connect):
    silent, waiting = connect(proxy.port), connect(proxy.port, 60)
    proxy.half_open()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            ask(waiting)
        except redis.ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with pytest.raises(redis.TimeoutError):
        ask(silent)
    thread.join(5)
    assert 1 == len(errors)


def test_a_connection_that_was_heard_meanwhile_stays(connect):
    """One flow of many is lost: those that work are not made anew."""
    slow, busy = connect(timeout_s=1), connect()
    blocked = threading.Thread(target=wait_in_vain, args=(slow,))
    blocked.start()
    wait_until(lambda: blocked.ident is not None, "it waits")
    end = time.monotonic() + 5
    while blocked.is_alive() and time.monotonic() < end:
        assert b"PONG" == ask(busy)
    assert not is_dropped(busy)


def wait_in_vain(connection: redis.Connection) -> None:
    connection.send_command("BLPOP", "nothing-comes", 3)
    with pytest.raises(redis.TimeoutError):
        connection.read_response()


def test_a_caller_that_only_looks_does_not_take_it_for_silence(connect):
    looking, other = connect(), connect()
    looking.send_command("BLPOP", "nothing-comes", 3)
    with pytest.raises(redis.TimeoutError):
        looking.read_response(timeout=0.05)
    assert not is_dropped(other)


def test_a_forked_child_leaves_the_sockets_of_its_parent_alone(proxy: FaultProxy, connect):
    kept = connect(proxy.port)
    child = os.fork()
    if child == 0:
        try:
            own = heard(redis.Connection)(
                port=proxy.port, socket_timeout=TIMEOUT_S, retry=single_shot_retry()
            )
            ask(own)
            own.send_command("BLPOP", "nothing-comes", 3)
            own.read_response()
        except redis.TimeoutError:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert 7 == os.waitstatus_to_exitcode(status)
    assert not is_dropped(kept)
    assert b"PONG" == ask(kept)
