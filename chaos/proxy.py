"""A TCP proxy that does harm on demand: `python -m chaos.proxy --target 6379 --rtt-ms 2` only adds latency.

    latency    a round trip takes so much longer; what is in flight does not wait for each other
    reset      RST to both ends
    refuse     RST to whoever connects
    blackhole  nothing is delivered, in either direction, until it ends; then all of it
    silence    as blackhole, for answers alone: what is asked for is done, and nobody hears of it
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
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Answer = TypeVar("Answer")


class FaultProxy:
    """Joins every connection to a port of this machine; its event loop runs in a thread.

    `rtt_ms` is added to each round trip, half of it in each direction.
    """

    def __init__(self, target_port: int, rtt_ms: float = 0.0) -> None:
        self._target_port = target_port
        self.delay_s = rtt_ms / 2_000
        self.is_held = False
        self.is_silent = False
        self._links: set[_Link] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._refusing = False
        # `select` waits to the microsecond; epoll rounds up to the next millisecond.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def latency(self, rtt_ms: float) -> None:
        """Make round trips so much longer, from the next chunk on."""
        self.delay_s = rtt_ms / 2_000

    def reset_all(self) -> int:
        """RST to both ends of every connection; answers how many there were."""
        return self._run(self._reset_all())

    def refuse(self, refusing: bool) -> None:
        """Reset new connections as they come, or no longer."""
        self._refusing = refusing

    def hold(self, held: bool) -> None:
        """Deliver nothing in either direction, or deliver what was held."""
        self._loop.call_soon_threadsafe(self._hold, held)

    def silence(self, silent: bool) -> None:
        """Deliver no answers, or deliver those that were held; once it returns, it is so."""
        self._run(self._silence(silent))

    def half_open(self) -> int:
        """Deliver nothing any more on the connections that are there; answers how many there were."""
        return self._run(self._half_open())

    def cut_answers(self, after_bytes: int) -> int:
        """Reset each connection when so many more bytes of answers came; answers how many there are."""
        return self._run(self._cut_answers(after_bytes))

    def close(self) -> None:
        """End the proxy and its thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._accept, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        self._refusing = True
        await self._reset_all()
        for task in self._joining:
            task.cancel()
        await asyncio.sleep(0)

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

    async def _silence(self, silent: bool) -> None:
        self.is_silent = silent
        self._pump()

    def _hold(self, held: bool) -> None:
        self.is_held = held
        self._pump()

    def _pump(self) -> None:
        for link in list(self._links):
            link.pump()

    def _accept(self) -> _End:
        return _Link(self, self._loop).near

    def join(self, link: _Link) -> None:
        """The near end of a link is connected."""
        task = self._loop.create_task(self._join(link))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, link: _Link) -> None:
        """Connect the far end; what the near one sends meanwhile waits."""
        if self._refusing:
            link.reset()
            return
        try:
            await self._loop.create_connection(lambda: link.far, "127.0.0.1", self._target_port)
        except OSError:
            link.reset()
            return
        if link.near.is_over or self._refusing:
            link.reset()
            return
        self._links.add(link)
        link.pump()

    def forget(self, link: _Link) -> None:
        """Both ends of a link are over."""
        self._links.discard(link)


class _Link:
    """Two joined connections: what one receives is written to the other."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.proxy = proxy
        self.loop = loop
        self.is_dead = False
        self.answer_bytes_left: int | None = None
        self.near = _End(self)
        self.far = _End(self)
        self.near.other, self.far.other = self.far, self.near

    def reset(self) -> None:
        """RST to both ends."""
        for end in (self.near, self.far):
            end.reset()

    def pump(self) -> None:
        """Deliver what may be delivered by now."""
        for end in (self.near, self.far):
            end.pump()


class _End(asyncio.Protocol):
    """One of the two connections of a link; keeps what it received until it may be delivered."""

    other: _End

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._transport: Any = None
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self is self._link.near:
            self._link.proxy.join(self._link)

    def data_received(self, data: bytes) -> None:
        proxy = self._link.proxy
        if self._waiting or proxy.delay_s or self._is_held():
            self._waiting.append((self._link.loop.time() + proxy.delay_s, data))
            self.pump()
        else:
            self._deliver(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # a reset ends the other end as well
        self.is_over = True
        self._waiting.append((self._link.loop.time() + self._link.proxy.delay_s, b""))
        self.pump()
        if self.other.is_over and not self._link.is_dead:  # else it is kept: nobody may hear of its end
            self._link.proxy.forget(self._link)

    def pause_writing(self) -> None:
        if not self.other.is_over:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.is_over:
            self.other._transport.resume_reading()

    def pump(self) -> None:
        """Deliver what is due, and look again when the next is."""
        if self._is_held():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            due_at, data = self._waiting[0]
            if due_at > self._link.loop.time():
                self._timer = self._link.loop.call_at(due_at, self.pump)
                return
            self._waiting.popleft()
            self._deliver(data)

    def _is_held(self) -> bool:
        proxy = self._link.proxy
        is_answer = self is self._link.far
        return proxy.is_held or (is_answer and proxy.is_silent) or self.other._transport is None

    def _deliver(self, data: bytes) -> None:
        link, other = self._link, self.other
        if link.is_dead or other.is_over or other._transport.is_closing():
            return
        if not data:
            other._transport.close()
            return
        is_answer = self is link.far
        if is_answer and link.answer_bytes_left is not None:
            data = data[: link.answer_bytes_left]
            link.answer_bytes_left -= len(data)
        other._transport.write(data)
        if is_answer and link.answer_bytes_left == 0:
            link.reset()

    def reset(self) -> None:
        """RST, if it is connected."""
        if self._transport is None or self.is_over:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


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
