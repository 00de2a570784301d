"""What a publish declares, and when it declares it again."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis
from celery import Celery
from celery.app.amqp import AMQP
from celery.utils.saferepr import saferepr
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import Exchange, Queue
from workers import Site, close_app

import joelclaw_tasks
from joelclaw_tasks.broker.arguments import shown_plainly
from joelclaw_tasks.broker.producing import TaskProducer
from tests.conftest import wait_until


def test_a_queue_is_declared_by_the_first_publish_on_a_connection_and_not_again(
    redis_url: str, client: redis.Redis, monkeypatch
):
    declared = []
    declare = Queue.declare
    monkeypatch.setattr(
        Queue, "declare", lambda queue, **o: (declared.append(queue.name), declare(queue, **o))
    )
    app = joelclaw_tasks.install(Celery("one", broker=redis_url, backend=redis_url))
    app.conf.task_queues = (Queue("bound", Exchange("tasks"), routing_key="bound"), Queue("plain"))
    for _ in range(3):
        app.send_task("anything", queue="bound")
        app.send_task("anything", queue="plain")
    assert ["bound", "plain"] == declared
    assert {"bound\x06\x16\x06\x16bound"} == {
        each.split(":")[0] for each in client.smembers("_kombu.binding.tasks")
    }
    assert {"bound": 3, "plain": 3} == _queued(app)
    before = {entry["id"] for entry in client.client_list()}
    with app.producer_or_acquire() as producer:
        producer.channel.pool.disconnect()
    app.send_task("anything", queue="bound")
    assert {entry["id"] for entry in client.client_list()} - before
    assert {"bound": 4, "plain": 3} == _queued(app)
    assert ["bound", "plain"] == declared
    close_app(app)


def _queued(app: Celery) -> dict[str, int]:
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        return {name: channel.store.queue_size(name) for name in ("bound", "plain")}


def test_an_exchange_of_its_own_that_a_call_brings_is_declared_too(redis_url: str, client: redis.Redis):
    app = joelclaw_tasks.install(Celery("two", broker=redis_url, backend=redis_url))
    queue = Queue("far", Exchange("far"), routing_key="far")
    for _ in range(2):
        app.send_task("anything", exchange=queue.exchange, routing_key="far", declare=[queue])
    with app.connection_for_write() as connection:
        assert 2 == connection.default_channel.store.queue_size("far")
    close_app(app)


def test_queues_that_an_app_made_before_install_stay(redis_url: str):
    app = Celery("three", broker=redis_url, backend=redis_url)
    app.amqp.queues.add(Queue("early"))
    joelclaw_tasks.install(app)
    assert "early" in app.amqp.queues
    with app.producer_or_acquire() as producer:
        assert TaskProducer is type(producer)
    close_app(app)


def test_an_amqp_class_of_the_apps_own_is_left_alone(redis_url: str):
    class Own(AMQP):
        pass

    app = Celery("four", broker=redis_url, backend=redis_url)
    app.amqp_cls = Own
    joelclaw_tasks.install(app)
    assert Own is type(app.amqp)
    app.send_task("anything", queue="plain")
    with app.connection_for_write() as connection:
        assert 1 == connection.default_channel.store.queue_size("plain")
    close_app(app)


def test_a_batch_of_calls_loads_no_script_that_redis_knows(redis_url: str, client: redis.Redis):
    app = joelclaw_tasks.install(Celery("five", broker=redis_url, backend=redis_url))
    app.send_task("anything")
    client.config_resetstat()
    for _ in range(3):
        with app.producer_or_acquire() as producer, producer.batch(max_size=10):
            for _ in range(5):
                app.send_task("anything", producer=producer)
    assert 3 == client.info("commandstats")["cmdstat_script"]["calls"]  # it asks, once for each batch
    with app.connection_for_write() as connection:
        assert 16 == connection.default_channel.store.queue_size("celery")
    close_app(app)


@pytest.mark.parametrize(
    "settings", [{"task_default_priority": 7}, {"CELERY_TASK_DEFAULT_PRIORITY": 7}], ids=["new", "old"]
)
def test_settings_are_those_of_celery_by_all_their_names(redis_url: str, settings: dict[str, int]):
    names = ("task_default_priority", "task_soft_time_limit", "CELERY_EAGER", "nobody_set_this")

    def found(app: Celery) -> list[object]:
        return [
            [app.conf.get(name, "none"), name in app.conf, getattr(app.conf, name, "none")] for name in names
        ]

    plain = Celery("six", broker=redis_url)
    ours = Celery("six", broker=redis_url)
    for app in (plain, ours):
        app.conf.update(settings)
    joelclaw_tasks.install(ours)
    assert found(plain) == found(ours)
    for app in (plain, ours):
        app.conf.task_soft_time_limit = 9
        app.conf.CELERY_EAGER = True
    assert found(plain) == found(ours)
    assert 9 == ours.conf.task_soft_time_limit
    with pytest.raises(KeyError, match="nobody_set_this"):
        ours.conf["nobody_set_this"]


def test_settings_under_a_namespace_are_read_as_by_celery(redis_url: str):
    class Source:
        mine_broker_url = redis_url
        mine_task_default_queue = "spaced"

    def app(install: bool) -> Celery:
        made = Celery("seven")
        made.config_from_object(Source, namespace="mine")
        return joelclaw_tasks.install(made) if install else made

    plain, ours = app(install=False), app(install=True)
    assert redis_url == plain.conf.broker_url == ours.conf.broker_url
    assert "spaced" == plain.conf.task_default_queue == ours.conf.task_default_queue
    with pytest.raises(KeyError, match="mine_nothing"):
        ours.conf["nothing"]


def test_two_messages_never_share_a_delivery_tag(redis_url: str, client: redis.Redis):
    apps = [joelclaw_tasks.install(Celery("eight", broker=redis_url, backend=redis_url)) for _ in range(2)]
    ids = [app.send_task("anything").id for app in apps for _ in range(2)]
    with apps[0].connection_for_write() as connection:
        store = connection.default_channel.store
        tags = {store.inspect(job)["payload"]["properties"]["delivery_tag"] for job in ids}
    assert 4 == len(tags)
    for app in apps:
        close_app(app)


@pytest.mark.parametrize("wrong_by_s", [-600, 0, 600])
def test_a_countdown_runs_by_the_clock_of_redis_and_not_by_that_of_the_caller(
    own: Site, monkeypatch, wrong_by_s: int
):
    now = own.app.now
    monkeypatch.setattr(own.app, "now", lambda: now() + timedelta(seconds=wrong_by_s))
    counted = own.add.apply_async((1, 1), countdown=60)
    timed = own.add.apply_async((1, 1), eta=now() + timedelta(seconds=60))
    seconds, _ = own.client.time()
    for job in (counted, timed):
        assert "scheduled" == own.job(job.id)["state"]
        assert pytest.approx(seconds + 60, abs=3) == own.job(job.id)["due_at"] / 1000


def test_the_countdown_of_a_retry_is_of_that_retry(own: Site):
    own.start("threads").wait_ready()
    flaky = own.flaky.apply_async((1, 60), countdown=0.1)
    wait_until(lambda: "retryable" == (own.job(flaky.id) or {}).get("state"), "it waits for its retry", 10)
    seconds, _ = own.client.time()
    assert pytest.approx(seconds + 60, abs=3) == own.job(flaky.id)["due_at"] / 1000


_elements = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()),
    st.sampled_from(["plain", "it's", 'a "word"', "back\\slash", "x" * 1024, "\u200b", "\ud800"]),
)  # fmt: skip


@given(st.one_of(st.lists(_elements), st.lists(_elements).map(tuple), st.dictionaries(st.text(), _elements)))
@example((1, "a b", None, True, 2.5))
@example(["x" * 1018])
@example(["x" * 1019])
@example(["x" * 1020])
@example(["x" * 1021])
def test_what_is_shown_of_arguments_is_what_celery_shows_of_them(values):
    assert shown_plainly(values) in (None, saferepr(values, AMQP.argsrepr_maxsize, maxlevels=3))


@pytest.mark.parametrize("values", [(), [], {}, (1,), [1, "a b", None], (True, 2.5, "é")])
def test_few_arguments_are_shown_without_asking_celery(values):
    assert saferepr(values, AMQP.argsrepr_maxsize, maxlevels=3) == shown_plainly(values)


@pytest.mark.parametrize("values", [("x" * 1024,), [1] * 17, ("it's",), ([1],), {"a": 1}, (b"1",)])
def test_what_is_long_or_has_parts_is_left_to_celery(values):
    assert shown_plainly(values) is None
