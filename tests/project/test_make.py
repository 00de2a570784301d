"""The Makefile offers what the README promises, and CI runs exactly `make test`."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "WORKERS"))
    }
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_lists_every_target_with_what_it_does():
    listed = re.findall(r"^  make (\w+) +\S", make(), re.MULTILINE)

    assert {"help", "up", "demo", "test", "check", "bench"} <= set(listed)
    assert make() == make("help")


def test_test_runs_every_check_and_then_the_timing_tests_alone():
    # -o: the environment counts as made, so that only the steps themselves are printed
    steps = make("--dry-run", "-o", ".venv/.stamp", "-o", "venv", "test")

    for check in (
        "ruff format --check .", "ruff check .", "/mypy", "lint-imports", "lint_lua.py", "lint_docs.py",
    ):  # fmt: skip
        assert check in steps
    assert [("not timing and not drill", "5"), ("timing", "0")] == re.findall(
        r'-m "?([a-z ]+?)"? -n (\d)', steps
    )


@pytest.mark.parametrize(
    ("target", "step"), [("up", "/joelclaw up"), ("demo", "/joelclaw demo"), ("bench", "-m bench")]
)
def test_a_target_runs_what_its_name_says(target, step):
    assert step in make("--dry-run", "-o", ".venv/.stamp", "-o", "venv", target)


def test_ci_runs_make_test_and_nothing_else():
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]

    assert os.access(script, os.X_OK)
    assert ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"] == commands
