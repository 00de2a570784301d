"""Throw-away Redis servers: on loopback, children of this process, gone when it is."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.redis_server import find_server
from joelclaw_tasks.fleet.tether import tether

#: Nothing is kept and nothing evicted; later flags win.
_FLAGS = (
    "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction",
    "--loglevel", "warning",
)  # fmt: skip
_READY_WITHIN_S = 10.0


def free_port() -> int:
    """A TCP port on loopback that nothing listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start_redis(directory: Path, port: int, *flags: str) -> subprocess.Popen[bytes]:
    """A Redis server that works in `directory` and answers when this returns; end it with `terminate`.

    It keeps nothing unless `flags` (of redis-server) say otherwise, and has no password. It ends with the
    thread that starts it. Raises FleetError when there is no server binary, or when it does not start.
    """
    server = subprocess.Popen(
        [str(find_server()), "--port", str(port), "--dir", str(directory), *_FLAGS, *flags],
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: what we run may still need it
        preexec_fn=tether(),  # noqa: PLW1509  # it calls the kernel only
    )
    deadline = time.monotonic() + _READY_WITHIN_S
    with contextlib.closing(redis.Redis(port=port, retry=Retry(NoBackoff(), 0))) as client:
        while not _answers(client, directory):
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                server.wait()
                raise FleetError(f"redis-server on port {port} does not answer")
            time.sleep(0.002)
    return server


def _answers(client: Any, directory: Path) -> bool:  # redis-py types every reply as str | bytes | None
    try:
        # Another program's server may have taken the port meanwhile.
        return Path(client.config_get("dir")["dir"]) == directory.resolve()
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty Redis server that lives as long as the block. Raises FleetError."""
    with tempfile.TemporaryDirectory(prefix="joelclaw-testing-") as directory:
        port = free_port()
        server = start_redis(Path(directory), port)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(10)
