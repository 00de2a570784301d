"""Write constraints.txt: every dependency with its version and hashes, resolved by uv.

Two sections: what the product needs (with the gevent extra), then what only development
needs. The first alone goes into the container image; both into .venv.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME_HEADING = "# runtime"
DEVELOPMENT_HEADING = "# development"
_LOWEST_PYTHON = "3.11"  # requires-python; markers cover the later ones
_ENTRY = re.compile(r"^(?P<name>[a-z0-9._-]+)==\S.*(?:\n {4}.*)*", re.MULTILINE)


def resolve(root: Path, upgrade: bool, *extras: str) -> dict[str, str]:
    """Name -> its entry (version, marker, hashes) for the project with the extras.

    Versions already in constraints.txt stay unless `upgrade`. Raises CalledProcessError.
    """
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes",
        "--python-version", _LOWEST_PYTHON, "--no-emit-index-url", "--no-header", "--no-annotate",
        "pyproject.toml",
    ]  # fmt: skip
    for extra in extras:
        command += ["--extra", extra]
    pins = root / "constraints.txt"
    if pins.exists() and not upgrade:
        # hashes belong to exact versions, so the old pins only steer as plain constraints
        steer = root / ".venv-pins" / "steer.txt"
        steer.write_text("".join(f"{line}\n" for line in versions(pins.read_text())))
        command += ["--constraint", str(steer)]
    text = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    return entries(text)


def entries(text: str) -> dict[str, str]:
    """Name -> its whole entry, continuation lines included."""
    return {match["name"]: match.group() for match in _ENTRY.finditer(text)}


def versions(text: str) -> list[str]:
    """`name==version` of each entry, markers and hashes left out."""
    return [entry.split()[0] for entry in entries(text).values()]


def runtime_section(text: str) -> str:
    """The first section of constraints.txt."""
    return text.partition(DEVELOPMENT_HEADING)[0]


def main() -> None:
    upgrade = "--upgrade" in sys.argv[1:]
    runtime = resolve(ROOT, upgrade, "gevent")
    everything = resolve(ROOT, upgrade, "gevent", "dev")
    moved = [name for name, entry in runtime.items() if entry.split()[0] != everything[name].split()[0]]
    if moved:
        sys.exit(f"development needs other versions than the product gets: {', '.join(moved)}")
    # Where development needs a package on more systems, it stands in both sections with its own marker.
    more = [entry for name, entry in everything.items() if runtime.get(name) != entry]
    lines = [RUNTIME_HEADING, *runtime.values(), DEVELOPMENT_HEADING, *more]
    (ROOT / "constraints.txt").write_text("\n".join(lines) + "\n")
    print(f"constraints.txt: {len(runtime)} for the product, {len(more)} more for development")


if __name__ == "__main__":
    main()
