"""The doctor: every finding with its fix, never an exception, never a secret."""

import json
import os
import subprocess
import sys

import pytest
import redis

from joelclaw_tasks.fleet import machine_checks
from joelclaw_tasks.fleet.check import worst
from joelclaw_tasks.fleet.doctor import examine
from joelclaw_tasks.fleet.fleet_checks import queue_checks
from joelclaw_tasks.fleet.home import FleetHome
from tests.conftest import free_port, start_redis

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
CLEAN.pop("REDIS_URL", None)


def found(home, **env):
    return {check.name: check for check in examine(home, {**CLEAN, **env})}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def state_of(home, redis_url, **changes):
    FleetHome(home).path.mkdir(exist_ok=True)
    state = {"redis_url": redis_url, "pid": os.getpid(), "started_at": "now", "processes": {}}
    FleetHome(home).write_state({**state, **changes})


def test_where_nothing_runs_it_says_how_to_start_and_nothing_fails(home):
    checks = found(home)
    assert checks["fleet"].status == "warn"
    assert "joelclaw up" in checks["fleet"].fix
    assert checks["redis"].status == "warn"
    assert worst(checks.values()) == "warn"
    assert not home.exists()


def test_a_good_redis_is_good(home, redis_url, client):
    client.config_set("appendonly", "yes")
    try:
        checks = found(home, REDIS_URL=redis_url)
    finally:
        client.config_set("appendonly", "no")
    assert {checks[name].status for name in ("redis", "eviction", "append-only file", "clock")} == {"ok"}


def test_a_redis_that_evicts_fails_with_the_command_that_helps(home, redis_url, client):
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        check = found(home, REDIS_URL=redis_url)["eviction"]
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert check.status == "fail"
    assert "allkeys-lru" in check.detail
    assert "CONFIG SET maxmemory-policy noeviction" in check.fix


def test_a_redis_without_append_only_file_is_warned_of(home, redis_url):
    check = found(home, REDIS_URL=redis_url)["append-only file"]
    assert (check.status, "appendonly yes" in check.fix) == ("warn", True)


def test_a_redis_that_does_not_answer_fails_and_hides_no_other_finding(home):
    checks = found(home, REDIS_URL=f"redis://:sesame@127.0.0.1:{free_port()}/0")
    assert checks["redis"].status == "fail"
    assert checks["registry"].status == "ok"
    assert "sesame" not in " ".join(check.detail for check in checks.values())


def test_two_redises_are_told_apart(home, redis_url, tmp_path):
    port = free_port()
    (tmp_path / "other").mkdir()
    other = start_redis(tmp_path / "other", port)
    try:
        state_of(home, redis_url)
        check = found(home, REDIS_URL=f"redis://127.0.0.1:{port}/0")["which redis"]
    finally:
        other.terminate()
        other.wait()
    assert check.status == "warn"
    assert redis_url in check.detail
    assert str(port) in check.detail
    assert found(home, REDIS_URL=redis_url)["which redis"].status == "ok"
    assert found(home)["which redis"].status == "ok"


def test_a_fleet_whose_supervisor_is_gone_fails(home, redis_url):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state_of(home, redis_url, pid=gone.pid)
    check = found(home)["fleet"]
    assert check.status == "fail"
    assert "joelclaw up" in check.fix


def test_processes_that_are_gone_or_unsteady_and_doors_that_do_not_answer_are_named(home, redis_url):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    processes = {
        "worker-io": {"pid": gone.pid, "restarts": 0},
        "beat": {"pid": os.getpid(), "restarts": 9},
        "flower": {"pid": os.getpid(), "restarts": 0},
        "worker-default": {"pid": None, "restarts": 1},
    }
    state_of(home, redis_url, processes=processes, ingress_url=f"http://127.0.0.1:{free_port()}")
    checks = found(home)
    assert {name: checks[name].status for name in processes} == {
        "worker-io": "fail",
        "beat": "warn",
        "flower": "ok",
        "worker-default": "fail",
    }
    assert "9 times" in checks["beat"].detail
    assert "worker-io.log" in checks["worker-io"].fix
    assert checks["ingress answers"].status == "fail"
    assert checks["workers"].status == "fail"


def test_a_queue_that_no_worker_serves_is_named(redis_url):
    arguments = ["worker", "-P", "solo", "-Q", "io", "-l", "INFO"]
    code = f"from celery import Celery; Celery('t', broker={redis_url!r}).worker_main({arguments})"
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with worker:
        for line in worker.stderr:
            if b"ready." in line:
                break
        checks = list(queue_checks(redis_url, frozenset({"io", "default", "gpu"}), expected=True))
        served = list(queue_checks(redis_url, frozenset({"io"}), expected=True))
        worker.kill()
    assert [check.status for check in checks] == ["ok", "warn"]
    assert "default, gpu" in checks[1].detail
    assert "-Q default,gpu" in checks[1].fix
    assert [check.status for check in served] == ["ok", "ok"]


def test_without_any_worker_a_running_fleet_fails_and_no_fleet_warns(redis_url):
    statuses = {
        expected: [check.status for check in queue_checks(redis_url, frozenset({"io"}), expected=expected)]
        for expected in (True, False)
    }
    assert statuses == {True: ["fail"], False: ["warn"]}


def test_every_fault_of_the_registry_is_reported(home, tmp_path):
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    (events / "broken.json").write_text("{")
    (events / "other.json").write_text('{"name": 1}')
    check = found(home, JOELCLAW_REGISTRY_DIR=str(tmp_path / "registry"))["registry"]
    assert check.status == "fail"
    assert "broken.json" in check.detail
    assert "other.json" in check.detail


def test_a_bad_setting_fails_with_its_name(home):
    checks = found(home, JOELCLAW_LEASE_MS="soon")
    assert checks["settings"].status == "fail"
    assert "JOELCLAW_LEASE_MS" in checks["settings"].detail


def test_secrets_are_said_to_be_set_or_missing_and_never_shown(home):
    checks = found(home, GITHUB_WEBHOOK_SECRET="sesame-1", REDIS_URL="redis://:sesame-2@127.0.0.1:1/0")
    assert checks["GITHUB_WEBHOOK_SECRET"].status == "ok"
    assert checks["JOELCLAW_EVENTS_TOKEN"].status == "warn"
    assert "github_webhook_secret=set, " in checks["settings"].detail + ", "
    assert "events_token=missing" in checks["settings"].detail
    assert "sesame" not in repr(checks)


def test_packages_outside_their_pins_are_named(monkeypatch):
    monkeypatch.setattr(
        machine_checks, "_requirements", lambda: ["redis<1", "no-such-package-of-ours>=1", "celery~=5.7.0"]
    )
    check = machine_checks.package_check()
    assert check.status == "fail"
    assert f"redis is {redis.__version__}, not <1" in check.detail
    assert "no-such-package-of-ours is missing" in check.detail
    assert "celery" not in check.detail


def test_the_packages_of_this_environment_fit():
    assert machine_checks.package_check().status == "ok"


def test_on_the_command_line_a_failed_check_is_exit_code_1_with_all_checks_in_the_envelope(home):
    command = [sys.executable, "-m", "joelclaw_tasks.cli.app", "doctor", "--json", "--home", str(home)]
    run = subprocess.run(
        command,
        env={**CLEAN, "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=False,
    )
    envelope = json.loads(run.stdout)
    assert (run.returncode, envelope["ok"], envelope["error"]["code"]) == (1, False, "DOCTOR_CHECKS_FAILED")
    checks = envelope["error"]["details"]["checks"]
    assert {"name", "status", "detail", "fix"} == set(checks[0])
    assert {check["name"] for check in checks if check["status"] == "fail"} == {"redis"}
    well = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=False)
    assert (well.returncode, json.loads(well.stdout)["result"]["status"]) == (0, "warn")
