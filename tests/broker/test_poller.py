"""What the event loop polls, and what it polls no more once a connection is gone."""

from __future__ import annotations

import os

from kombu.asynchronous import Hub

from joelclaw_tasks.broker.connection import TRANSPORT, Connection


def test_the_sockets_of_a_lost_connection_are_not_polled_again(redis_url: str):
    hub = Hub()
    awaited, other_end = os.pipe()
    connection = Connection(redis_url, transport=TRANSPORT)
    connection.register_with_event_loop(hub)
    connection.transport.cycle.expect(awaited, connection.channel())
    ticks = set(hub.on_tick)
    for tick in ticks:
        tick()
    assert awaited in hub.readers
    hub.reset()  # as Celery does when the connection is lost
    connection.close()
    os.close(awaited)
    assert set() == hub.on_tick
    for tick in ticks:
        tick()  # a closed descriptor would end the next connection, and the next
    assert {} == hub.readers
    os.close(other_end)
    hub.close()


def test_an_answer_that_is_read_early_is_not_waited_for(redis_url: str):
    hub = Hub()
    awaited, other_end = os.pipe()
    with Connection(redis_url, transport=TRANSPORT) as connection:
        connection.register_with_event_loop(hub)
        cycle, channel, other = connection.transport.cycle, connection.channel(), connection.channel()
        cycle.expect(awaited, channel)
        cycle.expect(other_end, other)
        cycle.forget(channel)
        assert awaited not in cycle.fds
        assert other_end in cycle.fds
    os.close(awaited)
    os.close(other_end)
    hub.close()
