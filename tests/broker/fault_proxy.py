"""A TCP proxy on loopback that cuts connections on demand: by reset, or by answering nobody."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from concurrent.futures import Future

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Joins every connection to a port of this machine; its event loop runs in a thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._join, "127.0.0.1", 0))
        self._loop.call_soon_threadsafe(self._open.set)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def reset_all(self) -> int:
        """RST to both ends of every connection; answers how many there were."""
        return self._run(self._reset_all())

    def refuse(self, refusing: bool) -> None:
        """Reset new connections as they come, or no longer."""
        self._refusing = refusing

    def hold(self, held: bool) -> None:
        """Deliver nothing in either direction, or deliver what was held."""
        self._loop.call_soon_threadsafe(self._open.clear if held else self._open.set)

    def close(self) -> None:
        """End the proxy and its thread."""
        self._loop.call_soon_threadsafe(self._open.set)
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, coroutine):
        future: Future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(10)

    async def _close(self) -> None:
        self._server.close()
        await self._reset_all()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _reset_all(self) -> int:
        writers = list(self._writers)
        for writer in writers:
            self._reset(writer)
        return len(writers) // 2

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self._reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._reset(writer)
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        except asyncio.CancelledError:
            pass  # the proxy ends

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        self._writers.discard(writer)
        writer.close()
