"""`install` is the way in and, after a drain, the way out; old clients may go on as they are."""

from __future__ import annotations

import json
import signal
import ssl
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from celery import Celery
from celery.concurrency import get_implementation
from stranger_app import make_app
from workers import Site, Worker, close_app

import joelclaw_tasks
from joelclaw_tasks.broker.connection import SENTINEL_TRANSPORT, TRANSPORT
from joelclaw_tasks.broker.install import faults, runs_in_threads
from joelclaw_tasks.errors import SettingsError
from tests.conftest import wait_until


@pytest.fixture
def stock(own: Site):
    """The same app before it was installed: a producer on plain redis://."""
    app = make_app(own.url, installed=False)
    yield app
    close_app(app)


def test_install_answers_the_app_and_satisfies_its_own_check():
    app = Celery("plain", broker="redis://127.0.0.1:1/0", set_as_current=False)
    assert app is joelclaw_tasks.install(app)
    assert [] == faults(app)


def test_tasks_that_were_made_before_install_are_acknowledged_when_they_are_done():
    """Else a failed job would count as completed, and a killed worker's job be lost."""
    app = Celery("plain", broker="redis://127.0.0.1:1/0", set_as_current=False)

    @app.task(shared=False)
    def task():
        pass

    app.finalize()
    assert not task.acks_late

    joelclaw_tasks.install(app)

    kept = (task.acks_late, task.reject_on_worker_lost, task.acks_on_failure, task.acks_on_timeout)
    assert (True, True, False, True) == kept


def test_install_refuses_an_app_that_pickles():
    app = Celery("plain", set_as_current=False, task_serializer="pickle")
    app.conf.task_serializer = "pickle"
    with pytest.raises(SettingsError, match="pickle"):
        joelclaw_tasks.install(app)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://127.0.0.1:1;sentinel://127.0.0.1:2", "master_name"),
        ("sentinel://127.0.0.1:1;redis://127.0.0.1:2", "one broker_url"),
        ("amqp://127.0.0.1", "not a broker_url of Redis"),
        ("unix:///run/redis.sock", "redis[+]socket"),
    ],
)
def test_install_refuses_a_broker_url_that_leads_to_no_redis(url: str, said: str):
    app = Celery("plain", broker=url, set_as_current=False)
    with pytest.raises(SettingsError, match=said):
        joelclaw_tasks.install(app)
    assert not app.conf.broker_transport


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://127.0.0.1:1/0;redis://127.0.0.1:2/0", TRANSPORT),
        ("rediss://127.0.0.1:1/0;rediss://127.0.0.1:2/0", TRANSPORT),
        ("redis+socket:///run/redis.sock", TRANSPORT),
        ("sentinel://127.0.0.1:1;sentinel://127.0.0.1:2", SENTINEL_TRANSPORT),
    ],
)
def test_no_url_takes_the_app_past_the_gates_not_even_after_a_failover(url: str, transport: str):
    app = Celery("plain", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"master_name": "m"}
    joelclaw_tasks.install(app)
    assert [] == faults(app)
    connection = app.connection_for_write()
    for _ in range(3):
        assert transport == connection.transport_cls
        assert transport == connection.clone().transport_cls
        assert ("rediss" in url) == bool(connection.ssl)
        connection.maybe_switch_next()


def test_a_tls_url_is_never_left_without_encryption():
    app = joelclaw_tasks.install(Celery("plain", broker="rediss://127.0.0.1:1/0", set_as_current=False))
    assert {"ssl_cert_reqs": ssl.CERT_REQUIRED} == app.conf.broker_use_ssl
    assert app.connection_for_write().ssl
    app.conf.broker_use_ssl = False
    assert ["broker_use_ssl must be set for a rediss:// broker_url, or nothing is encrypted"] == faults(app)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_worker_refuses_a_redis_that_may_evict(own: Site, policy: str):
    before = own.client.config_get("maxmemory-policy")["maxmemory-policy"]
    own.client.config_set("maxmemory-policy", policy)
    try:
        worker = own.start("solo")
        assert 0 != worker.wait_end(20)
    finally:
        own.client.config_set("maxmemory-policy", before)
    assert f"its maxmemory-policy is {policy}" in worker.log
    assert "CONFIG SET maxmemory-policy noeviction" in worker.log
    assert " ready." not in worker.log


def test_a_running_worker_warns_of_a_redis_that_may_evict_now_and_stays_also_when_it_comes_back(own: Site):
    options = {"broker_transport_options": {"lease_ms": 600}}
    worker = own.start("threads", **options).wait_ready()
    before = own.client.config_get("maxmemory-policy")["maxmemory-policy"]
    running = own.work.delay("work", 2.0)
    wait_until(lambda: [running.id] == own.effects("work:started"), "it runs")
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        wait_until(lambda: "maxmemory-policy is allkeys-lru now" in worker.log, "the worker warns")
        assert "CONFIG SET maxmemory-policy noeviction" in worker.log
        _cut_connections(own, worker)
        wait_until(lambda: 2 == worker.log.count("Connected to "), "it came back", 15)
        own.wait_gone(running.id)
    finally:
        own.client.config_set("maxmemory-policy", before)
    wait_until(lambda: "Redis evicts nothing any more" in worker.log, "the worker says that it is mended")
    assert worker.process.poll() is None
    assert [running.id] == own.effects("work:started") == own.effects("work:finished")
    assert 1 == worker.log.count("maxmemory-policy is allkeys-lru now")


def test_a_worker_waits_for_redis_for_as_long_as_it_takes_unless_told_otherwise():
    app = joelclaw_tasks.install(Celery("plain", broker="redis://127.0.0.1:1/0", set_as_current=False))
    assert app.conf.broker_connection_max_retries is None
    app = Celery("plain", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_connection_max_retries = 7
    assert 7 == joelclaw_tasks.install(app).conf.broker_connection_max_retries


def test_a_configuration_that_undoes_install_is_named():
    app = joelclaw_tasks.install(Celery("plain", set_as_current=False))
    app.config_from_object({"broker_url": "redis://127.0.0.1:1/0"}, force=True)
    (fault,) = faults(app)
    assert "before the app's configuration" in fault


def test_acks_cannot_be_turned_off():
    app = joelclaw_tasks.install(Celery("plain", set_as_current=False))
    app.conf.broker_transport_options = {"ack_emulation": False}
    (fault,) = faults(app)
    assert "ack_emulation" in fault


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_acks_late", False),
        ("task_reject_on_worker_lost", False),
        ("task_acks_on_failure", True),
        ("task_acks_on_timeout", False),
        ("worker_prefetch_multiplier", 4),
        ("accept_content", ["json", "pickle"]),
    ],
)
def test_a_worker_with_settings_that_lose_work_does_not_start(own: Site, setting: str, value: object):
    worker = own.start("solo", **{setting: value})
    assert 0 != worker.wait_end(20)
    assert setting in worker.log
    assert "joelclaw_tasks.install(app)" in worker.log
    assert " ready." not in worker.log


def test_what_stock_producers_sent_while_the_worker_was_down_is_admitted_and_run(own: Site, stock: Celery):
    for number in range(50):
        stock.tasks["note"].apply_async(("stock", number), priority=(0, 3, 6, 9)[number % 4])
    later = datetime.now(UTC) + timedelta(seconds=8)  # a worker takes a while to start
    eta = stock.tasks["stamp"].apply_async(("eta",), eta=later)
    assert 51 == sum(own.client.llen(key) for key in own.client.keys("stranger*"))
    own.start("solo").wait_ready()
    wait_until(lambda: 50 == len(own.effects("stock")), "all ran")
    assert "scheduled" == own.job(eta.id)["state"]
    wait_until(lambda: own.effects("eta"), "the one with an ETA ran too")
    assert 0 <= float(own.effects("eta")[0]) - later.timestamp() + 0.005 < 0.2
    assert sorted(map(str, range(50))) == sorted(own.effects("stock"))
    own.wait_idle()
    assert {} == own.states()
    assert [] == own.client.keys("stranger*")
    admitted = [e for _, e in own.client.xrange("{jc}:transitions") if e["verb"] == "admit"]
    assert 51 == len(admitted)


def test_messages_of_stock_producers_keep_their_priority(own: Site, stock: Celery):
    for priority in (9, 0, 6, 3):
        stock.tasks["note"].apply_async(("order", priority), priority=priority)
    own.start("solo").wait_ready()
    wait_until(lambda: 4 == len(own.effects("order")), "all ran")
    # The first read takes what is there one list after another; then rank decides.
    assert "0" == own.effects("order")[0]
    assert ["0", "3", "6", "9"] == own.effects("order")


def test_messages_of_stock_producers_start_in_the_order_in_which_they_were_sent(own: Site, stock: Celery):
    for number in range(60):
        stock.tasks["note"].delay("order", number)
    own.start("solo").wait_ready()
    wait_until(lambda: 60 == len(own.effects("order")), "all ran")
    assert list(map(str, range(60))) == own.effects("order")


def test_several_workers_adopt_a_backlog_of_stock_messages_and_run_each_once(own: Site, stock: Celery):
    for number in range(600):
        stock.tasks["note"].delay("effects", number)
    for worker in [own.start(pool) for pool in ("threads", "threads", "solo")]:
        worker.wait_ready()
    wait_until(lambda: 600 <= len(own.effects("effects")), "all ran", 20)
    own.wait_idle()
    assert sorted(map(str, range(600))) == sorted(own.effects("effects"))


def test_a_stock_producer_is_served_while_the_worker_runs(own: Site, stock: Celery):
    own.start("threads").wait_ready()
    assert 5 == stock.tasks["add"].delay(2, 3).get(timeout=10)
    started = time.monotonic()
    results = [stock.tasks["add"].delay(n, n) for n in range(20)]
    assert [2 * n for n in range(20)] == [result.get(timeout=10) for result in results]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("pool", ["threads", "solo", "prefork", "gevent"])
def test_what_cannot_be_read_is_in_the_dead_letter_and_the_queue_keeps_moving(own: Site, pool: str):
    worker = own.start(pool).wait_ready()
    good = own.add.delay(1, 1)
    assert 2 == good.get(timeout=10)
    hostile = [
        b"not json at all",
        b"\xff\xfe\x00",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"properties": 3}',
        b'{"properties": {}, "headers": {}, "body": ""}',
        b'{"properties": {"delivery_info": {}}, "headers": {"task": "add", "id": "x1"}}',
        b'{"properties": {"body_encoding": "base64"}, "headers": {"task": "add", "id": "x2"}, "body": "%%%"}',
        json.dumps({
            "properties": {"delivery_info": {"exchange": "", "routing_key": "stranger"}, "delivery_tag": "t",
                           "body_encoding": "base64"},
            "headers": {"task": "add", "id": "x3", "lang": "py"}, "body": "bm90IGpzb24=",
            "content-type": "application/json", "content-encoding": "utf-8",
        }).encode(),
        b'{"properties": {"delivery_info": null}, "headers": [], "body": 1}',
        b'{"properties": {"priority": "high"}, "headers": {"task": 5, "id": {"a": 1}}, "body": null}',
        b"[" * 100_000,
        b'{"properties": {}, "headers": {"task": "a\\u0000dd", "id": "x5"}, "body": "W10="}',
        json.dumps({"properties": {}, "headers": {"task": "t" * 5000, "id": "x6"}, "body": ""}).encode(),
        b'{"properties": {"delivery_info": {}}, "headers": {"task": "add", "id": "x4", "eta": "tomorrow"}}',
    ]  # fmt: skip
    for payload in hostile:
        own.client.lpush("stranger", payload)
        assert 3 == own.add.delay(1, 2).get(timeout=10)
    wait_until(lambda: {"discarded": len(hostile)} == own.states(), "all are in the dead letter", 10)
    for job_id in own.client.zrange("{jc}:dead", 0, -1):
        assert own.job(job_id)["error"]
    assert [] == own.client.keys("{jc}:inbox:*")
    assert worker.process.poll() is None


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_a_call_in_a_format_that_the_worker_does_not_accept_is_in_the_dead_letter(own: Site, serializer: str):
    own.start("threads").wait_ready()
    result = own.add.apply_async((1, 2), serializer=serializer)
    assert "ContentDisallowed" in own.wait_dead(result.id)["error"]
    assert 3 == own.add.delay(1, 2).get(timeout=10)


def test_taken_away_again_after_a_drain_nothing_is_lost(own: Site, stock: Celery):
    """The way out: producers stop, the queue drains, everything goes on with stock transport."""
    ours = own.start("threads").wait_ready()
    for number in range(150):
        own.note.delay("effects", number)
    for number in range(150, 170):
        own.note.apply_async(("effects", number), countdown=1)
    own.wait_idle()
    assert {} == own.states()
    ours.send(signal.SIGTERM)
    assert 0 == ours.wait_end()
    worker = own.start("threads", installed=False).wait_ready()
    for number in range(170, 200):
        stock.tasks["note"].delay("effects", number)
    wait_until(lambda: 200 == len(own.effects("effects")), "all ran")
    assert sorted(map(str, range(200))) == sorted(own.effects("effects"))
    assert worker.process.poll() is None


def _cut_connections(site: Site, worker: Worker) -> None:
    """Those of the worker alone: this process has some on the same server that later tests use."""
    ports = {each.laddr.port for each in psutil.Process(worker.process.pid).net_connections("tcp")}
    for entry in site.client.client_list():
        if int(entry["addr"].rpartition(":")[2]) in ports:
            site.client.client_kill_filter(_id=entry["id"])


@pytest.mark.parametrize(("pool", "is_so"), [("threads", True), ("solo", False), ("prefork", False)])
def test_only_a_pool_of_threads_shares_the_interpreter_with_the_event_loop(pool: str, is_so: bool):
    made = get_implementation(pool)(app=Celery("any", set_as_current=False), limit=1)

    assert is_so == runs_in_threads(made)
