"""A test that failed is run once more alone, and what is broken still fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "alone.py"
PASSES_LATER = """
from pathlib import Path

def test_once():
    before = Path("seen").exists()
    Path("seen").touch()
    assert before
"""


def first_run(folder: Path, tests: str) -> int:
    (folder / "test_it.py").write_text(tests, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def second_run(folder: Path, exit_code: int) -> tuple[int, str]:
    command = [sys.executable, str(TOOL), str(exit_code)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


def test_a_test_that_passes_alone_is_named_and_passes(tmp_path):
    assert 1 == first_run(tmp_path, PASSES_LATER)

    code, said = second_run(tmp_path, 1)

    assert 0 == code
    assert "failed at first, passed alone:\n  test_it.py::test_once" in said


def test_a_broken_test_fails_alone_too(tmp_path):
    assert 1 == first_run(tmp_path, "def test_broken(): assert 1 == 2\ndef test_fine(): pass\n")

    code, said = second_run(tmp_path, 1)

    assert 1 == code
    assert "1 failed" in said
    assert "passed alone" not in said


def test_many_failures_are_not_run_again(tmp_path):
    assert 1 == first_run(tmp_path, "".join(f"def test_{n}(): assert {n} > 5\n" for n in range(8)))

    code, said = second_run(tmp_path, 1)

    assert 1 == code
    assert said.startswith("6 tests failed: too many")


@pytest.mark.parametrize("exit_code", [2, 3, 4, 5])
def test_what_is_not_a_failed_test_stays_what_it_is(tmp_path, exit_code):
    assert 1 == first_run(tmp_path, PASSES_LATER)

    assert (exit_code, "") == second_run(tmp_path, exit_code)
