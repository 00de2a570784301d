"""Wire: scripts to Redis and replies back, with as little Python as possible.

redis-py's generic command path costs more than the script that it calls. This sends EVALSHA on a
connection of the client's own pool and keeps that connection for the next call. It also lets a
caller send now and read when the socket is readable, so that an event loop need not wait.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

import hiredis
import redis

from joelclaw_tasks.silence import drop, suspect

#: A connection that was idle for longer is checked for a server that has closed it meanwhile.
_TRUSTED_IDLE_S = 1.0

Command = Sequence[str | bytes | int]


class Sent:
    """Commands that are on their way; `replies` must be called once."""

    def __init__(self, wire: Wire, connection: Any, count: int) -> None:
        self._wire = wire
        self._connection = connection
        self._count = count

    def fileno(self) -> int:
        """The socket that becomes readable when replies arrive."""
        return int(self._connection._sock.fileno())

    def give_up(self, since: float) -> None:
        """End the connection, silent since then (monotonic seconds), and all that are as silent.

        Its socket becomes readable, and `replies` fails at once.
        """
        drop(self._connection)
        suspect(self._connection, since)

    def replies(self) -> list[Any]:
        """One reply for each command, an error reply as its exception. Raises redis.ConnectionError."""
        found: list[Any] = []
        try:
            for _ in range(self._count):
                try:
                    found.append(self._connection.read_response())
                except redis.exceptions.ResponseError as error:
                    found.append(error)
        except BaseException:
            # Whatever else was on its way would be read as the reply of the next command.
            self._wire._drop(self._connection)
            self._wire.forget()  # they lead to the same server
            raise
        self._wire._keep(self._connection)
        return found


class Wire:
    """Kept connections of one client. Safe to share between threads, and over a fork."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._idle: deque[tuple[Any, float]] = deque()

    def run(self, commands: Sequence[Command], *, repeatable: bool = False) -> list[Any]:
        """Send the commands and read their replies. `repeatable`: once more on a new connection."""
        packed = _pack(commands)
        try:
            return self._send(packed, len(commands)).replies()
        except redis.exceptions.ConnectionError:
            if not repeatable:
                raise
        self.forget()
        return self._send(packed, len(commands)).replies()

    def send(self, commands: Sequence[Command]) -> Sent:
        """Send the commands; their replies are read later."""
        return self._send(_pack(commands), len(commands))

    def forget(self) -> None:
        """Drop the kept connections."""
        while self._idle:
            self._drop(self._idle.popleft()[0])

    def _send(self, packed: bytes, count: int) -> Sent:
        connection = self._take()
        try:
            connection.send_packed_command([packed])
        except BaseException:
            self._drop(connection)
            raise
        return Sent(self, connection, count)

    def _take(self) -> Any:
        while self._idle:
            try:
                connection, kept_at = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if connection.pid != os.getpid():
                continue  # a forked child: the socket is its parent's
            if monotonic() - kept_at < _TRUSTED_IDLE_S or not self._is_stale(connection):
                return connection
            self._drop(connection)
        return self._pool.get_connection()

    @staticmethod
    def _is_stale(connection: Any) -> bool:
        """Whether the server has closed it: then there is something to read where nothing is due."""
        try:
            return connection._sock is None or bool(connection.can_read(timeout=0))
        except (redis.exceptions.ConnectionError, OSError):
            return True

    def _keep(self, connection: Any) -> None:
        self._idle.append((connection, monotonic()))

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)


def _pack(commands: Sequence[Command]) -> bytes:
    """The commands in the Redis serialization protocol."""
    pack: Any = hiredis.pack_command  # its stub knows tuples of one
    return b"".join([pack(("EVALSHA", *command)) for command in commands])
