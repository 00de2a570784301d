"""The examples of docs/testing.md are tests: they run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_example_passes_as_it_stands(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    [conftest] = [block for block in blocks if block.startswith("# conftest.py")]
    (tmp_path / "conftest.py").write_text(conftest)
    examples = [block for block in blocks if block is not conftest]
    for number, example in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(example)
    environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL" and not k.startswith("JOELCLAW_")}

    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "."],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )

    assert 0 == answer.returncode, answer.stdout + answer.stderr
    assert f"{len(examples)} passed" in answer.stdout
