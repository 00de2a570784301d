"""Silence: a connection whose other end is silently gone tells the others of its process.

A host that vanishes, or a firewall that forgets, ends all connections at once and closes none. Each would
find out by a timeout of its own, and a worker has several that it uses one after the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from functools import cache
from time import monotonic
from typing import Any
from weakref import WeakSet

import redis
from redis.connection import AbstractConnection

_heard: WeakSet[Any]
_guard: threading.Lock


def _start_over() -> None:
    """A fork shares the sockets of its parent, who hears of silence himself; and nobody frees its locks."""
    global _heard, _guard
    _heard, _guard = WeakSet(), threading.Lock()


_start_over()
os.register_at_fork(after_in_child=_start_over)


@cache
def heard(connection_class: type[AbstractConnection]) -> Any:
    """The class of redis-py connections, with an ear for the silence of others."""
    return type(f"Heard{connection_class.__name__}", (_Heard, connection_class), {})


def suspect(silent: Any, since: float) -> int:
    """Drop all connections to the server of this one that have said nothing since then (monotonic seconds).

    Whoever waits for an answer on one gets a ConnectionError now. Answers how many there were.
    """
    with _guard:
        others = [each for each in _heard if each is not silent and each.heard_at <= since]
    return sum(drop(other) for other in others if other._host_error() == silent._host_error())


def drop(connection: Any) -> bool:
    """End a connection from any thread: whoever uses it reads its end, and closes it."""
    sock = connection._sock
    if sock is None:
        return False
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not that of TLS, which another thread may be in
    return True


class _Heard:
    """Part of a redis-py connection: notes when it was last heard, and calls the others when it is not."""

    heard_at = 0.0

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[misc]
        self.heard_at = monotonic()
        with _guard:
            _heard.add(self)
        return sock

    def read_response(self, *args: Any, **options: Any) -> Any:
        """As redis-py's. Raises what it raises."""
        asked_at = monotonic()
        try:
            response = super().read_response(*args, **options)  # type: ignore[misc]
        except redis.TimeoutError:
            if "timeout" not in options:  # else its caller only looks
                suspect(self, asked_at)
            raise
        except redis.ResponseError:
            self.heard_at = monotonic()
            raise
        self.heard_at = monotonic()
        return response
