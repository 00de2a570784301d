"""A TCP proxy that adds latency and nothing else: `python -m bench.proxy --target 6379 --rtt-ms 2`.

Half of the added round trip is spent in each direction. A chunk is held back from the moment it
arrived, so chunks in flight do not wait for each other: pipelining keeps its worth, as on a real
network. Threads, because `time.sleep` is exact to about 0.1 ms where an event loop rounds a
timeout up to the next millisecond.

Prints the port it listens on; ends when its standard input ends, so it never outlives its parent.
"""

from __future__ import annotations

import argparse
import queue
import socket
import sys
import threading
import time

_CHUNK_BYTES = 65_536
_Pending = queue.SimpleQueue[tuple[float, bytes]]


def _collect(source: socket.socket, pending: _Pending, delay_s: float) -> None:
    """Read chunks and note when each is due; an empty chunk means the end."""
    chunk = b"."
    while chunk:
        try:
            chunk = source.recv(_CHUNK_BYTES)
        except OSError:
            chunk = b""
        pending.put((time.monotonic() + delay_s, chunk))


def _deliver(pending: _Pending, destination: socket.socket) -> None:
    """Write each chunk when it is due; pass the end on."""
    try:
        while True:
            due_at, chunk = pending.get()
            time.sleep(max(0.0, due_at - time.monotonic()))
            if not chunk:
                destination.shutdown(socket.SHUT_WR)
                return
            destination.sendall(chunk)
    except OSError:
        pass  # the other end has gone; its own reader passes that on


def _join(client: socket.socket, target: tuple[str, int], delay_s: float) -> None:
    try:
        server = socket.create_connection(target)
    except OSError:
        client.close()
        return
    for source, destination in ((client, server), (server, client)):
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending: _Pending = queue.SimpleQueue()
        threading.Thread(target=_collect, args=(source, pending, delay_s), daemon=True).start()
        threading.Thread(target=_deliver, args=(pending, destination), daemon=True).start()


def serve(listener: socket.socket, target: tuple[str, int], rtt_ms: float) -> None:
    """Join every connection to the target with `rtt_ms` milliseconds added to a round trip, forever."""
    while True:
        client, _ = listener.accept()
        _join(client, target, rtt_ms / 2_000)


def main() -> None:
    """Listen on a free port of loopback until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--target", type=int, required=True, help="port of the Redis on loopback")
    parser.add_argument("--rtt-ms", type=float, default=2.0, help="milliseconds added to each round trip")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    target = ("127.0.0.1", options.target)
    threading.Thread(target=serve, args=(listener, target, options.rtt_ms), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
