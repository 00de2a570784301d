"""Servers on loopback that no check may be hurt by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def served(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """URL of a server that answers each connection so; the event is set when the test is over."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                answer(connection, over)
            except OSError:  # whoever asked has given up
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def says(text: str | bytes) -> Callable[[socket.socket, threading.Event], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda connection, over: connection.sendall(data)


def answers(status: str, body: str = "", **headers: str) -> Callable[[socket.socket, threading.Event], None]:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return says("\r\n".join([*lines, "", body]))


def drips_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.05):
        connection.sendall(b"X-Slow: 1\r\n")


def never_answers(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


class Flood:
    """A body without an end; counts what was taken of it."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not over.is_set() and self.sent < 10_000_000:
            connection.sendall(b"x" * 65_536)
            self.sent += 65_536
