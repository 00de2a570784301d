"""joelclaw dag and joelclaw restate, as processes against a real Restate."""

from __future__ import annotations

import json
from pathlib import Path

from joelclaw_tasks.restate.client import Target
from tests.conftest import wait_until
from tests.restate.conftest import emit, ended, result_of
from tests.restate.dags.conftest import Fleet, task


def test_a_plan_is_drawn_run_looked_at_and_cancelled(fleet: Fleet, tmp_path: Path):
    plan = {"nodes": [task("a", data={"name": "cli a"}), {"id": "w", "type": "wait", "seconds": 600}]}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    drawn = fleet.cli("dag", "graph", str(file))["result"]
    assert "wave 1\n  · a  task dag.work\n  · w  wait 600 s" == drawn["text"]
    assert {} == drawn["states"]
    assert 0 == fleet.effects["cli a"]

    started = fleet.cli("dag", "run", str(file), "--id", "cli-run", "--wait", "0")["result"]
    assert ("cli-run", 2, "running") == (started["run"], started["nodes"], started["status"]["status"])
    assert "DAG_EXISTS" == fleet.cli("dag", "run", str(file), "--id", "cli-run")["error"]["code"]
    wait_until(lambda: "completed" == fleet.node("cli-run", "a")["state"], "its first step has ended", 20)
    assert "✓ a" in fleet.cli("dag", "graph", "cli-run")["result"]["text"]
    assert "cli-run" in [one["run"] for one in fleet.cli("dag", "list")["result"]["runs"]]

    cancelled = fleet.cli("dag", "cancel", "cli-run", "--actor", "joel", "--reason", "enough")
    assert "joelclaw dag status cli-run" == cancelled["next_actions"][0]["command"]
    assert "cancelled by joel: enough" == fleet.ended("cli-run")["reason"]
    assert "DAG_OVER" == fleet.cli("dag", "cancel", "cli-run")["error"]["code"]
    assert {"a": "completed", "w": "cancelled"} == fleet.states("cli-run")


def test_a_plan_from_stdin_with_faults_is_refused_with_all_of_them(fleet: Fleet):
    plan = json.dumps({"nodes": [{"id": "a", "type": "task", "handler": "dag.wrok", "depends_on": ["a"]}]})
    refused = fleet.cli("dag", "run", "-", "--id", "faulty", stdin=plan)
    assert "DAG_INVALID" == refused["error"]["code"]
    assert [
        "node a depends on itself",
        'node a: no handler is named "dag.wrok"; did you mean "dag.work"?',
    ] == refused["error"]["details"]["faults"]
    assert "DAG_UNKNOWN" == fleet.cli("dag", "status", "faulty")["error"]["code"]


def test_an_event_brings_a_plan_and_its_job_has_the_output(fleet: Fleet):
    plan = {"nodes": [task("a", data={"name": "event a"})], "output": {"$ref": "a.output.result.name"}}
    job = emit(fleet.emitter, "dag/ship", plan)
    wait_until(ended(fleet.store, job), "it ended", 20)
    assert "event a" == result_of(fleet.store, job)["output"]
    assert "completed" == fleet.runs.status(job)["status"]


def test_restate_is_looked_at_and_an_invocation_is_ended(fleet: Fleet):
    overview = fleet.cli("restate", "status")["result"]
    assert {"Dag", "DagStep", "Effects"} <= set(overview["services"])
    assert f"http://127.0.0.1:{fleet.service.port}" in " ".join(one["uri"] for one in overview["deployments"])

    body = json.dumps({"name": "cli ended", "seconds": 600}).encode()
    sent = fleet.durable.client.send(Target("Effects", "slowly"), body)
    listed = fleet.cli("restate", "invocations", "--service", "Effects")["result"]["invocations"]
    assert sent.invocation_id in [one["id"] for one in listed]
    assert {"Effects"} == {one["target"].partition("/")[0] for one in listed}
    fleet.cli("restate", "cancel", sent.invocation_id)

    def is_over() -> bool:
        found = fleet.durable.client.query(
            f"SELECT status FROM sys_invocation WHERE id = '{sent.invocation_id}'"
        )
        return "running" not in [row["status"] for row in found] and [] == [
            row for row in found if row["status"] == "suspended"
        ]

    wait_until(is_over, "it is over", 20)
    assert 0 == fleet.durable.effects["cli ended"]
    hostile = fleet.cli("restate", "invocations", "--service", "x' OR '1'='1")
    assert "RESTATE_REFUSED" == hostile["error"]["code"]
    assert "RESTATE_REFUSED" == fleet.cli("restate", "cancel", "inv_nothing")["error"]["code"]


def test_an_awakeable_is_resolved_from_the_command_line(fleet: Fleet):
    sent = fleet.durable.client.send(Target("Effects", "wait_for"), b'{"name": "cli"}')

    def noted() -> list[str]:
        lines = fleet.durable.effects_file.read_text().splitlines()
        return [line for line in lines if line.startswith("awakeable cli ")]

    wait_until(noted, "it waits", 20)
    assert "USAGE" == fleet.cli("restate", "resolve", noted()[0].split()[2], "{")["error"]["code"]
    fleet.cli("restate", "resolve", noted()[0].split()[2], '{"yes": true}')
    assert {"yes": True} == fleet.durable.client.attach(sent.invocation_id, within_s=10).value


def test_without_restate_a_command_says_how_to_get_one(fleet: Fleet):
    fleet.durable.kill()
    try:
        answer = fleet.cli("dag", "status", "x")
        assert ("RESTATE_AWAY", False) == (answer["error"]["code"], answer["ok"])
        assert "joelclaw up --with-restate" in answer["fix"]
    finally:
        fleet.durable.start()
