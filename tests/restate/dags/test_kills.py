"""The server, the service and the worker are killed -9 in the middle of a DAG: each effect happens once."""

from __future__ import annotations

import pytest

from joelclaw_tasks.errors import RestateAway
from tests.conftest import wait_until
from tests.restate.dags.conftest import Fleet, task


@pytest.mark.timeout(240)
def test_50_steps_with_a_fan_out_and_an_approval_outlive_every_kill(fleet: Fleet):
    """Before the approval, while a person is asked, and right after the answer."""
    chain = [task("k0", data={"name": "kill 0", "items": [*range(20)]})]
    chain += [task(f"k{n}", f"k{n - 1}", data={"name": f"kill {n}", "seconds": 0.05}) for n in range(1, 16)]
    fan = task("fan", "k3", for_each={"$ref": "k0.output.result.items"},
               data={"name": "kill fan", "seconds": 0.3, "saw": {"$ref": "item"}})  # fmt: skip
    gate = {"id": "gate", "type": "approval", "question": "Ship it?", "depends_on": ["k15", "fan"]}
    rest = [task(f"r{n}", "gate" if n < 10 else f"r{n - 10}", data={"name": f"kill r{n}"}) for n in range(31)]
    end = task("end", *(f"r{n}" for n in range(31)), data={"name": "kill end"})
    nodes = [*chain, fan, gate, *rest, end]
    assert 50 == len(nodes)
    worker, [service] = fleet.workers.running[0], fleet.service.running
    port = fleet.service.port
    run = fleet.start({"nodes": nodes, "output": {"$ref": "end.output.result.name"}})

    wait_until(lambda: fleet.effects["kill 1"], "it is under way", 30)
    fleet.service.kill(service)
    service = fleet.service.start(port, wait=False)
    wait_until(lambda: fleet.effects["kill fan"] >= 3, "its fan-out is under way", 60)
    fleet.workers.kill(worker)
    worker = fleet.workers.start(size=4, wait=False)
    wait_until(lambda: fleet.effects["kill fan"] >= 8, "its fan-out goes on", 60)
    fleet.durable.kill()
    fleet.durable.start()

    def asks() -> bool:
        try:
            return any(one["run"] == run for one in fleet.runs.approvals())
        except RestateAway:  # it has just started
            return False

    wait_until(asks, "it asks", 60)
    fleet.durable.kill()
    fleet.service.kill(service)
    fleet.durable.start()
    service = fleet.service.start(port, wait=False)
    wait_until(asks, "it still asks", 30)
    fleet.runs.answer(run, "gate", approved=True, by="joel")
    fleet.workers.kill(worker)
    fleet.service.kill(service)
    fleet.durable.kill()
    fleet.workers.start(size=4, wait=False)
    fleet.durable.start()
    fleet.service.start(port)
    found = fleet.ended(run, 60)

    assert "completed" == found["status"]
    assert {"completed"} == {node["state"] for node in found["nodes"].values()}
    once = {f"kill {n}": 1 for n in range(16)} | {f"kill r{n}": 1 for n in range(31)} | {"kill end": 1}
    assert once | {"kill fan": 20} == {n: c for n, c in fleet.effects.items() if n.startswith("kill ")}
    assert 20 == found["nodes"]["fan"]["of"]
    # One job for each step, however often it was asked for.
    assert 68 == sum(1 for line in fleet.file.read_text().splitlines() if line.startswith("done dag:" + run))
