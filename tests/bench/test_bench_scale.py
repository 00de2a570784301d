"""bench.scale measures what it says, at a size that takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_prints_three_lines_and_one_object_with_all_figures():
    small = ["--jobs", "600", "--few", "100", "--tenants", "4", "--each", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale", *small],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 0 == done.returncode, done.stderr
    claim, share, memory, last = done.stdout.splitlines()
    assert ("claim:", "share:", "memory:") == (claim[:6], share[:6], memory[:7])
    scale = json.loads(last)
    assert (600, 4, {"100", "600"}) == (scale["jobs"], scale["tenants"], set(scale["claim_us"]))
    assert all(scale[name] > 0 for name in ("claim_ratio", "tenant_start_ratio", "bytes_ratio"))
    # Of so few jobs the allocator decides much; a million are measured by hand.
    assert scale["bytes_per_job"]["ours"] > scale["bytes_per_job"]["stock"] > 300
