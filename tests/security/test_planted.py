"""A secret is planted in every input of a whole fleet, and looked for in every output."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import wait_until
from tests.fleet.test_up import CLEAN, Up
from tests.ingress.served import delivery_headers, payload

ROOT = Path(__file__).resolve().parents[2]
DELIVERY = payload("workflow_run.completed")


def made() -> str:
    return f"Planted{secrets.token_hex(12)}"


@pytest.fixture(scope="module")
def planted() -> dict[str, str]:
    names = (
        "webhook",
        "token",
        "env",
        "data",
        "url",
        "user",
        "argument",
        "keyword",
        "wrong",
        "query",
        "signing",
    )
    return {name: made() for name in names}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, planted: dict[str, str]) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("planted")
    events = folder / "registry" / "events"
    events.mkdir(parents=True)
    for file in (ROOT / "registry" / "events").glob("github-*.json"):
        (events / file.name).write_text(file.read_text())
    handler = {
        "name": "leak.fail",
        "type": "task",
        "target": "leaking_tasks:fail",
        "queue": "io",
        "retries": {"max": 0},
    }
    event = {"name": "leak/asked", "description": "Fails.", "priority": "P1", "handlers": [handler]}
    (events / "leak-asked.json").write_text(json.dumps(event))
    env = {
        "JOELCLAW_REGISTRY_DIR": str(folder / "registry"),
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
        "GITHUB_WEBHOOK_SECRET": planted["webhook"],
        "JOELCLAW_EVENTS_TOKEN": planted["token"],
        "ANTHROPIC_API_KEY": planted["env"],
        "JOELCLAW_SIGNING_KEY": planted["signing"],
        "JOELCLAW_REQUIRE_SIGNED": "1",
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    with contextlib.closing(Up(folder / "home", **env)) as up:
        up.env = {**CLEAN, **env}
        use(up, planted)
        yield up


def use(up: Up, planted: dict[str, str]) -> None:
    """Everything that takes an input takes one of the secrets."""
    url = up.urls["ingress_url"]
    data = {
        "user": planted["user"],
        "password": planted["data"],
        "url": f"redis://me:{planted['url']}@db/0",
    }
    with httpx.Client(base_url=url, trust_env=False) as http:
        right = {"Authorization": f"Bearer {planted['token']}"}
        wrong = {"Authorization": f"Bearer {planted['wrong']}"}
        event = {"name": "leak/asked", "id": "leak-1", "data": data}
        assert 202 == http.post("/events", json=event, headers=right).status_code
        refused = [
            http.post("/events", json=event, headers=wrong),
            http.post(f"/events?token={planted['query']}", json=event),
            http.post("/events", json={**event, "nmae": 1}, headers=right),
            http.post("/events", json={"name": "no/such", "data": data}, headers=right),
            http.post("/webhooks/github", content=DELIVERY,
                      headers=delivery_headers(DELIVERY, secret=planted["wrong"])),
        ]  # fmt: skip
        up.replies = [reply.text for reply in refused]
        assert [401, 401, 422, 422, 401] == [reply.status_code for reply in refused]
        accepted = http.post(
            "/webhooks/github",
            content=DELIVERY,
            headers=delivery_headers(DELIVERY, secret=planted["webhook"]),
        )
        assert 200 == accepted.status_code
    send = (
        "import sys; from joelclaw_tasks import app; app.send_task('no.such.task', [sys.argv[1]],"
        " {'api_key': sys.argv[2]}, queue='io', argsrepr='(...)')"
    )
    subprocess.run(
        [sys.executable, "-c", send, planted["argument"], planted["keyword"]], cwd=ROOT, check=True,
        env={**up.env, "JOELCLAW_HOME": str(up.home)},
    )  # fmt: skip
    with up.redis() as client:
        wait_until(lambda: client.zcard("{jc}:dead") == 2, "both are dead", 30)
    tasks = f"{up.urls['flower_url']}/api/tasks"
    up.flower = ""

    def shown() -> bool:
        up.flower = httpx.get(tasks, trust_env=False).text
        return "leak.fail" in up.flower

    wait_until(shown, "Flower has seen it", 20)


def cli(up: Up, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "joelclaw_tasks.cli.app", *arguments, "--debug", "--home", str(up.home)],
        env={**up.env, **env}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def found(texts: dict[str, str], values: dict[str, str]) -> list[tuple[str, str]]:
    return [(place, name) for place, text in texts.items() for name, value in values.items() if value in text]


def everything(up: Up, planted: dict[str, str]) -> dict[str, str]:
    return {**planted, "redis": (up.home / "redis" / "password").read_text().strip()}


def test_no_log_holds_a_secret_but_what_a_handler_itself_logs(up: Up, planted: dict[str, str]):
    logs = {log.name: log.read_text() for log in (up.home / "logs").iterdir()}
    assert "login failed" in logs["worker-io.log"]
    assert [("worker-io.log", "user")] == found(logs, everything(up, planted))


def test_no_answer_of_the_ingress_holds_a_secret(up: Up, planted: dict[str, str]):
    assert [] == found({str(n): text for n, text in enumerate(up.replies)}, everything(up, planted))


def test_flower_shows_no_secret(up: Up, planted: dict[str, str]):
    assert "leak.fail" in up.flower
    assert [] == found({"flower": up.flower}, everything(up, planted))


def test_the_transitions_stream_holds_no_secret(up: Up, planted: dict[str, str]):
    with up.redis() as client:
        entries = json.dumps(client.xrange("{jc}:transitions"))
    assert "leak.fail" in entries
    assert [] == found({"stream": entries}, everything(up, planted))


def test_errors_and_tracebacks_of_the_dead_letter_hold_no_secret(up: Up, planted: dict[str, str]):
    with up.redis() as client:
        ids = client.zrange("{jc}:dead", 0, -1)
        groups = json.dumps(client.hgetall("{jc}:dead_groups"))
    listed = cli(up, "dead", "list")
    shown = {job_id: json.loads(cli(up, "dead", "show", job_id))["result"]["job"] for job_id in ids}
    # The message itself is kept to be run again: it is what it is.
    texts = {
        job_id: json.dumps([job[part] for part in ("error", "traceback", "signature") if part in job])
        for job_id, job in shown.items()
    }
    assert any("login failed" in text for text in texts.values())
    assert [] == found({**texts, "groups": groups, "list": listed}, everything(up, planted))


def test_what_the_fleet_sends_itself_is_signed(up: Up):
    call = (
        "from joelclaw_tasks import app\n"
        "app.send_task('joelclaw.queue.dead', kwargs={'actor': 'ops'}, queue='io', priority=0)\n"
    )
    env = {**up.env, "JOELCLAW_HOME": str(up.home)}
    subprocess.run([sys.executable, "-c", call], cwd=ROOT, check=True, env=env)
    with up.redis() as client:
        done = "io\njoelclaw.queue.dead|0|completed"
        wait_until(lambda: client.hget("{jc}:counts", done) == "1", "a task of the fleet has run", 20)
        signatures = client.hkeys("{jc}:dead_groups")
    assert 2 == len(signatures)
    assert not [each for each in signatures if each.startswith("NotSigned")]


def test_errors_of_the_command_line_hold_no_secret(up: Up, planted: dict[str, str]):
    password = {"REDIS_URL": f"redis://me:{planted['url']}@127.0.0.1:1/0"}
    elsewhere = str(up.home / "none")
    data = json.dumps({"password": planted["data"]})
    runs = {
        "unreachable": cli(up, "queue", "depth", "--home", elsewhere, **password),
        "refused": cli(up, "emit", "leak/asked", "-d", data, "--delay", "x"),
        "no json": cli(up, "emit", "leak/asked", "-d", "{" + planted["data"]),
        "bad url": cli(up, "queue", "depth", "--home", elsewhere, REDIS_URL=f"http://me:{planted['url']}@x"),
        "depth": cli(up, "queue", "depth"),
        "doctor": cli(up, "doctor"),
    }  # fmt: skip
    assert [] == found(runs, everything(up, planted))
