"""A crowd of requests at once, by a client that costs as little as it can: it shares the machine.

`python -m tests.ingress.crowd` starts a Redis and an ingress, sends 300 signed deliveries at once, several
times, and prints what each round took; `--processes 1` is for an ingress of one process. `--port` and
GITHUB_WEBHOOK_SECRET address a running ingress instead.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port, start_redis
from tests.ingress.served import SECRET, delivery_headers, payload, serve


@dataclass(frozen=True)
class Answer:
    """What came back, and how long after its request was written."""

    status: bytes
    body: bytes
    ms: float


@dataclass(frozen=True)
class Crowd:
    answers: list[Answer]

    @property
    def p50_ms(self) -> float:
        return self._percentile(0.50)

    @property
    def p95_ms(self) -> float:
        return self._percentile(0.95)

    def _percentile(self, share: float) -> float:
        return sorted(answer.ms for answer in self.answers)[int(share * len(self.answers))]


def raw_request(headers: dict[str, str], body: bytes, path: str = "/webhooks/github") -> bytes:
    """The bytes of one POST, as a client would write them."""
    lines = [f"POST {path} HTTP/1.1", "Host: ingress", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def deliver_at_once(port: int, requests: list[bytes]) -> Crowd:
    """Each request on a connection of its own; all are connected, then written, then read."""
    with ExitStack() as stack:
        poll = select.epoll()
        stack.callback(poll.close)
        connections: dict[int, socket.socket] = {}
        for _ in requests:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[connection.fileno()] = connection
            poll.register(connection, select.EPOLLIN)
        time.sleep(0.1)  # until the server has taken them all: not a part of what is measured
        sent_at: dict[int, float] = {}
        for (number, connection), request in zip(connections.items(), requests, strict=True):
            sent_at[number] = time.perf_counter()
            connection.sendall(request)
        read = dict.fromkeys(connections, b"")
        answers: list[Answer] = []
        while read:
            for number, _ in poll.poll(30):
                part = connections[number].recv(65_536)
                read[number] += part
                head, _, body = read[number].partition(b"\r\n\r\n")
                if not part or (body and len(body) == int(head.partition(b"content-length: ")[2].split()[0])):
                    ms = (time.perf_counter() - sent_at[number]) * 1000
                    answers.append(Answer(head.partition(b"\r\n")[0], body, ms))
                    poll.unregister(number)
                    del read[number]
        return Crowd(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="of a running ingress (default: start one)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument(
        "--processes", type=int, default=0, help="of the ingress that is started (0: by CPUs)"
    )
    arguments = parser.parse_args()
    body = payload("workflow_run.completed")
    with ExitStack() as stack:
        port, secret = arguments.port, os.environ.get("GITHUB_WEBHOOK_SECRET", "")
        if port is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis_port, secret = free_port(), SECRET
            redis = start_redis(directory, redis_port)
            stack.callback(redis.wait)
            stack.callback(redis.terminate)
            ingress = serve(
                directory,
                f"redis://127.0.0.1:{redis_port}/0",
                GITHUB_WEBHOOK_SECRET=SECRET,
                JOELCLAW_INGRESS_PROCESSES=str(arguments.processes),
                PYTHONWARNINGS="",
            )
            stack.callback(ingress.stop)
            port = ingress.port
        for _ in range(arguments.rounds):
            requests = [raw_request(delivery_headers(body, secret=secret), body) for _ in range(300)]
            crowd = deliver_at_once(port, requests)
            queued = sum(b'"queued":1' in answer.body for answer in crowd.answers)
            print(f"queued {queued} of 300; reply p50 {crowd.p50_ms:.0f} ms, p95 {crowd.p95_ms:.0f} ms")
            time.sleep(0.2)


if __name__ == "__main__":
    main()
