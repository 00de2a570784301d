"""A short chaos run, and the proof that its checker is awake. The rest: `make chaos-quick`, `make chaos`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.__main__ import _PROOFS, _options, _plan, _proof_of
from chaos.builds import BUILDS
from chaos.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]


def chaos(tmp_path: Path, *options: str) -> tuple[int, dict, str]:
    """Exit code, verdict and output of one run."""
    command = [sys.executable, "-m", "chaos", "--keep", str(tmp_path), "--mixed", "0", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
    run = subprocess.run(
        command, cwd=ROOT, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout.splitlines()[-1]), run.stdout + run.stderr


@pytest.mark.timing
@pytest.mark.timeout(120)
def test_kills_cut_connections_and_a_death_of_redis_lose_nothing(tmp_path: Path):
    code, verdict, output = chaos(tmp_path, "--faults", "kill-worker-tree,cut-answers,kill-redis")
    assert ("green", 0) == (verdict["verdict"], code), output
    assert (3, 0, 0, 0) == tuple(
        verdict[name] for name in ("faults", "lost", "double_finishes", "limit_violations")
    )
    assert verdict["accepted"] > 100
    assert (tmp_path / "seed-1" / "history.jsonl").stat().st_size > 0


@pytest.mark.timing
@pytest.mark.timeout(120)
def test_a_build_that_acknowledges_before_it_runs_is_caught(tmp_path: Path):
    code, verdict, output = chaos(tmp_path, "--faults", "flush-scripts", "--build", "ack-before-run")
    assert ("red", 1) == (verdict["verdict"], code), output
    assert verdict["double_finishes"] > 0


def test_a_fault_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path):
    command = [sys.executable, "-m", "chaos", "--faults", "earthquake", "--keep", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 2 == run.returncode
    assert "no fault is named earthquake" in run.stderr
    assert "kill-worker" in run.stderr


def test_what_takes_a_minute_is_part_of_long_runs_only(monkeypatch: pytest.MonkeyPatch):
    def faults_of(*options: str) -> set[str]:
        monkeypatch.setattr(sys, "argv", ["chaos", *options])
        return set(_plan(_options(), seed=1, left_s=600).faults)

    assert set(FAULTS) == faults_of("--minutes", "10")
    assert {"freeze-worker-for-a-minute"} == set(FAULTS) - faults_of("--mixed", "8")
    assert {"freeze-worker-for-a-minute"} == faults_of("--faults", "freeze-worker-for-a-minute")


def test_the_proof_runs_each_broken_build_under_the_faults_that_show_it_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sys, "argv", ["chaos", "--prove", "--seed", "3"])
    plans = {build: _proof_of(build, faults, _options()) for build, faults in _PROOFS.items()}
    assert set(BUILDS) == set(plans)
    for build, plan in plans.items():
        assert (3, build, 1, 0.0) == (plan.seed, plan.build, plan.repeat, plan.mixed_s)
        assert {"flush-scripts", "kill-worker-tree"} == set(plan.faults) or build == "no-fencing"
