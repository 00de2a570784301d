"""Run once more, and alone, the few tests that failed: `python tools/alone.py EXIT_CODE`.

A wait that is long enough on a quiet machine may be too short while something else uses its CPUs. What fails
for that reason passes alone; what is broken fails alone, too. Nothing is hidden: pytest has printed the
failure, and this prints which tests passed only then. Many failures are no accident and are not run again.

Exits with pytest's own code of the second run, or with EXIT_CODE when there is none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

#: Of some 4,500 tests a loaded machine has failed one or two.
MOST = 4
_LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def alone(exit_code: int) -> int:
    """The exit code of `make test`'s parallel part, after `exit_code` of its first run."""
    if exit_code != pytest.ExitCode.TESTS_FAILED or not _LAST_FAILED.exists():
        return exit_code
    failed = sorted(json.loads(_LAST_FAILED.read_text("utf-8")))
    if not 0 < len(failed) <= MOST:
        print(f"{len(failed)} tests failed: too many to be the machine's doing; none is run again")
        return exit_code
    print("run again, alone:", *failed, sep="\n  ")
    code = int(pytest.main(["-n", "0", *failed]))
    if code == pytest.ExitCode.OK:
        print("failed at first, passed alone:", *failed, sep="\n  ")
    return code


if __name__ == "__main__":
    sys.exit(alone(int(sys.argv[1])))
