"""The drill of 300 jobs and 15 resets, for our side: what stock Celery makes of it is for a report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_300_jobs_survive_15_resets_next_to_sends():
    command = [sys.executable, "-m", "chaos.resets", "--side", "ours", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert {"verdict": "green", "jobs": 300, "resets": 15} == {
        name: verdict[name] for name in ("verdict", "jobs", "resets")
    }
    every = {"done": 300, "twice": 0, "stranded": 0, "lost": 0}
    assert {"threads": every, "prefork": every} == verdict["ours"]
