"""Doors that others can reach ask who is there, or do not open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.fleet.flower_guard import guard_flower
from joelclaw_tasks.settings import is_loopback

ROOT = Path(__file__).resolve().parents[2]
FLOWER = ["celery", "-A", "joelclaw_tasks", "flower"]


def run(arguments: list[str], tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOELCLAW_", "FLOWER"))}
    kept.pop("GITHUB_WEBHOOK_SECRET", None)
    environment = kept | {
        "PYTHONPATH": str(ROOT),
        "JOELCLAW_HOME": str(tmp_path),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=environment | env, cwd=ROOT, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_these_are_loopback(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.org", "*"])
def test_these_are_not(host: str):
    assert not is_loopback(host)


def test_an_ingress_without_any_secret_does_not_start_where_others_reach_it(tmp_path: Path):
    done = run(["joelclaw_tasks.ingress", "--host", "0.0.0.0", "--port", "1"], tmp_path)
    assert 1 == done.returncode
    assert "SETTINGS_INVALID: the ingress may not listen on '0.0.0.0'" in done.stderr
    assert "JOELCLAW_EVENTS_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_flower_without_authentication_does_not_start_where_others_reach_it(tmp_path: Path):
    done = run([*FLOWER, "--address=0.0.0.0", "--port=1"], tmp_path)
    assert 0 != done.returncode
    assert "Flower may not listen on '0.0.0.0'" in done.stdout + done.stderr
    assert "FLOWER_BASIC_AUTH" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_flower_listens_on_loopback_when_nobody_says_where():
    env: dict[str, str] = {}
    guard_flower(FLOWER, env)
    assert {"FLOWER_ADDRESS": "127.0.0.1"} == env


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--address=127.0.0.1"], {}),
        (["--address", "::1"], {}),
        (["--address=0.0.0.0", "--basic-auth=me:secret"], {}),
        (["--address=0.0.0.0", "--basic_auth", "me:secret"], {}),
        (["--address=0.0.0.0"], {"FLOWER_BASIC_AUTH": "me:secret"}),
        ([], {"FLOWER_ADDRESS": "10.1.2.3", "FLOWER_AUTH": ".*@example[.]org"}),
        (["--unix-socket=/tmp/flower.sock", "--address=0.0.0.0"], {}),
    ],
)
def test_flower_with_an_answer_starts(arguments: list[str], env: dict[str, str]):
    guard_flower([*FLOWER, *arguments], env)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--address=0.0.0.0"], {}),
        (["--address", "10.1.2.3"], {}),
        (["--address="], {}),
        ([], {"FLOWER_ADDRESS": "::"}),
        (["--address=0.0.0.0", "--basic-auth="], {"FLOWER_BASIC_AUTH": ""}),
    ],
)
def test_flower_without_one_does_not(arguments: list[str], env: dict[str, str]):
    with pytest.raises(SettingsError, match="may not listen"):
        guard_flower([*FLOWER, *arguments], env)


def test_other_commands_are_none_of_its_business():
    env: dict[str, str] = {}
    guard_flower(["celery", "-A", "joelclaw_tasks", "worker", "--address=0.0.0.0"], env)
    assert {} == env
