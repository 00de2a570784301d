"""A proxy before Redis that lets a script arrive and run, and cuts the connection instead of its reply."""

from __future__ import annotations

import socket
import threading

from joelclaw_tasks.core.caller import _SHAS


class ReplyCutter:
    """Cuts the replies of the next `cuts` calls of a script."""

    def __init__(self, target_port: int, script: str = "admit") -> None:
        self.cuts = 0
        self.has_cut = 0
        self._sha = _SHAS[script].encode()
        self._target_port = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target_port))
            doomed = threading.Event()
            for copy in (self._requests, self._replies):
                threading.Thread(target=copy, args=(near, far, doomed), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket, doomed: threading.Event) -> None:
        while data := _read(near):
            if self._sha in data and self.has_cut < self.cuts:
                self.has_cut += 1
                doomed.set()
            far.sendall(data)
        _end(near, far)

    def _replies(self, near: socket.socket, far: socket.socket, doomed: threading.Event) -> None:
        while data := _read(far):
            if doomed.is_set():
                break
            near.sendall(data)
        _end(near, far)


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def _end(*socks: socket.socket) -> None:
    for sock in socks:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()
