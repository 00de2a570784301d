"""`QUICK=1 make bench`, as a process: what it prints, not how fast it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.processes import ROOT


@pytest.mark.timeout(240)
def test_a_quick_bench_ends_in_a_line_of_json_with_every_ratio() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bench"],
        check=False, cwd=ROOT, env={**os.environ, "QUICK": "1"}, capture_output=True, text=True, timeout=230,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    names = {"threads", "solo", "prefork", "publish", "emit_many", "p50", "p95", "rtt2ms"}
    assert names == set(result["ratios"])
    assert all(ratio > 0 for ratio in result["ratios"].values())
    for part in ("spread", "stock", "ours"):
        assert names <= set(result[part])
    assert (result["rounds"], result["quick"]) == (1, True)


def test_an_unknown_side_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "bench", "--side", "theirs"]
    finished = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert finished.returncode == 2
    assert "theirs" in finished.stderr


def test_no_rounds_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "bench", "--rounds", "0"]
    finished = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert finished.returncode == 2
    assert "must be at least 1" in finished.stderr
