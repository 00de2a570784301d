"""snapshot, list_jobs and inspect: what waits, where and why."""

from __future__ import annotations

import json
import time

import pytest

from joelclaw_tasks.core.states import State
from joelclaw_tasks.errors import UnknownJob


@pytest.fixture
def now(core):
    """The clock of the test set to that of Redis, which ages are measured by."""
    core.clock.now = int(time.time() * 1000)
    return core


def test_the_snapshot_of_an_empty_core(core):
    snapshot = core.store.snapshot()

    assert abs(snapshot.pop("taken_at_ms") - time.time() * 1000) < 10_000
    assert {
        "total": 0, "oldest_age_ms": None, "families": [], "queues": {}, "gates": [], "pauses": [],
        "by_priority": dict.fromkeys(("P0", "P1", "P2", "P3"), 0),
        "by_state": {state.value: 0 for state in State},
    } == snapshot  # fmt: skip
    assert [] == core.store.list_jobs()


def test_the_snapshot_counts_by_family_priority_state_and_queue(now):
    core = now
    core.clock.advance(-7_000)
    core.admit(family="small", priority=0, queue="q2")
    core.clock.advance(5_000)
    for priority in (1, 1, 2):
        core.admit(family="big", priority=priority)
    core.admit(family="big", priority=3, due_ms=core.clock.now + 60_000)
    core.store.discard(core.start("q2"), "no")
    core.start("q")

    snapshot = core.store.snapshot()

    assert 3 == snapshot["total"]
    assert {"P0": 0, "P1": 1, "P2": 1, "P3": 1} == snapshot["by_priority"]
    states = {name: n for name, n in snapshot["by_state"].items() if n}
    assert {"available": 2, "scheduled": 1, "executing": 1, "discarded": 1} == states
    assert ["big", "small"] == [family["family"] for family in snapshot["families"]]
    big, small = snapshot["families"]
    assert (3, {"P0": 0, "P1": 1, "P2": 1, "P3": 1}) == (big["total"], big["by_priority"])
    assert (0, None, 1) == (small["total"], small["oldest_age_ms"], small["by_state"]["discarded"])
    assert 2_000 <= big["oldest_age_ms"] == snapshot["oldest_age_ms"] < 7_000
    assert {"available": 2, "scheduled": 1, "executing": 1} == {
        k: n for k, n in snapshot["queues"]["q"].items() if n
    }


def test_the_snapshot_names_gates_with_limits_runners_and_lanes_over_all_queues(core):
    core.store.limit({"limit:key/h": 1, "limit:resource/nas": 2}, actor="t", reason="")
    for queue in ("q", "q2"):
        core.admit(queue=queue, lane=f"{queue}|h|k", gates=("limit:key/h=k",))
        core.admit(queue=queue, lane=f"{queue}|i|k", gates=("limit:key/h=k",))
    core.admit(queue="q3", gates=("limit:resource/nas",))
    core.store.pause("pause:queue/q3", actor="joel", reason="r")
    assert 1 == len(core.claim("q", "q2", "q3", most=9).jobs)

    snapshot = core.store.snapshot()

    gates = {gate.pop("gate"): gate for gate in snapshot["gates"]}
    assert {
        "limit:key/h": {"kind": "limit", "shut": False, "limit": 1, "running": 0, "parked_lanes": 0},
        "limit:key/h=k": {"kind": "limit", "shut": True, "limit": 1, "running": 1, "parked_lanes": 3},
        "limit:resource/nas": {"kind": "limit", "shut": False, "limit": 2, "running": 0, "parked_lanes": 0},
        "pause:queue/q3": {"kind": "pause", "shut": True, "limit": None, "running": 0, "parked_lanes": 1},
    } == gates
    assert [("pause:queue/q3", "joel", "r")] == [
        (p["gate"], p["actor"], p["reason"]) for p in snapshot["pauses"]
    ]


def test_jobs_are_listed_in_the_order_in_which_they_would_start_with_the_gate_that_holds_them(now):
    core = now
    core.admit("third", priority=3, queue="q2")
    core.admit("first", priority=0, handler="shut", lane="q|shut|")
    core.admit("second", priority=2)
    core.admit("hidden", due_ms=core.clock.now + 60_000)
    core.store.pause("pause:handler/shut", actor="t", reason="")
    core.claim(most=1)
    core.clock.advance(1)
    core.admit("fourth", priority=3, lane="q|late|")
    jobs = core.store.list_jobs(3)

    assert ["first", "third", "fourth"] == [job["id"] for job in jobs]
    assert ["pause:handler/shut", None, None] == [job["gate"] for job in jobs]
    first = jobs[0]
    assert -1_000 < first.pop("age_ms") < 5_000
    assert {
        "id": "first", "family": "fam", "handler": "shut", "queue": "q", "state": "available",
        "priority": "P0", "rank_ms": core.clock.now - 1, "lane": "q|shut|", "gate": "pause:handler/shut",
    } == first  # fmt: skip


@pytest.mark.parametrize(("limit", "expected"), [(-1, 0), (0, 0), (1, 1), (3, 3), (99, 6)])
def test_no_more_jobs_are_listed_than_asked_for(core, limit, expected):
    for n in range(6):
        core.admit(lane=f"q|h|{n % 2}")
    assert expected == len(core.store.list_jobs(limit))


def test_reading_changes_nothing(core):
    core.admit("a", gates=("limit:x",))
    core.store.pause("pause:queue/q", actor="t", reason="")
    core.claim()
    before, entries = core.image(), core.entries()
    core.store.snapshot(), core.store.list_jobs(), core.store.inspect("a"), core.store.queue_size("q")
    assert before == core.image()
    assert entries == core.entries()


def test_an_unknown_job_is_an_error_with_its_code(core):
    with pytest.raises(UnknownJob, match="'nobody'") as caught:
        core.store.inspect("nobody")
    assert "QUEUE_MESSAGE_MISSING" == caught.value.code


def test_a_parked_job_is_shown_with_the_gate_and_since_when(core):
    core.admit("a", gates=("limit:x", "limit:y"), priority=1)
    core.store.pause("pause:queue/q", actor="t", reason="")
    core.clock.advance(5)
    core.claim()

    job = core.store.inspect("a")

    assert ("a", "available", "P1", "pause:queue/q") == (
        job["id"],
        job["state"],
        job["priority"],
        job["gate"],
    )
    assert (core.clock.now, ["limit:x", "limit:y"]) == (job["parked_at"], job["gates"])
    assert "holder" not in job


def test_a_job_is_shown_in_every_state(core):
    core.admit("a", keep_ms=60_000)
    assert core.store.inspect("a")["gate"] is None
    tag = core.start()
    assert "w1" == core.store.inspect("a")["holder"]
    core.store.retry(core.job("a", lease_tag=tag, retries=1, due_ms=core.clock.now + 5))
    assert "next_payload" not in core.store.inspect("a")
    core.store.complete([tag])
    assert ("retryable", core.clock.now + 5) == (
        core.store.inspect("a")["state"],
        core.store.inspect("a")["due_at"],
    )
    core.clock.advance(5)
    tag = core.start()
    core.store.discard(tag, "broken")
    assert ("discarded", "broken") == (core.store.inspect("a")["state"], core.store.inspect("a")["error"])
    core.store.revive(["a"], actor="t", reason="")
    core.store.complete([core.start()])
    assert ("completed", None) == (core.store.inspect("a")["state"], core.store.inspect("a")["payload"])


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (
            '{"body": "W1sxXSx7fSx7fV0=", "properties": {"body_encoding": "base64"}}',
            {"body": [[1], {}, {}], "properties": {"body_encoding": "base64"}},
        ),
        (json.dumps({"body": "plain", "properties": {}}), {"body": "plain", "properties": {}}),
        ("not json", "not json"), ("[]", "[]"), ("7", "7"), (b"\xff\xfe", "\ufffd\ufffd"),
        ('{"properties": []}', None),
        ('{"properties": {"body_encoding": "base64"}, "body": "!!"}', None), ("[" * 100_000, None),
    ],
)  # fmt: skip
def test_the_message_is_shown_decoded_as_far_as_possible(core, payload, shown):
    core.admit("a", payload=payload)
    assert (payload if shown is None else shown) == core.store.inspect("a")["payload"]
    if isinstance(payload, bytes):
        core.text.hset(core.key.job("a"), "payload", "")  # the look at the end reads text
