"""DAGs on a real Restate, with jobs of real workers and requests to a real server."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from joelclaw_tasks.restate.runs import RunExists, RunOver, UnknownRun
from tests.conftest import wait_until
from tests.restate.conftest import moves
from tests.restate.dags.conftest import Fleet, task


class Shop:
    """A server that books by idempotency key, and fails as often as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.fails: dict[str, list[int]] = {}
        shop = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.loads(raw) if raw else None
                shop.asked.append((self.path, self.headers["Idempotency-Key"], body))
                failures = shop.fails.get(self.path, [])
                status = failures.pop(0) if failures else 200
                answer = json.dumps({"id": len(shop.asked), "got": body}).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def keys(self, path: str) -> list[str]:
        return [key for asked, key, _ in self.asked if asked == path]


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    thread = threading.Thread(target=shop.server.serve_forever, args=(0.05,))
    thread.start()
    yield shop
    shop.server.shutdown()
    thread.join()
    shop.server.server_close()


def http(id: str, url: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "http", "url": url, "depends_on": [*after], **fields}


def test_steps_begin_when_what_they_depend_on_has_ended_and_get_its_output(fleet: Fleet):
    run = fleet.start(
        {
            "nodes": [
                task("first", data={"name": "flow first", "items": [5, 6, 7]}),
                task(
                    "each", "first",
                    for_each={"$ref": "first.output.result.items"},
                    data={"name": "flow each", "saw": {"$ref": "item"}},
                ),
                {"id": "rest", "type": "wait", "seconds": 0.2, "depends_on": ["first"]},
                task("none", "first", for_each=[], data={"name": "flow none"}),
                task("last", "each", "rest", "none",
                     data={"name": "flow last", "saw": {"$ref": "each.output.2.result.saw"}}),
            ],
            "output": {"saw": {"$ref": "last.output.result.saw"}, "none": {"$ref": "none.output"}},
        }
    )  # fmt: skip
    found = fleet.ended(run)
    assert "completed" == found["status"]
    assert {"completed"} == {node["state"] for node in found["nodes"].values()}
    assert 3 == found["nodes"]["each"]["of"]
    output = fleet.durable.client.output(fleet.invocation(run))
    assert output is not None
    assert {"saw": 7, "none": []} == output.value
    assert ["flow first", "flow last"] == fleet.order("flow first", "flow last")
    assert 3 == fleet.effects["flow each"]
    assert 0 == fleet.effects["flow none"]
    nodes = found["nodes"]
    assert nodes["last"]["began_at"] >= max(nodes[id]["ended_at"] for id in ("each", "rest", "none"))


def test_a_run_of_the_same_id_is_started_once(fleet: Fleet):
    fleet.start({"nodes": [task("only", data={"name": "once only"})]}, "once")
    with pytest.raises(RunExists, match="run once was started before"):
        fleet.start({"nodes": [task("other", data={"name": "once other"})]}, "once")
    assert ["only"] == list(fleet.ended("once")["nodes"])
    assert (1, 0) == (fleet.effects["once only"], fleet.effects["once other"])
    with pytest.raises(UnknownRun):
        fleet.runs.status("nobody")
    with pytest.raises(UnknownRun, match="no id of a run"):
        fleet.start({"nodes": [task("a")]}, "a/b")


def test_a_plan_with_faults_runs_nothing_and_names_them_all(fleet: Fleet):
    """As when an event brings the plan: nobody has checked it."""
    lost = {"id": "lost", "type": "task", "handler": "dag.nothing", "depends_on": ["lost"]}
    plan = {"nodes": [task("right", data={"name": "refused"}), task("wrong", "nobody"), lost]}
    found = fleet.ended(fleet.start(plan))
    assert "refused" == found["status"]
    assert "depends on 'nobody'" in found["reason"]
    assert "node lost depends on itself" in found["reason"]
    assert 0 == fleet.effects["refused"]


def test_a_job_in_the_dead_letter_fails_its_step_and_what_was_done_is_taken_back(fleet: Fleet, shop: Shop):
    run = fleet.start(
        {
            "nodes": [
                task("booked", data={"name": "dead booked"},
                     undo={"type": "task", "handler": "dag.work", "data": {"name": "dead undo booked"}}),
                http("paid", f"{shop.url}/pay", "booked", body={"amount": 5}, undo={
                    "type": "http", "url": f"{shop.url}/refund", "body": {"$ref": "paid.output.body.id"}}),
                {"id": "broken", "type": "task", "handler": "dag.fail", "data": {"name": "dead"},
                 "depends_on": ["paid"], "retries": {"max": 1, "base_s": 0.1}},
                task("never", "broken", data={"name": "dead never"}),
            ]
        }
    )  # fmt: skip
    found = fleet.ended(run)
    assert "failed" == found["status"]
    assert "is in the dead letter: PermanentFailure: no such customer: dead (2 tries)" in found["reason"]
    expected = {"booked": "completed", "paid": "completed", "broken": "failed", "never": "skipped"}
    assert expected == fleet.states(run)
    assert ("done", "done") == (found["nodes"]["booked"]["undo"], found["nodes"]["paid"]["undo"])
    assert "undo" not in found["nodes"]["broken"]
    # The latest first, each once, and with what the step had answered.
    assert [f"{run}/paid", f"{run}/paid.undo"] == [key for _, key, _ in shop.asked]
    assert 1 == shop.asked[1][2]
    assert ["dead booked", "dead undo booked"] == fleet.order("dead booked", "dead undo booked", "dead never")


def test_a_request_is_tried_again_under_the_same_key_where_that_is_of_use(fleet: Fleet, shop: Shop):
    shop.fails = {"/late": [503, 429], "/wrong": [400], "/away": [302]}
    retries = {"max": 3, "base_s": 0.05}
    late = fleet.start({"nodes": [http("late", f"{shop.url}/late", retries=retries)]})
    wrong = fleet.start({"nodes": [http("wrong", f"{shop.url}/wrong", retries=retries)]})
    away = fleet.start({"nodes": [http("away", f"{shop.url}/away", retries=retries)]})
    assert "completed" == fleet.ended(late)["status"]
    assert "wrong: it answered 400" == fleet.ended(wrong)["reason"]
    assert "away: it answered 302" == fleet.ended(away)["reason"]
    assert [f"{late}/late"] * 3 == shop.keys("/late")
    assert 1 == len(shop.keys("/wrong"))
    assert [] == shop.keys("/elsewhere")
    with pytest.raises(RunOver):
        fleet.runs.cancel(late, by="tester")


def test_a_step_that_takes_too_long_fails_and_its_job_is_stopped(fleet: Fleet):
    run = fleet.start(
        {"nodes": [task("slow", data={"name": "slow", "seconds": 30}, timeout_s=0.7), task("after", "slow")]}
    )
    found = fleet.ended(run)
    assert ("failed", "slow: not done within 0.7 s") == (found["status"], found["reason"])
    assert {"slow": "failed", "after": "skipped"} == fleet.states(run)
    assert 0 == fleet.effects["slow"]


@pytest.mark.parametrize("way", ["by a person", "over the admin API"])
def test_a_cancelled_run_stops_what_runs_and_takes_back_what_it_did(fleet: Fleet, way: str):
    name = f"cancel {way}"
    undo = {"type": "task", "handler": "dag.work"}
    run = fleet.start(
        {
            "nodes": [
                task("done", data={"name": f"{name} done"},
                     undo={**undo, "data": {"name": f"{name} undo done"}}),
                task("runs", "done", data={"name": f"{name} runs", "seconds": 20},
                     undo={**undo, "data": {"name": f"{name} undo runs"}}),
                {"id": "waits", "type": "wait", "seconds": 600, "depends_on": ["done"]},
                {"id": "asks", "type": "approval", "question": "Go on?", "depends_on": ["done"]},
                task("never", "waits", "asks", data={"name": f"{name} never"}),
            ]
        }
    )  # fmt: skip
    wait_until(lambda: f"begin {name} runs" in fleet.file.read_text(), "it runs", 20)
    if way == "by a person":
        fleet.runs.cancel(run, by="joel", reason="changed my mind")
        with pytest.raises(RunOver):
            fleet.runs.cancel(run, by="somebody else")
    else:
        fleet.durable.client.cancel(fleet.invocation(run))
    found = fleet.ended(run, 30)
    assert "cancelled" == found["status"]
    said = "cancelled by joel: changed my mind" if way == "by a person" else "over the admin API"
    assert said in found["reason"]
    expected = {
        "done": "completed", "runs": "cancelled", "waits": "cancelled", "asks": "cancelled",
        "never": "skipped",
    }  # fmt: skip
    assert expected == fleet.states(run)
    # What was interrupted may have had an effect, so it is taken back too, and first.
    order = [f"{name} done", f"{name} undo runs", f"{name} undo done"]
    assert order == fleet.order(*order, f"{name} runs", f"{name} never")
    assert [] == [one for one in fleet.runs.approvals() if one["run"] == run]


def test_what_cannot_be_taken_back_is_named_and_the_rest_is_taken_back(fleet: Fleet, shop: Shop):
    shop.fails = {"/refund": [400]}
    run = fleet.start(
        {
            "nodes": [
                http("one", f"{shop.url}/one", undo={"type": "http", "url": f"{shop.url}/one/back"}),
                http("two", f"{shop.url}/two", "one", undo={"type": "http", "url": f"{shop.url}/refund"}),
                http("three", f"{shop.url}/three", "two", body={"$ref": "two.output.body.nothing"}),
            ]
        }
    )
    found = fleet.ended(run)
    assert "three: \"two.output.body.nothing\": there is no 'nothing' in it" == found["reason"]
    assert ["two: not taken back, it answered 400"] == found["not_undone"]
    assert ["/one", "/two", "/refund", "/one/back"] == [path for path, _, _ in shop.asked]


def test_its_end_is_an_event_that_is_emitted_once(fleet: Fleet):
    run = fleet.start({"emits": "dag/work", "nodes": [{"id": "w", "type": "wait", "seconds": 0.05}]})
    found = fleet.ended(run)
    [job] = found["emitted"]["jobs"]
    assert ("admitted", f"dag:{run}:ended") == (job["decision"], found["emitted"]["event_id"])
    wait_until(lambda: moves(fleet.store, job["job_id"], "admit"), "it is in the queue")


def test_an_output_that_is_too_large_is_left_out_and_said_so(fleet: Fleet):
    run = fleet.start({"nodes": [{"id": "large", "type": "task", "handler": "dag.large"}]})
    output = fleet.ended(run)["nodes"]["large"]["output"]
    assert (None, True) == (output["result"], output["left_out_bytes"] > 300_000)


@pytest.mark.timeout(120)
def test_500_steps(fleet: Fleet):
    """50 chains of 10, which end in one: 499 requests would be a test of the server, so most are waits."""
    nodes: list[dict[str, Any]] = []
    for chain in range(50):
        for link in range(10 if chain else 9):
            after = [f"c{chain}-{link - 1}"] if link else []
            nodes.append({"id": f"c{chain}-{link}", "type": "wait", "seconds": 0.01, "depends_on": after})
    ends = [f"c{chain}-{9 if chain else 8}" for chain in range(50)]
    nodes.append(task("end", *ends, data={"name": "500"}))
    assert 500 == len(nodes)
    run = fleet.start({"nodes": nodes})
    found = fleet.ended(run, 60)
    assert "completed" == found["status"]
    assert Counter(completed=500) == Counter(node["state"] for node in found["nodes"].values())
    assert 1 == fleet.effects["500"]


@pytest.mark.timeout(120)
def test_a_fan_out_of_200_jobs(fleet: Fleet):
    each = task("each", for_each=[*range(200)], data={"name": "wide", "saw": {"$ref": "item"}})
    fan = {"nodes": [each], "output": {"$ref": "each.output"}}
    run = fleet.start(fan)
    found = fleet.ended(run, 60)
    assert ("completed", 200) == (found["status"], fleet.effects["wide"])
    output = fleet.durable.client.output(fleet.invocation(run))
    assert output is not None
    assert [*range(200)] == [one["result"]["saw"] for one in output.value]
    assert str(found["nodes"]["each"]["output"]).endswith("…")  # too much to show, and still handed on
