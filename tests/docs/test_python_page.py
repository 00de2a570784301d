"""The examples of docs/python.md run, one after the other, as a reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.steering.queue import Queue

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()


def test_the_examples_of_the_page_run(redis_url, client, tmp_path):
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")},
        "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url, "JOELCLAW_HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    assert "QUEUE_GATE_UNKNOWN" in done.stdout
    queued = [entry for _, entry in client.xrange(Keys("{jc}:").transitions) if entry["verb"] == "admit"]
    assert "joelclaw.queue.pause" in {entry["family"] for entry in queued}


def test_every_verb_of_the_page_is_a_method():
    table = PAGE.partition("## The verbs")[2].partition("\nAll verbs")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)\(", row)}
    methods = {name for name in dir(Queue) if not name.startswith("_") and callable(getattr(Queue, name))}
    assert methods - {"connect"} == named
