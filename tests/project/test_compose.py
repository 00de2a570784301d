"""compose.yaml and the Dockerfile: every command in them is one that its program accepts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import yaml

from joelclaw_tasks.fleet.redis_server import find_server
from joelclaw_tasks.registry import Registry
from tests.conftest import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "redis"}
SECRETS = ("REDIS_PASSWORD", "JOELCLAW_EVENTS_TOKEN", "GITHUB_WEBHOOK_SECRET", "FLOWER_BASIC_AUTH")


def words(command: str | list[str]) -> list[str]:
    """A command of a service or health check as its program gets it."""
    if isinstance(command, str):
        return shlex.split(command.replace("$$", "$"))
    if command[0] == "CMD":
        return command[1:]
    return words(command[1]) if command[0] == "CMD-SHELL" else command


def dockerfile_commands() -> dict[str, list[str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    lines = re.findall(r"^(CMD|HEALTHCHECK.* CMD) (\[.*\])$", text, re.MULTILINE)
    return {instruction.split()[0]: json.loads(command) for instruction, command in lines}


def commands() -> dict[str, list[str]]:
    found = {f"{name} runs": words(service["command"]) for name, service in OURS.items()}
    found |= {
        f"{name} is checked": words(service["healthcheck"]["test"])
        for name, service in OURS.items()
        if "healthcheck" in service
    }
    return found | {f"image {name}": command for name, command in dockerfile_commands().items()}


def test_the_fleet_is_complete():
    expected = {"redis", "worker-default", "worker-io", "beat", "ingress", "flower"}

    assert expected == set(SERVICES)
    assert {"CMD", "HEALTHCHECK"} == set(dockerfile_commands())


@pytest.mark.parametrize("command", commands().values(), ids=commands())
def test_every_command_is_accepted_by_its_program(command, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JOELCLAW_")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("parse_command.py")), *command],
        env=environment
        | {"REDIS_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": str(ROOT), "FLOWER_BASIC_AUTH": "me:secret"},
        cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr if done.returncode else "")


@pytest.mark.parametrize(
    "command",
    [
        "celery -A joelclaw_tasks worker --poool prefork",
        "celery -A joelclaw_tasks worker --concurrency many",
        "celery -A joelclaw_tasks flower --adress=0.0.0.0",
        "celery -A joelclaw_nothing worker",
        "python -m joelclaw_tasks.ingress --prot 8080",
        "python -m joelclaw_tasks.egress",
        "joelclaw queue dept",
    ],
)
def test_a_wrong_command_is_noticed(command, tmp_path):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("parse_command.py")), *command.split()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, timeout=50, check=False,
    )  # fmt: skip

    assert done.returncode != 0


def test_the_workers_serve_every_queue_of_the_registry():
    served = {
        queue for name in OURS for queue in _option(words(OURS[name]["command"]), "-Q").split(",") if queue
    }

    assert Registry.load(ROOT / "registry").queues <= served


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1] if name in command else ""


def test_redis_keeps_what_it_accepted_and_asks_for_the_password(tmp_path):
    port, script = free_port(), SERVICES["redis"]["command"]
    assert ["sh", "-ec"] == script[:2]
    runnable = script[2].replace("$$", "$").replace(
        "redis-server -", f"redis-server - --bind 127.0.0.1 --port {port}", 1
    )  # fmt: skip
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(find_server())
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        ["sh", "-ec", runnable],
        cwd=tmp_path, env={"PATH": path, "REDIS_PASSWORD": "s3cret"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client = redis.Redis(port=port, password="s3cret", decode_responses=True, retry=None)
        wait_until(lambda: _answers(client), "redis answers with the password")
        policy = client.config_get("appendonly") | client.config_get("maxmemory-policy")
        arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes() if sys.platform == "linux" else b""
        client.close()
        with redis.Redis(port=port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.terminate()
        server.wait(10)

    assert {"appendonly": "yes", "maxmemory-policy": "noeviction"} == policy
    assert b"s3cret" not in arguments


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_no_port_is_published_beyond_loopback():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ["127.0.0.1:5555:5555", "127.0.0.1:8080:8080"] == sorted(published)
    assert "ports" not in SERVICES["redis"]
    assert all("network_mode" not in service for service in SERVICES.values())


def test_everything_restarts_and_waits_for_a_healthy_redis():
    assert {"unless-stopped"} == {service["restart"] for service in SERVICES.values()}
    assert "healthcheck" in SERVICES["redis"]
    for name, service in OURS.items():
        assert {"redis": {"condition": "service_healthy"}} == service["depends_on"], name


def test_secrets_come_from_the_environment_and_a_missing_one_stops_the_start():
    text = (ROOT / "compose.yaml").read_text()
    variables = re.findall(r"(?<!\$)\$\{(\w+)(:\?)?", text)

    assert set(SECRETS) == {name for name, _ in variables}
    assert {":?"} == {required for _, required in variables}
    for name, service in SERVICES.items():
        assert "${" not in json.dumps(service["command"]), f"{name} shows a secret in its arguments"


def test_the_image_runs_as_an_ordinary_user_and_gets_hashed_pins_only():
    text = (ROOT / "Dockerfile").read_text()
    final = text.rpartition("FROM ")[2]

    assert re.search(r"^USER joelclaw$", final, re.MULTILINE)
    assert re.search(r"^FROM python:3\.12-slim\b", text, re.MULTILINE)
    for install in re.findall(r"pip install ([^\\\n]*)", text):
        assert "--require-hashes" in install or "--no-deps" in install, install
