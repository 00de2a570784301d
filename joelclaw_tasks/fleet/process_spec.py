"""One process of the fleet as data: what to run, and how to tell that it is ready."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

Probe = Callable[[], Awaitable[bool]]
_PROBE_TIMEOUT_S = 2.0
_ALL_ADDRESSES = ("0.0.0.0", "::", "")  # noqa: S104 - recognised here, bound nowhere


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run.

    `stage` 0 is the foundation: ready before anything else starts, and last to stop. The rest
    start together; the highest stage stops first. It is ready when a log line matches
    `ready_line`, or `probe` answers true; with neither, as soon as it runs.
    """

    name: str
    argv: tuple[str, ...]
    stage: int
    ready_line: str | None = None
    probe: Probe | None = None
    port: int | None = None
    umask: int = -1  # -1: inherited
    #: When CPU is short it gets a tenth of what another gets, and pushes nobody aside as it wakes.
    stands_back: bool = False
    #: Instead of the fleet's environment, for a program that is to see none of its secrets.
    environ: Mapping[str, str] | None = None
    #: Sent when the grace period is over; what still runs some seconds later is killed.
    last_signal: signal.Signals = signal.SIGKILL


def redis_answers(port: int, password: str) -> Probe:
    """Ready when a Redis on loopback answers PING (so it has also loaded its data)."""

    async def probe() -> bool:
        request = f"AUTH {password}\r\nPING\r\n".encode()
        return (await _ask("127.0.0.1", port, request, lines=2))[-1:] == [b"+PONG\r\n"]

    return probe


def http_ok(port: int, path: str, host: str = "127.0.0.1") -> Probe:
    """Ready when GET `path` answers 200; a server on all addresses is asked on loopback."""
    host = reachable(host)

    async def probe() -> bool:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
        return b" 200 " in b"".join(await _ask(host, port, request, lines=1))

    return probe


def both(one: Probe, other: Probe) -> Probe:
    """Ready when both say so."""

    async def probe() -> bool:
        return await one() and await other()

    return probe


def reachable(host: str) -> str:
    """The address under which this machine reaches a server that is bound to `host`."""
    return "127.0.0.1" if host in _ALL_ADDRESSES else host


async def _ask(host: str, port: int, request: bytes, lines: int) -> list[bytes]:
    """The first lines of a server's answer; none when it does not answer."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return [await reader.readline() for _ in range(lines)]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return []
