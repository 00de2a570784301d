"""Secrets as arguments of plain calls: none is in Flower, events, logs, errors or the dead letter.

One worker, with everything logged, and one Flower. Every call comes twice: from a producer with the
admission layer, and from a stock one, whose messages show their arguments as they are.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from careless_app import make_app  # found beside this file, as by the worker itself

from joelclaw_tasks.broker.arguments import _starts_of_known, known_secrets
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from tests.conftest import free_port, start_redis, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = (
    "positional", "keyword", "nested", "quoted", "list", "returned", "url", "bearer", "environment",
    "retried", "running", "waiting",
)  # fmt: skip


class Seen:
    """What anybody can see of one worker's life."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.log = ""
        self.flower: dict[str, str] = {}
        self.inspected = ""
        self.dead: list[dict[str, Any]] = []
        self.groups = ""
        self.stream = ""


@pytest.fixture(scope="module")
def planted() -> Iterator[dict[str, str]]:
    found = {name: f"Planted{secrets.token_hex(12)}" for name in NAMES}
    found["quoted"] = f'it\'s "{found["quoted"]}" and\\more'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_API_KEY", found["environment"])
        known_secrets.cache_clear()
        _starts_of_known.cache_clear()
        yield found
    known_secrets.cache_clear()
    _starts_of_known.cache_clear()


@pytest.fixture(scope="module", params=["threads", "prefork"])
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, planted: dict[str, str]
) -> Iterator[Seen]:
    folder, port, flower_port = tmp_path_factory.mktemp("arguments"), free_port(), free_port()
    server = start_redis(folder, port)
    url = f"redis://127.0.0.1:{port}/0"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "CARELESS_BROKER": url,
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    celery = [sys.executable, "-m", "celery", "-A", "careless_app"]
    flower = [*celery, "flower", "--address=127.0.0.1", f"--port={flower_port}"]
    worker = [*celery, "worker", "-P", request.param, "-c", "2", "-E", "-l", "DEBUG", "-Q", "careless"]
    started = []
    try:
        for name, command in (("flower", flower), ("worker", worker)):
            with (folder / name).open("wb") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=HERE, env=environment))
        seen = Seen()
        look(seen, url, f"http://127.0.0.1:{flower_port}", planted, folder / "worker")
        seen.log = (folder / "worker").read_text() + (folder / "flower").read_text()
        yield seen
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)
        server.terminate()
        server.wait(10)


def look(seen: Seen, url: str, flower_url: str, planted: dict[str, str], log: Path) -> None:
    """Use every secret as an argument, and keep what can be seen meanwhile and afterwards."""
    app, stock = make_app(url), make_app(url, installed=False)
    connection = app.connection_for_read()
    receiver = app.events.Receiver(connection, {"*": seen.events.append})
    # Without a pause: what is sent between two captures is heard by none.
    listener = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
    listener.start()
    client = redis.Redis.from_url(url, decode_responses=True)
    store = Store(redis.Redis.from_url(url), Keys("{jc}:"))
    try:
        wait_until(lambda: " ready." in log.read_text(), "the worker is ready", 30)
        wait_until(lambda: _answers(f"{flower_url}/healthcheck"), "Flower answers", 30)
        running = app.tasks["careless.wait"].delay("go", planted["running"])
        later = app.tasks["careless.wait"].apply_async(("go", planted["waiting"]), countdown=60)
        control = app.control.inspect(timeout=2)
        wait_until(lambda: running.id in json.dumps(control.active() or {}), "it runs", 20)
        seen.inspected = json.dumps([control.active(), control.query_task(running.id)])
        seen.flower["workers"] = httpx.get(f"{flower_url}/api/workers?refresh=true", trust_env=False).text
        client.set("go", "1")
        for producer in (app, stock):
            use(producer, planted)
        dead = 2 * 6
        wait_until(lambda: store.dead.count() == dead, f"{dead} are dead", 30)
        wait_until(lambda: client.hget("{jc}:counts", "careless\ncareless.echo|0|executing") == "0", "", 20)
        tasks = f"{flower_url}/api/tasks"
        names = set(app.tasks) & {f"careless.{name}" for name in ("login", "echo", "fetch", "again", "wait")}

        def shown() -> bool:
            seen.flower["tasks"] = httpx.get(tasks, trust_env=False).text
            known = json.loads(seen.flower["tasks"])
            states = [one["state"] for one in known.values()]
            return states.count("FAILURE") == dead and names == {one["name"] for one in known.values()}

        wait_until(shown, "Flower has seen them all", 20)
        wait_until(lambda: dead == _count(seen.events, "task-failed"), "so have we", 20)
        for task_id in json.loads(seen.flower["tasks"]):
            for page in (f"/api/task/info/{task_id}", f"/task/{task_id}"):
                seen.flower[page] = httpx.get(f"{flower_url}{page}", trust_env=False).text
        seen.dead = [store.inspect(job_id) for job_id in store.dead.ids()]
        seen.groups = json.dumps(store.dead.groups(100))
        seen.stream = json.dumps(client.xrange("{jc}:transitions"))
        assert later.id in seen.stream
    finally:
        receiver.should_stop = True
        listener.join(20)
        connection.close()
        app.close()
        stock.close()
        client.close()
        store.client.close()


def use(app: Any, planted: dict[str, str]) -> None:
    login, echo, fetch = (app.tasks[f"careless.{name}"] for name in ("login", "echo", "fetch"))
    login.delay("joel", planted["positional"])
    login.delay(user="joel", password=planted["keyword"])
    login.delay("joel", "short", account={"name": "x", "credentials": {"pin": planted["nested"]}})
    login.delay("joel", planted["quoted"], tokens=["a", planted["list"]])
    echo.delay(planted["returned"])
    bearer = {"Accept": f"Bearer {planted['bearer']}"}
    fetch.delay(f"redis://me:{planted['url']}@db/0", {**bearer, "X": planted["environment"]})
    app.tasks["careless.again"].delay(planted["retried"])


def _count(events: list[dict[str, Any]], kind: str) -> int:
    return sum(event["type"] == kind for event in events)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def found(text: str, planted: dict[str, str]) -> list[str]:
    """Which secrets are in a text, however it is quoted there."""
    return [name for name, value in planted.items() if re.findall(r"Planted\w+", value)[0] in text]


def test_no_event_holds_a_secret(seen: Seen, planted: dict[str, str]):
    kinds = {event["type"] for event in seen.events}
    assert {"task-sent", "task-received", "task-failed", "task-retried", "task-succeeded"} <= kinds
    assert any(event.get("name") == "careless.login" for event in seen.events)
    received = [e for e in seen.events if e["type"] == "task-received" and "user" in (e["kwargs"] or "")]
    assert 2 == len(received)
    assert all("'joel'" in event["kwargs"] for event in received)  # only the secret is masked
    assert [] == found(json.dumps(seen.events), planted)


def test_flower_shows_no_secret(seen: Seen, planted: dict[str, str]):
    assert "careless.login" in seen.flower["tasks"]
    assert "***" in seen.flower["tasks"]
    assert "joel" in seen.flower["tasks"]
    assert len(seen.flower) > 20
    assert [] == [(page, names) for page, text in seen.flower.items() if (names := found(text, planted))]


def test_inspect_shows_no_secret(seen: Seen, planted: dict[str, str]):
    assert "careless.wait" in seen.inspected
    assert '"go"' in seen.inspected
    assert [] == found(seen.inspected, planted)


def test_no_log_holds_a_secret(seen: Seen, planted: dict[str, str]):
    assert "TaskPool: Apply" in seen.log  # everything was logged
    assert "logging joel in with ***" in seen.log
    assert "careless.echo" in seen.log
    assert [] == found(seen.log, planted)


def test_no_error_of_the_dead_letter_holds_a_secret(seen: Seen, planted: dict[str, str]):
    assert 12 == len(seen.dead)
    errors = json.dumps([[job[part] for part in ("error", "traceback", "signature")] for job in seen.dead])
    assert "is not known with ***" in errors
    assert [] == found(errors + seen.groups, planted)


def test_the_stream_holds_no_secret(seen: Seen, planted: dict[str, str]):
    assert "careless.login" in seen.stream
    assert [] == found(seen.stream, planted)


def test_the_messages_themselves_are_kept_whole_to_be_run_again(seen: Seen, planted: dict[str, str]):
    bodies = json.dumps([job["payload"]["body"] for job in seen.dead])
    assert {"positional", "keyword", "nested", "list"} <= set(found(bodies, planted))
    shown = json.dumps([job["payload"]["headers"] for job in seen.dead if job["payload"]["properties"]])
    assert "***" in shown
