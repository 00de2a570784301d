"""Queues as kombu sees them: sizes, purge, single reads, and messages that are no tasks."""

from __future__ import annotations

import sys
from queue import Empty

import pytest
from kombu import Consumer, Exchange, Producer, Queue
from workers import Site

from joelclaw_tasks.broker.holder import _holders, end_holder
from tests.conftest import wait_until


@pytest.fixture
def connection(own: Site):
    with own.app.connection_for_write() as connection:
        yield connection


@pytest.fixture(autouse=True)
def no_holder_stays():
    """A holder of this process would look after the dead workers of later tests."""
    yield
    for holder in list(_holders.values()):
        end_holder(holder)


def test_purge_counts_what_was_available_and_what_was_scheduled(own: Site, connection):
    for _ in range(3):
        own.add.delay(1, 1)
    for _ in range(2):
        own.add.apply_async((1, 1), countdown=60)
    own.add.apply_async((1, 1), queue="another")
    channel = connection.default_channel
    assert 5 == channel.queue_purge("stranger")
    assert {"available": 1} == own.states()
    assert 0 == channel.queue_purge("stranger")
    assert 1 == channel.queue_purge("another")
    assert {} == own.states()


def test_purge_takes_what_people_have_shed_too(own: Site, connection):
    shed = [own.add.delay(1, 1).id for _ in range(3)]
    own.add.delay(1, 1)
    elsewhere = own.add.apply_async((1, 1), queue="another").id
    parked = [*shed, elsewhere]
    own.store.shed(parked, actor="joel", reason="", target="four")
    waiting = connection.default_channel.queue_declare("stranger", passive=True).message_count
    assert {"held": 4, "available": 1} == own.states()

    assert waiting == 4 == own.app.control.purge()

    assert {"held": 1} == own.states()
    assert [None] * 3 == [own.job(each) for each in shed]
    assert "held" == own.job(elsewhere)["state"]
    own.store.undo("c1", actor="joel")
    assert {"available": 1} == own.states()


def test_app_control_purge_empties_the_default_queue(own: Site):
    for _ in range(4):
        own.add.delay(1, 1)
    assert 4 == own.app.control.purge()
    assert {} == own.states()


def test_a_passive_declare_tells_how_many_wait(own: Site, connection):
    channel = connection.default_channel
    for _ in range(3):
        own.add.delay(1, 1)
    own.add.apply_async((1, 1), countdown=60)
    assert 4 == channel.queue_declare("stranger", passive=True).message_count
    with pytest.raises(channel.connection.client.channel_errors):
        channel.queue_declare("nobody-declared-this", passive=True)


def test_a_single_read_gets_the_best_job_under_a_lease(own: Site, connection):
    low = own.add.apply_async((1, 1), priority=9)
    high = own.add.apply_async((1, 1), priority=0)
    channel = connection.default_channel
    message = channel.basic_get("stranger")
    assert high.id == message.headers["id"]
    assert "executing" == own.job(high.id)["state"]
    message.ack()
    own.wait_gone(high.id)
    second = channel.basic_get("stranger")
    assert low.id == second.headers["id"]
    second.requeue()
    wait_until(lambda: "available" == own.job(low.id)["state"], "it is back")
    third = channel.basic_get("stranger")
    third.reject()
    own.wait_dead(low.id)
    assert channel.basic_get("stranger") is None


def test_a_simple_queue_gives_back_what_was_put(own: Site, connection):
    with connection.SimpleQueue("simple") as queue:
        queue.put({"hello": "world"})
        queue.put({"second": 2})
        assert 2 == queue.qsize()
        first = queue.get(timeout=2)
        assert {"hello": "world"} == first.payload
        first.ack()
        second = queue.get(timeout=2)
        assert {"second": 2} == second.payload
        second.ack()
        with pytest.raises(Empty):
            queue.get(timeout=0.2)
    assert {} == own.states()
    assert {} == {holder: n for holder, n in own.leases().items() if n}


def test_plain_messages_with_acks_are_leased_until_they_are_acked(own: Site, connection):
    queue = Queue("plain", Exchange("plain"), routing_key="plain")
    channel = connection.channel()
    producer = Producer(channel, queue.exchange, routing_key="plain")
    for number in range(5):
        producer.publish({"number": number}, declare=[queue])
    seen, messages = [], []

    def receive(body, message):
        seen.append(body["number"])
        messages.append(message)

    with Consumer(channel, [queue], callbacks=[receive]):
        wait_until(lambda: _drain(connection) or len(seen) == 5, "all arrived")
    assert sorted(seen) == [0, 1, 2, 3, 4]
    for message in messages[:3]:
        message.ack()
    messages[3].requeue()
    messages[4].reject()
    rest = channel.basic_get("plain")
    assert messages[3].payload == rest.payload
    rest.ack()
    assert channel.basic_get("plain") is None
    channel.close()


def test_plain_messages_without_acks_are_just_delivered(own: Site, connection):
    queue = Queue("plain", Exchange("plain"), routing_key="plain")
    channel = connection.channel()
    producer = Producer(channel, queue.exchange, routing_key="plain")
    for number in range(5):
        producer.publish({"number": number}, declare=[queue])
    seen = []
    with Consumer(channel, [queue], callbacks=[lambda body, _: seen.append(body["number"])], no_ack=True):
        wait_until(lambda: _drain(connection) or len(seen) == 5, "all arrived")
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert {} == own.states()
    channel.close()


def test_an_error_of_a_callback_reaches_whoever_drains_events(own: Site, connection, monkeypatch):
    # Another test of this process may have run a worker in it.
    monkeypatch.delitem(sys.modules, "celery.worker.consumer", raising=False)
    queue = Queue("plain", Exchange("plain"), routing_key="plain")
    channel = connection.channel()
    Producer(channel, queue.exchange, routing_key="plain").publish({"a": 1}, declare=[queue])

    def receive(body, message):
        raise ZeroDivisionError("in the callback")

    with Consumer(channel, [queue], callbacks=[receive]), pytest.raises(ZeroDivisionError):
        wait_until(lambda: _drain(connection), "it is raised")
    assert {"executing": 1} == own.states()
    channel.close()
    assert {"available": 1} == own.states()


def test_a_closed_channel_gives_back_what_it_had(own: Site, connection):
    queue = Queue("plain", Exchange("plain"), routing_key="plain")
    channel = connection.channel()
    Producer(channel, queue.exchange, routing_key="plain").publish({"a": 1}, declare=[queue])
    seen = []
    with Consumer(channel, [queue], callbacks=[lambda body, _: seen.append(body)]):
        wait_until(lambda: _drain(connection) or seen, "it arrived")
    channel.close()
    other = connection.channel()
    again = other.basic_get("plain")
    assert {"a": 1} == again.payload
    again.ack()
    other.close()


def test_whoever_is_delivered_to_may_close_the_channel(own: Site, connection):
    queue = Queue("plain", Exchange("plain"), routing_key="plain")
    channel = connection.channel()
    Producer(channel, queue.exchange, routing_key="plain").publish({"a": 1}, declare=[queue])
    got = []

    def once(body, message):
        got.append(body)
        message.ack()
        channel.close()

    Consumer(channel, [queue], callbacks=[once]).consume()

    def is_delivered() -> bool:
        channel.intake.is_hungry = True
        return channel.intake.pump()

    wait_until(is_delivered, "it is delivered")

    assert ([{"a": 1}], True) == (got, channel.closed)
    assert {} == own.states()


def test_a_batch_is_published_after_redis_forgot_its_scripts(own: Site):
    own.add.delay(1, 1)
    with own.app.producer_or_acquire() as producer, producer.batch(max_size=10):
        own.client.script_flush()
        for _ in range(25):
            own.add.apply_async((1, 1), producer=producer)
    assert {"available": 26} == own.states()


def test_a_call_larger_than_the_cap_is_refused_and_nothing_is_queued(own: Site):
    from joelclaw_tasks.errors import PayloadTooLarge

    with pytest.raises(PayloadTooLarge, match="add"):
        own.add.delay("x" * (17 * 1024 * 1024), 1)
    assert {} == own.states()


def _drain(connection) -> None:
    try:
        connection.drain_events(timeout=0.2)
    except TimeoutError:
        pass
