"""An ingress that is out of order for a moment, and an answer that is lost on its way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from tests.conftest import wait_until
from tests.restate.conftest import Durable, Workers, emit, ended, moves, result_of, workers_of


class Road(ThreadingHTTPServer):
    """Between a worker and the ingress: `plan` says what happens to the next requests, then all pass.

    `503`: not handed on. `lost`: handed on, and the answer is lost.
    """

    daemon_threads = True

    def __init__(self, url: str, plan: list[str]) -> None:
        self.url, self.plan, self.guard = url, plan, threading.Lock()
        super().__init__(("127.0.0.1", 0), Passing)

    @property
    def own_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Passing(BaseHTTPRequestHandler):
    server: Road

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.guard:
            fate = self.server.plan.pop(0) if self.server.plan else "passes"
        if fate == "503":
            self.send_error(503)
            return
        answer = httpx.request(
            self.command,
            self.server.url + self.path,
            content=body,
            headers=dict(self.headers),
            trust_env=False,
        )
        if fate == "lost":
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        for name in ("content-type", "x-restate-error-source", "x-restate-id"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def road(durable: Durable) -> Iterator[Road]:
    with Road(durable.server.ingress_url, ["503", "lost"]) as road:
        thread = threading.Thread(target=road.serve_forever, args=(0.05,))
        thread.start()
        yield road
        road.shutdown()
        thread.join()


@pytest.fixture
def roadside(redis_url: str, registry_dir: Path, tmp_path: Path, road: Road) -> Iterator[Workers]:
    """Workers that know Restate by that road."""
    workers = workers_of(redis_url, registry_dir, tmp_path, road.own_url)
    yield workers
    workers.end()


def test_a_503_and_a_lost_answer_are_retried_under_the_same_key(
    emitter: Emitter, store: Store, durable: Durable, roadside: Workers
):
    roadside.start()
    job = emit(emitter, "thing/sent", {"name": "hard road"})
    wait_until(ended(store, job), "it ended")
    reasons = [entry["reason"] for entry in moves(store, job, "retry")]
    assert "RestateAway: Restate answered 503: Service Unavailable" == reasons[0]
    assert "RestateAway: the exchange with Restate broke off (RemoteProtocolError)" == reasons[1]
    assert "PreviouslyAccepted" == result_of(store, job)["status"]
    wait_until(lambda: durable.effects["hard road"], "its effect")
    assert 1 == durable.effects["hard road"]
