"""What breaks between a job and Restate: each effect still happens, and happens once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, NewEvent
from tests.conftest import wait_until
from tests.restate.conftest import Durable, Workers, emit, ended, moves, result_of, workers_of

JOBS = int(os.environ.get("RESTATE_DRILL_JOBS", "200"))


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


def test_a_server_that_is_away_at_first_gets_the_job_when_it_is_there(
    emitter: Emitter, store: Store, workers: Workers, durable: Durable
):
    durable.kill()
    workers.start()
    jobs = [
        emit(emitter, "thing/sent", {"name": "early"}),
        emit(emitter, "thing/called", {"name": "call"}),
    ]
    wait_until(lambda: all(len(moves(store, job, "retry")) > 1 for job in jobs), "both were tried twice")
    reason = moves(store, jobs[0], "retry")[0]["reason"]
    assert "RestateAway: Restate cannot be reached: no connection" == reason
    durable.start()
    wait_until(ended(store, *jobs), "they ended", 20)
    wait_until(lambda: durable.effects["early"], "its effect")
    assert (1, 1) == (durable.effects["early"], durable.effects["call"])


def test_a_call_outlives_a_server_that_is_killed_while_it_waits(
    emitter: Emitter, store: Store, workers: Workers, durable: Durable
):
    workers.start()
    job = emit(emitter, "thing/slow", {"name": "outlived", "seconds": 2})
    wait_until(lambda: moves(store, job, "retry"), "it was sent")
    durable.kill()
    looked = len(moves(store, job, "retry"))
    # More looks than its policy has retries: none of them is one.
    wait_until(
        lambda: len(moves(store, job, "retry")) > looked + 4, "it looked for a server that is away", 20
    )
    durable.start()
    wait_until(ended(store, job), "it ended", 30)
    assert {"added": "outlived"} == result_of(store, job)["output"]
    assert 1 == durable.effects["outlived"]


@pytest.mark.timeout(300)
def test_each_effect_happens_once_though_workers_and_server_are_killed(
    emitter: Emitter, store: Store, workers: Workers, durable: Durable
):
    """RESTATE_DRILL_JOBS=1000 for the whole drill."""
    victims = [workers.start(pool="prefork", size=2), workers.start(size=4)]
    names = [f"storm {number}" for number in range(JOBS)]
    events = ("thing/counted", "thing/counted-call")
    receipts = emitter.emit_many(
        [NewEvent(events[number % 2], {"name": name, "user": name}) for number, name in enumerate(names)]
    )
    jobs = [job.job_id for receipt in receipts for job in receipt.jobs]

    def effects() -> int:
        return len([line for line in durable.effects if line.startswith("storm ")])

    for share, victim in zip((0.15, 0.5), victims, strict=True):
        wait_until(lambda share=share: effects() >= share * JOBS, f"{share:.0%} of the effects", 120)
        durable.kill()
        workers.kill(victim)
        durable.start()
        workers.start(wait=False)
    wait_until(lambda: 0 == store.snapshot()["total"], "the queue is empty", 120)
    wait_until(lambda: effects() >= JOBS, "every effect", 60)
    wait_until(lambda: JOBS == len(durable.counts("storm")), "Restate knows of each")
    assert dict.fromkeys(names, 1) == durable.counts("storm")
    reasons = b"".join(entry.get(b"reason", b"") for _, entry in store.client.xrange(store.keys.transitions))
    assert b"RestateAway" in reasons  # it was under way when the server was killed
    ends = moves_of(store)
    assert [] == [job for job in jobs if ends.get(job) != ["complete"]]


def moves_of(store: Store) -> dict[str, list[str]]:
    """How each job ended."""
    ends: dict[str, list[str]] = {}
    for _, entry in store.client.xrange(store.keys.transitions):
        if entry[b"verb"] in (b"complete", b"discard", b"cancel"):
            ends.setdefault(entry[b"job"].decode(), []).append(entry[b"verb"].decode())
    return ends
