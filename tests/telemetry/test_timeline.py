"""Timeline: the moves of one job, what lies between them, and what the stream has lost."""

from __future__ import annotations

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.telemetry.timeline import timeline

NOW = 100_000


def move(at, verb, start, to, **fields):
    fields = {"verb": verb, "at": at, "job": "a", "from": start, "to": to, "family": "fam", **fields}
    return Entry(f"{at}-0", {name: str(value) for name, value in fields.items() if value})


def act(at, verb, gate="pause:family/fam", **fields):
    fields = {"verb": verb, "at": at, "gate": gate, "actor": "joel", **fields}
    return Entry(f"{at}-0", {name: str(value) for name, value in fields.items()})


ADMIT = move(1_000, "admit", "", "available", actor="joel", priority=1)
CLAIM = move(5_000, "claim", "available", "executing", wait_ms=4_000, attempt=1, holder="w")
COMPLETE = move(7_000, "complete", "executing", "completed", wait_ms=4_000, run_ms=2_000, attempt=1)


def test_every_move_has_its_actor_its_times_and_the_gap_behind_it():
    told = timeline([ADMIT, CLAIM, COMPLETE], [], [], None, NOW)

    admit, claim, complete = told["moves"]
    assert ("admit", None, "available", "joel", 1) == tuple(
        admit[name] for name in ("verb", "from", "to", "actor", "priority")
    )
    assert {
        "ms": 4_000,
        "state": "available",
        "spent": "waiting in its lane",
        "parts": [],
        "open": False,
    } == (admit["gap"])
    assert (4_000, "w", 2_000) == (claim["wait_ms"], claim["holder"], claim["gap"]["ms"])
    assert 2_000 == complete["run_ms"]
    assert "gap" not in complete
    assert ("completed", True, {"available": 4_000, "executing": 2_000}) == (
        told["state"], told["complete"], told["totals"],
    )  # fmt: skip


def test_the_gap_of_a_job_that_waits_is_open_and_names_where_its_lane_is_parked():
    job = {"state": "available", "gate": "limit:resource/nas", "parked_at": 2_000}

    [admit] = timeline([ADMIT], [], [], job, NOW)["moves"]

    assert (99_000, True) == (admit["gap"]["ms"], admit["gap"]["open"])
    assert {"gate": "limit:resource/nas", "since_at": 2_000} == admit["gap"]["parked"]


def span(from_at, until_at, what="parked", **fields):
    return {"what": what, "from_at": from_at, "until_at": until_at, "ms": until_at - from_at, **fields}


def test_a_wait_is_told_in_parts_with_the_gate_and_who_shut_it_and_why():
    gate = "pause:family/fam"
    acts = [
        act(0, "pause", reason="early"), act(2_500, "pause", reason="again"),
        act(500, "pause", gate="pause:family/other"), act(6_000, "pause", reason="late"),
    ]  # fmt: skip
    spans = [
        span(1_000, 2_000, gate=gate), span(2_000, 2_500, "queued", behind={"h": 3}),
        span(2_500, 4_000, gate=gate), span(4_000, 5_000, gate="limit:x"), span(5_000, 7_000, "running"),
    ]  # fmt: skip

    admit, claim, _ = timeline([ADMIT, CLAIM, COMPLETE], spans, acts, None, NOW)["moves"]

    assert [
        {"what": "parked", "gate": gate, "ms": 1_000, "actor": "joel", "reason": "early"},
        {"what": "queued", "ms": 500, "behind": {"h": 3}},
        {"what": "parked", "gate": gate, "ms": 1_500, "actor": "joel", "reason": "again"},
        {"what": "parked", "gate": "limit:x", "ms": 1_000},
    ] == admit["gap"]["parts"]
    assert "parts" not in claim["gap"]


def test_a_job_whose_first_moves_were_trimmed_says_so():
    assert timeline([CLAIM, COMPLETE], [], [], None, NOW)["complete"] is False
    assert timeline([], [], [], {"state": "available"}, NOW) == {
        "state": "available", "complete": False, "moves": [], "totals": {},
    }  # fmt: skip


def test_a_duplicate_that_was_turned_away_moves_nothing():
    duplicate = move(2_000, "admit", "", "", reason="duplicate")

    told = timeline([ADMIT, duplicate, CLAIM, COMPLETE], [], [], None, NOW)

    assert ["waiting in its lane", "waiting in its lane", "running"] == [
        step["gap"]["spent"] for step in told["moves"][:3]
    ]
    assert ("duplicate", None) == (told["moves"][1]["reason"], told["moves"][1]["to"])
    assert timeline([duplicate, CLAIM], [], [], None, NOW)["complete"] is False


def test_a_clock_that_was_moved_back_makes_no_negative_gap():
    [admit, _] = timeline([ADMIT, move(500, "claim", "available", "executing")], [], [], None, 400)["moves"]

    assert 0 == admit["gap"]["ms"]


def test_a_state_that_a_newer_release_knows_is_named_as_it_is():
    [step] = timeline([move(1, "weave", "available", "woven")], [], [], None, NOW)["moves"]

    assert ("woven", "woven") == (step["gap"]["state"], step["gap"]["spent"])
