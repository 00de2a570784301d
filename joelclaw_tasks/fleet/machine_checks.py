"""The doctor's checks of this machine: Python, packages, a Redis server, disk space."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.check import Check, fail, ok, warn
from joelclaw_tasks.fleet.redis_server import newest_server

_PROJECT_FILE = Path(__file__).resolve().parents[2] / "pyproject.toml"
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)
_DISK_WARN_BYTES, _DISK_FAIL_BYTES = 1 << 30, 100 << 20


def python_check() -> Check:
    """Whether this Python is one that the project is tested on."""
    version = sys.version.split()[0]
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return fail("python", f"{version} is too old", "Use Python 3.11 to 3.13.")
    if sys.version_info[:2] > _NEWEST_PYTHON:
        return warn("python", f"{version} is newer than what is tested", "Use Python 3.11 to 3.13.")
    return ok("python", f"{version} ({sys.executable})")


def package_check() -> Check:
    """Whether every package that we depend on is there in a version that fits the pins."""
    wrong = []
    requirements = [Requirement(text) for text in _requirements()]
    wanted = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    for requirement in wanted:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        return fail(
            "packages", "; ".join(wrong), "Install the pinned versions: `make venv`, or pip install again."
        )
    return ok("packages", f"{len(wanted)} packages, all within their pins")


def _requirements() -> list[str]:
    # The checkout's own file is newer than what was recorded when it was installed.
    if _PROJECT_FILE.is_file():
        project = tomllib.loads(_PROJECT_FILE.read_text())["project"]
        if project["name"].replace("-", "_") == "joelclaw_tasks":
            return list(project["dependencies"])
    try:
        return importlib.metadata.requires("joelclaw_tasks") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def server_check(given_url: bool) -> Check:
    """Whether `joelclaw up` would find a Redis server to start."""
    try:
        found = newest_server()
    except FleetError as error:
        if given_url:
            return ok("redis server", f"{error}; not needed, as REDIS_URL names one")
        return fail("redis server", str(error), error.fix)
    return ok("redis server", f"{found.path} {found.version_text}")


def disk_check(home: Path) -> Iterator[Check]:
    """Whether there is room where Redis keeps its data, and whether we may write there."""
    place = home.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free under {place}"
    fix = "Make room, or set JOELCLAW_HOME to a larger disk: Redis stops accepting work when it cannot write."
    if free < _DISK_FAIL_BYTES:
        yield fail("disk", detail, fix)
    elif free < _DISK_WARN_BYTES:
        yield warn("disk", detail, fix)
    else:
        yield ok("disk", detail)
    if not os.access(place, os.W_OK | os.X_OK):
        yield fail(
            "home", f"{place} is not writable", "Set JOELCLAW_HOME to a directory that you may write to."
        )
