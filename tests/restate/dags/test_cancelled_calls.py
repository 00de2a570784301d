"""A call ends in Restate when a person cancels its job."""

from __future__ import annotations

from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import RestateAway
from joelclaw_tasks.restate.cancelled_calls import CancelledCalls
from tests.conftest import wait_until
from tests.restate.conftest import emit, moves
from tests.restate.dags.conftest import Fleet


def under_way(fleet: Fleet, *jobs: str) -> set[str]:
    keys = ", ".join(f"'{job}'" for job in jobs)
    try:
        rows = fleet.durable.client.query(
            "SELECT COALESCE(idempotency_key, target_service_key) AS job FROM sys_invocation "
            f"WHERE status <> 'completed' AND (idempotency_key IN ({keys}) OR target_service_key IN ({keys}))"
        )
    except RestateAway:  # another test has killed it, and it has just started
        return {"nobody knows"}
    return {row["job"] for row in rows}


def test_a_cancelled_job_ends_its_call_and_no_other(fleet: Fleet):
    jobs = [emit(fleet.emitter, "dag/slow", {"name": f"called {n}", "seconds": 600}) for n in range(3)]
    flow = emit(fleet.emitter, "dag/ship", {"nodes": [{"id": "w", "type": "wait", "seconds": 600}]})
    wait_until(lambda: {*jobs, flow} == under_way(fleet, *jobs, flow), "all are under way", 20)
    wait_until(
        lambda: all(moves(fleet.store, job, "retry") for job in [*jobs, flow]), "they are waited for", 20
    )

    words = fleet.store.cancel([jobs[0], flow], actor="joel", reason="enough")
    assert set(words) <= {Word.CANCELLED, Word.ASKED}
    wait_until(lambda: {*jobs[1:]} == under_way(fleet, *jobs, flow), "two have ended", 20)
    assert "cancelled" == fleet.runs.status(flow)["status"]
    again = CancelledCalls(fleet.store, fleet.durable.client, lambda: fleet.emitter.registry)
    assert 0 == again.look()  # one that begins anew and reads the same
    assert {*jobs[1:]} == under_way(fleet, *jobs)
    fleet.store.cancel(jobs[1:], actor="tester", reason="the test is over")
    wait_until(lambda: set() == under_way(fleet, *jobs), "none is left", 20)
    assert [0] * 3 == [fleet.durable.effects[f"called {n}"] for n in range(3)]
