"""Remote control, events and queue sizes: what operators and their tools see of a worker."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from workers import POOLS, Site

from tests.conftest import wait_until


def key() -> str:
    return f"effect:{uuid.uuid4().hex}"


def test_a_worker_answers_ping_stats_and_what_it_has(site: Site):
    name = site.workers[0].name
    inspect = site.app.control.inspect(timeout=2, destination=[name])
    assert {"ok": "pong"} == inspect.ping()[name]
    assert "joelclaw_tasks.broker.transport:Transport" == inspect.stats()[name]["broker"]["transport"]
    assert "add" in inspect.registered()[name]
    assert ["stranger"] == [queue["name"] for queue in inspect.active_queues()[name]]
    assert {} == inspect.revoked()[name] or inspect.revoked()[name] is not None


def test_a_running_task_is_seen_as_active_and_nothing_as_reserved(site: Site):
    if site.pool == "solo":
        return  # it hears nothing while it runs a task, on any broker
    where = key()
    running = site.work.delay(where, 1.0)
    wait_until(lambda: site.effects(where + ":started"), "it started")
    name = site.workers[0].name
    inspect = site.app.control.inspect(timeout=2, destination=[name])
    assert [running.id] == [task["id"] for task in inspect.active()[name]]
    assert [] == inspect.reserved()[name]
    assert "executing" == site.job(running.id)["state"]
    site.wait_gone(running.id)


def test_another_queue_can_be_added_and_taken_away_while_running(site: Site):
    queue, where = f"added-{site.pool}", key()
    name = [site.workers[0].name]
    early = site.note.apply_async((where, "before"), queue=queue)
    site.app.control.add_consumer(queue, destination=name, reply=True, timeout=2)
    wait_until(lambda: ["before"] == site.effects(where), "what waited in the queue ran")
    site.note.apply_async((where, "after"), queue=queue)
    wait_until(lambda: ["before", "after"] == site.effects(where), "what came later ran")
    site.app.control.cancel_consumer(queue, destination=name, reply=True, timeout=2)
    site.wait_gone(early.id)
    # Where no event loop runs (gevent), kombu ends a consumer after the read that is under way.
    assert 2 == site.add.delay(1, 1).get(timeout=10)
    late = site.note.apply_async((where, "too late"), queue=queue)
    assert 2 == site.add.delay(1, 1).get(timeout=10)
    time.sleep(0.2)  # nothing to wait for: nothing may happen
    assert ["before", "after"] == site.effects(where)
    assert "available" == site.job(late.id)["state"]
    assert 1 == site.app.control.purge() + _purge(site, queue)


def _purge(site: Site, queue: str) -> int:
    with site.app.connection_for_write() as connection:
        return connection.default_channel.queue_purge(queue)


def test_a_grown_pool_runs_more_at_once(site: Site):
    if site.pool != "prefork":
        return
    where = key()
    name = [site.workers[0].name]
    inspect = site.app.control.inspect(timeout=2, destination=name)
    site.app.control.pool_grow(1, destination=name, reply=True, timeout=5)
    # Celery takes the new process into use at its next round.
    wait_until(lambda: 3 == len(inspect.stats()[name[0]]["pool"]["processes"]), "there is a third process")
    try:
        jobs = [site.work.delay(where, 0.8) for _ in range(6)]
        wait_until(lambda: 3 == len(set(_running(site, where))), "three run at once")
        for job in jobs:
            site.wait_gone(job.id)
    finally:
        site.app.control.pool_shrink(1, destination=name, reply=True, timeout=5)
        # What is handed to a process that is about to end waits until the pool has noticed its end.
        wait_until(lambda: 2 == len(inspect.stats()[name[0]]["pool"]["processes"]), "it has ended")


def _running(site: Site, where: str) -> list[str]:
    return [job for job in site.effects(where + ":started") if job not in site.effects(where + ":finished")]


def test_a_rate_limit_set_by_remote_control_is_obeyed_and_loses_nothing(site: Site):
    where = key()
    name = [site.workers[0].name]
    site.app.control.rate_limit("stamp", "10/s", destination=name, reply=True, timeout=2)
    for _ in range(5):
        site.stamp.delay(where)
    wait_until(lambda: 5 == len(site.effects(where)), "all ran", 10)
    starts = sorted(float(at) for at in site.effects(where))
    assert 0.25 < starts[-1] - starts[0] < 3
    site.app.control.rate_limit("stamp", 0, destination=name, reply=True, timeout=2)
    site.wait_idle()
    assert {} == site.leases()


def test_events_tell_of_each_step_of_a_task(site: Site):
    seen: list[tuple[str, str]] = []
    name = [site.workers[0].name]
    site.app.control.enable_events(destination=name, reply=True, timeout=2)
    done = threading.Event()

    def listen() -> None:
        with site.app.connection_for_read() as connection:
            receiver = site.app.events.Receiver(
                connection, {"*": lambda event: seen.append((event["type"], event.get("uuid", "")))}
            )
            while not done.is_set():
                try:
                    receiver.capture(timeout=0.2, wakeup=False)
                except TimeoutError:
                    pass

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        # Events are broadcast: the first ones may be sent before anybody listens.
        wait_until(
            lambda: site.add.delay(1, 1).get(timeout=5) and any(kind == "task-succeeded" for kind, _ in seen),
            "events arrive",
        )
        good, bad = site.add.delay(1, 2), site.fail.delay("x")
        wait_until(
            lambda: ("task-succeeded", good.id) in seen and ("task-failed", bad.id) in seen,
            "both are told of",
        )
    finally:
        done.set()
        thread.join()
        site.app.control.disable_events(destination=name, reply=True, timeout=2)
    kinds = [kind for kind, task_id in seen if task_id == good.id]
    assert ["task-received", "task-started", "task-succeeded"] == kinds


@pytest.mark.parametrize("pool", POOLS)
def test_remote_control_comes_back_when_its_connection_alone_was_reset(own: Site, pool: str):
    worker = own.start(pool).wait_ready()
    name = [worker.name]
    wait_until(lambda: own.app.control.ping(destination=name, timeout=0.5), "it hears")
    listening = [each["id"] for each in own.client.client_list(_type="pubsub") if each["db"] == "0"]
    assert [1] * len(listening) == [own.client.client_kill_filter(_id=number) for number in listening]
    assert 1 <= len(listening)
    wait_until(lambda: own.app.control.ping(destination=name, timeout=0.5), "it hears again")
    assert worker.process.poll() is None
