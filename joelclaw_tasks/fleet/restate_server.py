"""The Restate server that `joelclaw up --with-restate` starts: found, configured, never downloaded."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from joelclaw_tasks.errors import FleetError

_ROOT = Path(__file__).resolve().parents[2]
_INSTALL = (
    "Run `make restate` in the checkout, or `npm install @restatedev/restate-server@1.7.12` beside your "
    "project, or put restate-server on PATH."
)
_NPM_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
#: A server finds its data by this name: it never changes.
_NODE_NAME = "joelclaw"
#: What is handed on of the environment: no secret of the fleet, and no setting that is meant for clients.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class RestateServer:
    """Everything needed to start the server, and where it then is."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    ingress_port: int
    admin_port: int

    @property
    def ingress_url(self) -> str:
        """Where invocations are sent."""
        return f"http://127.0.0.1:{self.ingress_port}"

    @property
    def admin_url(self) -> str:
        """Where services are registered and invocations cancelled."""
        return f"http://127.0.0.1:{self.admin_port}"


def find_server(search_path: str | None = None, *, roots: tuple[Path, ...] | None = None) -> Path:
    """The server's binary: of npm's package below this folder or the checkout, else of the search path.

    Raises FleetError, which says how to install it, when there is none.
    """
    # The package's own command only starts this binary and hands signals on.
    machine = _NPM_MACHINES.get(platform.machine().lower(), platform.machine())
    package = f"node_modules/@restatedev/restate-server-{sys.platform}-{machine}/bin/restate-server"
    for root in (Path.cwd(), _ROOT) if roots is None else roots:
        path = root / package
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
    found = shutil.which("restate-server", path=search_path)
    if found is None:
        raise FleetError("no restate-server on this machine", fix=_INSTALL)
    return Path(found).absolute()


def prepare(
    directory: Path, *, ingress_port: int, admin_port: int, node_port: int, binary: Path | None = None
) -> RestateServer:
    """The server whose data is under `directory` (0700), on loopback only. Raises FleetError."""
    binary = find_server() if binary is None else binary
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    environ = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
        "RESTATE_BASE_DIR": str(directory.absolute()),
        "RESTATE_NODE_NAME": _NODE_NAME,
        "RESTATE_CLUSTER_NAME": _NODE_NAME,
        # It has no doors with locks: nobody else may reach it. By default it opens Unix sockets too.
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node_port}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node_port}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress_port}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin_port}",
        # Its defaults are those of a server for many: 24 partitions and 2 GiB.
        "RESTATE_DEFAULT_NUM_PARTITIONS": "2",
        "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256 MB",
        "RESTATE_WORKER__CLEANUP_INTERVAL": "10m",
        "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    return RestateServer((str(binary), "--no-logo"), environ, ingress_port, admin_port)
