"""A TCP proxy that does harm on demand: `python -m chaos.proxy --target 6379 --rtt-ms 2` only adds latency.

    latency    a round trip takes so much longer; what is in flight does not wait for each other
    reset      RST to both ends
    refuse     RST to whoever connects
    blackhole  nothing is delivered, in either direction, until it ends; then all of it
    half-open  nothing is ever delivered again on the connections that are there, and nobody is told
    byte cut   so many bytes of an answer arrive, then RST

As a program it prints the port it listens on and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK_BYTES = 65_536

Answer = TypeVar("Answer")


class FaultProxy:
    """Joins every connection to a port of this machine; its event loop runs in a thread.

    `rtt_ms` is added to each round trip, half of it in each direction.
    """

    def __init__(self, target_port: int, rtt_ms: float = 0.0) -> None:
        self._target_port = target_port
        self._delay_s = rtt_ms / 2_000
        self._links: set[_Link] = set()
        self._refusing = False
        self._open = asyncio.Event()
        # `select` waits to the microsecond; epoll rounds up to the next millisecond.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._join, "127.0.0.1", 0))
        self._loop.call_soon_threadsafe(self._open.set)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def latency(self, rtt_ms: float) -> None:
        """Make round trips so much longer, from the next chunk on."""
        self._delay_s = rtt_ms / 2_000

    def reset_all(self) -> int:
        """RST to both ends of every connection; answers how many there were."""
        return self._run(self._reset_all())

    def refuse(self, refusing: bool) -> None:
        """Reset new connections as they come, or no longer."""
        self._refusing = refusing

    def hold(self, held: bool) -> None:
        """Deliver nothing in either direction, or deliver what was held."""
        self._loop.call_soon_threadsafe(self._open.clear if held else self._open.set)

    def half_open(self) -> int:
        """Deliver nothing any more on the connections that are there; answers how many there were."""
        return self._run(self._half_open())

    def cut_answers(self, after_bytes: int) -> int:
        """Reset each connection when so many more bytes of answers came; answers how many there are."""
        return self._run(self._cut_answers(after_bytes))

    def close(self) -> None:
        """End the proxy and its thread."""
        self._loop.call_soon_threadsafe(self._open.set)
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _close(self) -> None:
        self._server.close()
        await self._reset_all()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # more may come while these end
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=0.5)

    async def _reset_all(self) -> int:
        links, self._links = self._links, set()
        for link in links:
            link.reset()
        return len(links)

    async def _half_open(self) -> int:
        links = [link for link in self._links if not link.is_dead]
        for link in links:
            link.is_dead = True
        return len(links)

    async def _cut_answers(self, after_bytes: int) -> int:
        for link in self._links:
            link.answer_bytes_left = after_bytes
        return len(self._links)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._copy(link, reader, far_writer, answers=False),
                self._copy(link, far_reader, writer, answers=True),
            )
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            if not link.is_dead:  # else it is kept, for what nobody keeps is closed
                self._links.discard(link)

    async def _copy(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(link, pending, writer, answers=answers))
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                pending.put_nowait((self._loop.time() + self._delay_s, chunk))
        except OSError:
            pass
        pending.put_nowait((self._loop.time() + self._delay_s, b""))
        await delivering

    async def _deliver(
        self,
        link: _Link,
        pending: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        try:
            while True:
                due_at, chunk = await pending.get()
                wait_s = due_at - self._loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                await self._open.wait()
                if link.is_dead:
                    if chunk:
                        continue
                    return  # nobody is told of the end of it either
                if not chunk:
                    writer.close()
                    return
                if answers and link.answer_bytes_left is not None:
                    chunk = chunk[: link.answer_bytes_left]
                    link.answer_bytes_left -= len(chunk)
                writer.write(chunk)
                await writer.drain()
                if link.answer_bytes_left == 0:
                    link.reset()
                    return
        except OSError:
            pass  # its own reader passes that on


class _Link:
    """Two joined connections."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)
        self.is_dead = False
        self.answer_bytes_left: int | None = None

    def reset(self) -> None:
        """RST to both ends."""
        for writer in self._ends:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def main() -> None:
    """Listen on a free port of loopback until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m chaos.proxy", description=__doc__)
    parser.add_argument("--target", type=int, required=True, help="port of the Redis on loopback")
    parser.add_argument("--rtt-ms", type=float, default=2.0, help="milliseconds added to each round trip")
    options = parser.parse_args()
    proxy = FaultProxy(options.target, options.rtt_ms)
    print(proxy.port, flush=True)
    sys.stdin.read()
    proxy.close()


if __name__ == "__main__":
    main()
